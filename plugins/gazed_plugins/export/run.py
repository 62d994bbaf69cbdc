"""Exporting one recording: all of it appears at once, or nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gazed_plugins.export.errors import AlreadyThere, MissingExtra
from gazed_plugins.export.exporter import Exporter, find_exporter
from gazed_plugins.extras import install_command, missing_package
from gazed_plugins.offline_data import Progress, telling_full_disk
from gazed_recorder.folder import LOCK, FolderLock
from gazed_recorder.reader import Recording

__all__ = ["ExportResult", "export_recording", "label_of", "make_exporter"]

EXPORTS = "exports"


class ExportResult(msgspec.Struct, frozen=True):
    """What ``export_recording`` made."""

    recording: str
    path: str
    """The file or folder of the export."""
    skipped: bool = False
    """Whether it was there already."""


def export_recording(
    folder: str | Path,
    to: str,
    output: str | Path | None = None,
    *,
    args: Mapping[str, Any] | None = None,
    offline: bool = False,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a recording, gazed's own or Pupil Capture's.

    Args:
        folder: the recording.
        to: the format, one of ``format_names()``.
        output: the folder that the export goes into; ``exports`` of the recording if not given.
        args: what the format can be told.
        offline: take pupils, gaze and fixations that were computed afterwards in the place of those recorded.
        force: replace an earlier export.
        resume: leave an earlier export as it is.
        progress: called now and then with what is done and what there is to do.

    Raises:
        UnknownFormat, MissingExtra, PluginArgument: the format, or what it is told, is not possible.
        NotARecording, DamagedFile: the recording cannot be read.
        NothingToExport: it has nothing that the format could hold.
        AlreadyThere: there is an earlier export.
        RecordingRefused: somebody else exports the same right now.
        DiskFull: there is no room.
        OSError: the export cannot be written.
    """
    exporter = make_exporter(to, args or {})
    recording = Recording(folder, offline=offline)
    place = Path(output).expanduser() if output is not None else recording.path / EXPORTS
    target = place / exporter.name(recording, label_of(recording.path))
    if target.exists() and not force:
        if resume:
            return ExportResult(str(recording.path), str(target), skipped=True)
        raise AlreadyThere(f"{target} is there already", hint="--force replaces it")
    with telling_full_disk(place):
        _write(exporter, recording, place, target, progress or _silent)
        exporter.complete(place)
    return ExportResult(str(recording.path), str(target))


def make_exporter(to: str, args: Mapping[str, Any]) -> Exporter:
    """Return the exporter of a format, ready to write.

    Raises:
        UnknownFormat, MissingExtra, PluginArgument: as ``export_recording``.
    """
    kind = find_exporter(to)
    if kind.extra and (missing := missing_package(kind.extra)):
        raise MissingExtra(
            f"the format {to} needs gazed[{kind.extra}], but {missing} is not installed",
            hint=install_command(kind.extra),
        )
    return kind(args)


def label_of(folder: Path) -> str:
    """Return the name of a recording in file names: session and number, of ``A-Z a-z 0-9 _ -``.

    >>> label_of(Path("recordings/first try/000"))
    'first_try-000'
    """
    parts = folder.absolute().parts[-2:]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", "-".join(parts)).strip("_-") or "recording"


def _write(exporter: Exporter, recording: Recording, place: Path, target: Path, progress: Progress) -> None:
    """Write beside the target, and put it into its place when it is whole; what a killed run has left goes away."""
    work = place / f".{label_of(recording.path)}-{target.name}.writing"
    work.mkdir(parents=True, exist_ok=True)
    with FolderLock(work):
        for left in work.iterdir():
            if left.name != LOCK:
                _remove(left)
        fresh = work / target.name
        try:
            exporter.write(recording, fresh, progress)
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove(target)
            fresh.replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _silent(_done: int, _total: int) -> None:
    pass
