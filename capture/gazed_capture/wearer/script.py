"""What the wearer does in one loop: where the target goes, how wide the pupils are, how far the lids are open.

All streams sample the same script, each at its own rate. Slow movements advance in steps of 1/60 s, sizes in steps of
0.05 mm: that keeps the number of different images small, and the truth is that of the state so rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moment", "Script"]

Floats = NDArray[np.float64]

_SLOW_STEPS_PER_S = 60
_PUPIL_STEP_MM = 0.05
_REST_MM = 4.7
_LID_STEP = 1 / 64
_NEAR_M, _FAR_M = (0.4, 0.5), (1.2, 2.0)
_PURSUIT_S, _VERGENCE_S = 1.3, 0.7
_CLOSING_S, _OPENING_S = 0.06, 0.09
_ACTS: tuple[Literal["saccade", "pursuit", "vergence"], ...] = ("saccade", "vergence", "saccade", "pursuit", "saccade")


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """The wearer at N instants of the loop; arrays of float64."""

    target_mm: Floats
    """(N, 3) in the world camera's frame."""
    pupil_mm: Floats
    """(N,) diameters."""
    lid_opening: Floats
    """(N,) 0 closed, 1 open."""
    light: Floats
    """(N,) 1 while the lamp is on, else 0."""


@dataclass(frozen=True, slots=True, eq=False)
class _Move:
    """One movement of the target; ``start`` and ``end`` are (x/z, y/z, 1/z with z in metres)."""

    begin: float
    duration: float
    start: Floats
    end: Floats
    bulge: float
    """How far a pursuit swings out beside the straight line, as a part of its length."""
    slow: bool


def _ease(part: Floats) -> Floats:
    """Return the way done after a part of the time with least jerk (Flash and Hogan 1985)."""
    part = np.clip(part, 0.0, 1.0)
    return part**3 * (10 - 15 * part + 6 * part**2)


def _saccade_s(start: Floats, end: Floats) -> float:
    """Return how long a saccade takes: 21 ms and 2.2 ms for each degree (Carpenter 1988, the main sequence)."""
    return 0.021 + 0.0022 * float(np.degrees(np.hypot(*(end - start)[:2])))


