"""What is tracked in a recording, as poses: the points of each eye, and of gaze, over time.

A pupil is five points, from which its ellipse can be made again: its centre, and the ends of its two axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.origins import are_solid
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table

__all__ = ["Kind", "Method", "Poses", "datums_of", "ellipse_points", "nearest_rows", "read_poses"]

Floats = NDArray[np.float64]
Method = Literal["2d", "3d"]

_XY, _XYZ = ("x", "y"), ("x", "y", "z")
# Two samples further apart than this, in usual intervals, have a gap between them.
_GAP = 2.5
_PERIODS = {"ellipse_angle": 180.0, "phi": math.tau}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of poses."""

    keypoints: tuple[str, ...]
    space: tuple[str, ...]
    """The axes of their coordinates: x and y in px of an image, or x, y and z in mm."""
    values: tuple[str, ...]
    """The columns of the recording that they are made of."""
    own: tuple[str, ...]
    """Those of them that positions do not hold."""
    place: Callable[[Mapping[str, Floats]], Floats]
    """Make the positions, of shape (n, axes, keypoints), of the values, each of shape (n,)."""


@dataclass(frozen=True)
class Poses:
    """The poses of one stream."""

    stream: str
    """It is ``eye0``, ``eye1``, ``eye0_3d``, ``eye1_3d``, ``gaze`` or ``gaze_3d``."""
    kind: Kind
    times: Floats
    """Pupil time in s, shape (n,)."""
    confidence: Floats
    """Of all of its keypoints, shape (n,)."""
    values: dict[str, Floats]
    """Each of shape (n,)."""
    size: tuple[int, int] | None
    """Width and height in px of the images; ``None`` where they are not known."""
    method: str = ""
    """How pupils were found: ``2d`` or ``3d``, and by what."""
    rate: float | None = None
    """Samples a second where they come at equal intervals."""
    video: str = ""
    """The video with whose frames they are in step; empty if with none."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def individual(self) -> str:
        """Whose they are: ``eye0``, ``eye1`` or ``gaze``."""
        return self.stream.removesuffix("_3d")

    @property
    def position(self) -> Floats:
        """The keypoints, shape (n, axes, keypoints); NaN where nothing was found."""
        return self.kind.place(self.values)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether any keypoint has a position, shape (n,)."""
        return np.asarray(np.isfinite(self.position).any(axis=(1, 2)), bool)

    @property
    def usual_rate(self) -> float | None:
        """Samples a second, by the median interval."""
        steps = np.diff(self.times)
        middle = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
        return 1 / middle if middle else None

    def resampled(self, rate: float) -> Poses:
        """Return them at the multiples of 1 / ``rate`` s of Pupil time, between samples in a straight line.

        Two streams at the same rate have the same times where they overlap. Nothing is known (NaN, confidence 0) where
        the samples around are more than 2.5 usual intervals apart, or one of them has found nothing.
        """
        times, rows = np.unique(self.times, return_index=True)
        first, last = (times[0], times[-1]) if len(times) else (0.0, -1.0)
        grid = np.arange(math.ceil(first * rate), math.floor(last * rate) + 1) / rate
        if not len(grid):
            return replace(self[np.zeros(0, np.int64)], rate=rate)
        after = np.clip(np.searchsorted(times, grid), 1, max(1, len(times) - 1))
        gap = np.zeros(len(grid), bool)
        if len(times) > 1:
            wide = times[after] - times[after - 1] > _GAP * float(np.median(np.diff(times)))
            gap = wide & (grid > times[after - 1]) & (grid < times[after])
        found = self.found
        values = {}
        for name, column in self.values.items():
            known = np.where(found, column, np.nan)[rows]
            values[name] = np.where(gap, np.nan, _between(grid, times, known, _PERIODS.get(name)))
        confidence = np.where(gap, 0.0, np.interp(grid, times, self.confidence[rows]))
        return replace(self, times=grid, confidence=confidence, values=values, rate=rate)

    def on_frames(self, recording: Recording) -> Poses:
        """Return one pose for each frame of the eye's video, for gaze of the world's; as they are if there is none.

        It is that of the datum nearest in time, if that is within half a usual interval of frames, and NaN with
        confidence 0 where no datum is. The time is that of the frame.
        """
        video = "world" if self.individual == "gaze" else self.individual
        if video not in recording.streams:
            return self
        frames = recording.timestamps(video)
        taken = self[nearest_rows(self.times, frames)]
        return replace(taken, times=frames, video=video)

    def __getitem__(self, rows: NDArray[np.int64]) -> Poses:
        """Return these rows; -1 stands for one that is not there."""
        lacking = rows < 0

        def take(column: Floats, lack: float) -> Floats:
            return np.where(lacking, lack, column[rows]) if len(column) else np.full(len(rows), lack)

        return replace(
            self,
            times=take(self.times, np.nan),
            confidence=take(self.confidence, 0.0),
            values={name: take(column, np.nan) for name, column in self.values.items()},
        )


