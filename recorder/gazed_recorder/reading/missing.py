"""What a recording lacks, in plain sentences: what is missing or torn, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import av
import av.error
import numpy as np

from gazed_recorder.arrays import read_array
from gazed_recorder.atomic import WRITING
from gazed_recorder.datalog import STAMP_DTYPE
from gazed_recorder.errors import DamagedFile
from gazed_recorder.files import FolderFiles
from gazed_recorder.layout import is_gazeds, stamps_of
from gazed_recorder.manifest import MANIFEST, Manifest
from gazed_recorder.reading.logs import Log

__all__ = ["missing_of_folder", "missing_of_logs", "missing_of_tracks"]


def missing_of_folder(folder: FolderFiles, manifest: Manifest | None) -> Iterator[str]:
    """Tell what is amiss with the folder as a whole."""
    for name in folder.refused:
        yield f"{name} is a link that leads out of the recording, or no file: it is left out"
    if manifest is None:
        if is_gazeds(folder.names):
            yield f"{MANIFEST} is missing, although gazed wrote this: gazed repair {folder.path} makes a new one"
        for name in sorted(folder.names):
            if name.endswith(f".mp4{WRITING}"):
                yield f"{name} was never completed: without an index it cannot be read, and is left out"
        return
    if manifest.state == "recording":
        yield f"the recording was not closed: gazed repair {folder.path} completes it, unless it still runs"
    for name, report in manifest.streams.items():
        files = [f"{name}.pldata"] if report.kind == "data" else [part.file for part in report.parts]
        gone = [file for file in files if file not in folder]
        if report.written and gone:
            yield f"{', '.join(gone)} of {name} is gone: {MANIFEST} counts {report.written} in all"


def missing_of_tracks(folder: FolderFiles, tracks: Mapping[str, Sequence[str]], whole: bool) -> Iterator[str]:
    """Tell what is amiss with video and sound; that of a recording that is not ``whole`` yet grows."""
    for stream in sorted(tracks, key=lambda each: (each != "world", each)):
        for name in tracks[stream]:
            stamps = stamps_of(name)
            if folder.file(stamps) is None:
                yield f"{name} has no {stamps}, or nothing is in that: it is left out"
                continue
            try:
                yield from _missing_of_track(folder.path / name, folder.path / stamps, whole)
            except DamagedFile as error:
                yield error.message


def _missing_of_track(path: Path, stamps_path: Path, whole: bool) -> Iterator[str]:
    stamps = read_array(stamps_path, STAMP_DTYPE)
    if not np.isfinite(stamps).all():
        yield f"{stamps_path.name} has {int((~np.isfinite(stamps)).sum())} timestamps that are no finite numbers"
    back = int((stamps[1:] < stamps[:-1]).sum())
    if back:
        yield f"{stamps_path.name} goes back in time {back} times: frames are in the order of recording, not of time"
    frames = _frames(path)
    if isinstance(frames, str):
        yield f"{path.name} cannot be opened, so that none of its frames can be read: {frames}"
    elif whole and 0 < frames < len(stamps):
        yield f"{path.name} has {frames} frames for {len(stamps)} timestamps: the last of them have none"
    elif whole and frames > len(stamps):
        yield f"{path.name} has {frames} frames for {len(stamps)} timestamps: the last of them are left out"


def _frames(path: Path) -> int | str:
    """Return how many frames or packets the index of a file counts, 0 if it has none; or why it cannot be opened."""
    try:
        with av.open(path) as container:
            tracks = container.streams.video or container.streams.audio
            return tracks[0].frames if tracks else "there is neither video nor sound in it"
    except (av.error.FFmpegError, ValueError) as error:
        return str(error)


def missing_of_logs(folder: FolderFiles, logs: Mapping[str, Log]) -> Iterator[str]:
    """Tell what is amiss with logs; those with an array of timestamps were closed in good order."""
    for name, log in logs.items():
        file = f"{name}.pldata"
        if file in folder and folder.file(stamps_of(file)) is None:
            yield f"{file} has no {stamps_of(file)}, or nothing is in that: its times are taken from its datums"
        if log.has_stamps:
            continue
        try:
            if log.packed.torn:
                yield f"{file} ends in the middle of a datum: its last {log.packed.torn} bytes are left out"
        except DamagedFile as error:
            yield error.message
