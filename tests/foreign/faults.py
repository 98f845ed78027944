"""Mistakes that people make, patched into transformers in Python. Each is named as spec and `parscope faults` name it."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import Engine, capture, diagnose, replaced
from torch import nn
from transformers import cache_utils
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Patch = Callable[[Any, Engine], contextlib.AbstractContextManager[Any]]
_BOTH = ("qwen2", "llama")


@dataclass
class Fault:
    id: str
    patch: Patch
    first: tuple[str, ...]  # how the first wrong point's name ends
    families: tuple[str, ...] = ("qwen2",)
    attentions: tuple[str, ...] = ("eager",)
    dtypes: tuple[str, ...] = ("float32",)
    ragged: bool = True
    name: str = ""
    also: tuple[str, ...] = field(default=())  # other ids that say the same of such a run


FAULTS: list[Fault] = []


def fault(id: str, *first: str, **more: Any) -> Callable[[Patch], Patch]:
    def add(patch: Callable[..., Any]) -> Patch:
        FAULTS.append(Fault(id, contextlib.contextmanager(patch), first, name=f"{id}.{patch.__name__}", **more))
        return patch

    return add


def _attentions(model: Any) -> list[Any]:
    return [layer.self_attn for layer in model.model.layers]


# ---- rotation -----------------------------------------------------------------------------------------------------------


def _pairs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Neighbours rotated together, as GPT-J has it."""
    half = cos.shape[-1] // 2
    c, s = cos[:, None, :, :half], sin[:, None, :, :half]
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * c - b * s, b * c + a * s), -1).flatten(-2)


