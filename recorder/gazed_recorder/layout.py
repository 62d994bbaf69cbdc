"""Which file of a recording folder belongs to which stream."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["OWN_VIDEO", "log_names", "video_parts"]

OWN_VIDEO = re.compile(r"(world|eye\d)(?:_(\d{3,}))?\.mp4")


def video_parts(folder: Path) -> dict[str, list[str]]:
    """Return the stems of the videos in a folder, for each stream in the order of recording (world, world_001)."""
    found = sorted(
        (match[1], int(match[2] or 0), path.stem)
        for path in folder.iterdir()
        if (match := OWN_VIDEO.fullmatch(path.name)) and path.is_file()
    )
    streams: dict[str, list[str]] = {}
    for stream, _, stem in found:
        streams.setdefault(stream, []).append(stem)
    return streams


def log_names(folder: Path) -> list[str]:
    """Return the names of the datum logs in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.pldata") if path.is_file())
