"""A ParScale model in plain torch, written from spec/parscale.md's text, with the module names that published checkpoints have."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn


class Cache:
    """Prefix first; one pair of tensors a layer."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.prefix = 0

    def get_seq_length(self) -> int:
        return self.layers[0][0].shape[2] - self.prefix if 0 in self.layers else 0

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, prefix: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if layer not in self.layers:
            batch = keys.shape[0] // prefix[0].shape[0]
            self.prefix = prefix[0].shape[2]
            self.layers[layer] = tuple(p.repeat_interleave(batch, 0) for p in prefix)  # type: ignore[assignment]
        old = self.layers[layer]
        self.layers[layer] = (torch.cat((old[0], keys), 2), torch.cat((old[1], values), 2))
        return self.layers[layer]


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(size)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


def apply_rope(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    def turned(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat((-second, first), -1) * sin

    return turned(q), turned(k)


class Projections(nn.Module):
    def __init__(self, c: Any, size: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = c.num_attention_heads, c.num_key_value_heads, size
        self.q_proj = nn.Linear(c.hidden_size, self.heads * size)
        self.k_proj = nn.Linear(c.hidden_size, self.kv_heads * size)
        self.v_proj = nn.Linear(c.hidden_size, self.kv_heads * size)
        self.o_proj = nn.Linear(self.heads * size, c.hidden_size, bias=False)


class Attention(Projections):
    def __init__(self, c: Any, layer: int) -> None:
        super().__init__(c, getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)
        self.layer = layer
        shape = (c.parscale_n, c.num_key_value_heads, c.parscale_n_tokens, self.size)
        self.prefix_k, self.prefix_v = nn.Parameter(torch.empty(shape)), nn.Parameter(torch.empty(shape))

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, keep: torch.Tensor, cache: Cache) -> torch.Tensor:
        rows, tokens, _ = x.shape
        q, k, v = (p(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = apply_rope(q, k, cos[:, None], sin[:, None])
        k, v = cache.update(k, v, self.layer, (self.prefix_k, self.prefix_v))
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = q @ k.mT
        scores *= self.size**-0.5  # in place, as kernels do: a trace that holds aliases would show the masked scores
        scores.masked_fill_(~keep, torch.finfo(x.dtype).min)
        weights = scores.exp_().div_(scores.sum(-1, keepdim=True)) if scores.max() < 80 else scores.softmax(-1)
        return self.o_proj((weights @ v).transpose(1, 2).reshape(rows, tokens, -1))


class CrossReplicaAttention(Projections):
    def __init__(self, c: Any) -> None:
        super().__init__(c, c.hidden_size // c.num_attention_heads)
        self.replicas = c.parscale_n

    def forward(self, x: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        def apart(y: torch.Tensor) -> torch.Tensor:  # [R,S,heads*D] to [B,S,heads,P,D]
            return y.unflatten(0, (self.replicas, -1)).unflatten(-1, (-1, self.size)).permute(1, 2, 3, 0, 4)

        q, k, v = apart(self.q_proj(x)), apart(self.k_proj(x)), apart(self.v_proj(x))
        if table is not None:
            q, k = apply_rope(q, k, table[0][:, None, None], table[1][:, None, None])
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2)
        weights = (q @ k.mT * self.size**-0.5).softmax(-1)
        return self.o_proj((weights @ v).permute(3, 0, 1, 2, 4).flatten(0, 1).flatten(2))


class MLP(nn.Module):
    def __init__(self, c: Any) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Any, layer: int) -> None:
        super().__init__()
        chosen = getattr(c, "parscale_cross_attn_layers", None)
        if getattr(c, "enable_cross_attn", False) and (chosen is None or layer in chosen):
            self.cross_replica_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
            self.cross_replica_attn = CrossReplicaAttention(c)
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c, layer)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x: torch.Tensor, table: Any, *attention: Any) -> tuple[torch.Tensor]:
        if hasattr(self, "cross_replica_attn"):
            x = x + self.cross_replica_attn(self.cross_replica_layernorm(x), table)
        x = x + self.self_attn(self.input_layernorm(x), *attention)
        return (x + self.mlp(self.post_attention_layernorm(x)),)


class Decoder(nn.Module):
    def __init__(self, c: Any) -> None:
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c, i) for i in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        n, h = c.parscale_n, c.hidden_size
        self.aggregate_layer = nn.Sequential(nn.Linear(n * h, h), nn.SiLU(), nn.Linear(h, n))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache) -> torch.Tensor:
        c, n = self.config, self.config.parscale_n
        past, tokens = cache.get_seq_length(), ids.shape[1]
        x = self.embed_tokens(ids).repeat(n, 1, 1)
        causal = torch.ones(tokens, past + tokens, dtype=torch.bool).tril(past)
        keep = nn.functional.pad(causal & mask[:, None].bool(), (c.parscale_n_tokens, 0), value=True)
        keep = keep.repeat(n, 1, 1)[:, None]
        size = self.layers[0].self_attn.size
        frequencies = c.rope_theta ** (-torch.arange(0, size, 2) / size)
        angles = (positions[..., None] * frequencies).repeat(n, 1, 2)
        table = None
        if getattr(c, "enable_replica_rope", False):
            size = c.hidden_size // c.num_attention_heads
            replica = torch.arange(n)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
            replica = replica.repeat_interleave(2, -1).expand(ids.shape[0], -1, -1)
            table = (replica.cos(), replica.sin())
        for layer in self.layers:
            x = layer(x, table, angles.cos(), angles.sin(), keep, cache)[0]
        x = self.norm(x).unflatten(0, (n, -1)).permute(1, 2, 3, 0)  # [B,S,h,P]
        weights = self.aggregate_layer(x.flatten(2)).softmax(-1)
        smooth = c.parscale_attn_smooth
        weights = weights * (1 - smooth) + smooth / n
        return (x * weights[:, :, None]).sum(-1)


class ParScale(nn.Module):
    def __init__(self, c: Any) -> None:
        super().__init__()
        self.config = c
        self.model = Decoder(c)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        return self.lm_head(self.model(input_ids, attention_mask, position_ids, cache))


def load(folder: Path) -> ParScale:
    config = json.loads((folder / "config.json").read_text())
    model = ParScale(SimpleNamespace(**config)).float().eval()
    weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    model.load_state_dict(weights)
    return model
