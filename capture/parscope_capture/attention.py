"""Looks on while an attention module computes: scores, probabilities, mask, cache, and which kernel did it.

Nothing is computed again. A torch function mode sees each tensor function that the module's forward calls; from their order
(product, scale, mask, softmax, product) it knows which value is which, whoever wrote the forward. A fused kernel has no scores
and no probabilities, and then there are none in the trace.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}
_SCALES = {"mul", "__mul__", "__rmul__", "mul_", "__imul__", "div", "__truediv__", "div_", "__itruediv__", "true_divide"}
_ADDS = {"add", "__add__", "__radd__", "add_", "__iadd__"}
_FILLS = {"masked_fill", "masked_fill_"}
_CASTS = {"to", "type_as", "type", "float", "half", "bfloat16", "double", "contiguous"}
_ROTARY = re.compile(r"^apply_.*(rotary|rope)", re.IGNORECASE)


class Sink(Protocol):
    """Where values go; the recorder."""

    def emit(self, name: str, value: torch.Tensor) -> None: ...
    def mask(self, layer: int, value: torch.Tensor) -> None: ...
    def ran(self, layer: int, executed: str, kernel: str | None) -> None: ...


class AttentionWatch(TorchFunctionMode):
    """One call of one attention module. `rows` = new tokens, `columns` = keys that there should be (None: unknown)."""

    def __init__(
        self, sink: Sink, module: nn.Module, name: str, layer: int, rows: int, columns: int | None, masked: bool
    ) -> None:
        super().__init__()
        self.module = module
        self.sink, self.name, self.layer = sink, name, layer
        self.rows, self.columns, self.masked = rows, columns, masked
        self.sliding = bool(getattr(module, "sliding_window", None))
        self.seen: set[str] = set()
        self._current: torch.Tensor | None = None  # query x key, then scaled, masked, exponentiated
        self._started = False  # the softmax, in one function or in several
        self._mask: torch.Tensor | None = None
        self._done = False

    def emit(self, point: str, value: torch.Tensor) -> None:
        if point not in self.seen:
            self.seen.add(point)
            self.sink.emit(f"{self.name}:{point}", value)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            self._fused(*args, **kwargs)
            return func(*args, **kwargs)
        self._before(name, args, kwargs)
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            self._after(name, args, kwargs, result)
        return result

    # ---- unfused -------------------------------------------------------------------------------------------------

    def _before(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What must be stored before the function may change it in place."""
        if self._done or self._current is None or not any(a is self._current for a in _tensors(args)):
            return
        if name in _PRODUCTS:
            self._finish()
            return
        mask = self._mask_operand(name, args, kwargs)
        if mask is not None:
            self._scores()
            self._add_mask(mask)
        elif name not in _SCALES and name.endswith("_") and not name.startswith("__"):
            self._scores()

    def _after(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: torch.Tensor) -> None:
        """Follows the product of query and key through whatever keeps its shape, to the product that reads it."""
        if self._done:
            return
        if self._current is None:
            if name in _PRODUCTS and result.dim() >= 3:
                self._current = result
            return
        if not any(a is self._current for a in _tensors(args)):
            if name in _PRODUCTS and result.dim() >= 3 and not self._started:
                self._current = result  # the one before was another, a table of angles for example
            return
        if result.shape != self._current.shape or not result.is_floating_point():
            return
        if name not in _SCALES and name not in _CASTS and self._mask_operand(name, args, kwargs) is None:
            self._scores()
            self._started = True
        self._current = result

    def _mask_operand(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
        """What the function adds to the scores, or which cells it keeps; nothing if it is not about the mask."""
        given = [*args, *kwargs.values()]
        others = [a for a in given if isinstance(a, torch.Tensor) and a is not self._current and a.dim() > 0]
        if name in _ADDS and len(others) == 1:
            return others[0]
        if name in _FILLS and others:
            return others[0].logical_not()
        if name == "where" and others and given[0] is others[0]:
            return others[0] if given[1] is self._current else others[0].logical_not()
        return None

    def _add_mask(self, mask: torch.Tensor) -> None:
        if self._mask is None:
            self._mask = mask
        elif mask.dtype == torch.bool and self._mask.dtype == torch.bool:
            self._mask = mask & self._mask
        elif mask.dtype != torch.bool and self._mask.dtype != torch.bool:
            self._mask = self._mask + mask
        else:  # one of bools and one of numbers
            kept, added = (mask, self._mask) if mask.dtype == torch.bool else (self._mask, mask)
            self._mask = added.masked_fill(~kept, torch.finfo(added.dtype).min)

    def _scores(self) -> None:
        # A trace has no scores of cross-replica attention, nor of keys that a sliding cache has dropped.
        if self.masked and self._current is not None and not self.dropped(self._current.shape[-1]):
            self.emit("scores", self._new_rows(self._current))

    def _finish(self) -> None:
        """The probabilities as the product with the values reads them, and the mask that made them."""
        assert self._current is not None
        self.emit("probs", self._new_rows(self._current))
        if self.masked:
            everything = torch.ones(self._current.shape[-2:], dtype=torch.bool, device=self._current.device)
            self._send_mask(self._mask if self._mask is not None else everything)
        self.sink.ran(self.layer, "eager", None)
        self._done, self._current = True, None

    def close(self) -> None:
        if self._started and not self._done:
            self._finish()

    def dropped(self, columns: int) -> int:
        """How many of the oldest keys a sliding cache has let go: nobody attends to them, and they count in a trace."""
        return self.columns - columns if self.sliding and self.columns is not None and columns < self.columns else 0

    def _new_rows(self, value: torch.Tensor, unseen: float = 0.0) -> torch.Tensor:
        """Without rows in front that a model adds for its kernel's sake, and without cache slots that hold nothing yet."""
        if not self.masked:
            return value
        value = value[..., -self.rows :, :]
        dropped = self.dropped(value.shape[-1])
        if dropped:
            return torch.nn.functional.pad(value, (dropped, 0), value=unseen)
        return value if self.columns is None else value[..., : self.columns]

    def _send_mask(self, mask: torch.Tensor) -> None:
        mask = mask[(None,) * max(0, 4 - mask.dim())]
        if mask.shape[-2] == 1 and self.rows > 1:
            mask = mask.expand(*mask.shape[:-2], self.rows, mask.shape[-1])
        unseen = torch.finfo(mask.dtype).min if mask.is_floating_point() else False
        self.sink.mask(self.layer, self._new_rows(mask, unseen))

    # ---- fused ---------------------------------------------------------------------------------------------------

    def _fused(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        if self.masked and query.shape[-2] >= self.rows:
            self.query(query)
            applied = attn_mask
            if applied is None:
                every = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device)
                applied = every.tril() if is_causal else every  # aligned at the upper left, as the kernel has it
            self._send_mask(applied)
        call = (query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
        self.sink.ran(self.layer, "sdpa", sdpa_kernel(*call))
        self._done = True

    def flex(self, query: torch.Tensor, key: torch.Tensor, block_mask: Any) -> None:
        self.query(query)
        if self.masked and getattr(block_mask, "mask_mod", None) is not None:
            from torch.nn.attention.flex_attention import create_mask

            rows, columns = query.shape[-2], key.shape[-2]
            self._send_mask(
                create_mask(block_mask.mask_mod, block_mask.shape[0], block_mask.shape[1], rows, columns, query.device)
            )
        self.sink.ran(self.layer, "flex_attention", None)
        self._done = True

    def query(self, query: torch.Tensor) -> None:
        """The rotated query as the kernel reads it, where the rotation itself could not be seen."""
        if "q_rope" not in self.seen and query.dim() == 4 and query.shape[-2] == self.rows:
            self.emit("q_rope", query)


def _tensors(args: tuple[Any, ...]) -> list[torch.Tensor]:
    flat = [b for a in args for b in (a if isinstance(a, (list, tuple)) else (a,))]
    return [a for a in flat if isinstance(a, torch.Tensor)]


def sdpa_kernel(*call: Any) -> str | None:
    """Which of torch's kernels serves this call of scaled_dot_product_attention."""
    query, key, value, mask, dropout, causal, scale, gqa = call
    try:
        chosen = torch._fused_sdp_choice(
            query, key, value, mask, dropout, causal, scale=scale, enable_gqa=gqa
        )  # type: ignore[attr-defined]
        from torch.nn.attention import SDPBackend

        return SDPBackend(chosen).name.lower() if chosen >= 0 else None
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return None  # this torch does not say


class Replaced:
    """Functions exchanged in their namespaces, put back by `restore`."""

    def __init__(self) -> None:
        self._old: list[tuple[dict[str, Any], str, Any]] = []

    def replace(self, namespace: dict[str, Any], name: str, wrap: Callable[[Any], Any]) -> None:
        if any(space is namespace and old == name for space, old, _ in self._old):
            return
        self._old.append((namespace, name, namespace[name]))
        namespace[name] = wrap(namespace[name])

    def restore(self) -> None:
        for namespace, name, old in reversed(self._old):
            namespace[name] = old
        self._old.clear()


def rotary_names(namespace: dict[str, Any]) -> list[str]:
    return [name for name, value in namespace.items() if _ROTARY.match(name) and callable(value)]


def watch_flex(replaced: Replaced, see: Callable[[torch.Tensor, torch.Tensor, Any], None]) -> None:
    """Has `see` told of each call of flex attention, torch's own or through transformers."""
    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            see(query, key, kwargs.get("block_mask"))
            return function(query, key, *args, **kwargs)

        return called

    for module, name in (
        ("torch.nn.attention.flex_attention", "flex_attention"),
        ("transformers.integrations.flex_attention", "compile_friendly_flex_attention"),
    ):
        if module in sys.modules and hasattr(sys.modules[module], name):
            replaced.replace(sys.modules[module].__dict__, name, wrap)
