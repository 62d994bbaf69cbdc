"""The options of the source ``v4l2``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gazed_capture.controls import read_controls
from gazed_capture.errors import SourceOptionError
from gazed_capture.options import read_mode, refuse_unknown
from gazed_capture.selection import SELECTION, Wanted

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
        form, node = options.get("format", "mjpeg"), options.get("node")
        if form not in PIXELS:
            raise SourceOptionError(f"{stream}: format is one of {', '.join(PIXELS)}, got {form!r}")
        if node is not None and not (isinstance(node, str) and node):
            raise SourceOptionError(f"{stream}: node is a path, got {node!r}", hint="node = '/dev/video0'")
        width, height, fps = read_mode(stream, options)
        return cls(
            wanted=Wanted.read(stream, "v4l2", options),
            node=Path(node) if node else None,
            format=form,
            width=width,
            height=height,
            fps=fps,
            controls=read_controls(stream, options),
        )