def ellipse_points(values: Mapping[str, Floats]) -> Floats:
    """Return centre, both ends of the major and both of the minor axis, shape (n, 2, 5), of ellipses of Pupil's.

    The angle (deg, from x to y) is that of the first, shorter axis. An ellipse without axes is one that was not found.
    """
    angle = np.radians(values["ellipse_angle"])
    minor, major = values["ellipse_axis_a"] / 2, values["ellipse_axis_b"] / 2
    points = np.empty((len(angle), 2, 5))
    for row, (name, along_minor, along_major) in enumerate(
        (("ellipse_center_x", np.cos(angle), -np.sin(angle)), ("ellipse_center_y", np.sin(angle), np.cos(angle)))
    ):
        center = values[name]
        points[:, row, 0] = center
        points[:, row, 1], points[:, row, 2] = center + major * along_major, center - major * along_major
        points[:, row, 3], points[:, row, 4] = center + minor * along_minor, center - minor * along_minor
    points[~(values["ellipse_axis_b"] > 0)] = np.nan
    return points


def _vectors(*names: str) -> Callable[[Mapping[str, Floats]], Floats]:
    def place(values: Mapping[str, Floats]) -> Floats:
        return np.stack([np.stack([values[f"{name}_{axis}"] for axis in _XYZ], axis=1) for name in names], axis=2)

    return place


def _gaze_point(values: Mapping[str, Floats]) -> Floats:
    return np.stack([values["gaze_x"], values["gaze_y"]], axis=1)[:, :, np.newaxis]


