"""Values that are split over ranks: the trace's field `shards`."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

try:
    from torch.distributed.tensor import DTensor, Partial, Shard
except ImportError:  # a torch without distributed
    DTensor = None  # type: ignore[assignment,misc]


def local(value: torch.Tensor) -> tuple[torch.Tensor, int | None, bool]:
    """This rank's part, the dim that is split (None: whole), and whether it still lacks the other ranks' sums."""
    value = _arrived(value)
    if DTensor is None or not isinstance(value, DTensor):
        return value, None, False
    dim, partial = None, False
    for placement in value.placements:
        if isinstance(placement, Shard):
            dim = placement.dim % value.dim()
        partial = partial or isinstance(placement, Partial)
    return _arrived(value.to_local()), dim, partial


def _arrived(value: torch.Tensor) -> torch.Tensor:
    """The result of a collective that may still run, once it is there."""
    wait = getattr(value, "wait", None)
    return wait() if callable(wait) else value


# Where a full value's width stands in the config: (suffix of the name, dim, what the dim counts).
_WIDTHS = (
    (r"\.self_attn\.q_proj|\.self_attn:context", 2, "q"),
    (r"\.self_attn\.[kv]_proj", 2, "kv"),
    (r"\.self_attn:(q_rope|scores|probs)", 1, "heads"),
    (r"\.self_attn:(k_rope|k_cache|v_cache)", 1, "kv_heads"),
    (r"\.self_attn\.q_norm", 2, "heads"),
    (r"\.self_attn\.k_norm", 2, "kv_heads"),
    (r"\.mlp\.(gate|up)_proj|\.mlp:act", 2, "inner"),
    (r"^lm_head", 2, "vocabulary"),
)


def widths(config: Any) -> dict[str, int]:
    """The whole model's widths, from its config; empty where it has none."""
    try:
        heads = int(config.num_attention_heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        head = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        whole = {"heads": heads, "kv_heads": kv_heads, "q": heads * head, "kv": kv_heads * head}
        return {**whole, "inner": int(config.intermediate_size), "vocabulary": int(config.vocab_size)}
    except (AttributeError, TypeError):
        return {}


def inferred_dim(name: str, shape: torch.Size, whole: dict[str, int], ranks: int) -> int | None:
    """The dim of a plain tensor that is a rank's part: as wide as the config says, divided by the ranks."""
    for pattern, dim, what in _WIDTHS:
        if ranks > 1 and re.search(pattern + "$", name) and len(shape) > dim and what in whole:
            return dim if shape[dim] * ranks == whole[what] else None
    return None


def tensor_parallel(model: nn.Module) -> int:
    """How many ranks hold parts of one weight."""
    data = of_data_ranks(model)
    for parameter in model.parameters():
        if DTensor is None or not isinstance(parameter, DTensor) or id(parameter) in data:
            continue
        sizes = [parameter.device_mesh.size(dim) for dim, p in enumerate(parameter.placements) if isinstance(p, Shard)]
        if sizes:
            return math.prod(sizes)
    return int(getattr(model, "_tp_size", None) or 1)


def of_data_ranks(model: nn.Module) -> set[int]:
    """Parameters that FSDP shards: its ranks see other batches, and gather the weight before they use it."""
    try:
        from torch.distributed.fsdp import FSDPModule
    except ImportError:
        return set()
    return {id(p) for m in model.modules() if isinstance(m, FSDPModule) for p in m.parameters()}


def placements(model: nn.Module) -> dict[str, str]:
    """How each DTensor parameter lies on the ranks, in words."""
    if DTensor is None:
        return {}
    return {name: str(p.placements) for name, p in model.named_parameters() if isinstance(p, DTensor)}
