"""``Gazer2D``: a polynomial from the pupil's place in the eye image to the place in the world image.

For each eye x, y, xy, x², y² and x²y² of ``norm_pos``, and a constant; for both eyes those of the left, then the right.
Least squares, once again without what lies 70 px or more off. (Pupil Core's 2D gaze mapping.) One thing is added: ridge
regression, as wide as pupils are uncertain. Nine targets do not determine the thirteen numbers of two eyes, and without
it the rest is fitted to noise: between nine targets the error is twice to ten times as large, among sixteen the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.gazer import NO_DATA, Eyes, Gazer, clamped, failure
from gazed_plugins.gaze.matching import Datum

__all__ = ["Gazer2D"]

Floats = NDArray[np.float64]

_OUTLIER_PX = 70.0
_TERMS = 6
# Square of the noise in a term, as a part of its spread over a calibration: 0.1 px where pupils spread by 18 px.
_DOUBT = 3e-5


@dataclass(frozen=True, slots=True, eq=False)
class _Polynomial:
    coefficients: Floats
    """(2, 6) or (2, 12)"""
    intercept: Floats
    """(2,)"""

    @property
    def params(self) -> dict[str, Any]:
        return {"coef_": self.coefficients.tolist(), "intercept_": self.intercept.tolist()}

    def map(self, pupils: Sequence[Datum]) -> dict[str, Any]:
        return {"norm_pos": clamped(self.predict(_terms([pupils]))[0])}

    def predict(self, terms: Floats) -> Floats:
        return terms @ self.coefficients.T + self.intercept


class Gazer2D(Gazer):
    """Maps ``norm_pos`` of 2D pupil datums; good where it was calibrated, for one depth and an unmoved headset."""

    method: ClassVar[Literal["2d", "3d"]] = "2d"

    def __init__(self, camera: Camera) -> None:
        super().__init__(camera)
        self._size = np.array([camera.width, camera.height])

    def _fit_model(self, eyes: Eyes, matches: Sequence[tuple[Datum, ...]]) -> _Polynomial:  # noqa: ARG002
        terms = _terms([match[1:] for match in matches])
        wanted = np.array([match[0]["norm_pos"] for match in matches], np.float64)
        model = _regress(terms, wanted)
        near = np.linalg.norm((model.predict(terms) - wanted) * self._size, axis=1) < _OUTLIER_PX
        return model if near.all() else _regress(terms[near], wanted[near])

    def _load_model(self, eyes: Eyes, params: Mapping[str, Any]) -> _Polynomial:
        model = _Polynomial(np.array(params["coef_"], np.float64), np.array(params["intercept_"], np.float64))
        shape = (2, _TERMS * len(eyes))
        if model.coefficients.shape != shape or model.intercept.shape != (2,):
            raise ValueError(f"coef_ of the model of eyes {eyes} has shape {model.coefficients.shape}: wanted {shape}")
        return model


def _terms(groups: Sequence[Sequence[Datum]]) -> Floats:
    """Return (N, 6) terms of one eye, or (N, 12) of groups of right and left."""
    places = np.array([[pupil["norm_pos"] for pupil in reversed(group)] for group in groups], np.float64)
    x, y = places[..., 0], places[..., 1]
    return np.stack([x, y, x * y, x * x, y * y, x * x * y * y], axis=-1).reshape(len(groups), -1)


def _regress(terms: Floats, wanted: Floats) -> _Polynomial:
    if not len(terms):
        raise failure(NO_DATA)
    middle, goal, spread = terms.mean(axis=0), wanted.mean(axis=0), terms.std(axis=0)
    spread[spread == 0] = 1.0
    steps = (terms - middle) / spread
    believed = steps.T @ steps + _DOUBT * len(steps) * np.eye(steps.shape[1])
    slopes = np.linalg.solve(believed, steps.T @ (wanted - goal)) / spread[:, None]
    return _Polynomial(slopes.T, goal - middle @ slopes)
