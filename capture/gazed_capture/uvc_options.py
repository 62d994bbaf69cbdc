"""The options of the source ``uvc``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gazed_capture.controls import read_controls
from gazed_capture.errors import SourceOptionError
from gazed_capture.options import read_mode, read_number, refuse_unknown
from gazed_capture.selection import SELECTION, Wanted
from gazed_capture.uvc_descriptors import CameraFormat

__all__ = ["UvcOptions"]

_OWN = ("width", "height", "fps", "format", "controls", "bandwidth_factor", "latency_ms")


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
        refuse_unknown("uvc", options, (*SELECTION, *_OWN))
        form = options.get("format", "mjpeg")
        if form not in ("mjpeg", "gray"):
            raise SourceOptionError(f"{stream}: format is 'mjpeg' or 'gray', got {form!r}")
        width, height, fps = read_mode(stream, options)
        return cls(
            wanted=Wanted.read(stream, "uvc", options),
            format=form,
            width=width,
            height=height,
            fps=fps,
            controls=read_controls(stream, options),
            bandwidth_factor=read_number(stream, options, "bandwidth_factor", 2.0, 0, 100),
            latency_s=read_number(stream, options, "latency_ms", 0.0, 0, 1000) / 1000,
        )
