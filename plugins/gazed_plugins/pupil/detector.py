"""The engines over the images of one eye: ``pupil-detectors`` finds the ellipse, ``pye3d`` the eyeball behind it.

The datums are Pupil Core's, keys and types. Where the blink gate speaks, both have a confidence of at most 0.1 and one
key more, ``gate``: ``{"reason": …, "confidence": what the engine said}``. Where the 2D engine finds nothing, the 3D
engine looks for a pupil itself, and the gate judges that one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pupil_detectors import Detector2D, Roi
from pye3d.detector_3d import CameraModel, Detector3D

from gazed_plugins.errors import PluginError
from gazed_plugins.pupil.gate import BlinkGate
from gazed_plugins.pupil.intrinsics import EyeCamera
from gazed_plugins.pupil.settings import PupilSettings

__all__ = ["METHOD_2D", "Datum", "PupilDetector"]

Datum = dict[str, Any]
METHOD_2D = "2d c++"
_GATED_CONFIDENCE = 0.1
_log = logging.getLogger(__name__)


class PupilDetector:
    """Detects in the images of one eye, which come in order. Use it from one thread.

    Args:
        eye: 0 (right) … 9.
        camera: focal length and size of the images.
        settings: what to detect, and how; ``apply`` changes them later.
        mode: ``real-time`` or ``post-hoc``; stands in ``method``.

    Raises:
        PluginArgument: the ROI does not fit the image.
    """

    def __init__(
        self,
        eye: int,
        camera: EyeCamera,
        settings: PupilSettings | None = None,
        *,
        mode: Literal["real-time", "post-hoc"] = "real-time",
    ) -> None:
        self.eye = eye
        self.camera = camera
        self.gated: dict[str, int] = {}
        """Frames in which the pupil was not believed, by reason."""
        self._method_3d = f"pye3d {version('pye3d')} {mode}"
        self._begin()
        self.apply(settings or PupilSettings())

    def _begin(self) -> None:
        # The 2D engine has a memory, too: of the ellipse it found last.
        self._engine_2d = Detector2D()
        self._engine_3d = Detector3D(CameraModel(self.camera.focal_length, self.camera.resolution))
        self._gate = BlinkGate()
        self._last = -math.inf

    @property
    def settings(self) -> PupilSettings:
        """The settings in force."""
        return self._settings

    def apply(self, settings: PupilSettings) -> None:
        """Use other settings from the next frame on.

        Raises:
            PluginArgument: the ROI does not fit the image; nothing is changed.
        """
        settings.check_roi(self.camera.resolution)
        self._settings = settings
        # The engine sees no pupil that is nearer to the end of the ROI than about its own size.
        self._roi = Roi(*settings.roi) if settings.roi else None
        self._engine_2d.update_properties(settings.properties.as_dict())
        if self._engine_3d.is_long_term_model_frozen != settings.is_long_term_model_frozen:
            self._engine_3d.is_long_term_model_frozen = settings.is_long_term_model_frozen

    def reset_model(self) -> None:
        """Forget the eyeball and its pupil: it is fitted anew from the next frames, and stays frozen if it was."""
        self._engine_3d.reset()
        self._gate = BlinkGate()
        self._engine_3d.is_long_term_model_frozen = self._settings.is_long_term_model_frozen

    def detect(self, gray: NDArray[np.uint8], timestamp: float) -> list[Datum]:
        """Return the datums of one image: ``pupil.N.2d`` and ``pupil.N.3d``, those that are enabled.

        Without the 2D engine there is nothing to fit, and the 3D datum has confidence 0 and none of its own keys, as in
        Pupil Capture. When time goes backwards everything begins anew.

        Args:
            gray: image, uint8 of shape (height, width).
            timestamp: Pupil time, s.

        Raises:
            PluginError: the image has another shape or type.
        """
        return list(self.each(gray, timestamp))

    def each(self, gray: NDArray[np.uint8], timestamp: float) -> Iterator[Datum]:
        """Yield what ``detect`` returns, every datum as soon as it is found."""
        width, height = self.camera.resolution
        if gray.shape != (height, width) or gray.dtype != np.uint8:
            raise PluginError(
                f"eye {self.eye}: wanted an image uint8 {(height, width)}, found {gray.dtype} {gray.shape}"
            )
        # The engine crashes the process on an image that it may not write to, or that has gaps between its rows.
        gray = np.require(gray, np.uint8, ["C", "W"])
        if timestamp < self._last:
            _log.warning("eye %d: time went back by %.3f s, detection begins anew", self.eye, self._last - timestamp)
            self._begin()
            self.apply(self._settings)
        self._last = timestamp
        if not self._settings.detect_2d:
            if self._settings.detect_3d:
                yield self._datum("3d", timestamp, [0.5, 0.5], 0.0, 0.0)
            return
        datum, reason = self._detect_2d(gray, timestamp)
        yield datum
        if self._settings.detect_3d:
            yield self._detect_3d(gray, datum, reason)

    def _detect_2d(self, gray: NDArray[np.uint8], timestamp: float) -> tuple[Datum, str]:
        found = _plain(self._engine_2d.detect(gray, roi=self._roi))
        at = self._normalised(found["location"])
        datum = self._datum("2d", timestamp, at, found["diameter"], found["confidence"])
        datum["ellipse"] = found["ellipse"]
        return datum, self._judge(gray, datum)

    def _judge(self, gray: NDArray[np.uint8], datum: Datum) -> str:
        # An ellipse without axes, or with axes that are no numbers, says that nothing was found.
        if not (self._settings.gate and datum["ellipse"]["axes"][0] > 0):
            return ""
        reason = self._gate.judge(gray, datum)
        if reason:
            self.gated[reason] = self.gated.get(reason, 0) + 1
            _lower(datum, reason)
        return reason

    def _detect_3d(self, gray: NDArray[np.uint8], datum_2d: Datum, reason: str) -> Datum:
        # Confidence 0 keeps a frame out of the model's memory, and makes the engine look for the pupil itself.
        given = {**datum_2d, "confidence": 0.0} if reason else datum_2d
        # The engine divides by zero on its way to saying that it found nothing.
        with np.errstate(all="ignore"):
            found = _plain(self._engine_3d.update_and_detect(given, gray))
        at = self._normalised(found["location"])
        datum = self._datum("3d", found["timestamp"], at, found["diameter"], found["confidence"])
        datum.update(found)
        if reason:
            _lower(datum, reason)
        elif datum_2d["ellipse"]["axes"][0] <= 0:
            self._judge(gray, datum)
        return datum

    def _normalised(self, px: list[float]) -> list[float]:
        width, height = self.camera.resolution
        return [px[0] / width, 1 - px[1] / height]

    def _datum(self, kind: str, timestamp: float, norm_pos: list[float], diameter: float, confidence: float) -> Datum:
        return {
            "id": self.eye,
            "topic": f"pupil.{self.eye}.{kind}",
            "method": METHOD_2D if kind == "2d" else self._method_3d,
            "norm_pos": norm_pos,
            "diameter": diameter,
            "confidence": confidence,
            "timestamp": timestamp,
        }


def _lower(datum: Datum, reason: str) -> None:
    datum["gate"] = {"reason": reason, "confidence": datum["confidence"]}
    datum["confidence"] = min(datum["confidence"], _GATED_CONFIDENCE)


def _plain(value: Any) -> Any:
    """Return what an engine says in plain Python: maps, lists and floats."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return float(value)
