"""How modules are called in a trace, and which points are wanted."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator

import torch
from torch import nn

_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.|$)")
_LAYER = re.compile(r"^model\.layers\.(\d+)(?=[.:]|$)")
PRESETS = ("all", "modules", "layers")
_OUTSIDE_LAYERS = ("model.embed_tokens", "model.norm", "lm_head")


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _clean(path: str) -> str:
    return _WRAPPERS.sub("", path).lstrip(".")


def decoder_path(model: nn.Module) -> str | None:
    """Where the stack of layers is ("model" in most models, "" in a bare one), or nothing."""
    for path, module in model.named_modules():
        if isinstance(getattr(module, "layers", None), nn.ModuleList) and hasattr(module, "embed_tokens"):
            return _clean(path)
    return None


def canonical(path: str, decoder: str | None) -> str:
    """The trace's name of a module or parameter: the decoder is always `model`, whatever holds it."""
    path = _clean(path)
    if decoder is None or decoder == "model":
        return path
    if decoder == "":
        return f"model.{path}" if path else "model"
    outside = decoder.rpartition(".")[0]
    if path == decoder or path.startswith(decoder + "."):
        return "model" + path[len(decoder) :]
    return path[len(outside) + 1 :] if outside and path.startswith(outside + ".") else path


def _is_value(name: str, module: nn.Module, known_family: bool) -> bool:
    if not known_family:
        return name != ""
    if _LAYER.fullmatch(name) or name.endswith("_proj"):
        return True
    return not any(True for _ in module.children()) and any(True for _ in module.parameters(recurse=False))


def value_modules(model: nn.Module, decoder: str | None) -> Iterator[tuple[str, nn.Module]]:
    """The modules whose outputs are points: in a language model those with weights, and the layers; elsewhere all."""
    for path, module in model.named_modules():
        name = canonical(path, decoder)
        if not isinstance(module, nn.ModuleList) and _is_value(name, module, decoder is not None):
            yield name, module


def layer_of(name: str) -> int | None:
    found = _LAYER.match(name)
    return int(found[1]) if found else None


class Wanted:
    """Which points are recorded: patterns like "*.self_attn:*", a preset, and the layers."""

    def __init__(self, points: str | Iterable[str] | None, layers: Collection[int] | None) -> None:
        chosen = ("all",) if points is None else (points,) if isinstance(points, str) else tuple(points)
        self._preset = chosen[0] if len(chosen) == 1 and chosen[0] in PRESETS else None
        self._patterns = chosen
        self._layers = layers
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = self._decide(name)
        return self._known[name]

    def _decide(self, name: str) -> bool:
        layer = layer_of(name)
        if self._layers is not None and layer is not None and layer not in self._layers:
            return False
        if self._preset == "modules":
            return ":" not in name
        if self._preset == "layers":
            return name in _OUTSIDE_LAYERS or _LAYER.fullmatch(name) is not None
        return self._preset == "all" or any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns)


def first_tensor(output: object) -> torch.Tensor | None:
    """The value of a module: what it returns, or the first of what it returns."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, (tuple, list)) and output:
        return first_tensor(output[0])
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, torch.Tensor) else None
