"""Which file of a recording folder belongs to which stream."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from gazed_bus.frame import AUDIO
from gazed_recorder.files import FolderFiles
from gazed_recorder.manifest import MANIFEST

__all__ = [
    "SOUND", "is_gazeds", "is_recorded", "is_sound", "log_names", "stamps_of", "stem_of", "stream_parts",
    "track_files", "video_parts",
]  # fmt: skip

SOUND = "sound"
"""What the files of the stream ``audio`` are called: players take ``audio*.mp4``, and Pupil Player ends on FLAC."""
# Early versions of Pupil Capture, and Pupil Mobile, had other containers than mp4; the first one counts.
_CONTAINERS = ("mp4", "mkv", "avi", "mjpeg", "h264")
_TRACK = re.compile(rf"((world|eye\d|{AUDIO}|{SOUND})(?:_(\d{{3,9}}))?)\.({'|'.join(_CONTAINERS)})")


def stem_of(stream: str) -> str:
    """Return the stem of the first part of a stream."""
    return SOUND if stream == AUDIO else stream


def stamps_of(name: str) -> str:
    """Return the name of the array of the timestamps that belong to a video, sound or log.

    >>> stamps_of("world.mp4")
    'world_timestamps.npy'
    """
    return f"{name.rpartition('.')[0]}_timestamps.npy"


def is_recorded(name: str) -> bool:
    """Tell whether a file of ours of this name is a part, as it was recorded: an mp4 whose frames have checksums."""
    return name.endswith(".mp4") and not name.startswith(AUDIO)


def is_sound(stem: str) -> bool:
    """Tell whether the part of this stem holds sound, of ours or of Pupil Capture's."""
    return stem.startswith((SOUND, AUDIO))


def is_gazeds(names: Collection[str]) -> bool:
    """Tell whether the files of these names are those of a recording of ours."""
    return any(map(_is_sign, names))


def track_files(names: Collection[str]) -> dict[str, list[str]]:
    """Return the files of video and sound among these names, for each stream in the order of recording.

    In a recording of Pupil Capture's, ``audio*.mp4`` is the sound; in one of ours it is a copy of ``sound*.mp4``, and
    a video is an mp4.
    """
    ours = is_gazeds(names)
    found: dict[tuple[str, int, str], tuple[int, str]] = {}
    for name in names:
        match = _TRACK.fullmatch(name)
        if match is None or match[2] == (AUDIO if ours else SOUND):
            continue
        place = (match[2], int(match[3] or 0), match[1])
        rank = _CONTAINERS.index(match[4])
        if rank and (ours or match[2] == AUDIO):
            continue
        found[place] = min(found.get(place, (rank, name)), (rank, name))
    streams: dict[str, list[str]] = {}
    for (name, _, _), (_, file) in sorted(found.items()):
        streams.setdefault(AUDIO if name == SOUND else name, []).append(file)
    return streams


def stream_parts(folder: Path) -> dict[str, list[str]]:
    """Return the stems of the mp4 files of video and sound in a folder, as ``track_files`` does: world, world_001.

    One that leads out of the folder, or whose arrays do, is none: somebody may write to it.
    """
    names = _safe_names(folder, ".mp4", ("_timestamps.npy", "_frames.npy"))
    tracks = track_files([name for name in names if name.endswith(".mp4") or _is_sign(name)])
    return {stream: [name.removesuffix(".mp4") for name in names] for stream, names in tracks.items()}


def video_parts(folder: Path) -> dict[str, list[str]]:
    """Return what ``stream_parts`` does, of videos alone."""
    return {stream: stems for stream, stems in stream_parts(folder).items() if stream != AUDIO}


def log_names(folder: Path) -> list[str]:
    """Return the names of the datum logs in a folder, sorted; as in ``stream_parts`` none that leads out of it."""
    names = _safe_names(folder, ".pldata", ("_timestamps.npy",))
    return sorted(name.removesuffix(".pldata") for name in names if name.endswith(".pldata") and name[0] != ".")


def _safe_names(folder: Path, suffix: str, arrays: tuple[str, ...]) -> list[str]:
    """Return the names of the files in a folder, without those of a suffix whose arrays lead out of it."""
    files = FolderFiles(folder)
    bad = {f"{name.removesuffix(array)}{suffix}" for name in files.refused for array in arrays if name.endswith(array)}
    return [name for name in files.names if name not in bad]


def _is_sign(name: str) -> bool:
    # A manifest may be lost. Only gazed writes records of frames.
    return name == MANIFEST or name.endswith("_frames.npy")
