"""The options of a simulated stream, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gazed_capture.errors import SourceOptionError
from gazed_capture.options import read_losses, read_path, refuse_unknown
from gazed_capture.wearer.rig import LIGHTS_MM

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
    "noise": (0, 50),
    "pupil_mm": (2.5, 7.5),
    "droop": (0, 0.9),
    "closed_s": (0, 1.5),
    "lights": (0, len(LIGHTS_MM)),
}
_WHOLE = ("width", "height", "seed", "lights")
_DEFAULTS = {"seed": 1, "seconds": 10.0, "jitter_ms": 0.5, "ppm": 0.0}
_DEFAULTS |= {"noise": 2.5, "pupil_mm": 4.7, "droop": 0.0, "closed_s": 0.05, "lights": 2}
_NAMES = (*_RANGES, "skip", "cable")
_REST_S = 0.25  # a blink takes this much more than the time for which it keeps the lids shut


@dataclass(frozen=True, slots=True)
class BankSpec:
    """What decides every pixel of one loop of one stream."""

    stream: str
    width: int
    height: int
    fps: float
    seed: int
    seconds: float
    noise: float
    pupil_mm: float
    droop: float
    closed_s: float
    lights: int

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

    And, where an eye is seen:

    - ``noise``: of the sensor, sigma in gray levels; default 2.5
    - ``pupil_mm``: diameter of the pupil, about which it varies while the lamp is off; default 4.7
    - ``droop``: part of its way that the upper lid never opens; default 0
    - ``closed_s``: how long a blink keeps the lids wholly shut, s; default 0.05
    - ``lights``: how many infrared lights shine on the eye, each with its glint, 0 to 6; default 2

    ``seed``, ``seconds`` and ``closed_s`` have to be the same for all streams of one wearer.

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
    number = {"width": width, "height": height, "fps": fps, **_DEFAULTS}
    number |= {name: _number(stream, name, value) for name, value in options.items() if name in _RANGES}
    spec = BankSpec(
        stream,
        int(number["width"]),
        int(number["height"]),
        float(number["fps"]),
        int(number["seed"]),
        float(number["seconds"]),
        float(number["noise"]),
        float(number["pupil_mm"]),
        float(number["droop"]),
        float(number["closed_s"]),
        int(number["lights"]),
    )
    if spec.width % 2 or spec.height % 2:
        raise _refusal(stream, "width and height", f"{spec.width} x {spec.height}", "even numbers")
    if spec.closed_s > spec.seconds - _REST_S:
        raise _refusal(stream, "closed_s", spec.closed_s, f"at least {_REST_S} s less than the loop's {spec.seconds} s")
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
