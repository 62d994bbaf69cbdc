"""Which file of a recording folder belongs to which stream."""

from __future__ import annotations

import re
from pathlib import Path

from gazed_bus.frame import AUDIO

__all__ = ["OWN_MP4", "log_names", "stream_parts", "video_parts"]

OWN_MP4 = re.compile(rf"(world|eye\d|{AUDIO})(?:_(\d{{3,}}))?\.mp4")


def stream_parts(folder: Path) -> dict[str, list[str]]:
    """Return the stems of video and sound in a folder, for each stream in the order of recording (world, world_001)."""
    found = sorted(
        (match[1], int(match[2] or 0), path.stem)
        for path in folder.iterdir()
        if (match := OWN_MP4.fullmatch(path.name)) and path.is_file()
    )
    streams: dict[str, list[str]] = {}
    for stream, _, stem in found:
        streams.setdefault(stream, []).append(stem)
    return streams


def video_parts(folder: Path) -> dict[str, list[str]]:
    """Return what ``stream_parts`` does, of videos alone."""
    return {stream: stems for stream, stems in stream_parts(folder).items() if stream != AUDIO}


def log_names(folder: Path) -> list[str]:
    """Return the names of the datum logs in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.pldata") if path.is_file())
