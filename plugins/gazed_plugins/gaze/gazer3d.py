"""``Gazer3D``: where the lines of sight of the fitted eyeballs meet, in the world camera's frame.

The calibration finds how the eye cameras are turned against the world camera; the eyes' places in the world camera's
frame are those of an average head. (Pupil Core's 3D gaze mapping.) Lengths are mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.gaze.bundle import SphericalCamera, adjust, fit_rotation
from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.gazer import NOT_CONVERGED, Eyes, Gazer, Model, clamped, failure
from gazed_plugins.gaze.matching import CalibrationMatches, Datum

__all__ = ["LARGEST_COST", "BinocularModel", "Gazer3D", "MonocularModel", "eye_camera_pose", "normals"]

Floats = NDArray[np.float64]

EYE_PLACES_MM = {0: np.array([20.0, 15.0, -20.0]), 1: np.array([-40.0, 15.0, -20.0])}
FIRST_DISTANCE_MM = 500.0
LARGEST_COST = 1000.0
_PARALLEL = 1e-12


class _View:
    """An eye camera's pose in the world camera's frame."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = np.array(matrix, np.float64)
        if self.matrix.shape != (4, 4) or not np.isfinite(self.matrix).all():
            raise ValueError(f"a pose has shape {self.matrix.shape}: wanted (4, 4), finite")
        self._rotation, self._place = self.matrix[:3, :3], self.matrix[:3, 3]

    def eye(self, pupil: Datum) -> tuple[Floats, Floats]:
        """Return the eyeball's centre (3,) and the direction of its sight (3,) in the world camera's frame."""
        center = self._rotation @ np.array(pupil["sphere"]["center"], np.float64) + self._place
        return center, self._rotation @ np.array(pupil["circle_3d"]["normal"], np.float64)


class BinocularModel:
    """Both eyes: the point nearest to both lines of sight."""

    def __init__(self, camera: Camera | None, right: Any, left: Any) -> None:
        self._camera, self.views = camera, (_View(right), _View(left))
        self.last_distance = FIRST_DISTANCE_MM
        """From between the eyes to the last point of gaze; how far one eye alone is taken to look."""

    @property
    def params(self) -> dict[str, Any]:
        """Two poses, 4x4."""
        return {f"eye_camera_to_world_matrix{eye}": view.matrix.tolist() for eye, view in enumerate(self.views)}

    def map(self, pupils: Sequence[Datum]) -> dict[str, Any]:
        """Return eyes and point of gaze.

        Both lines are first laid into the plane of the eyes and the mean direction: L. Swirski, "Gaze estimation on
        glasses-based stereoscopic displays" (2015), 7.4.2. Parallel lines get the last point's distance.
        """
        (center0, normal0), (center1, normal1) = (
            view.eye(pupil) for view, pupil in zip(self.views, pupils, strict=True)
        )
        middle, ahead = (center0 + center1) / 2, (normal0 + normal1) / 2
        upright = np.cross(ahead, center1 - center0)
        upright /= np.linalg.norm(upright)
        flat0, flat1 = (normal - (upright @ normal) * upright for normal in (normal0, normal1))
        point = _between(center0, flat0, center1, flat1)
        if point is None:
            point = middle + self.last_distance * ahead / np.linalg.norm(ahead)
        elif point[2] < 0:
            point = -point  # Pupil's way with eyes that look apart: in front of the camera again
        self.last_distance = float(np.linalg.norm(point - middle))
        return {
            "eye_centers_3d": {"0": center0.tolist(), "1": center1.tolist()},
            "gaze_normals_3d": {"0": normal0.tolist(), "1": normal1.tolist()},
            "gaze_point_3d": point.tolist(),
            **_seen(self._camera, point),
        }


class MonocularModel:
    """One eye: a point on its line of sight."""

    def __init__(self, camera: Camera | None, pose: Any, distance: float = FIRST_DISTANCE_MM) -> None:
        self._camera, self._view, self._distance = camera, _View(pose), float(distance)
        self._both: BinocularModel | None = None

    def look_as_far_as(self, both: BinocularModel) -> None:
        """Take the eye to look as far as both last did, if it stands where ``both`` has it; else at its own distance.

        An eye that was fitted alone, to targets at one distance, is off by many degrees at another.
        """
        if any(np.array_equal(self._view.matrix, view.matrix) for view in both.views):
            self._both = both

    @property
    def params(self) -> dict[str, Any]:
        """A pose, 4x4, and the distance."""
        return {"eye_camera_to_world_matrix": self._view.matrix.tolist(), "gaze_distance": self._distance}

    def map(self, pupils: Sequence[Datum]) -> dict[str, Any]:
        """Return eye and point of gaze."""
        center, normal = self._view.eye(pupils[0])
        point = center + normal * (self._both.last_distance if self._both else self._distance)
        if point[2] < 0:
            point = -point
        return {
            "eye_center_3d": center.tolist(),
            "gaze_normal_3d": normal.tolist(),
            "gaze_point_3d": point.tolist(),
            **_seen(self._camera, point),
        }