@fault("rope-interleaved-vs-half", "self_attn:q_rope", families=_BOTH, attentions=("eager", "sdpa"), dtypes=("float32", "bfloat16"))
def interleaved(model: Any, engine: Engine) -> Iterator[None]:
    def rotate(q: Any, k: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> Any:
        return _pairs(q, cos, sin), _pairs(k, cos, sin)

    with replaced(engine.modeling, "apply_rotary_pos_emb", rotate):
        yield


@fault("rope-not-applied", "self_attn:q_rope", attentions=("eager", "sdpa"))
def unrotated(model: Any, engine: Engine) -> Iterator[None]:
    with replaced(engine.modeling, "apply_rotary_pos_emb", lambda q, k, *rest, **more: (q, k)):
        yield


@contextlib.contextmanager
def _frequencies(model: Any, values: torch.Tensor) -> Iterator[None]:
    buffer = model.model.rotary_emb.inv_freq
    old = buffer.clone()
    buffer.copy_(values)
    try:
        yield
    finally:
        buffer.copy_(old)


def _default_frequencies(model: Any, theta: float) -> torch.Tensor:
    size = 2 * model.model.rotary_emb.inv_freq.numel()
    return theta ** (-torch.arange(0, size, 2).float() / size)


@fault("rope-theta-default", "inv_freq", families=("qwen2", "qwen3"), dtypes=("float32", "bfloat16"))
def default_theta(model: Any, engine: Engine) -> Iterator[None]:
    with _frequencies(model, _default_frequencies(model, 10000.0)):
        yield


@fault("rope-scaling-ignored", "inv_freq", families=("llama",), dtypes=("float32", "bfloat16"))
def unscaled(model: Any, engine: Engine) -> Iterator[None]:
    with _frequencies(model, _default_frequencies(model, 5000.0)):
        yield


@fault("rope-low-precision-table", "inv_freq", "cos")
def bf16_frequencies(model: Any, engine: Engine) -> Iterator[None]:
    with _frequencies(model, model.model.rotary_emb.inv_freq.bfloat16().float()):
        yield


@contextlib.contextmanager
def _positions(model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    rotary = model.model.rotary_emb
    forward = rotary.forward
    with replaced(rotary, "forward", lambda x, position_ids: forward(x, change(position_ids))):
        yield


@fault("rope-decode-off-by-one", "cos", attentions=("eager", "sdpa"))
def one_later(model: Any, engine: Engine) -> Iterator[None]:
    with _positions(model, lambda p: p + 1 if p.shape[1] == 1 else p):
        yield


@fault("rope-decode-position-restarts", "cos")
def from_zero(model: Any, engine: Engine) -> Iterator[None]:
    with _positions(model, lambda p: torch.arange(p.shape[1]).expand_as(p) if int(p.max()) > 6 else p):
        yield


@contextlib.contextmanager
def padding_counts(model: Any) -> Iterator[None]:
    """The padded row is rotated as if it had no padding: one more angle on all its queries and keys, which the scores do not see."""
    with _positions(model, lambda p: p[1:].expand_as(p)):
        yield


# ---- attention ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _repeat(engine: Engine, repeat: Callable[[torch.Tensor, int], torch.Tensor]) -> Iterator[None]:
    with replaced(engine.modeling, "repeat_kv", repeat), replaced(sdpa_attention, "repeat_kv", repeat):
        with replaced(sdpa_attention, "pack_gqa", lambda x, n: x), replaced(sdpa_attention, "use_gqa_in_sdpa", lambda *a: False):
            yield


@fault("attention-gqa-repeat-vs-interleave", "scores", "context", families=_BOTH, dtypes=("float32", "bfloat16"))
def tiled(model: Any, engine: Engine) -> Iterator[None]:
    with _repeat(engine, lambda x, n: x.repeat(1, n, 1, 1)):
        yield


def _own_sdpa(repeat: Callable[[torch.Tensor, int], torch.Tensor], causal: bool = False) -> Callable[..., Any]:
    """An attention function as people write them for the registry of transformers."""

    def attend(module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: float = 1.0, **rest: Any) -> Any:
        groups = module.num_key_value_groups
        mask, flag = (None, q.shape[2] > 1) if causal else (mask, mask is None and q.shape[2] > 1)
        out = nn.functional.scaled_dot_product_attention(q, repeat(k, groups), repeat(v, groups), mask, 0.0, flag, scale=scaling)
        return out.transpose(1, 2).contiguous(), None

    return attend


@contextlib.contextmanager
def _attend(function: Callable[..., Any]) -> Iterator[None]:
    old = ALL_ATTENTION_FUNCTIONS["sdpa"]
    ALL_ATTENTION_FUNCTIONS["sdpa"] = function
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = old


@fault("attention-gqa-repeat-vs-interleave", "context", families=_BOTH, attentions=("sdpa",), dtypes=("float32", "bfloat16"))
def tiled_for_sdpa(model: Any, engine: Engine) -> Iterator[None]:
    with _attend(_own_sdpa(lambda x, n: x.repeat(1, n, 1, 1))):
        yield


@fault("attention-gqa-wrong-index", "scores", "context")
def first_head_only(model: Any, engine: Engine) -> Iterator[None]:
    with _repeat(engine, lambda x, n: x[:, :1].expand(-1, n * x.shape[1], -1, -1)):
        yield


@fault("attention-scale-wrong", "scores", "context", families=("qwen2", "qwen3"), attentions=("eager", "sdpa"))
def unscaled_scores(model: Any, engine: Engine) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for attention in _attentions(model):
            stack.enter_context(replaced(attention, "scaling", 1.0 / attention.head_dim))
        yield


@fault("attention-dropout-in-eval", "probs")
def training_flag_left_on(model: Any, engine: Engine) -> Iterator[None]:
    torch.manual_seed(3)
    with contextlib.ExitStack() as stack:
        for attention in _attentions(model):
            stack.enter_context(replaced(attention, "training", True))
            stack.enter_context(replaced(attention, "attention_dropout", 0.25))
        yield


@fault("numeric-softmax-low-precision", "probs")
def softmax_in_bf16(model: Any, engine: Engine) -> Iterator[None]:
    softmax = nn.functional.softmax

    def low(x: torch.Tensor, dim: int = -1, **rest: Any) -> torch.Tensor:
        return softmax(x.bfloat16(), dim=dim).float()

    with replaced(nn.functional, "softmax", low):
        yield


# ---- masks --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _mask(engine: Engine, change: Callable[..., Any]) -> Iterator[None]:
    create = engine.modeling.create_causal_mask
    with replaced(engine.modeling, "create_causal_mask", lambda **given: change(create, given)):
        yield


@fault("mask-causal-topleft-alignment", "model:mask", attentions=("eager",), families=_BOTH, dtypes=("float32", "bfloat16"), ragged=False)
def tril_of_the_wrong_corner(model: Any, engine: Engine) -> Iterator[None]:
    def corner(create: Any, given: Any) -> torch.Tensor:
        right = create(**given)
        low = torch.finfo(right.dtype).min
        return torch.full_like(right, low).masked_fill(torch.ones_like(right, dtype=torch.bool).tril(), 0)

    with _mask(engine, corner):
        yield


@fault("mask-causal-topleft-alignment", "model:mask", attentions=("sdpa",), families=_BOTH, dtypes=("float32", "bfloat16"), ragged=False)
def is_causal_with_a_cache(model: Any, engine: Engine) -> Iterator[None]:
    with _attend(_own_sdpa(lambda x, n: x.repeat_interleave(n, 1), causal=True)):
        yield


@fault("mask-causal-skipped-with-cache", "model:mask", ragged=False)
def all_seen_with_a_cache(model: Any, engine: Engine) -> Iterator[None]:
    def open_up(create: Any, given: Any) -> torch.Tensor:
        right = create(**given)
        return right if right.shape[-1] == right.shape[-2] else torch.zeros_like(right)

    with _mask(engine, open_up):
        yield


@fault("mask-padding-ignored", "model:mask", attentions=("eager", "sdpa"))
def no_padding_mask(model: Any, engine: Engine) -> Iterator[None]:
    with _mask(engine, lambda create, given: create(**{**given, "attention_mask": None})):
        yield


@fault("mask-bool-as-additive", "model:mask", "probs")
def bools_added(model: Any, engine: Engine) -> Iterator[None]:
    with _mask(engine, lambda create, given: (create(**given) == 0).to(given["inputs_embeds"].dtype)):
        yield


@fault("mask-polarity-inverted", "model:mask", attentions=("sdpa",))
def bools_mean_hidden(model: Any, engine: Engine) -> Iterator[None]:
    def invert(create: Any, given: Any) -> Any:
        right = create(**given)
        return None if right is None else ~right

    with _mask(engine, invert):
        yield


# ---- norms --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _epsilon(model: Any, value: float) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if name.endswith("norm") and hasattr(module, "variance_epsilon"):
                stack.enter_context(replaced(module, "variance_epsilon", value))
        yield


@fault("norm-eps-wrong", "input_layernorm", families=_BOTH, attentions=("eager", "sdpa"))
def other_epsilon(model: Any, engine: Engine) -> Iterator[None]:
    with _epsilon(model, 1e-5):
        yield


# In 16 bits some norms round as if nothing were wrong: the op is found, its cause is named at most norms, not always at the first.
@fault("norm-eps-wrong", "norm", families=_BOTH, attentions=("eager", "sdpa"), dtypes=("bfloat16",), also=("unnamed",))
def large_epsilon(model: Any, engine: Engine) -> Iterator[None]:
    with _epsilon(model, 1e-3):
        yield


@fault("norm-gain-plus-one", "input_layernorm", dtypes=("float32", "bfloat16"))
def gemma_gain(model: Any, engine: Engine) -> Iterator[None]:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return ((1 + self.weight.float()) * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))).to(x.dtype)

    with replaced(engine.modeling.Qwen2RMSNorm, "forward", forward):
        yield


