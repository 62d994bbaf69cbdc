"""Live mapping: pupil datums one by one to gaze, and whether gaze is still where the calibration was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gazed_plugins.arguments import is_vector
from gazed_plugins.gaze.accuracy import CalibratedArea
from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.checks import is_pupil
from gazed_plugins.gaze.gazer import Gazer
from gazed_plugins.gaze.gazer_hmd import GazerHMD3D
from gazed_plugins.gaze.matching import Datum, LiveMatcher
from gazed_plugins.gaze.registry import load_gazer

__all__ = ["LiveMapper"]

_MIN_CONFIDENCE = 0.6
_LEAST_OUTSIDE = 0.1


class LiveMapper:
    """Maps with the parameters of one calibration.

    ``references`` are those of the calibration, if they are known: gaze outside of them is extrapolated.

    Raises:
        UnknownGazer: there is no gazer of this name, or the parameters are not its.
    """

    def __init__(
        self, gazer: str, params: Mapping[str, Any], camera: Camera | None, references: Sequence[Datum] = ()
    ) -> None:
        self.gazer = gazer
        self.unusable = 0
        """Pupil datums that were not well formed."""
        self.mapped = 0
        """Gaze datums so far."""
        places = [ref["norm_pos"] for ref in references if is_vector(ref.get("norm_pos"), 2)]
        self.area = CalibratedArea(places) if places else None
        """Where it was calibrated, in the world image; ``None`` if that is not known."""
        self._matcher = LiveMatcher()
        self._seen = self._gone = 0
        self._last: Datum = {}
        self._gazer = self._load(params, camera)

    def look_through(self, camera: Camera | None) -> None:
        """Take another camera for the world camera.

        Raises:
            UnknownGazer: the gazer cannot work without one.
        """
        self._gazer = self._load(self.params, camera)

    def _load(self, params: Mapping[str, Any], camera: Camera | None) -> Gazer:
        # A display's gaze has a place in a world image only if a camera that is really there makes one.
        unseen = camera is None or camera.kind == "dummy"
        return load_gazer(self.gazer, params, None if self.gazer == GazerHMD3D.__name__ and unseen else camera)

    @property
    def params(self) -> dict[str, dict[str, Any]]:
        """The parameters that it maps with."""
        return self._gazer.params

    @property
    def method(self) -> str:
        """``2d`` or ``3d``: of the pupil datums that it takes."""
        return self._gazer.method

    def map(self, pupil: Datum) -> list[Datum]:
        """Return the gaze of a pupil datum from the bus: one datum, or none."""
        if not is_pupil(pupil):
            self.unusable += 1
            return []
        if not self._gazer.accepts(pupil):
            return []
        found = self._gazer.map(self._matcher.add(pupil))
        self.mapped += len(found)
        if self.area is not None:
            for gaze in found:
                if gaze["confidence"] >= _MIN_CONFIDENCE:
                    self._seen += 1
                    if self.area.is_extrapolating(gaze["norm_pos"]):
                        self._gone, self._last = self._gone + 1, gaze
        return found

    def outside(self) -> dict[str, Any] | None:
        """Return how much of the confident gaze since the last call lay outside the calibrated area.

        ``None`` if it was less than a tenth; else ``{outside, total, timestamp, norm_pos}``, of the last one.
        """
        total, gone, last = self._seen, self._gone, self._last
        self._seen = self._gone = 0
        if not gone or gone < _LEAST_OUTSIDE * total:
            return None
        return {"outside": gone, "total": total, "timestamp": last["timestamp"], "norm_pos": last["norm_pos"]}
