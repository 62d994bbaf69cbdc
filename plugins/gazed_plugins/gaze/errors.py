"""Errors of calibration and gaze mapping.

::

    PluginError
    ├── CalibrationFailed    no gazer could be fitted; ``reason`` is the text that Pupil's notification carries
    ├── UnknownGazer         no gazer of that class name, or its parameters are not well formed
    ├── ChoreographyRefused  a calibration cannot begin like this, or a reference is not well formed
    └── UnknownCalibration   no stored calibration of that name, or it cannot be read
"""

from __future__ import annotations

from gazed_plugins.errors import PluginError

__all__ = ["CalibrationFailed", "ChoreographyRefused", "UnknownCalibration", "UnknownGazer"]


class CalibrationFailed(PluginError):
    """No gazer could be fitted to the data of a calibration, or a validation came to nothing."""

    code = "calibration-failed"

    def __init__(self, reason: str, *, hint: str = "", what: str = "calibration") -> None:
        super().__init__(f"{what} failed: {reason}", hint=hint)
        self.reason = reason

    def as_dict(self) -> dict[str, str]:
        """Return the error with its reason."""
        return {**super().as_dict(), "reason": self.reason}


class UnknownGazer(PluginError):
    """A gazer cannot be made from this name and these parameters."""

    code = "unknown-gazer"
    exit_code = 2


class ChoreographyRefused(PluginError):
    """A calibration or validation cannot begin like this, or a reference is not well formed."""

    code = "choreography-refused"


class UnknownCalibration(PluginError):
    """No calibration is stored under that name, or it cannot be read."""

    code = "unknown-calibration"
    exit_code = 2
