"""Which file of a recording folder belongs to which stream."""

from __future__ import annotations

import re
from pathlib import Path

from gazed_bus.frame import AUDIO
from gazed_recorder.manifest import MANIFEST

__all__ = ["SOUND", "is_recorded", "is_sound", "log_names", "stem_of", "stream_parts", "video_parts"]

SOUND = "sound"
"""What the files of the stream ``audio`` are called: players take ``audio*.mp4``, and Pupil Player ends on FLAC."""
_OWN_STEM = re.compile(rf"(world|eye\d|{AUDIO}|{SOUND})(?:_(\d{{3,}}))?")


def stem_of(stream: str) -> str:
    """Return the stem of the first part of a stream."""
    return SOUND if stream == AUDIO else stream


def is_recorded(name: str) -> bool:
    """Tell whether a file of ours of this name is a part, as it was recorded: an mp4 whose frames have checksums."""
    return name.endswith(".mp4") and not name.startswith(AUDIO)


def is_sound(stem: str) -> bool:
    """Tell whether the part of this stem holds sound, of ours or of Pupil Capture's."""
    return stem.startswith((SOUND, AUDIO))


def stream_parts(folder: Path) -> dict[str, list[str]]:
    """Return the stems of video and sound in a folder, for each stream in the order of recording (world, world_001).

    In a recording of Pupil Capture's, ``audio*.mp4`` is the sound; in one of ours it is a copy of ``sound*.mp4``.
    """
    # A manifest may be lost. Only gazed writes records of frames.
    ours = (folder / MANIFEST).exists() or any(folder.glob("*_frames.npy"))
    found = sorted(
        (match[1], int(match[2] or 0), path.stem)
        for path in folder.glob("*.mp4")
        if (match := _OWN_STEM.fullmatch(path.stem)) and path.is_file()
    )
    streams: dict[str, list[str]] = {}
    for name, _, stem in found:
        if name != (AUDIO if ours else SOUND):
            streams.setdefault(AUDIO if name == SOUND else name, []).append(stem)
    return streams


def video_parts(folder: Path) -> dict[str, list[str]]:
    """Return what ``stream_parts`` does, of videos alone."""
    return {stream: stems for stream, stems in stream_parts(folder).items() if stream != AUDIO}


def log_names(folder: Path) -> list[str]:
    """Return the names of the datum logs in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.pldata") if path.is_file())
