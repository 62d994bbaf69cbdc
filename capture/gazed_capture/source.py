"""The one protocol that every source of frames follows, and the registry of sources.

A source is one file with one class, registered under the entry point group ``gazed.sources``. It knows a device and
nothing else: no bus, no recorder, no epoch. ``gazed_capture.testing.check_source`` is the contract as a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, Protocol

from gazed_bus.frame import AUDIO, Frame, StreamInfo
from gazed_capture.errors import SourceNotFound, SourceOptionError

__all__ = [
    "ClockQuality",
    "Demand",
    "DeviceInfo",
    "Source",
    "SourceStats",
    "find_source",
    "make_source",
    "source_names",
]


_EXTRAS = {"microphone": "audio"}


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device (or ready-made set-up) that a source could open, as ``gazed devices`` lists it."""

    source: str
    name: str
    serial: str
    modes: tuple[tuple[int, int, float], ...] = ()
    """(width, height, frames per second) on offer; of a microphone (samples a second, channels, 0)."""
    problem: str = ""
    """Why it cannot be opened now; empty if it can."""
    path: str = ""
    """Where it is plugged in, the same after every replug: a USB path as ``1-2.4``; empty where there is none."""
    controller: str = ""
    """What it shares its bandwidth with: the USB bus, as ``usb1``; empty where it shares nothing."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The device that a source would open now, and what it asks of the USB controller."""

    device: DeviceInfo
    reserves: int = 0
    """Bytes of each USB microframe (125 us) that the configured stream reserves; 0 where no controller is shared."""
    limit: int = 0
    """Bytes of each microframe that the controller gives to all its cameras; 0 as above."""


@dataclass(frozen=True, slots=True)
class ClockQuality:
    """What is known of the capture times: what they rest on and how far off they may be, in seconds."""

    kind: str
    """``hardware``, ``kernel``, ``sender`` (another program's word), ``arrival``, ``file`` or ``simulated``."""
    error_s: float | None = None
    """Bound of the error of ``captured_ns``; ``None`` where nothing is known."""


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counts since ``open``: what was handed out, what never came, what came broken."""

    delivered: int = 0
    missed: int = 0
    """Frames the device produced that never reached us: the sum of sequence gaps; blocks of sound with silence for
    samples that were lost."""
    corrupt: int = 0
    clock: ClockQuality = field(default_factory=lambda: ClockQuality("arrival"))


class Source(Protocol):
    """A camera, or something that behaves like one.

    Life: construct (cheap, opens nothing, checks the options) → ``open`` → ``read`` … → ``close``; after ``close`` it
    may be opened again, which is how a lost device comes back with the same options and controls. One thread at a time.
    """

    delivers: ClassVar[Literal["images", "sound"]]
    """What it is made for: cameras, or the stream ``audio``."""

    def __init__(self, stream: str, options: Mapping[str, Any]) -> None:
        """Take the options of the stream's configuration table.

        Raises:
            SourceOptionError: an option is unknown or out of range; the message names it and the nearest known one.
        """

    def find(self) -> Demand:
        """Tell which device ``open`` would take now, without opening it.

        Raises:
            SourceNotFound: no device fits; the message lists those that are there.
            DeviceAmbiguous: more than one does.
        """

    def open(self) -> StreamInfo:
        """Start the device and say what it will deliver. May take seconds.

        Raises:
            SourceNotFound, DeviceAmbiguous: as ``find``.
            DeviceRefused: no permission, or another program has it.
            NoBandwidth: the USB controller has no room left for it.
            SourceError: the device is there but cannot be used.
        """

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame, or ``None`` when none came within ``timeout`` seconds.

        ``sequence`` rises by one for each frame the device produced; ``captured_ns`` is strictly increasing.

        Raises:
            DeviceLost: the device is gone.
            EndOfStream: the source has an end and has reached it.
        """

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``."""

    def close(self) -> None:
        """Give the device back. May be called at any time, any number of times."""

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        """List what this source could open on this machine; empty if nothing."""


def source_names() -> list[str]:
    """Return the names of all installed sources, sorted."""
    return sorted(entry.name for entry in entry_points(group="gazed.sources"))


def find_source(name: str) -> type[Source]:
    """Return the class of a source by its registered name.

    Raises:
        SourceNotFound: no source of that name is installed.
        SourceOptionError: it is installed, but an optional package it needs is not.
    """
    for entry in entry_points(group="gazed.sources"):
        if entry.name == name:
            try:
                loaded: type[Source] = entry.load()
            except ImportError as error:
                raise SourceOptionError(
                    f"source {name!r} needs the package {error.name!r}",
                    hint=f"install it with: pip install 'gazed[{_EXTRAS.get(name, name)}]'",
                ) from error
            return loaded
    raise SourceNotFound(f"no source named {name!r}: installed are {', '.join(source_names())}")


def make_source(name: str, stream: str, options: Mapping[str, Any]) -> Source:
    """Construct a source by its registered name, for a stream of the kind it is made for.

    Raises:
        SourceNotFound, SourceOptionError: as ``find_source``; or it refuses an option, or is not for such a stream.
    """
    kind = find_source(name)
    if (stream == AUDIO) is not (kind.delivers == "sound"):
        raise SourceOptionError(
            f"source {name!r} delivers {kind.delivers}, which is nothing for the stream {stream!r}",
            hint="a microphone is the stream 'audio', every other stream is a camera; see capture/README.md",
        )
    return kind(stream, options)
