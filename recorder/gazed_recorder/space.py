"""Room on the disk: measured, never guessed from rates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gazed_recorder.errors import DiskFull

__all__ = ["RESERVE", "DiskGuard", "Reserve", "Space", "estimate_gb_per_hour", "free_bytes"]

RESERVE = ".reserve"


def free_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user may still write on the file system of ``folder``.

    Raises:
        OSError: there is no such folder.
    """
    return shutil.disk_usage(folder).free


def estimate_gb_per_hour(streams: Mapping[str, float]) -> float:
    """Return GB (1e9 bytes) per hour for streams of so many bytes per second."""
    return sum(streams.values()) * 3600 / 1e9


@dataclass(frozen=True, slots=True)
class Space:
    """What ``DiskGuard.check`` found."""

    free: int
    low: bool
    """Fewer bytes are free than the warning asks for."""


@dataclass(frozen=True, slots=True)
class DiskGuard:
    """The floor below which nothing is recorded, and the level below which there is a warning; both in bytes."""

    root: Path
    floor_bytes: int
    warn_bytes: int

    def check(self) -> Space:
        """Measure the free space.

        Raises:
            DiskFull: less than the floor is free.
        """
        free = free_bytes(self.root)
        if free < self.floor_bytes:
            raise DiskFull(
                f"{self.root} has {free / 1e6:.0f} MB free, wanted at least {self.floor_bytes / 1e6:.0f} MB",
                hint="delete or move recordings, set recorder.root to a larger disk, or lower recorder.floor_mb",
            )
        return Space(free, free < self.warn_bytes)


class Reserve:
    """A file ``.reserve`` that keeps room for what is written at the stop: indexes, json.

    Release it first when the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE

    def hold(self, size: int) -> None:
        """Keep ``size`` bytes in all; it never shrinks.

        Raises:
            DiskFull: there is no such room.
        """
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            raise DiskFull(
                f"{self._path}: no room for {size / 1e6:.1f} MB: {error.strerror}", hint="delete or move recordings"
            ) from error
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the room back. Doing it twice is fine."""
        self._path.unlink(missing_ok=True)
