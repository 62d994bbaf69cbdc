"""``GazerHMD3D``: 3D gaze in a head-mounted display that knows where its targets and the eyes are, in mm.

References are ``{"mm_pos": [x, y, z], "timestamp": ...}`` with y up, as game engines have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_plugins.gaze.bundle import Adjusted, SphericalCamera, adjust, fit_rotation
from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.gazer import NO_DATA, NOT_CONVERGED, Eyes, Model, failure
from gazed_plugins.gaze.gazer3d import LARGEST_COST, Gazer3D, eye_camera_pose, normals
from gazed_plugins.gaze.matching import CalibrationMatches, Datum

__all__ = ["GazerHMD3D"]

Floats = NDArray[np.float64]

# How engines scale depth is not known: the factor that fits best is taken. (Pupil's factors; it never tries its last.)
_DEPTH_FACTORS = (0.7, 3.025, 5.35, 7.675)


class GazerHMD3D(Gazer3D):
    """Maps 3D pupil datums of both eyes; ``eye_translations`` are the places (2, 3) of the right and the left eye.

    They are needed to fit, not to load.
    """

    def __init__(self, camera: Camera | None = None, eye_translations: ArrayLike | None = None) -> None:
        super().__init__(camera)
        self._places = None if eye_translations is None else np.asarray(eye_translations, np.float64)

    def _fit_models(self, matches: CalibrationMatches) -> dict[Eyes, Model]:
        if not matches.binocular:
            raise failure(NO_DATA)
        return super()._fit_models(matches)

    def _fit_poses(self, matches: Sequence[tuple[Datum, ...]]) -> list[Floats]:
        """Return the poses (4, 4) of both eye cameras in the display's frame."""
        if self._places is None or self._places.shape != (2, 3):
            raise ValueError(
                "the places of both eyes are wanted: translation_eye0 and translation_eye1, 3 numbers each"
            )
        positions = np.array([match[0]["mm_pos"] for match in matches], np.float64)
        best: Adjusted | None = None
        for factor in _DEPTH_FACTORS:
            targets = positions * np.array([1.0, -1.0, factor])
            found = adjust(
                [_eye(normals(matches, eye + 1), targets, self._places[eye]) for eye in (0, 1)],
                targets,
                targets_free=False,
            )
            if best is None or found.cost <= best.cost:
                best = found
        if best is None or not best.cost < LARGEST_COST:
            raise failure(NOT_CONVERGED)
        return [eye_camera_pose(*best.poses[eye], matches[-1][eye + 1]) for eye in (0, 1)]


def _eye(seen: Floats, targets: Floats, place: Any) -> SphericalCamera:
    return SphericalCamera(seen, fit_rotation(seen, targets), place, turns=True, moves=False)
