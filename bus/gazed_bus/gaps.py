"""Losses, counted from the sequence numbers that publishers write into their messages."""

from __future__ import annotations

from collections.abc import Callable

from gazed_bus.codec import Raw, read_sequence

__all__ = ["GapCounter"]

_MASK = 0xFFFFFFFF
_BEHIND = 1 << 31
_MAX_SERIES = 8192
_MAX_NAMES = 1024
_OTHERS = "(others)"


class GapCounter:
    """Counts, for each topic, the messages that were published but not seen.

    Every publisher counts each of its topics for itself, so several publishers of a topic and restarted ones
    (a new publisher number) are told apart. A message without ``seq`` says nothing. The first message of a series is
    where counting begins; a loss shows with the next message of its series, not before.
    """

    def __init__(self) -> None:
        self.lost: dict[str, int] = {}
        """By topic; past 1024 topics, which only somebody hostile makes up, together under ``(others)``."""
        self._expected: dict[tuple[bytes, int], int] = {}

    def see(self, topic: bytes, packed: Raw) -> int:
        """Take note of a message; return how many of its series went missing just before it."""
        sequence = read_sequence(packed)
        if sequence is None:
            return 0
        publisher, counter = sequence
        series = (topic, publisher)
        missing = (counter - self._expected.get(series, counter)) & _MASK
        # A counter that runs backwards is a repeated message, not four billion lost ones.
        if missing >= _BEHIND:
            return 0
        self._expected[series] = counter + 1
        if len(self._expected) > _MAX_SERIES:
            del self._expected[next(iter(self._expected))]
        if not missing:
            return 0
        name = topic.decode("utf-8", "replace")
        if name not in self.lost and len(self.lost) >= _MAX_NAMES:
            name = _OTHERS
        self.lost[name] = self.lost.get(name, 0) + missing
        return missing

    def forget(self, unwanted: Callable[[bytes], bool]) -> None:
        """Begin anew on the topics for which ``unwanted`` is true, as after an unsubscription."""
        self._expected = {series: counter for series, counter in self._expected.items() if not unwanted(series[0])}
