"""Which pupil datums belong together: with a reference for calibration, and with each other for mapping.

A datum is a map as Pupil defines it: ``id`` 0 is the wearer's right eye, 1 the left; ``timestamp`` is Pupil time in s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "MIN_CALIBRATION_CONFIDENCE",
    "CalibrationMatches",
    "Datum",
    "LiveMatcher",
    "match_for_calibration",
    "nearest",
]

Datum = dict[str, Any]

MIN_CALIBRATION_CONFIDENCE = 0.8
"""Pupil datums below this do not take part in a calibration."""

_MAX_SPREAD_S = 1 / 15
_MIN_PAIR_CONFIDENCE = 0.6
_FIRST_INTERVAL_S = 1 / 120
_SMOOTHING = 50


@dataclass(frozen=True, slots=True)
class CalibrationMatches:
    """References with the pupil datums nearest in time."""

    binocular: list[tuple[Datum, Datum, Datum]]
    """(reference, right, left)"""
    right: list[tuple[Datum, Datum]]
    left: list[tuple[Datum, Datum]]


def nearest(stamps: Sequence[float], wanted: float) -> int:
    """Return the index of the nearest of sorted ``stamps``; halfway between two, the later one.

    Raises:
        ValueError: there are no stamps.
    """
    if not stamps:
        raise ValueError("nothing is nearest among no timestamps")
    after = bisect_left(stamps, wanted)
    if after == len(stamps) or (after > 0 and wanted - stamps[after - 1] < stamps[after] - wanted):
        return after - 1
    return after


def match_for_calibration(refs: Sequence[Datum], pupils: Sequence[Datum]) -> CalibrationMatches:
    """Give each reference the datum of each eye that is nearest in time; all must lie within 1/15 s."""
    eyes = [sorted((pupil for pupil in pupils if pupil["id"] == eye), key=_timestamp) for eye in (0, 1)]
    stamps = [[pupil["timestamp"] for pupil in eye] for eye in eyes]
    matches = CalibrationMatches([], [], [])
    for ref in refs:
        found = [
            eye[nearest(times, ref["timestamp"])] if eye else None for eye, times in zip(eyes, stamps, strict=True)
        ]
        right, left = (pupil if pupil and _spread(ref, pupil) < _MAX_SPREAD_S else None for pupil in found)
        if right:
            matches.right.append((ref, right))
        if left:
            matches.left.append((ref, left))
        if right and left and _spread(ref, right, left) < _MAX_SPREAD_S:
            matches.binocular.append((ref, right, left))
    return matches


class LiveMatcher:
    """Pairs the two eyes' datums as they arrive; every datum is answered at once with the eyes to map together.

    A datum goes with the newest one of the other eye if that is less than two frame intervals away and both are at
    least 0.6 confident; else alone. So each can be in several pairs, none is lost and none waits: an eye without a
    partner is mapped as fast as two. What comes in the order of time goes out in the order of mean time.

    The interval is that of the slower eye, smoothed over 50 datums, and begins at 1/120 s. (Pupil's rules, without its
    queues: there one eye's datums wait until ten have come, and those of two as long as the second eye began later.)
    """

    def __init__(self) -> None:
        self._newest: dict[int, Datum] = {}
        self._interval = {0: _FIRST_INTERVAL_S, 1: _FIRST_INTERVAL_S}
        self._latest = self._answered = float("-inf")

    def add(self, pupil: Datum) -> list[Datum]:
        """Take a datum whose ``id`` is 0 or 1, and return it alone or as ``[right, left]`` with its partner."""
        eye, now = pupil["id"], pupil["timestamp"]
        before = self._newest.get(eye)
        if before is not None:
            passed = now - before["timestamp"]
            if passed < 0:  # the clock was set back
                self._newest.clear()
                self._latest = self._answered = float("-inf")
            else:
                # One long gap says nothing about the rate.
                interval = self._interval[eye]
                self._interval[eye] += (min(passed, 2 * interval) - interval) / _SMOOTHING
        other = self._newest.get(1 - eye)
        match = [pupil]
        if other is not None and self._is_pair(pupil, other):
            match = [pupil, other] if eye == 0 else [other, pupil]
        self._newest[eye] = pupil
        self._latest = max(self._latest, now)
        self._answered = max(self._answered, _mean_time(match))
        return match

    def _is_pair(self, pupil: Datum, other: Datum) -> bool:
        return (
            min(pupil["confidence"], other["confidence"]) >= _MIN_PAIR_CONFIDENCE
            and _spread(pupil, other) < 2 * max(self._interval.values())
            # A datum that comes after a later one of the other eye is out of order with or without its partner.
            and (pupil["timestamp"] < self._latest or _mean_time([pupil, other]) >= self._answered)
        )


def _mean_time(datums: Sequence[Datum]) -> float:
    return sum(_timestamp(datum) for datum in datums) / len(datums)


def _timestamp(datum: Mapping[str, Any]) -> float:
    return float(datum["timestamp"])


def _spread(*datums: Mapping[str, Any]) -> float:
    stamps = [_timestamp(datum) for datum in datums]
    return max(stamps) - min(stamps)
