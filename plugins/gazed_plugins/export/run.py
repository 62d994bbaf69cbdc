"""Exporting one recording: all of it appears at once, or nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gazed_plugins.export.errors import AlreadyThere, BeingRecorded, MissingExtra
from gazed_plugins.export.exporter import Exporter, find_exporter
from gazed_plugins.export.find import label_of
from gazed_plugins.export.place import OutputFolder, Receipt
from gazed_plugins.extras import install_command, missing_package
from gazed_plugins.offline_data import OFFLINE_FOLDER, Progress, telling_full_disk
from gazed_recorder.folder import is_being_written
from gazed_recorder.reader import Recording

__all__ = ["ExportJob", "ExportResult", "complete", "export_exists", "export_one", "export_recording", "make_exporter"]


class ExportJob(msgspec.Struct, frozen=True):
    """What is to be done with recordings; it may travel to other processes and machines."""

    to: str
    """The format."""
    output: str = ""
    """The folder that exports go into; if empty, that is ``exports`` of each recording."""
    args: dict[str, Any] = {}
    """What the format is told."""
    offline: bool | str = False
    """Whether pupils, gaze and fixations that were computed afterwards are taken in the place of those recorded; or
    which of several gaze mappings."""
    force: bool = False
    """Whether earlier exports are replaced."""
    resume: bool = False
    """Whether earlier exports of the same are left as they are."""


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
    offline: bool | str = False,
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
        offline: take pupils, gaze and fixations that were computed afterwards in the place of those recorded; the name
            of a gaze mapping chooses among several.
        force: replace an earlier export; it stays until the new one is whole.
        resume: leave an earlier export of the same with the same arguments as it is.
        progress: called now and then with what is done and what there is to do.

    Raises:
        UnknownFormat, MissingExtra, PluginArgument: the format, or what it is told, is not possible.
        NotARecording, DamagedFile: the recording cannot be read.
        UnknownMapping: there is no gaze mapping of that name, or several and no name was given.
        BeingRecorded: it has not ended.
        NothingToExport: it has nothing that the format could hold.
        AlreadyThere: there is an earlier export.
        UnsafeOutput: the output folder lies where recorded files are.
        BeingExported: another process exports the same right now.
        DiskFull: there is no room.
        OSError: the export cannot be written.
    """
    place = "" if output is None else str(Path(output).expanduser())
    job = ExportJob(to, place, dict(args or {}), offline, force, resume)
    exporter = make_exporter(job)
    recording = Path(folder).expanduser()
    result = export_one(job, exporter, recording, label_of(recording), progress or _silent)
    if place:
        complete(exporter, Path(place))
    return result


def make_exporter(job: ExportJob) -> Exporter:
    """Return the exporter of a job, ready to write.

    Raises:
        UnknownFormat, MissingExtra, PluginArgument: as ``export_recording``.
    """
    kind = find_exporter(job.to)
    if kind.extra and (missing := missing_package(kind.extra)):
        raise MissingExtra(
            f"the format {job.to} needs gazed[{kind.extra}], but {missing} is not installed",
            hint=install_command(kind.extra),
        )
    return kind(job.args)


def export_one(job: ExportJob, exporter: Exporter, folder: Path, label: str, progress: Progress) -> ExportResult:
    """Export one recording as ``label``; if exports of several go into one folder, ``complete`` comes at the end.

    Raises:
        NotARecording, DamagedFile, UnknownMapping, BeingRecorded, NothingToExport, AlreadyThere, UnsafeOutput,
        BeingExported, DiskFull, OSError: as ``export_recording``.
    """
    recording = Recording(folder, offline=job.offline)
    if recording.manifest and recording.manifest.state == "recording" and is_being_written(recording.path):
        raise BeingRecorded(f"{recording.path} is being recorded", hint="stop it first: gazed record stop")
    place = _place(job, exporter, recording)
    name = exporter.name(recording, label)
    args = msgspec.json.decode(msgspec.json.encode(job.args, enc_hook=str))
    receipt = Receipt(_identity(recording), job.to, args, _state(recording, job.offline))
    target = place.target(name)
    if os.path.lexists(target):
        if job.resume and place.receipt(name) == receipt:
            return ExportResult(str(recording.path), str(target), skipped=True)
        _refuse_other(job, target, place.receipt(name), receipt)
    with telling_full_disk(place.path):
        place.put(name, receipt, lambda fresh: exporter.write(recording, fresh, progress))
    if not job.output:
        complete(exporter, place.path)
    return ExportResult(str(recording.path), str(target))


def export_exists(job: ExportJob, exporter: Exporter, folder: Path, label: str) -> bool:
    """Tell whether there is an export of that name; if that cannot be told, exporting it will tell why."""
    try:
        recording = Recording(folder, offline=job.offline)
        place = _place(job, exporter, recording)
        return os.path.lexists(place.target(exporter.name(recording, label)))
    except Exception:  # noqa: BLE001 - a recording that no code is prepared for
        return False


def complete(exporter: Exporter, output: Path) -> None:
    """Bring up to date what stands beside the exports of all recordings; other processes that do so wait.

    Raises:
        UnsafeOutput: the output folder lies where recorded files are.
        DiskFull, OSError: it cannot be written.
    """
    with telling_full_disk(output), OutputFolder(output).alone():
        exporter.complete(output)


def _place(job: ExportJob, exporter: Exporter, recording: Recording) -> OutputFolder:
    return OutputFolder(Path(job.output)) if job.output else OutputFolder.of(recording.path, exporter.dataset)


def _identity(recording: Recording) -> str:
    """Return what tells a recording from all others: its UUID, or, in old ones, its name and when it began."""
    info = recording.info
    return info.recording_uuid or f"{info.recording_name} {info.start_time_system_s!r} {info.start_time_synced_s!r}"


def _state(recording: Recording, offline: bool | str) -> str:
    """Return what changes when a recording is repaired, or, if that counts, when it is analysed anew."""
    parts: list[str] = [recording.manifest.state if recording.manifest else ""]
    if offline:
        found = sorted((recording.path / OFFLINE_FOLDER).rglob("*"))
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found if path.is_file()]
        parts += [str(offline), hashlib.sha256(repr(files).encode()).hexdigest()]
    return " ".join(parts)


def _refuse_other(job: ExportJob, target: Path, found: Receipt | None, wanted: Receipt) -> None:
    """Go on only where an earlier export may be replaced."""
    if found is not None and found.recording != wanted.recording:
        raise AlreadyThere(
            f"{target} is the export of another recording, {found.recording}",
            hint="export them into different folders: --output DIR",
        )
    if job.force:
        return
    if not job.resume:
        raise AlreadyThere(
            f"{target} is there already", hint="--force replaces it, --resume leaves what is there as it is"
        )
    what = (
        "nothing tells what it was made of"
        if found is None
        else "it was made with other options, or before the recording changed"
    )
    raise AlreadyThere(f"{target} is there already, and {what}", hint="--force replaces it")


def _silent(_done: int, _total: int) -> None:
    pass
