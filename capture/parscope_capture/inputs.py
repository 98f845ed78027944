"""What a call of the model was given: its tokens, and whether it goes on from the call before."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_CACHE_NAMES = ("past_key_values", "past_key_value", "cache", "kv_cache")


@dataclass
class Call:
    input_ids: torch.Tensor | None
    attention_mask: torch.Tensor | None  # [B, past + S], or nothing
    position_ids: torch.Tensor | None
    tokens: int  # S
    past: int | None  # tokens in the cache before the call; None: the call does not say

    def recorded(self, past: int) -> dict[str, torch.Tensor]:
        """The inputs as a trace has them: int64, positions one row a sample."""
        found: dict[str, torch.Tensor] = {}
        if self.input_ids is None:
            return found
        batch = self.input_ids.shape[0]
        found["input_ids"] = self.input_ids.long()
        if self.attention_mask is not None:
            found["attention_mask"] = self.attention_mask[:, : past + self.tokens].long()
        if self.position_ids is not None:
            found["position_ids"] = self.position_ids[:batch].expand(batch, -1).long()
        return found


def bind(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """Reads the arguments of the model's forward by their names."""
    try:
        given: dict[str, Any] = dict(inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments)
        for value in [v for v in given.values() if isinstance(v, Mapping)]:  # **kwargs of forward
            given.update({k: v for k, v in value.items() if k not in given})
    except TypeError:
        given = dict(kwargs)
    if "input_ids" not in given and args and isinstance(args[0], torch.Tensor):
        given["input_ids"] = args[0]
    ids = _tokens(given.get("input_ids"))
    shaped = ids if ids is not None else given.get("inputs_embeds")
    tokens = int(shaped.shape[1]) if isinstance(shaped, torch.Tensor) and shaped.dim() >= 2 else 0
    mask = given.get("attention_mask")
    mask = mask if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None
    positions = _tokens(given.get("position_ids"))
    return Call(ids, mask, positions, tokens, _past(model, given, mask, positions, tokens))


def _tokens(value: object) -> torch.Tensor | None:
    whole = isinstance(value, torch.Tensor) and value.dim() == 2 and not value.is_floating_point()
    return value if whole else None  # type: ignore[return-value]


def _past(
    model: nn.Module,
    given: Mapping[str, Any],
    mask: torch.Tensor | None,
    positions: torch.Tensor | None,
    tokens: int,
) -> int | None:
    for name in _CACHE_NAMES:
        if given.get(name) is not None:
            return cache_length(given[name])
    if any(name in inspect.signature(model.forward).parameters for name in _CACHE_NAMES):
        return 0
    if mask is not None:
        return int(mask.shape[1]) - tokens
    if positions is not None and positions.numel() and int(positions.min()) > 0:
        return int(positions.min())
    return None if tokens == 1 else 0


def cache_length(cache: Any) -> int | None:
    """Tokens in a cache (without prefix): one of transformers', or a list of (key, value) pairs."""
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    try:
        return int(cache[0][0].shape[-2]) if len(cache) else 0
    except (TypeError, IndexError, AttributeError):
        return None


def find_cache(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The cache among the arguments of an attention module, or nothing."""
    for value in (*kwargs.values(), *args):
        if callable(getattr(value, "update", None)) and hasattr(value, "get_seq_length"):
            return value
    return None
