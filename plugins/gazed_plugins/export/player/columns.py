"""The columns of ``pupil_positions.csv`` and ``gaze_positions.csv`` as Pupil Player 3 has them.

Source: Pupil Player's raw data exporter. What a datum lacks is left empty, and so is each group of values that it lacks
as a whole: the ellipse, all that is three-dimensional, each point of gaze. A number that is there and is none is
``nan``. The columns of ``Recording`` do not tell what is missing from what is not a number: a group in which nothing is
a number counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.csv_text import Column, Mask, Numbers, Pairs, Texts, Whole
from gazed_recorder.reading.table import Table

__all__ = ["GAZE_HEADER", "PUPIL_HEADER", "gaze_columns", "pupil_columns"]

Ints = NDArray[np.int64]


def _axes(*names: str, axes: str = "xyz") -> tuple[str, ...]:
    return tuple(f"{name}_{axis}" for name in names for axis in axes)


def _ellipse(name: str) -> tuple[str, ...]:
    return (*_axes(f"{name}_center", axes="xy"), *_axes(f"{name}_axis", axes="ab"), f"{name}_angle")


_ELLIPSE = _ellipse("ellipse")
_MODEL = ("diameter_3d", "model_confidence")
_SOLID = (
    *_axes("sphere_center"), "sphere_radius", *_axes("circle_3d_center", "circle_3d_normal"), "circle_3d_radius",
    "theta", "phi", *_ellipse("projected_sphere"),
)  # fmt: skip
_POINTS = ("gaze_point_3d", "eye_center0_3d", "gaze_normal0", "eye_center1_3d", "gaze_normal1")

PUPIL_HEADER = (
    "pupil_timestamp", "world_index", "eye_id", "confidence", "norm_pos_x", "norm_pos_y", "diameter", "method",
    *_ELLIPSE, *_MODEL, "model_id", *_SOLID,
)  # fmt: skip
GAZE_HEADER = (
    "gaze_timestamp", "world_index", "confidence", "norm_pos_x", "norm_pos_y", "base_data", *_axes(*_POINTS),
)  # fmt: skip


def pupil_columns(pupils: Table, index: Ints) -> list[Column]:
    """Return the columns of rows of ``Recording.pupil``; ``index`` (n,) are their world frames."""
    solid = _group(pupils, (*_MODEL, *_SOLID))
    return [
        Numbers(pupils["timestamp"]),
        Whole(index),
        Whole(pupils["eye_id"]),
        *(Numbers(pupils[name]) for name in ("confidence", "norm_pos_x", "norm_pos_y", "diameter")),
        Texts(pupils["method"].tolist()),
        *_group(pupils, _ELLIPSE),
        *solid[: len(_MODEL)],
        _whole_if_possible(pupils["model_id"]),
        *solid[len(_MODEL) :],
    ]


def gaze_columns(gaze: Table, index: Ints) -> list[Column]:
    """Return the columns of rows of ``Recording.gaze``; ``index`` (n,) are their world frames."""
    return [
        Numbers(gaze["timestamp"]),
        Whole(index),
        Numbers(gaze["confidence"]),
        *_group(gaze, _axes("norm_pos", axes="xy")),
        Pairs((gaze["base0_timestamp"], gaze["base1_timestamp"]), (gaze["base0_id"], gaze["base1_id"])),
        *(column for name in _POINTS for column in _group(gaze, _axes(name))),
    ]


def _group(table: Table, names: Sequence[str]) -> list[Column]:
    """Return columns that are empty in those rows in which none of them is a number."""
    missing: Mask = np.logical_and.reduce([np.isnan(table[name]) for name in names])
    return list(_numbers(table, names, missing if missing.any() else None))


def _numbers(table: Table, names: Sequence[str], missing: Mask | None) -> Iterator[Column]:
    for name in names:
        yield Numbers(table[name], missing)


def _whole_if_possible(values: NDArray[np.float64]) -> Column:
    missing = np.isnan(values)
    known = values[~missing]
    if ((known >= 0) & (known < 2**53) & (known == np.trunc(known))).all():
        return Whole(np.where(missing, -1, values).astype(np.int64))
    return Numbers(values, missing)
