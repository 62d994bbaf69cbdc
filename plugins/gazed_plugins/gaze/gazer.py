"""What every gazer is: models of the right eye, the left eye and both, fitted or loaded, that map pupils to gaze.

Parameters have Pupil's shape: ``{"right_model": {...}, "left_model": {...}, "binocular_model": {...}}``, empty where
nothing was fitted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.errors import CalibrationFailed, UnknownGazer
from gazed_plugins.gaze.matching import (
    MIN_CALIBRATION_CONFIDENCE,
    CalibrationMatches,
    Datum,
    LiveMatcher,
    match_for_calibration,
)

__all__ = ["NOT_CONVERGED", "NO_DATA", "Eyes", "Gazer", "Model", "clamped", "failure"]

Eyes = Literal["0", "1", "01"]
"""Which eyes a model maps: as in the gaze topics."""

NO_DATA = "Not sufficient data available."
NO_PUPILS = "Not sufficient pupil data available."
NO_REFERENCES = "Not sufficient reference data available."
NOT_CONVERGED = "Model fit did not converge."

_NAMES: dict[Eyes, str] = {"0": "right_model", "1": "left_model", "01": "binocular_model"}
_LARGEST_NORM = 100.0
_HINTS = {
    NO_DATA: "hold each target for a second with both eyes open, and check that the clocks of eyes and world agree",
    NO_PUPILS: "improve the view of the eye cameras until the confidence is above 0.8",
    NO_REFERENCES: "check that the world camera sees the whole marker, sharp and bright, or that references are sent",
    NOT_CONVERGED: "calibrate again, with targets over the whole field of view",
}


class Model(Protocol):
    """One fitted model."""

    @property
    def params(self) -> dict[str, Any]:
        """The numbers from which it can be loaded, as msgpack packs them."""

    def map(self, pupils: Sequence[Datum]) -> dict[str, Any]:
        """Return what is special in the gaze of one datum, or of right and left: ``norm_pos`` and 3D vectors."""


class Gazer(ABC):
    """Maps pupil datums to gaze datums once it is fitted or loaded.

    ``camera`` is the world camera; the gaze of a gazer without one has no ``norm_pos``.
    """

    method: ClassVar[Literal["2d", "3d"]]
    """The method of the pupil datums that it takes, and the second part of its topics."""

    def __init__(self, camera: Camera | None) -> None:
        self.camera = camera
        self._models: dict[Eyes, Model] = {}

    @property
    def params(self) -> dict[str, dict[str, Any]]:
        """The parameters of all three models."""
        return {name: self._models[eyes].params if eyes in self._models else {} for eyes, name in _NAMES.items()}

    def accepts(self, pupil: Mapping[str, Any]) -> bool:
        """Tell whether this datum is of the gazer's method and, once there are models, of an eye that one maps."""
        eyes = "".join(self._models) or "01"
        return self.method in pupil["method"] and pupil["id"] in (0, 1) and str(pupil["id"]) in eyes

    def fit(
        self, calib_data: Mapping[str, Any], min_confidence: float = MIN_CALIBRATION_CONFIDENCE
    ) -> dict[str, dict[str, Any]]:
        """Fit the models to ``{"ref_list": [...], "pupil_list": [...]}`` and return the parameters.

        Raises:
            CalibrationFailed: there is too little data, it is not well formed, or the search found no solution.
        """
        self._models = {}
        try:
            usable = filter(self.accepts, calib_data["pupil_list"])
            pupils = [pupil for pupil in usable if pupil["confidence"] >= min_confidence]
            refs = list(calib_data["ref_list"])
            if not pupils:
                raise failure(NO_PUPILS)
            if not refs:
                raise failure(NO_REFERENCES)
            self._take(self._fit_models(match_for_calibration(refs, pupils)))
        except (ValueError, KeyError, TypeError, np.linalg.LinAlgError) as error:
            raise CalibrationFailed(f"{type(error).__name__}: {error}", hint=_HINTS[NOT_CONVERGED]) from error
        return self.params

    def load(self, params: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the models from parameters that were fitted before, here or by Pupil.

        Raises:
            UnknownGazer: the parameters are not well formed, or none of the models is in them.
        """
        try:
            self._take(
                {eyes: self._load_model(eyes, params[name]) for eyes, name in _NAMES.items() if params.get(name)}
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnknownGazer(
                f"parameters of {type(self).__name__} are not well formed: {error!r}", hint="calibrate again"
            ) from error
        if not self._models:
            raise UnknownGazer(f"parameters of {type(self).__name__} hold no model", hint="calibrate again")

    def map(self, match: Sequence[Datum]) -> list[Datum]:
        """Return the gaze of what ``LiveMatcher`` put together: one datum, or none for an eye without a model.

        Give the matcher only what the gazer ``accepts``: then an eye that was calibrated alone is mapped alone.
        """
        eyes: Eyes = "01" if len(match) == 2 else "1" if match[0]["id"] == 1 else "0"
        if eyes not in self._models:
            return self.map([max(match, key=_timestamp)]) if eyes == "01" else []
        return [
            {
                **self._models[eyes].map(match),
                "topic": f"gaze.{self.method}.{eyes}.",
                "confidence": sum(float(pupil["confidence"]) for pupil in match) / len(match),
                "timestamp": sum(_timestamp(pupil) for pupil in match) / len(match),
                "base_data": list(match),
            }
        ]

    def map_all(self, pupils: Iterable[Datum]) -> Iterator[Datum]:
        """Map a whole recording's datums, in the order of their timestamps."""
        matcher = LiveMatcher()
        for pupil in sorted(filter(self.accepts, pupils), key=_timestamp):
            yield from self.map(matcher.add(pupil))

    def _take(self, models: dict[Eyes, Model]) -> None:
        """Map with these models from now on."""
        self._models = models

    def _fit_models(self, matches: CalibrationMatches) -> dict[Eyes, Model]:
        """Fit all three if there are pairs, else the right eye alone, else the left."""
        fitted: dict[Eyes, Model] = {}
        if matches.binocular:
            fitted["01"] = self._fit_model("01", matches.binocular)
        if matches.right:
            fitted["0"] = self._fit_model("0", matches.right)
        if matches.left and (matches.binocular or not matches.right):
            fitted["1"] = self._fit_model("1", matches.left)
        if not fitted:
            raise failure(NO_DATA)
        return fitted

    @abstractmethod
    def _fit_model(self, eyes: Eyes, matches: Sequence[tuple[Datum, ...]]) -> Model:
        """Fit one model to tuples of a reference and the datums of ``eyes``."""

    @abstractmethod
    def _load_model(self, eyes: Eyes, params: Mapping[str, Any]) -> Model:
        """Make one model from its parameters."""


def clamped(norm: Iterable[float]) -> list[float]:
    """Return a norm position within -100..100: a wild extrapolation must not overflow what draws it."""
    return [min(_LARGEST_NORM, max(-_LARGEST_NORM, float(value))) for value in norm]


def _timestamp(datum: Datum) -> float:
    return float(datum["timestamp"])


def failure(reason: str) -> CalibrationFailed:
    """Return the error of one of Pupil's reasons, with what helps against it."""
    return CalibrationFailed(reason, hint=_HINTS[reason])
