"""How far an export is: steps of any size, told at most twenty times a second and never backwards."""

from __future__ import annotations

import time

from gazed_plugins.offline_data import Progress

__all__ = ["Steps"]

_EVERY_S = 0.05


class Steps:
    """Tells ``progress`` how much of ``total`` is done; what is done beyond it is not told."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = max(1, total)
        self._done = 0
        self._next = 0.0

    def advance(self, steps: int) -> None:
        """Say that so many more are done."""
        self._done = min(self._done + steps, self._total)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """Say that all is done."""
        self._progress(self._total, self._total)
