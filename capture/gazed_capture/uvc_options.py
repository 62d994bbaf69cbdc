"""The options of the source ``uvc``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gazed_capture.errors import SourceOptionError
from gazed_capture.options import refuse_unknown
from gazed_capture.selection import SELECTION, Wanted
from gazed_capture.uvc_controls import is_control_value
from gazed_capture.uvc_descriptors import CameraFormat

__all__ = ["UvcOptions"]

_RANGES = {
    "width": (1, 65535),
    "height": (1, 65535),
    "fps": (1, 1000),
    "bandwidth_factor": (0, 100),
    "latency_ms": (0, 1000),
}
_EYE = {"width": 192, "height": 192, "fps": 120, "bandwidth_factor": 2.0, "latency_ms": 0.0}
_WORLD = {**_EYE, "width": 1280, "height": 720, "fps": 30}


@dataclass(frozen=True, slots=True)
class UvcOptions:
    """What a camera is asked for."""

    wanted: Wanted
    format: CameraFormat
    width: int
    """Pixels, as the next."""
    height: int
    fps: float
    controls: Mapping[str, bool | int | str]
    """By display name."""
    bandwidth_factor: float
    """How much larger than width x height / 8 bytes the camera's JPEGs can be; 0 believes the camera."""
    latency_s: float
    """Constant delay from the exposure to the camera's stamp, subtracted from the capture times."""

    @classmethod
    def read(cls, stream: str, options: Mapping[str, Any]) -> UvcOptions:
        """Check the options of a stream and fill in the defaults.

        Raises:
            SourceOptionError: an option is unknown, of the wrong kind or out of range.
        """
        refuse_unknown("uvc", options, (*SELECTION, *_RANGES, "format", "controls"))
        form = options.get("format", "mjpeg")
        if form not in ("mjpeg", "gray"):
            raise SourceOptionError(f"{stream}: format is 'mjpeg' or 'gray', got {form!r}")
        controls = options.get("controls", {})
        if not isinstance(controls, Mapping):
            raise SourceOptionError(
                f"{stream}: controls is a table, got {controls!r}", hint="controls = { Gain = 10, Gamma = 100 }"
            )
        for name, value in controls.items():
            if not is_control_value(value):
                raise SourceOptionError(
                    f"{stream}: control {name!r} takes a whole number, true, false or a label, got {value!r}"
                )
        numbers = {
            **(_WORLD if stream == "world" else _EYE),
            **{name: options[name] for name in _RANGES if name in options},
        }
        for name, value in numbers.items():
            _check_number(stream, name, value)
        return cls(
            wanted=Wanted.read(stream, "uvc", options),
            format=form,
            width=numbers["width"],
            height=numbers["height"],
            fps=numbers["fps"],
            controls=dict(controls),
            bandwidth_factor=numbers["bandwidth_factor"],
            latency_s=numbers["latency_ms"] / 1000,
        )


def _check_number(stream: str, name: str, value: object) -> None:
    low, high = _RANGES[name]
    whole = name in ("width", "height")
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fits or not (isinstance(value, int | float) and math.isfinite(value) and low <= value <= high):
        kind = "a whole number" if whole else "a number"
        raise SourceOptionError(f"{stream}: {name} is {kind} from {low} to {high}, got {value!r}")
