"""The columns of eye tracking as BIDS has them: what they are called, what they mean, and their values.

Source: Brain Imaging Data Structure 1.11, physiological recordings of the type ``eyetrack``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.origins import EYES, ORIGIN_COLUMNS, eyes_of_gaze
from gazed_recorder.reading.table import Table

__all__ = ["EYE_SOURCES", "GAZE_SOURCES", "BidsColumn", "InFrames", "eye_columns", "gaze_columns"]

Values = Callable[[Table], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class BidsColumn:
    """One column."""

    name: str
    description: str
    values: Values
    """Makes its values of rows of the recording: numbers (NaN where there is none), or texts."""
    units: str = ""
    levels: tuple[str, ...] = ()
    """Of texts: which there are."""


_OF_ELLIPSE = {
    "x_coordinate": ("ellipse_center_x", "pixel", "Centre of the pupil in the eye camera's image, from the left."),
    "y_coordinate": ("ellipse_center_y", "pixel", "Centre of the pupil in the eye camera's image, from the top."),
    "pupil_size": ("diameter", "pixel", "Pupil diameter: the longer axis of its ellipse in the eye camera's image."),
    "ellipse_axis_a": ("ellipse_axis_a", "pixel", "Shorter axis of the pupil's ellipse."),
    "ellipse_axis_b": ("ellipse_axis_b", "pixel", "Longer axis of the pupil's ellipse."),
    "ellipse_angle": ("ellipse_angle", "degree", "Direction of the shorter axis, from right towards down."),
}
_OF_MODEL = {
    "model_confidence": ("", "Confidence in the 3D model of the eye, from 0 to 1."),
    "diameter_3d": ("mm", "Pupil diameter by the 3D model."),
    **{f"sphere_center_{axis}": ("mm", f"Centre of the eyeball in the eye camera's space, {axis}.") for axis in "xyz"},
    **{f"circle_3d_normal_{axis}": ("", f"Where the eye looks, in the eye camera's space, {axis}.") for axis in "xyz"},
    "theta": ("rad", "Where the eye looks: angle from the eye camera's y axis, which points down."),
    "phi": ("rad", "Where the eye looks: angle around that axis."),
}
_VECTORS = {
    "gaze_point_3d": ("mm", "Point that is looked at"),
    "eye_center0_3d": ("mm", "Centre of the right eyeball"),
    "gaze_normal0": ("", "Where the right eye looks"),
    "eye_center1_3d": ("mm", "Centre of the left eyeball"),
    "gaze_normal1": ("", "Where the left eye looks"),
}
EYE_SOURCES = (
    *ORIGIN_COLUMNS["pupil"],
    "confidence",
    *(column for column, _, _ in _OF_ELLIPSE.values()),
    *_OF_MODEL,
)
"""The columns of the log ``pupil`` that ``eye_columns`` need."""
GAZE_SOURCES = (
    *ORIGIN_COLUMNS["gaze"],
    *("confidence", "norm_pos_x", "norm_pos_y", "base0_id", "base1_id"),
    *(f"{name}_{axis}" for name in _VECTORS for axis in "xyz" if (name, axis) != ("gaze_point_3d", "x")),
)
"""The columns of the log ``gaze`` that ``gaze_columns`` need."""
_CLOCK = BidsColumn("timestamp", "Pupil time, the clock of the recording.", lambda rows: rows["timestamp"], "s")


def eye_columns(flat: bool, solid: bool) -> list[BidsColumn]:
    """Return the columns of one eye, to be made of the frames of ``InFrames``.

    Ellipse and ``confidence`` are those of the 2-D detector if it was at work (``flat``); what the 3-D one (``solid``)
    adds has columns of its own.
    """
    main = "2d" if flat else "3d"
    engine = "2D detector" if flat else "3D detector: its model, as the camera sees it"
    columns = [_CLOCK]
    for name, (source, units, text) in _OF_ELLIPSE.items():
        columns.append(BidsColumn(name, f"{text} By the {engine}.", _seen(f"{source}_{main}", main), units))
    told = f"Confidence of the {main.upper()} detector, from 0 to 1."
    columns.insert(4, BidsColumn("confidence", told, _column(f"confidence_{main}")))
    if flat and solid:
        told = "Confidence of the 3D detector, from 0 to 1."
        columns.append(BidsColumn("confidence_3d", told, _column("confidence_3d")))
    for name, (units, text) in _OF_MODEL.items() if solid else ():
        columns.append(BidsColumn(name, text, _column(f"{name}_3d"), units))
    return columns


def gaze_columns(solid: bool, world_size: tuple[int, int] | None) -> list[BidsColumn]:
    """Return the columns of gaze; places in px if the size of the world's image is known, else norm positions."""
    x, y = _column("norm_pos_x"), _column("norm_pos_y")
    columns = [_CLOCK]
    if world_size is None:
        columns.append(BidsColumn("x_coordinate", "Gaze in the world camera's image: 0 is left, 1 is right.", x))
        columns.append(BidsColumn("y_coordinate", "Gaze in the world camera's image: 0 is bottom, 1 is top.", y))
    else:
        width, height = world_size
        text = "Gaze in the world camera's image, from the"
        columns.append(BidsColumn("x_coordinate", f"{text} left.", lambda rows: x(rows) * width, "pixel"))
        columns.append(BidsColumn("y_coordinate", f"{text} top.", lambda rows: (1 - y(rows)) * height, "pixel"))
        columns.append(BidsColumn("norm_pos_x", "The same: 0 is left, 1 is right.", x))
        columns.append(BidsColumn("norm_pos_y", "The same: 0 is bottom, 1 is top.", y))
    names = np.array(EYES, object)
    columns.append(BidsColumn("confidence", "Confidence, from 0 to 1.", _column("confidence")))
    told = "The eyes whose pupils it rests on."
    columns.append(BidsColumn("eyes", told, lambda rows: names[eyes_of_gaze(rows)], levels=EYES))
    for name, (units, text) in _VECTORS.items() if solid else ():
        for axis in "xyz":
            told = f"{text}, in the world camera's space, {axis}."
            columns.append(BidsColumn(f"{name}_{axis}", told, _column(f"{name}_{axis}"), units))
    return columns


