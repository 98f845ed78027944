"""One line on the terminal while a run is recorded; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time


class Progress:
    def __init__(self, shown: bool | None) -> None:
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._last = 0.0
        self._dirty = False

    def update(self, step: int, points: int, size: int) -> None:
        now = time.monotonic()
        if not self._shown or now - self._last < 0.1:
            return
        self._last, self._dirty = now, True
        print(f"\rparscope: step {step}, {points} points, {size / 1e6:.1f} MB\033[K", end="", file=sys.stderr, flush=True)

    def done(self, message: str) -> None:
        if self._shown:
            print(("\r\033[K" if self._dirty else "") + message, file=sys.stderr, flush=True)
            self._dirty = False
