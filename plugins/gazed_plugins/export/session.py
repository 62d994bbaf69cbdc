"""What a recording tells of itself as a whole: when it was made, and how large the world's image is."""

from __future__ import annotations

from datetime import UTC, datetime

from gazed_bus.errors import CameraModelError
from gazed_bus.intrinsics import read_intrinsics
from gazed_recorder.reader import Recording

__all__ = ["wall_clock", "world_size"]


def wall_clock(recording: Recording, timestamp: float) -> datetime | None:
    """Return the date of a Pupil time; ``None`` where the recording does not tell, or tells what is no date."""
    unix = recording.to_unix(timestamp)
    try:
        return datetime.fromtimestamp(unix, UTC) if unix > 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def world_size(recording: Recording) -> tuple[int, int] | None:
    """Return width and height of the world's image in px; ``None`` if nothing tells it.

    Raises:
        DamagedFile: there is a video, and it cannot be read.
    """
    if "world" in recording.streams:
        return recording.world.size
    try:
        sizes = list(read_intrinsics(recording.path / "world.intrinsics"))
    except CameraModelError:
        sizes = []
    return sizes[0] if len(sizes) == 1 else None
