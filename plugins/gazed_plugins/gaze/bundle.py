"""Bundle adjustment of spherical cameras: turns and moves eyes so that their gaze meets the targets.

A camera, or an eye, sees a target as a unit ray in its own frame. With its rotation R into the common frame and its
place t, the residual of ray o and target X is R o - (X - t) / |X - t|, three numbers (Pupil Core's calibration of 3D
gaze). Lengths are mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Adjusted", "Adjustment", "SphericalCamera", "adjust", "fit_rotation"]

Floats = NDArray[np.float64]

_TOLERANCE = 1e-8
_MAX_EVALUATIONS = 100
# Near the solution a pose moves by parts of 1/20, and a target by as much of its first distance.
_POSE_SCALE = 1 / 20
_TARGET_SCALE = 500 / 20


@dataclass(frozen=True, slots=True, eq=False)
class SphericalCamera:
    """A camera or eye: what it saw, and the pose at which its search begins."""

    rays: Floats
    """(N, 3) unit vectors in its own frame, one for each target."""
    rotation: Floats
    """(3, 3) turns its own directions into the common frame's."""
    translation: Floats
    """(3,) its place in the common frame."""
    turns: bool
    """Whether the rotation is searched for."""
    moves: bool
    """Whether the translation is searched for."""


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """The solution."""

    poses: list[tuple[Floats, Floats]]
    """Rotation (3, 3) and translation (3,) of each camera."""
    cost: float
    """Half the sum of the squared residuals."""


def fit_rotation(source: Floats, target: Floats) -> Floats:
    """Return the rotation (3, 3) that turns points (N, 3) about their centroid most nearly into others (N, 3).

    Source: W. Kabsch, "A solution for the best rotation to relate two sets of vectors", Acta Cryst. A32 (1976).
    """
    u, _, vt = np.linalg.svd((target - target.mean(axis=0)).T @ (source - source.mean(axis=0)))
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)


def adjust(cameras: Sequence[SphericalCamera], targets: Floats, *, targets_free: bool) -> Adjusted:
    """Search the poses, and if they are free the targets (N, 3), with the least squared residuals.

    Raises:
        ValueError: a number is not finite, or a target lies in a camera.
    """
    from scipy.optimize import least_squares

    problem = Adjustment(cameras, targets, targets_free=targets_free)
    solution = least_squares(
        problem.residuals,
        problem.start,
        jac=problem.jacobian,
        x_scale=problem.scale,
        ftol=_TOLERANCE,
        xtol=_TOLERANCE,
        gtol=_TOLERANCE,
        max_nfev=_MAX_EVALUATIONS,
    )
    return Adjusted(problem.poses(solution.x), float(solution.cost))


class Adjustment:
    """The problem in the form that solvers want: ``residuals(x)`` and ``jacobian(x)``.

    x holds, for each camera in turn, a rotation vector on top of its first rotation if it turns and its translation if
    it moves; then the targets, if they are free. Residuals are in the order camera, target, component.
    """

    def __init__(self, cameras: Sequence[SphericalCamera], targets: Floats, *, targets_free: bool) -> None:
        self._cameras = list(cameras)
        self._targets = np.asarray(targets, np.float64)
        self._free = targets_free
        self._turned = [camera.rays @ camera.rotation.T for camera in cameras]  # the rotation vector acts on these
        start: list[Floats] = []
        for camera in cameras:
            start += [np.zeros(3)] * camera.turns + [camera.translation] * camera.moves
        poses = 3 * len(start)
        start += [self._targets.ravel()] * targets_free
        self.start = np.concatenate(start)
        self.scale = np.ones(len(self.start))
        if targets_free:
            self.scale[:poses], self.scale[poses:] = _POSE_SCALE, _TARGET_SCALE
        self._poses = poses
        self._rows, self._columns = self._pattern()

    def residuals(self, x: Floats) -> Floats:
        """Return all residuals (3 * cameras * targets,)."""
        turns, places, targets = self._read(x)
        parts = []
        for rays, turn, place in zip(self._turned, turns, places, strict=True):
            away = targets - place
            parts.append(rays @ cv2.Rodrigues(turn)[0].T - away / np.linalg.norm(away, axis=1, keepdims=True))
        return np.concatenate(parts).ravel()

    def jacobian(self, x: Floats) -> csr_matrix:
        """Return the derivatives of ``residuals``, sparse."""
        from scipy.sparse import csr_matrix

        turns, places, targets = self._read(x)
        values: list[Floats] = []
        for camera, rays, turn, place in zip(self._cameras, self._turned, turns, places, strict=True):
            away = targets - place
            distance = np.linalg.norm(away, axis=1)[:, None, None]
            unit = away[:, :, None] / distance
            # Derivative of a unit vector by the place it starts from, with the sign of the residual.
            across = (np.eye(3) - unit @ unit.transpose(0, 2, 1)) / distance
            if camera.turns:
                derived = cv2.Rodrigues(turn)[1].reshape(3, 3, 3)  # by component of the vector, row, column
                values.append(np.einsum("kij,nj->nik", derived, rays).ravel())
            if camera.moves:
                values.append(across.ravel())
            if self._free:
                values.append(-across.ravel())
        shape = (3 * len(self._cameras) * len(self._targets), len(self.start))
        return csr_matrix((np.concatenate(values), (self._rows, self._columns)), shape=shape)

    def poses(self, x: Floats) -> list[tuple[Floats, Floats]]:
        """Return rotation (3, 3) and translation (3,) of each camera."""
        turns, places, _ = self._read(x)
        first = [camera.rotation for camera in self._cameras]
        return [
            (cv2.Rodrigues(turn)[0] @ start, place) for turn, start, place in zip(turns, first, places, strict=True)
        ]

    def _read(self, x: Floats) -> tuple[list[Floats], list[Floats], Floats]:
        turns, places, at = [], [], 0
        for camera in self._cameras:
            turns.append(x[at : at + 3] if camera.turns else np.zeros(3))
            at += 3 * camera.turns
            places.append(x[at : at + 3] if camera.moves else camera.translation)
            at += 3 * camera.moves
        return turns, places, x[at:].reshape(-1, 3) if self._free else self._targets

    def _pattern(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return row and column of every value of the Jacobian, in the order in which it computes them."""
        count = len(self._targets)
        rows: list[NDArray[Any]] = []
        columns: list[NDArray[Any]] = []
        at = 0
        for index, camera in enumerate(self._cameras):
            block = np.broadcast_to(
                3 * count * index + np.arange(3 * count).reshape(count, 3, 1), (count, 3, 3)
            ).ravel()
            for _ in range(camera.turns + camera.moves):
                rows.append(block)
                columns.append(np.broadcast_to(at + np.arange(3), (count, 3, 3)).ravel())
                at += 3
            if self._free:
                rows.append(block)
                own = self._poses + np.arange(3 * count).reshape(count, 1, 3)
                columns.append(np.broadcast_to(own, (count, 3, 3)).ravel())
        return np.concatenate(rows), np.concatenate(columns)