class InFrames:
    """Puts the 2-D and the 3-D pupil of each frame of an eye into one row.

    The columns get ``_2d`` or ``_3d`` behind their names; a pupil that a frame has not is NaN. Where an engine told
    twice of one instant, there are two rows.
    """

    def __init__(self) -> None:
        self._rest: Table | None = None
        self._solid = np.zeros(0, np.bool_)

    def add(self, rows: Table, solid: NDArray[np.bool_]) -> Table:
        """Take pupils in the order of time, and which of them are 3-D; return the frames that are complete."""
        rows = rows if self._rest is None else Table.concatenated([self._rest, rows])
        solid = np.concatenate([self._solid, solid])
        # What is of the last instant may go on in the next rows.
        stamps = rows["timestamp"]
        done = int(np.searchsorted(stamps, stamps[-1])) if len(stamps) else 0
        self._rest, self._solid = rows[done:], solid[done:]
        return _frames(rows[:done], solid[:done])

    def finish(self) -> Table | None:
        """Return the last frames; ``None`` if there never were any rows."""
        return None if self._rest is None else _frames(self._rest, self._solid)


def _frames(rows: Table, solid: NDArray[np.bool_]) -> Table:
    stamps = rows["timestamp"]
    turns = np.zeros(len(rows), np.int64)
    for kind in (solid, ~solid):
        own = stamps[kind]
        turns[kind] = np.arange(len(own)) - np.searchsorted(own, own)
    order = np.lexsort((turns, stamps))
    news = np.ones(len(rows), np.bool_)
    news[1:] = (np.diff(stamps[order]) != 0) | (np.diff(turns[order]) != 0)
    frames = np.empty(len(rows), np.int64)
    frames[order] = np.cumsum(news) - 1
    columns = {"timestamp": stamps[order][news]}
    for name, kind in (("2d", ~solid), ("3d", solid)):
        for column in rows.columns:
            if rows[column].dtype == np.float64 and column != "timestamp":
                values = np.full(int(news.sum()), np.nan)
                values[frames[kind]] = rows[column][kind]
                columns[f"{column}_{name}"] = values
    return Table(columns)


def _column(name: str) -> Values:
    return lambda rows: rows[name]


def _seen(name: str, kind: str) -> Values:
    """Return values of ellipses, NaN where no pupil was found: such an ellipse lies in the corner and has no size."""
    return lambda rows: np.where(rows[f"ellipse_axis_b_{kind}"] > 0, rows[name], np.nan)
