"""How well gaze meets the targets that were looked at, and where it was calibrated at all.

Accuracy and precision are Pupil Core's: each gaze datum is held against the reference nearest in time, less than
1/15 s away. Accuracy is the angle of the mean cosine of those less than 5 degrees off. Precision is the root mean
square of the angle between successive gaze directions, where neither gaze nor reference moved by half a degree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.matching import Datum, nearest

__all__ = ["Accuracy", "CalibratedArea", "Score", "TargetError", "group_targets", "measure"]

Floats = NDArray[np.float64]

MAX_APART_S = 1 / 15
_OUTLIER_DEG = 5.0
_MOVED_DEG = 0.5
_TARGET_DEG = 2.0
_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Score:
    """An angle, and on how many samples it rests."""

    degrees: float | None
    """``None`` where no sample could be used."""
    used: int
    total: int


@dataclass(frozen=True, slots=True)
class TargetError:
    """The accuracy at one target."""

    norm_pos: list[float]
    """Mean place of its references in the world image."""
    accuracy: Score


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a validation found."""

    accuracy: Score
    precision: Score
    targets: list[TargetError]
    """In the order in which they were first shown."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as maps and lists, as it travels on the bus and lies in recordings."""
        return asdict(self)


def measure(gaze: Iterable[Datum], refs: Sequence[Datum], camera: Camera) -> Accuracy:
    """Hold gaze datums against references ``{norm_pos, timestamp}``; both need not be sorted."""
    refs = sorted(refs, key=_timestamp)
    stamps = [_timestamp(ref) for ref in refs]
    groups = group_targets(refs, camera)
    pairs: list[tuple[Datum, int]] = []
    for datum in sorted(gaze, key=_timestamp) if refs else ():
        index = nearest(stamps, _timestamp(datum))
        if abs(stamps[index] - _timestamp(datum)) < MAX_APART_S:
            pairs.append((datum, index))
    looked = camera.rays_of_norm([datum["norm_pos"] for datum, _ in pairs])
    wanted = camera.rays_of_norm([refs[index]["norm_pos"] for _, index in pairs])
    cosines = np.sum(looked * wanted, axis=1)
    target = np.array([groups[index] for _, index in pairs], np.int64)
    places = np.array([ref["norm_pos"] for ref in refs], np.float64).reshape(-1, 2)
    rows = [
        TargetError(places[np.equal(groups, one)].mean(axis=0).tolist(), _accuracy(cosines[target == one]))
        for one in range(max(groups, default=-1) + 1)
    ]
    return Accuracy(_accuracy(cosines), _precision(looked, wanted), rows)


def group_targets(refs: Sequence[Datum], camera: Camera) -> list[int]:
    """Return the number of each reference's target, counted from 0 in the order of the references.

    References belong to one target if they lie within 2 degrees of its first one.
    """
    rays = camera.rays_of_norm([ref["norm_pos"] for ref in refs])
    firsts: list[Floats] = []
    groups: list[int] = []
    for ray in rays:
        cosines = np.array([first @ ray for first in firsts])
        if not firsts or cosines.max() < np.cos(np.radians(_TARGET_DEG)):
            groups.append(len(firsts))
            firsts.append(ray)
        else:
            groups.append(int(cosines.argmax()))
    return groups


class CalibratedArea:
    """The part of the world image inside the outermost references of a calibration."""

    def __init__(self, norm_positions: ArrayLike) -> None:
        points = np.asarray(norm_positions, np.float32).reshape(-1, 1, 2)
        self._hull = cv2.convexHull(points) if len(points) else points

    def is_extrapolating(self, norm_pos: Sequence[float]) -> bool:
        """Tell whether gaze here rests on no reference: it lies outside by more than 2 % of the image.

        That much, gaze at an outermost target errs by noise alone.
        """
        if not len(self._hull):
            return True
        place = (float(norm_pos[0]), float(norm_pos[1]))
        return bool(cv2.pointPolygonTest(self._hull, place, measureDist=True) < -_MARGIN)


def _timestamp(datum: Datum) -> float:
    return float(datum["timestamp"])


def _accuracy(cosines: Floats) -> Score:
    near = cosines[cosines > np.cos(np.radians(_OUTLIER_DEG))]
    degrees = float(np.degrees(np.arccos(min(1.0, near.mean())))) if len(near) else None
    return Score(degrees, len(near), len(cosines))


def _precision(looked: Floats, wanted: Floats) -> Score:
    still = np.cos(np.radians(_MOVED_DEG))
    gaze = np.sum(looked[:-1] * looked[1:], axis=1)
    used = gaze[(gaze > still) & (np.sum(wanted[:-1] * wanted[1:], axis=1) > still)]
    angles = np.degrees(np.arccos(np.clip(used, -1.0, 1.0)))
    return Score(float(np.sqrt(np.mean(angles**2))) if len(used) else None, len(used), len(gaze))
