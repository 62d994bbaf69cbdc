"""The options of a simulated stream, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gazed_capture.errors import SourceOptionError
from gazed_capture.options import read_losses, read_path, refuse_unknown

__all__ = ["BankSpec", "WearerOptions", "read_options"]

_STREAMS = ("world", "eye0", "eye1")
_SIZES = {"world": (1280, 720, 30.0), "eye0": (400, 400, 120.0), "eye1": (400, 400, 120.0)}
# name: (smallest, largest)
_RANGES = {
    "width": (64, 4096),
    "height": (64, 4096),
    "fps": (1, 1000),
    "seed": (0, 2**32 - 1),
    "seconds": (0.5, 60),
    "jitter_ms": (0, 1000),
    "ppm": (-10_000, 10_000),
}
_WHOLE = ("width", "height", "seed")
_NAMES = (*_RANGES, "skip", "cable")


@dataclass(frozen=True, slots=True)
class BankSpec:
    """What decides every pixel of one loop of one stream."""

    stream: str
    width: int
    height: int
    fps: float
    seed: int
    seconds: float

    @property
    def rows(self) -> int:
        """The number of frames of one loop."""
        return max(1, round(self.seconds * self.fps))


@dataclass(frozen=True, slots=True)
class WearerOptions:
    """The options of one stream, as ``read_options`` describes them."""

    bank: BankSpec
    jitter_ms: float
    ppm: float
    skip: float | frozenset[int]
    cable: Path | None


def read_options(stream: str, options: Mapping[str, Any]) -> WearerOptions:
    """Check the options of a stream's table and fill in the defaults.

    - ``width``, ``height``: of the image in px, even; default 400 x 400, world 1280 x 720
    - ``fps``: frames per second; default 120, world 30
    - ``seed``: which wearer; the same seed makes the same bytes; default 1
    - ``seconds``: length of the loop; default 10
    - ``jitter_ms``: frames arrive up to this much later than they could; default 0.5
    - ``ppm``: how much faster than the host's the device's clock runs, in parts per million; default 0
    - ``skip``: frames that never arrive, a part of all (0 <= skip < 1) or a list of sequence numbers; default 0
    - ``cable``: path of a file; the device is unplugged while it exists; default none

    ``seed`` and ``seconds`` have to be the same for all streams of one wearer.

    Raises:
        SourceOptionError: an option is unknown or out of range, or the stream is not one that a wearer has.
    """
    if stream not in _STREAMS:
        raise SourceOptionError(
            f"the simulated wearer has no stream {stream!r}: wanted one of {', '.join(_STREAMS)}",
            hint="give that stream another source",
        )
    refuse_unknown("simulated", options, _NAMES)
    width, height, fps = _SIZES[stream]
    number = {"width": width, "height": height, "fps": fps, "seed": 1, "seconds": 10.0, "jitter_ms": 0.5, "ppm": 0.0}
    number |= {name: _number(stream, name, value) for name, value in options.items() if name in _RANGES}
    spec = BankSpec(
        stream,
        int(number["width"]),
        int(number["height"]),
        float(number["fps"]),
        int(number["seed"]),
        float(number["seconds"]),
    )
    if spec.width % 2 or spec.height % 2:
        raise _refusal(stream, "width and height", f"{spec.width} x {spec.height}", "even numbers")
    return WearerOptions(
        spec,
        number["jitter_ms"],
        number["ppm"],
        read_losses(stream, options, "skip"),
        read_path(stream, options, "cable"),
    )


def _refusal(stream: str, name: str, found: object, wanted: str) -> SourceOptionError:
    return SourceOptionError(
        f"stream {stream!r}: option {name} of source simulated is {found!r}: wanted {wanted}",
        hint="mend the stream's table in the configuration",
    )


def _number(stream: str, name: str, value: object) -> float:
    low, high = _RANGES[name]
    kind = int if name in _WHOLE else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise _refusal(stream, name, value, f"a {'whole ' if name in _WHOLE else ''}number from {low} to {high}")
    return value
