"""Which attention kernel was asked for and which ran: the trace's field `backends`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

def requested(module: nn.Module) -> str:
    """The attention implementation that the config asks for."""
    return str(getattr(getattr(module, "config", None), "_attn_implementation", None) or "auto")


def event(module: nn.Module, step: int, layer: int, executed: str, kernel: str | None) -> dict[str, Any]:
    """One entry of `backends`. The two names differ exactly where something else ran than what was asked for."""
    asked = requested(module)
    found: dict[str, Any] = {"op": "attention", "requested": asked, "executed": executed, "step": step, "layer": layer}
    if kernel is not None:
        found["kernel"] = kernel
    parameter = next(module.parameters(), None)
    if parameter is not None:
        found["device"] = str(parameter.device)
    if asked not in ("auto", executed):
        words = {"eager": "its own product, softmax, product", "sdpa": "torch's scaled_dot_product_attention"}
        found["reason"] = f"the forward ran {words.get(executed, executed)}"
    return found


def merged(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Calls that went alike in every layer and step become one entry, without layer and step."""

    def kind(entry: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(sorted((k, v) for k, v in entry.items() if k not in ("step", "layer")))

    if len({kind(entry) for entry in events}) == 1:
        return [{k: v for k, v in events[0].items() if k not in ("step", "layer")}]
    return events


def autocast_dtype(model: nn.Module) -> torch.dtype | None:
    """What autocast has products computed in, where it is on."""
    kind = next((p.device.type for p in model.parameters()), "cpu")
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def run_dtype(model: nn.Module) -> str:
    """What the run computes in: the dtype of most floating parameters."""
    counts: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        if parameter.is_floating_point():
            counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
    found = max(counts, key=lambda dtype: counts[dtype]) if counts else torch.get_default_dtype()
    return str(found).removeprefix("torch.")
