"""Watches key/value caches while attention updates them (transformers' protocol: `update(key, value, layer, ...)`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .attention import AttentionWatch


class Caches:
    """The caches of a run; what each update leaves in one is emitted by the attention that asked for it."""

    def __init__(self, attention: Callable[[], AttentionWatch | None]) -> None:
        self._attention = attention  # the one that runs now
        self._watched: list[Any] = []
        self._whole: dict[str, torch.Tensor] = {}  # whole caches of sliding layers: theirs forget

    def watch(self, cache: Any) -> None:
        if any(known is cache for known in self._watched):
            return
        update = cache.update

        def updated(key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            result = update(key, value, *args, **kwargs)
            watch = self._attention()
            if watch is not None and isinstance(result, tuple) and len(result) >= 2:
                watch.emit("k_rope", key)
                for point, held in zip(("k_cache", "v_cache"), result):
                    whole = held if watch.columns is None else held[..., : watch.columns, :]
                    whole = self._with_dropped(watch, point, whole) if watch.sliding else whole
                    if whole is not None:
                        watch.emit(point, whole)
            return result

        try:
            cache.update = updated
        except AttributeError:
            return
        self._watched.append(cache)

    def _with_dropped(self, watch: AttentionWatch, point: str, held: torch.Tensor) -> torch.Tensor | None:
        """The keys or values so far, with those that a sliding cache no longer holds; nothing where its rows were moved."""
        name, dropped = f"{watch.name}:{point}", watch.dropped(held.shape[-2])
        known = self._whole.get(name)
        if dropped and known is not None:
            kept = known[..., dropped:, :]
            if kept.shape != held[..., : kept.shape[-2], :].shape or not torch.equal(kept, held[..., : kept.shape[-2], :]):
                return None
            held = torch.cat((known[..., :dropped, :], held), dim=-2)
        elif dropped:
            return None
        self._whole[name] = held.detach().clone()
        return held

    def new_run(self) -> None:
        self._whole.clear()

    def restore(self) -> None:
        for cache in self._watched:
            del cache.update
        self._watched.clear()