def _axes(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{axis}" for name in names for axis in _XYZ)


_CENTER = ("ellipse_center_x", "ellipse_center_y")
_ELLIPSE = ("ellipse_axis_a", "ellipse_axis_b", "ellipse_angle", "diameter", "norm_pos_x", "norm_pos_y")
_OF_MODEL = ("diameter_3d", "model_confidence")
_POINTS = ("center", "major_a", "major_b", "minor_a", "minor_b")
PUPIL_2D = Kind(_POINTS, _XY, (*_CENTER, *_ELLIPSE), _ELLIPSE, ellipse_points)
PUPIL_3D = Kind(_POINTS, _XY, (*_CENTER, *_ELLIPSE, *_OF_MODEL), (*_ELLIPSE, *_OF_MODEL), ellipse_points)

_EYEBALL = (*_axes("circle_3d_normal"), "circle_3d_radius", "sphere_radius", "theta", "phi", *_OF_MODEL)
_OF_EYEBALL = ("sphere_center", "circle_3d_center")
EYEBALL = Kind(
    ("eye_center", "pupil_center"), _XYZ, (*_axes(*_OF_EYEBALL), *_EYEBALL), _EYEBALL, _vectors(*_OF_EYEBALL)
)

_NORM = ("norm_pos_x", "norm_pos_y")
GAZE = Kind(("gaze",), _XY, ("gaze_x", "gaze_y", *_NORM), _NORM, _gaze_point)

_NORMALS = _axes("gaze_normal0", "gaze_normal1")
_OF_GAZE = ("gaze_point_3d", "eye_center0_3d", "eye_center1_3d")
GAZE_3D = Kind(
    ("gaze_point", "eye_center0", "eye_center1"), _XYZ, (*_axes(*_OF_GAZE), *_NORMALS), _NORMALS, _vectors(*_OF_GAZE)
)


def datums_of(recording: Recording) -> int:
    """Return how many datums ``read_poses`` looks at."""
    return sum(len(recording.timestamps(name)) for name in ("pupil", "gaze") if name in recording.logs)


def read_poses(
    recording: Recording,
    method: Method | None = None,
    *,
    flat: bool = False,
    read: Callable[[int], None] = lambda _rows: None,
) -> Iterator[Poses]:
    """Iterate over the poses of a recording, those of the eyes first; streams that it does not have are left out.

    Args:
        recording: where they are.
        method: that of the pupils of all eyes; if not given, an eye's is ``3d`` where there is any, else ``2d``. The
            two are never mixed.
        flat: only those in images. Of gaze, they need a video of the world.
        read: is told how many more datums were looked at.

    Raises (while iterating):
        DamagedFile: a file cannot be read.
    """
    yield from _read_pupils(recording, method, flat, read)
    yield from _read_gaze(recording, flat, read)


def _read_pupils(
    recording: Recording, method: Method | None, flat: bool, read: Callable[[int], None]
) -> Iterator[Poses]:
    if "pupil" not in recording.logs:
        return
    wanted = PUPIL_3D.values if flat else (*PUPIL_3D.values, *EYEBALL.values)
    columns = ("timestamp", "confidence", *dict.fromkeys(wanted))
    found: dict[int, _Eye] = {}
    for table in recording.batches("pupil", columns=("eye_id", "topic", "method", *columns)):
        is_3d = are_solid(table)
        for eye in np.unique(table["eye_id"]).tolist():
            if 0 <= eye <= 9:
                of_eye = table["eye_id"] == eye
                found.setdefault(eye, _Eye(method)).add(table, of_eye, is_3d, columns)
        read(len(table))
    for eye in sorted(found):
        yield from _of_eye(recording, eye, found.pop(eye), flat)


def _of_eye(recording: Recording, eye: int, found: _Eye, flat: bool) -> Iterator[Poses]:
    if not found.pieces:
        return
    columns, name = found.columns(), f"eye{eye}"
    size = recording.eyes[eye].size if eye in recording.eyes else None
    method = f"{found.kind}: {', '.join(sorted(found.methods))}"
    yield _poses(name, PUPIL_3D if found.kind == "3d" else PUPIL_2D, columns, size, method)
    if found.kind == "3d" and not flat:
        yield _poses(f"{name}_3d", EYEBALL, columns, None, method)


class _Eye:
    """The pupils of one eye as they are read: of both methods none but those of the one that counts is kept."""

    def __init__(self, wanted: Method | None) -> None:
        self.wanted = wanted
        self.kind: Method = wanted or "2d"
        self.pieces: list[Table] = []
        self.methods: set[str] = set()

    def add(self, table: Table, of_eye: NDArray[np.bool_], is_3d: NDArray[np.bool_], columns: tuple[str, ...]) -> None:
        if self.wanted is None and self.kind == "2d" and (of_eye & is_3d).any():
            self.kind = "3d"
            self.pieces.clear()
            self.methods.clear()
        rows = of_eye & (is_3d == (self.kind == "3d")) & np.isfinite(table["timestamp"])
        if rows.any():
            self.pieces.append(table.select(columns)[rows])
            self.methods |= {str(method) for method in set(table["method"][rows].tolist()) if method}

    def columns(self) -> dict[str, Floats]:
        """Return the whole columns, and let go of the pieces as each is made."""
        pieces = [{name: piece[name] for name in piece.columns} for piece in self.pieces]
        self.pieces.clear()
        return {name: np.concatenate([piece.pop(name) for piece in pieces]) for name in tuple(pieces[0])}


def _read_gaze(recording: Recording, flat: bool, read: Callable[[int], None]) -> Iterator[Poses]:
    if "gaze" not in recording.logs:
        return
    columns = ("timestamp", "confidence", "norm_pos_x", "norm_pos_y", *(() if flat else GAZE_3D.values))
    tables = []
    for table in recording.batches("gaze", columns=columns):
        tables.append(table[np.isfinite(table["timestamp"])])
        read(len(table))
    if not tables:
        return
    whole = {name: np.concatenate([table[name] for table in tables]) for name in columns}
    tables.clear()
    if "world" in recording.streams and len(whole["timestamp"]):
        width, height = recording.world.size
        pixels = {"gaze_x": whole["norm_pos_x"] * width, "gaze_y": (1 - whole["norm_pos_y"]) * height}
        yield _poses("gaze", GAZE, whole | pixels, (width, height))
    if not flat and not np.isnan(whole["gaze_point_3d_x"]).all():
        yield _poses("gaze_3d", GAZE_3D, whole, None)


def _poses(
    stream: str, kind: Kind, columns: Mapping[str, Floats], size: tuple[int, int] | None, method: str = ""
) -> Poses:
    values = {name: columns[name] for name in kind.values}
    return Poses(stream, kind, columns["timestamp"], columns["confidence"], values, size, method)


def _between(grid: Floats, times: Floats, values: Floats, period: float | None) -> Floats:
    if period is None:
        return np.interp(grid, times, values)
    # An angle turns the shorter way.
    turn = math.tau / period
    parts = (np.interp(grid, times, part(values * turn)) for part in (np.sin, np.cos))
    angles: Floats = np.arctan2(*parts) / turn
    return angles


def nearest_rows(times: Floats, frames: Floats) -> NDArray[np.int64]:
    """Return for each frame the row whose time is nearest, within half a usual interval of frames; -1 where none is."""
    rows = np.full(len(frames), -1)
    if not len(frames) or not len(times):
        return rows
    after = np.clip(np.searchsorted(frames, times), 1, max(1, len(frames) - 1))
    before = after - 1
    nearer_before = times - frames[before] <= frames[np.minimum(after, len(frames) - 1)] - times
    nearest = np.where(nearer_before, before, np.minimum(after, len(frames) - 1))
    off = np.abs(frames[nearest] - times)
    within = off <= (np.median(np.diff(frames)) / 2 if len(frames) > 1 else np.inf)
    # The last one that is written stays: the nearest of each frame, of equal ones the first.
    order = np.lexsort((-np.arange(len(times)), -off))
    order = order[within[order]]
    rows[nearest[order]] = order
    return rows
