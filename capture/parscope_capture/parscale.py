"""ParScale's own points: the replicated embeddings and the learned sum over replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from .recorder import Recorder

_AFTER = {"mul", "__mul__", "__rmul__", "add", "__add__", "__radd__", "unsqueeze", "to", "float", "div", "__truediv__"}


def replicas(config: Any) -> int:
    return int(getattr(config, "parscale_n", None) or 1)


def prefix(attention: nn.Module) -> int:
    """Learned tokens in front of an attention module's keys."""
    keys = getattr(attention, "prefix_k", None)
    return int(keys.shape[-2]) if isinstance(keys, torch.Tensor) else 0


class AggregateWatch(TorchFunctionMode):
    """From the gate's output to the weighted sum: the weights after softmax and smoothing are what is multiplied in."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.weights: torch.Tensor | None = None
        self._current: torch.Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(result, torch.Tensor):
            if name == "softmax" and result.shape[-1] == self.count:
                self.weights = self._current = result
            elif name in _AFTER and self._current is not None and any(a is self._current for a in args):
                self._follow(result)
        return result

    def _follow(self, result: torch.Tensor) -> None:
        assert self.weights is not None
        if result.numel() == self.weights.numel():  # smoothing; a product with the states is larger
            self.weights = self._current = result


def attach(recorder: Recorder, name: str, module: nn.Module, hook: Callable[[Any], None]) -> None:
    count = replicas(recorder.config)
    if count == 1:
        return
    if name == "model.aggregate_layer":
        _attach_gate(recorder, count, module, hook)
    elif name == "lm_head":

        def aggregated(head: nn.Module, args: Any) -> None:
            if args and isinstance(args[0], torch.Tensor):
                recorder.emit("model:aggregated", args[0])

        hook(module.register_forward_pre_hook(aggregated))
    elif isinstance(module, nn.ModuleList) and name == "model.layers" and len(module):

        def replicated(layer: nn.Module, args: Any, kwargs: Any) -> None:
            value = args[0] if args else kwargs.get("hidden_states")
            if isinstance(value, torch.Tensor):
                recorder.emit("model:replicated", value)

        hook(module[0].register_forward_pre_hook(replicated, with_kwargs=True))


def _attach_gate(recorder: Recorder, count: int, gate: nn.Module, hook: Callable[[Any], None]) -> None:
    """The watch is on from the gate's end to the decoder's end."""
    active: list[AggregateWatch] = []

    def begin(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], torch.Tensor):
            recorder.emit("model:aggregate_input", args[0])

    def opened(module: nn.Module, args: Any, output: Any) -> None:
        if recorder.recording and not active:
            active.append(AggregateWatch(count))
            active[0].__enter__()

    def closed(module: nn.Module, args: Any, output: Any) -> None:
        if active:
            watch = active.pop()
            watch.__exit__(None, None, None)
            if watch.weights is not None:
                weights = watch.weights
                recorder.emit("model:aggregate_weights", weights.reshape(*weights.shape[:2], -1))

    hook(gate.register_forward_pre_hook(begin))
    hook(gate.register_forward_hook(opened))
    hook(recorder.decoder.register_forward_hook(closed, always_call=True))
