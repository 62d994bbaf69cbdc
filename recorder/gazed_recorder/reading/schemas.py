"""The columns of the data that Pupil Core's programs and gazed record, and where in a datum each is found.

Names are those of Pupil Player's CSV export, but for ``timestamp``, ``eye_id`` and the ``base…`` columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SCHEMAS", "Column", "Kind", "Path"]

Path = tuple[str | int, ...]
"""Keys of maps and places in lists, from the datum inwards."""
Kind = Literal["float", "int", "text", "object"]
"""``float``: a number, NaN where there is none. ``int``: a whole number, -1 where there is none. ``text``, ``object``:
``None`` where there is none."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column; of several ``paths`` the last one that a datum has counts."""

    name: str
    kind: Kind
    paths: tuple[Path, ...]


def _one(name: str, kind: Kind, *path: str | int) -> Column:
    return Column(name, kind, (path,))


def _point(name: str, *paths: Path, axes: str = "xyz") -> list[Column]:
    return [
        Column(f"{name}_{axis}", "float", tuple((*path, place) for path in paths)) for place, axis in enumerate(axes)
    ]


def _ellipse(name: str) -> list[Column]:
    return [
        *_point(f"{name}_center", (name, "center"), axes="xy"),
        *_point(f"{name}_axis", (name, "axes"), axes="ab"),
        _one(f"{name}_angle", "float", name, "angle"),
    ]


def _base(number: int) -> list[Column]:
    """Return the columns of one of the pupils that gaze rests on; before 0.8.3 they were under another key."""
    return [
        Column(f"base{number}_timestamp", "float", tuple((key, number, "timestamp") for key in ("base", "base_data"))),
        Column(f"base{number}_id", "int", tuple((key, number, "id") for key in ("base", "base_data"))),
    ]


_PUPIL = [
    _one("timestamp", "float", "timestamp"),
    _one("eye_id", "int", "id"),
    _one("topic", "text", "topic"),
    _one("method", "text", "method"),
    _one("confidence", "float", "confidence"),
    *_point("norm_pos", ("norm_pos",), axes="xy"),
    _one("diameter", "float", "diameter"),
    *_ellipse("ellipse"),
    _one("diameter_3d", "float", "diameter_3d"),
    _one("model_confidence", "float", "model_confidence"),
    _one("model_id", "float", "model_id"),
    *_point("sphere_center", ("sphere", "center")),
    _one("sphere_radius", "float", "sphere", "radius"),
    *_point("circle_3d_center", ("circle_3d", "center")),
    *_point("circle_3d_normal", ("circle_3d", "normal")),
    _one("circle_3d_radius", "float", "circle_3d", "radius"),
    _one("theta", "float", "theta"),
    _one("phi", "float", "phi"),
    *_ellipse("projected_sphere"),
]
# Monocular gaze has one eye's values without its number, see by_eye. Before 3.0 the keys of the eyes were numbers.
_GAZE = [
    _one("timestamp", "float", "timestamp"),
    _one("topic", "text", "topic"),
    _one("confidence", "float", "confidence"),
    *_point("norm_pos", ("norm_pos",), axes="xy"),
    *(column for number in (0, 1) for column in _base(number)),
    *_point("gaze_point_3d", ("gaze_point_3d",)),
    *(
        column
        for eye in (0, 1)
        for name in ("eye_center", "gaze_normal")
        for column in _point(f"{name}{eye}" + ("_3d" if name == "eye_center" else ""), *(
            (f"{name}s_3d", key) for key in (eye, str(eye))
        ))
    ),
    *_point("eye_center_3d", ("eye_center_3d",)),
    *_point("gaze_normal_3d", ("gaze_normal_3d",)),
]  # fmt: skip

SCHEMAS: dict[str, tuple[Column, ...]] = {
    "pupil": tuple(_PUPIL),
    "gaze": tuple(_GAZE),
    "fixations": (
        _one("timestamp", "float", "timestamp"),
        _one("id", "int", "id"),
        _one("topic", "text", "topic"),
        _one("method", "text", "method"),
        _one("confidence", "float", "confidence"),
        *_point("norm_pos", ("norm_pos",), axes="xy"),
        _one("dispersion", "float", "dispersion"),
        _one("duration", "float", "duration"),
        *_point("gaze_point_3d", ("gaze_point_3d",)),
        _one("base_data", "object", "base_data"),
    ),
    "blinks": (
        _one("timestamp", "float", "timestamp"),
        _one("topic", "text", "topic"),
        _one("type", "text", "type"),
        _one("confidence", "float", "confidence"),
    ),
    "notify": (
        _one("timestamp", "float", "timestamp"),
        _one("topic", "text", "topic"),
        _one("subject", "text", "subject"),
        _one("datum", "object"),
    ),
}
"""By the name of the log. The columns of other logs are the keys that their datums have."""