class Gazer3D(Gazer):
    """Maps the eyeballs of 3D pupil datums; a headset that slips a little, or another depth, costs little accuracy."""

    method: ClassVar[Literal["2d", "3d"]] = "3d"

    def accepts(self, pupil: Mapping[str, Any]) -> bool:
        """Tell whether this datum can be mapped; one without an eyeball, from a frame without a pupil, cannot."""
        return super().accepts(pupil) and "sphere" in pupil and isfinite(pupil["circle_3d"]["normal"][0])

    def _take(self, models: dict[Eyes, Model]) -> None:
        super()._take(models)
        both = models.get("01")
        for model in models.values():
            if isinstance(model, MonocularModel) and isinstance(both, BinocularModel):
                model.look_as_far_as(both)

    def _fit_models(self, matches: CalibrationMatches) -> dict[Eyes, Model]:
        """Fit both eyes; one eye by itself only if the other has no data (Pupil Core always fits each for itself)."""
        if not matches.binocular:
            return super()._fit_models(matches)
        right, left = self._fit_poses(matches.binocular)
        return {
            "01": BinocularModel(self.camera, right, left),
            "0": MonocularModel(self.camera, right),
            "1": MonocularModel(self.camera, left),
        }

    def _fit_poses(self, matches: Sequence[tuple[Datum, ...]]) -> list[Floats]:
        """Return the poses (4, 4) of both eye cameras in the world camera's frame."""
        return _fit_binocular(self._looked_at(matches), matches)

    def _fit_model(self, eyes: Eyes, matches: Sequence[tuple[Datum, ...]]) -> Model:
        return MonocularModel(self.camera, _fit_monocular(self._looked_at(matches), matches, EYE_PLACES_MM[int(eyes)]))

    def _looked_at(self, matches: Sequence[tuple[Datum, ...]]) -> Floats:
        """Return the directions (N, 3) of the references."""
        if self.camera is None:
            raise ValueError("a 3D gazer is fitted with the world camera's intrinsics")
        return self.camera.unproject([match[0]["screen_pos"] for match in matches])

    def _load_model(self, eyes: Eyes, params: Mapping[str, Any]) -> Model:
        if eyes == "01":
            return BinocularModel(
                self.camera, params["eye_camera_to_world_matrix0"], params["eye_camera_to_world_matrix1"]
            )
        return MonocularModel(self.camera, params["eye_camera_to_world_matrix"], params["gaze_distance"])


def normals(matches: Sequence[tuple[Datum, ...]], place: int) -> Floats:
    """Return the pupils' unit normals (N, 3) at one place of tuples of a reference and pupils."""
    return np.array([match[place]["circle_3d"]["normal"] for match in matches], np.float64)


def eye_camera_pose(rotation: Floats, eye_place: Floats, pupil: Datum) -> Floats:
    """Return the pose (4, 4) of an eye camera in which ``pupil``'s eyeball stands at ``eye_place`` (3,)."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = eye_place - rotation @ np.array(pupil["sphere"]["center"], np.float64)
    return pose


def _fit_binocular(refs: Floats, matches: Sequence[tuple[Datum, ...]]) -> list[Floats]:
    """Return the poses of both eye cameras: the eyes turn, and the targets move along with them."""
    cameras = [SphericalCamera(refs, np.eye(3), np.zeros(3), turns=False, moves=False)]
    for eye, place in EYE_PLACES_MM.items():
        seen = normals(matches, eye + 1)
        cameras.append(SphericalCamera(seen, fit_rotation(seen, refs), place, turns=True, moves=False))
    found = adjust(cameras, refs * FIRST_DISTANCE_MM, targets_free=True)
    if not found.cost < LARGEST_COST:
        raise failure(NOT_CONVERGED)
    return [eye_camera_pose(*found.poses[eye + 1], matches[-1][eye + 1]) for eye in EYE_PLACES_MM]


def _fit_monocular(refs: Floats, matches: Sequence[tuple[Datum, ...]], place: Floats) -> Floats:
    """Return the pose of one eye camera: the world camera turns and moves around the eye and its fixed targets."""
    seen = normals(matches, 1)
    rotation = fit_rotation(refs, seen)
    world = SphericalCamera(refs, rotation, -rotation @ place, turns=True, moves=True)
    eye = SphericalCamera(seen, np.eye(3), np.zeros(3), turns=False, moves=False)
    found = adjust([world, eye], seen * FIRST_DISTANCE_MM, targets_free=False)
    if not found.cost < LARGEST_COST:
        raise failure(NOT_CONVERGED)
    rotation, place = found.poses[0]
    return eye_camera_pose(rotation.T, -rotation.T @ place, matches[-1][1])


def _between(start0: Floats, along0: Floats, start1: Floats, along1: Floats) -> Floats | None:
    """Return the middle (3,) of the shortest way between two lines, or ``None`` for parallel lines."""
    apart = start0 - start1
    a, b, c = along0 @ along0, along0 @ along1, along1 @ along1
    d, e = along0 @ apart, along1 @ apart
    skew = a * c - b * b
    if skew < _PARALLEL:
        return None
    return np.asarray((start0 + along0 * (b * e - c * d) / skew + start1 + along1 * (a * e - b * d) / skew) / 2)


def _seen(camera: Camera | None, point: Floats) -> dict[str, Any]:
    if camera is None:
        return {}
    return {"norm_pos": clamped(camera.to_norm(camera.project(point))[0])}