@fault("norm-final-missing-or-twice", "model.norm")
def no_final_norm(model: Any, engine: Engine) -> Iterator[None]:
    with replaced(model.model.norm, "forward", lambda x: x):
        yield


@fault("norm-qk-norm-shape", "q_norm", families=("qwen3",))
def norm_over_all_heads(model: Any, engine: Engine) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for attention in _attentions(model):
            for norm in (attention.q_norm, attention.k_norm):

                def forward(x: torch.Tensor, norm: Any = norm) -> torch.Tensor:
                    scale = torch.rsqrt(x.pow(2).mean((-2, -1), keepdim=True) + norm.variance_epsilon)
                    return norm.weight * (x * scale)

                stack.enter_context(replaced(norm, "forward", forward))
        yield


# ---- weights ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _weights(changes: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[None]:
    old = [(parameter, parameter.detach().clone()) for parameter, _ in changes]
    with torch.no_grad():
        for parameter, value in changes:
            parameter.copy_(value)
        try:
            yield
        finally:
            for parameter, value in old:
                parameter.copy_(value)


@fault("weights-qkv-bias-dropped", "q_proj", attentions=("eager", "sdpa"), dtypes=("float32", "bfloat16"))
def no_bias(model: Any, engine: Engine) -> Iterator[None]:
    projections = [p for a in _attentions(model) for p in (a.q_proj, a.k_proj, a.v_proj)]
    with _weights([(p.bias, torch.zeros_like(p.bias)) for p in projections]):
        yield


@fault("weights-gate-up-swapped", "gate_proj")
def swapped_halves(model: Any, engine: Engine) -> Iterator[None]:
    changes = []
    for layer in model.model.layers:
        gate, up = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight
        changes += [(gate, up.detach().clone()), (up, gate.detach().clone())]
    with _weights(changes):
        yield


@fault("weights-activation-variant", "mlp:act", families=("llama",))
def gelu_for_silu(model: Any, engine: Engine) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for layer in model.model.layers:
            stack.enter_context(replaced(layer.mlp.act_fn, "forward", lambda x: nn.functional.gelu(x, approximate="tanh")))
        yield


