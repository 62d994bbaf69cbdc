"""The options of the source ``v4l2``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gazed_capture.errors import SourceOptionError
from gazed_capture.options import read_number, refuse_unknown
from gazed_capture.selection import SELECTION, Wanted
from gazed_capture.uvc_controls import is_control_value

__all__ = ["PIXELS", "V4l2Options"]

PIXELS = {"mjpeg": ("MJPG", "JPEG"), "gray": ("GREY",), "yuyv": ("YUYV",)}
"""The kernel's names of each format."""


@dataclass(frozen=True, slots=True)
class V4l2Options:
    """What a camera is asked for."""

    wanted: Wanted
    node: Path | None
    """``/dev/video0``, or a link to it; ``None`` where the device is selected by ``wanted`` alone."""
    format: str
    width: int
    """Pixels, as the next."""
    height: int
    fps: float
    controls: Mapping[str, bool | int | str]
    """By name."""

    @classmethod
    def read(cls, stream: str, options: Mapping[str, Any]) -> V4l2Options:
        """Check the options of a stream and fill in the defaults.

        Raises:
            SourceOptionError: an option is unknown, of the wrong kind or out of range.
        """
        refuse_unknown("v4l2", options, (*SELECTION, "node", "format", "width", "height", "fps", "controls"))
        form, node, controls = options.get("format", "mjpeg"), options.get("node"), options.get("controls", {})
        if form not in PIXELS:
            raise SourceOptionError(f"{stream}: format is one of {', '.join(PIXELS)}, got {form!r}")
        if node is not None and not (isinstance(node, str) and node):
            raise SourceOptionError(f"{stream}: node is a path, got {node!r}", hint="node = '/dev/video0'")
        if not isinstance(controls, Mapping):
            raise SourceOptionError(
                f"{stream}: controls is a table, got {controls!r}", hint="controls = { Gain = 10, Gamma = 100 }"
            )
        for name, value in controls.items():
            if not is_control_value(value):
                raise SourceOptionError(
                    f"{stream}: control {name!r} takes a whole number, true, false or a label, got {value!r}"
                )
        width, height, fps = (1280, 720, 30.0) if stream == "world" else (192, 192, 120.0)
        return cls(
            wanted=Wanted.read(stream, "v4l2", options),
            node=Path(node) if node else None,
            format=form,
            width=int(read_number(stream, options, "width", width, 1, 65535)),
            height=int(read_number(stream, options, "height", height, 1, 65535)),
            fps=read_number(stream, options, "fps", fps, 1, 1000),
            controls=dict(controls),
        )
