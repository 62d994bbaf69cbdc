"""Which eye and which method a datum comes from: what is 2-D and what is 3-D never gets into one series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.steps import Steps
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table

__all__ = ["EYES", "ORIGIN_COLUMNS", "SIDES", "Series", "are_solid", "eyes_of_gaze", "split", "survey"]

SIDES = {0: "right", 1: "left"}
"""The side of an eye, as the wearer sees it, by its number."""
EYES = ("right", "left", "both", "unknown")
"""What the numbers of ``eyes_of_gaze`` mean."""
ORIGIN_COLUMNS: dict[str, tuple[str, ...]] = {
    "pupil": ("timestamp", "eye_id", "topic", "method"),
    "gaze": ("timestamp", "topic", "gaze_point_3d_x"),
}
"""The columns that ``split`` needs, by the name of the log."""
_BOTH, _UNKNOWN = 2, 3
_GAZE = -1
_BY_TOPIC = {"0": 0, "1": 1, "01": _BOTH, "2": _BOTH}

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Series:
    """The pupils of one eye by one method, or the gaze by one method."""

    log: Literal["pupil", "gaze"]
    eye: int
    """The number of the eye; -1 for gaze."""
    solid: bool
    """Whether it is 3-D."""
    rows: int = 0
    first: float = float("nan")
    last: float = float("nan")
    """Pupil time in s of the first and the last datum."""
    method: str = ""
    """What the first datum says of its method, or its topic."""

    @property
    def name(self) -> str:
        """Return ``eye0_2d``, …, ``gaze_3d``."""
        return f"{'gaze' if self.eye == _GAZE else f'eye{self.eye}'}_{'3d' if self.solid else '2d'}"

    @property
    def side(self) -> str:
        """Return ``right`` or ``left``; of another eye, its number."""
        return SIDES.get(self.eye, f"number {self.eye}")


def survey(recording: Recording, steps: Steps) -> dict[str, Series]:
    """Return the series of a recording by their names, those of the eyes first; takes one step a datum.

    What tells no time, and pupils that do not tell their eye, are left out.

    Raises:
        DamagedFile: a log cannot be read.
    """
    found: dict[str, Series] = {}
    for log in ("pupil", "gaze"):
        for table in recording.batches(log, columns=ORIGIN_COLUMNS[log]) if log in recording.logs else ():
            for series, rows in split(log, table):
                known = found.setdefault(series.name, replace(series, first=float(table["timestamp"][rows][0])))
                last = float(table["timestamp"][rows][-1])
                found[series.name] = replace(known, rows=known.rows + int(rows.sum()), last=last)
            steps.advance(len(table))
    return {name: found[name] for name in sorted(found)}


def split(log: str, table: Table) -> Iterator[tuple[Series, Bools]]:
    """Iterate over the series that rows of ``pupil`` or ``gaze`` belong to, each with which rows those are.

    Rows without an eye or without a time belong to none.
    """
    texts = table["method"] if log == "pupil" else table["topic"]
    if log == "pupil":
        eyes, solid = _eyes(table), are_solid(table)
    else:
        eyes, solid = np.full(len(table), _GAZE), _is_gaze_solid(table)
    known = (eyes >= (0 if log == "pupil" else _GAZE)) & np.isfinite(table["timestamp"])
    for code in np.unique(2 * eyes[known] + solid[known]).tolist():
        eye, is_solid = code // 2, bool(code % 2)
        rows = known & (eyes == eye) & (solid == is_solid)
        text = texts[rows][0] or table["topic"][rows][0] or ""
        yield Series("pupil" if log == "pupil" else "gaze", eye, is_solid, method=text), rows


def are_solid(pupils: Table) -> Bools:
    """Tell which pupils are 3-D, by ``topic`` and ``method``: before Pupil Capture 2.0 the topic does not say it."""
    known: dict[tuple[str | None, str | None], bool] = {}
    pairs = list(zip(pupils["method"].tolist(), pupils["topic"].tolist(), strict=True))
    for method, topic in set(pairs):
        known[method, topic] = "3d" in (topic if topic and topic.endswith((".2d", ".3d")) else method or "")
    return np.fromiter((known[pair] for pair in pairs), np.bool_, len(pairs))


def eyes_of_gaze(gaze: Table) -> NDArray[np.uint8]:
    """Return whose pupils gaze rests on, uint8 of shape (n,), as numbers in ``EYES``.

    ``gaze`` has the columns ``topic``, ``base0_id`` and ``base1_id``.
    """
    first, second = gaze["base0_id"], gaze["base1_id"]
    eyes = np.where((first == 0) | (first == 1), first, _UNKNOWN)
    eyes[(first >= 0) & (second >= 0) & (first != second)] = _BOTH
    for row in np.flatnonzero(first < 0).tolist():
        eyes[row] = _BY_TOPIC.get(_part(gaze["topic"][row], 2), _UNKNOWN)
    return eyes.astype(np.uint8)


def _eyes(pupils: Table) -> NDArray[np.int64]:
    """Return the number of each pupil's eye; -1 where neither it nor its topic says."""
    eyes = pupils["eye_id"].copy()
    for row in np.flatnonzero(eyes < 0).tolist():
        number = _part(pupils["topic"][row], 1)
        eyes[row] = int(number) if len(number) == 1 and number.isdecimal() else -1
    return eyes


def _is_gaze_solid(gaze: Table) -> Bools:
    """Tell which gaze is 3-D; early topics do not say it."""
    topics = gaze["topic"].tolist()
    told = {topic: "3d" in topic if topic and ("2d" in topic or "3d" in topic) else None for topic in set(topics)}
    has_point = np.isfinite(gaze["gaze_point_3d_x"]).tolist()
    answers = (point if told[topic] is None else told[topic] for topic, point in zip(topics, has_point, strict=True))
    return np.fromiter(answers, np.bool_, len(topics))


def _part(topic: str | None, place: int) -> str:
    parts = (topic or "").split(".")
    return parts[place] if len(parts) > place else ""