@fault("weights-lm-head-wrongly-tied", "lm_head", dtypes=("float32", "bfloat16"))
def tied(model: Any, engine: Engine) -> Iterator[None]:
    with _weights([(model.lm_head.weight, model.model.embed_tokens.weight.detach().clone())]):
        yield


@fault("weights-lm-head-missing-or-untied", "lm_head")
def random_head(model: Any, engine: Engine) -> Iterator[None]:
    noise = torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(8)) * 0.02
    with _weights([(model.lm_head.weight, noise)]):
        yield


@fault("weights-transposed", "o_proj")
def transposed(model: Any, engine: Engine) -> Iterator[None]:
    with _weights([(a.o_proj.weight, a.o_proj.weight.detach().t().clone()) for a in _attentions(model)]):
        yield


@fault("weights-embed-scale", "embed_tokens")
def scaled_embeddings(model: Any, engine: Engine) -> Iterator[None]:
    embed = model.model.embed_tokens
    forward = embed.forward
    with replaced(embed, "forward", lambda ids: forward(ids) * model.config.hidden_size**0.5):
        yield


# ---- cache --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _update(change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """`change(keys of the past, new keys)` is what the cache returns and keeps."""
    update = cache_utils.DynamicLayer.update

    def changed(self: Any, keys: torch.Tensor, values: torch.Tensor, *rest: Any, **more: Any) -> Any:
        past = self.keys if getattr(self, "is_initialized", False) and self.keys.numel() else None
        _, values = update(self, keys, values, *rest, **more)
        if past is not None:
            self.keys = change(past, keys)
        return self.keys, values

    with replaced(cache_utils.DynamicLayer, "update", changed):
        yield


@fault("cache-layout-transposed", "k_cache")
def read_as_another_layout(model: Any, engine: Engine) -> Iterator[None]:
    def change(past: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        whole = torch.cat((past, new), 2)
        return whole.transpose(1, 2).reshape(whole.shape)

    with _update(change):
        yield


@fault("cache-stale-block-or-hash", "k_cache")
def block_of_another_request(model: Any, engine: Engine) -> Iterator[None]:
    def change(past: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        whole = torch.cat((past, new), 2)
        whole[0, :, 4:8] = whole[1, :, 4:8].clone()
        return whole

    with _update(change):
        yield


@fault("cache-hole-or-slot-off-by-one", "k_cache")
def last_slot_overwritten(model: Any, engine: Engine) -> Iterator[None]:
    def change(past: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        return torch.cat((past[:, :, :-1], new, new[:, :, -1:] * 0), 2)

    with _update(change):
        yield


# ---- layers -------------------------------------------------------------------------------------------------------------


@fault("norm-inplace-residual-alias", "attn_residual")
def residual_after_the_norm(model: Any, engine: Engine) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for layer in model.model.layers:

            def forward(x: torch.Tensor, layer: Any = layer, **given: Any) -> torch.Tensor:
                x = layer.input_layernorm(x)
                x = x + layer.self_attn(hidden_states=x, **given)[0]
                return x + layer.mlp(layer.post_attention_layernorm(x))

            stack.enter_context(replaced(layer, "forward", forward))
        yield


# What people get wrong first, in every engine and type; the others once each.
FIRST_FIVE = (
    "rope-interleaved-vs-half",
    "attention-gqa-repeat-vs-interleave",
    "weights-qkv-bias-dropped",
    "mask-causal-topleft-alignment",
    "norm-eps-wrong",
)


def cases(chosen: Callable[[Fault], bool]) -> list[Any]:
    found = []
    for fault in filter(chosen, FAULTS):
        for family, attention, dtype in itertools.product(fault.families, fault.attentions, fault.dtypes):
            name = f"{fault.name}-{family}-{attention}-{dtype}"
            found.append(pytest.param(fault, Engine(family, attention, dtype), id=name))
    return found


def expect_named(models: Any, folder: Path, fault: Fault, engine: Engine) -> None:
    """Plants the fault in the engine, records its run, and holds the diagnosis to the fault's name and place."""
    model, checkpoint = models(engine.family, engine.dtype)
    model.set_attn_implementation(engine.attention)
    with fault.patch(model, engine):
        trace = capture(model, folder / "trace", ragged=fault.ragged, weights=False)
    report = diagnose(trace, checkpoint)
    assert report["verdict"] == "diverged"
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    assert errors[0]["id"] in (fault.id, *fault.also), json.dumps(errors, indent=1)[:6000]
    assert any(f["id"] == fault.id for f in errors)
    first = report["first_divergence"]["point"]
    assert first.endswith(fault.first), f"{first} is first, not {fault.first}"
