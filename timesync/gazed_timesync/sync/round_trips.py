"""What a leader sees of a follower's round trips: from an answer to the next request."""

from __future__ import annotations

from collections import deque

__all__ = ["RoundTrips"]

_KEPT, _BEST_SHARE = 60, 0.69  # what Pupil's follower takes, and of these the mean
_LEAST = 5
_PAUSE_S = 0.5  # what is longer was no round trip


class RoundTrips:
    """The mean round trip of a follower that asks at once when it is answered, as it would compute it itself.

    Args:
        first_s: the mean while there are fewer than five.
    """

    def __init__(self, first_s: float) -> None:
        self.mean_s = first_s
        self._seen: deque[float] = deque(maxlen=_KEPT)
        self._answered_s: float | None = None

    @property
    def known(self) -> bool:
        """Whether the mean is of this follower's own round trips."""
        return len(self._seen) >= _LEAST

    def asked(self, now_s: float) -> None:
        """Take note of a request."""
        if self._answered_s is not None and now_s - self._answered_s < _PAUSE_S:
            self._seen.append(now_s - self._answered_s)
            if self.known:
                best = sorted(self._seen)[: int(len(self._seen) * _BEST_SHARE)]
                self.mean_s = sum(best) / len(best)

    def answered(self, now_s: float) -> None:
        """Take note of its answer."""
        self._answered_s = now_s