class Script:
    """One seamless loop.

    ``seed`` decides where the targets are and when the lids close, ``closed_s`` for how long; ``seconds`` is the length
    of the loop, ``pupil_mm`` the size of the pupil at rest, ``droop`` the part that the lids never open.
    """

    def __init__(
        self, seed: int, seconds: float, *, pupil_mm: float = _REST_MM, closed_s: float = 0.05, droop: float = 0.0
    ) -> None:
        self.seconds = seconds
        self._pupil_mm, self._closed_s, self._widest = pupil_mm, closed_s, 1 - droop
        rng = np.random.default_rng(seed)
        self._moves = self._plan(rng)
        self._blinks = self._plan_blinks(rng)
        self._hippus = rng.uniform(0, 2 * np.pi, 3)
        self._lamp = (0.35 * seconds, 0.6 * seconds)
        self._reflex = self._light_reflex()

    def at(self, t: Floats) -> Moment:
        """Return the wearer at times ``t`` (N,), seconds since the loop began, all in [0, seconds)."""
        path = self._path(t)
        depth_mm = 1000.0 / path[:, 2:]
        target = np.concatenate([path[:, :2] * depth_mm, depth_mm], axis=1)
        on, off = self._lamp
        light = ((t >= on) & (t < off)).astype(np.float64)
        return Moment(target, self._pupil(t, path[:, 2]), self._lids(t), light)

    def _plan(self, rng: np.random.Generator) -> list[_Move]:
        """Fill the loop with fixations and moves between them, ending where it began."""
        place = first = np.array([0.0, 0.0, 1 / rng.uniform(*_FAR_M)])
        moves: list[_Move] = []
        fixations, moving = [float(rng.uniform(0.3, 0.6))], 0.0
        while sum(fixations) + moving < self.seconds - 1.0:
            act = _ACTS[len(moves) % len(_ACTS)]
            there = np.array([rng.uniform(-0.32, 0.32), rng.uniform(-0.18, 0.2), place[2]])
            if act == "vergence":
                there = np.array([*place[:2], 1 / rng.uniform(*(_NEAR_M if place[2] < 1 else _FAR_M))])
            duration = {"saccade": _saccade_s(place, there), "pursuit": _PURSUIT_S, "vergence": _VERGENCE_S}[act]
            moves.append(_Move(0.0, duration, place, there, 0.25 if act == "pursuit" else 0.0, act != "saccade"))
            fixations.append(float(rng.uniform(0.3, 0.6)))
            moving += duration
            place = there
        # Eyes cannot change their distance as fast as their direction.
        deep = bool(place[2] != first[2])
        moves.append(_Move(0.0, _VERGENCE_S if deep else _saccade_s(place, first), place, first, 0.0, slow=deep))
        moving += moves[-1].duration
        stretch = (self.seconds - moving) / sum(fixations)
        clock, timed = 0.0, []
        for wait, move in zip(fixations, moves, strict=True):
            clock += wait * stretch
            timed.append(_Move(clock, move.duration, move.start, move.end, move.bulge, move.slow))
            clock += move.duration
        return timed

    def _plan_blinks(self, rng: np.random.Generator) -> Floats:
        """Spread blinks over the loop, none across its seam."""
        count = max(1, round(self.seconds / 3.3))
        slot = self.seconds / count
        room = slot - (_CLOSING_S + self._closed_s + _OPENING_S) - 0.02
        return np.array([slot * index + 0.01 + room * float(rng.uniform(0.3, 0.7)) for index in range(count)])

    def _path(self, t: Floats) -> Floats:
        """Return (N, 3): x/z, y/z and 1/z of the target."""
        path = np.repeat(self._moves[0].start[None, :], len(t), axis=0)
        for move in self._moves:
            inside = t >= move.begin
            when = t[inside]
            if move.slow:
                # A time that is a whole number of steps must not fall below it by rounding.
                when = np.floor(when * _SLOW_STEPS_PER_S + 1e-6) / _SLOW_STEPS_PER_S
            part = (when - move.begin) / move.duration
            step = move.end - move.start
            aside = np.array([-step[1], step[0], 0.0]) * move.bulge
            swing = np.sin(np.pi * _ease(part)) ** 2
            moved = move.start + step * _ease(part)[:, None] + aside * swing[:, None]
            moved[part >= 1] = move.end
            path[inside] = moved
        return path

    def _lids(self, t: Floats) -> Floats:
        opening = np.full(len(t), self._widest)
        for begin in self._blinks:
            closing = 1 - _ease((t - begin) / _CLOSING_S)
            reopening = _ease((t - begin - _CLOSING_S - self._closed_s) / _OPENING_S)
            opening = np.minimum(opening, self._widest * np.maximum(closing, reopening))
        return np.asarray(np.round(opening / _LID_STEP) * _LID_STEP)

    def _light_reflex(self) -> Floats:
        """Return how far the pupil has answered the lamp, 0..1, for each millisecond of the loop.

        A first-order answer 0.22 s late, fast to narrow and slow to widen; the second loop of two is in its rhythm.
        """
        count = ceil(self.seconds * 1000)
        on, off = self._lamp
        t = np.arange(count) / 1000
        lit = (((t - 0.22) % self.seconds >= on) & ((t - 0.22) % self.seconds < off)).tolist()
        answer, trace = 0.0, []
        for bright in lit + lit:
            answer += (0.001 / 0.28) * (1 - answer) if bright else (0.001 / 0.9) * -answer
            trace.append(answer)
        return np.array(trace[count:])

    def _pupil(self, t: Floats, nearness: Floats) -> Floats:
        """Return the diameters: rest, hippus, light reflex and the near response, in steps; small pupils move less."""
        turns = 2 * np.pi * t[:, None] / self.seconds * np.array([1, 2, 3]) * max(1, round(self.seconds / 8))
        hippus = np.sin(turns + self._hippus) @ np.array([0.16, 0.12, 0.08])
        reflex = self._reflex[np.minimum((t * 1000).astype(np.int64), len(self._reflex) - 1)]
        size = (_REST_MM + hippus - 1.7 * reflex - 0.2 * (nearness - 1)) * (self._pupil_mm / _REST_MM)
        return np.asarray(np.round(np.clip(size, 1.5, 8.0) / _PUPIL_STEP_MM) * _PUPIL_STEP_MM)
