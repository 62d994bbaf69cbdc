"""The folder ``offline_data`` of a recording: results that were computed later, where Pupil Player looks for them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gazed_plugins.errors import PluginError
from gazed_recorder.datalog import DatumLog
from gazed_recorder.errors import DiskFull, RecordingRefused
from gazed_recorder.folder import FolderLock
from gazed_recorder.reader import Recording

__all__ = ["OFFLINE_FOLDER", "Progress", "locked_folder", "open_closed", "telling_full_disk", "write_log"]

OFFLINE_FOLDER = "offline_data"

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and how much there is."""


def open_closed(folder: str | Path) -> Recording:
    """Return a recording that nobody writes any more.

    Raises:
        NotARecording, DamagedFile: the recording cannot be read.
        PluginError: it is not closed.
    """
    recording = Recording(folder)
    if recording.manifest is not None and recording.manifest.state == "recording":
        raise PluginError(
            f"{recording.path} is not closed", hint=f"stop the recording, or: gazed repair {recording.path}"
        )
    return recording


@contextmanager
def locked_folder(recording: Recording) -> Iterator[Path]:
    """Yield the folder, made if need be, which nobody else writes to meanwhile.

    Raises:
        RecordingRefused: somebody does, or it cannot be written to.
        DiskFull: there is no room for what is written into it.
        OSError: it cannot be made.
    """
    folder = recording.path / OFFLINE_FOLDER
    with telling_full_disk(folder):
        folder.mkdir(exist_ok=True)
    try:
        lock = FolderLock(folder)
    except RecordingRefused as error:
        if error.reason != "in-use":
            raise
        raise RecordingRefused(
            error.message, reason=error.reason, hint="wait until gazed detect or gazed map has ended"
        ) from error
    with lock, telling_full_disk(folder):
        yield folder


@contextmanager
def telling_full_disk(folder: Path) -> Iterator[None]:
    """Raise ``DiskFull`` where the system says so in the block, which writes into ``folder``."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"the disk of {folder} is full", hint="make room and start it again; what was there is unchanged"
        ) from error


def write_log(folder: Path, name: str, records: Iterable[tuple[str | bytes, float, bytes]]) -> int:
    """Write datums (topic, Pupil time in s, packed) as ``<name>.pldata`` with its timestamps; return how many.

    Raises:
        OSError: they cannot be written, or the disk does not confirm it.
        MessageError: a datum is larger than 16 MiB.
    """
    log = DatumLog(folder, name)
    try:
        for topic, stamp, payload in records:
            log.append(topic, stamp, payload)
        log.flush()
        log.sync()
        return log.count
    finally:
        log.close()
