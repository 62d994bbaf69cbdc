"""``repair``: completing a recording whose writer was killed, so that every reader takes it and ``verify`` passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gazed_recorder.arrays import read_array
from gazed_recorder.atomic import WRITING
from gazed_recorder.datalog import STAMP_DTYPE, repair_log
from gazed_recorder.errors import DamagedFile, NotARecording, RecorderError, RecordingRefused
from gazed_recorder.finish import LEFT_OUT, file_sum, finish
from gazed_recorder.folder import FolderLock
from gazed_recorder.info import PLAYER_INFO, USER_INFO
from gazed_recorder.layout import log_names, stream_parts
from gazed_recorder.manifest import (
    MANIFEST,
    ClockReading,
    FileSum,
    Gap,
    Manifest,
    Part,
    StreamReport,
    codec_of,
    kind_of,
)
from gazed_recorder.mp4_scan import last_frame, scan
from gazed_recorder.part import PartRepair, repair_part
from gazed_recorder.space import RESERVE

__all__ = ["Repair", "Settled", "repair", "repair_unfinished", "resume_point", "settle"]


@dataclass(frozen=True, slots=True)
class Repair:
    """What ``repair`` did."""

    repaired: bool
    """Whether anything had to be done."""
    lost: dict[str, int]
    """Frames (or datums) that a stream is known to have lost, where it lost any."""
    problems: list[str]
    """What could not be repaired."""
    actions: list[str]


@dataclass(frozen=True, slots=True)
class Settled:
    """What ``settle`` did."""

    last: dict[str, int] = field(default_factory=dict)
    """``captured_ns`` of the last frame of each stream that has one."""
    actions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def repair(folder: Path, progress: Callable[[float], None] | None = None) -> Repair:
    """Complete a torn recording: cut what is not whole, make all files agree, write what the stop would have written.

    A folder in order is left as it is, to the byte; what its stop had to leave out is made. ``progress`` is told the
    share that is done, 0 to 1.

    A manifest that cannot be read is made anew from the other files; what was expected and dropped is then not known.

    Raises:
        NotARecording: gazed did not make the folder.
        DamagedFile: neither the manifest nor ``info.player.json`` can be read.
        RecordingRefused: a recorder is writing there.
        OSError: there is no room for the indexes, or the folder cannot be written. Free some space and repair again.
    """
    if _is_closed(folder, _load(folder)[0]):
        return Repair(False, {}, [], [])
    with FolderLock(folder):
        manifest, actions = _load(folder)
        settled = settle(folder, manifest, progress)
        changed = _changed(folder, manifest)
        problems = [*settled.problems, *(f"{folder / name}: was changed after it was closed" for name in changed)]
        problems += finish(folder, manifest, state="repaired", keep=changed)
        actions += [*settled.actions, f"wrote info files and {MANIFEST}"]
        left_out = [event for event in manifest.events if event.get("event") in LEFT_OUT]
        actions += [f"{event['event']}: {event['reason']}" for event in left_out]
    lost = {name: report.lost for name, report in manifest.streams.items() if report.lost}
    return Repair(True, lost, problems, actions)


def repair_unfinished(root: Path) -> Iterator[tuple[Path, Repair]]:
    """Repair every recording below ``root`` that was never closed and that nobody is writing; yield what was done."""
    for path in sorted(root.rglob(MANIFEST)):
        folder = path.parent
        try:
            if _load(folder)[0].state == "recording":
                yield folder, repair(folder)
        except RecordingRefused as error:
            if error.reason != "in-use":
                yield folder, Repair(False, {}, [error.message], [])
        except (RecorderError, OSError) as error:
            yield folder, Repair(False, {}, [str(error)], [])


def settle(folder: Path, manifest: Manifest, progress: Callable[[float], None] | None = None) -> Settled:
    """Make the streams on disk whole, and bring the manifest's accounts in line with them; it is not saved.

    For a repair, and for a recorder that goes on where a killed one stopped, whose left-over files are removed. A
    stream that is damaged beyond a torn end is left alone and stands among the problems.

    Raises:
        OSError: as ``repair``.
    """
    settled = Settled()
    for path in sorted(folder.iterdir()):
        if path.suffix == WRITING or path.name == RESERVE:
            path.unlink()
            settled.actions.append(f"removed {path.name}")
    tracks, logs = stream_parts(folder), log_names(folder)
    total, done = sum(map(len, tracks.values())) + len(logs), 0
    for stream, stems in tracks.items():
        report = manifest.streams.setdefault(stream, StreamReport(kind=kind_of(stream)))
        _settle_track(folder, stream, stems, report, settled)
        done += len(stems)
        if progress:
            progress(done / total)
    for name in logs:
        report = manifest.streams.setdefault(name, StreamReport(kind="data"))
        _settle_log(folder, name, report, settled)
        done += 1
        if progress:
            progress(done / total)
    for name, report in manifest.streams.items():
        if name not in tracks and name not in logs:
            if report.written:
                settled.problems.append(f"{name}: its file is gone, and {report.written} records with it")
            _balance(report, 0, 0)
    return settled


def resume_point(folder: Path, manifest: Manifest) -> dict[str, int]:
    """Bring the accounts of video and sound up to what is on disk; return the ``captured_ns`` of each last frame.

    For a recorder that goes on where a killed one stopped: only the ends of the files are read, and nothing is changed
    but that a part without a whole frame is removed. ``settle`` has to follow when the recording ends.

    Raises:
        OSError: a file cannot be read.
    """
    last: dict[str, int] = {}
    for stream, stems in stream_parts(folder).items():
        report = manifest.streams.setdefault(stream, StreamReport(kind=kind_of(stream)))
        known = {part.file: part for part in report.parts}
        report.parts = []
        for stem in stems:
            found = last_frame(folder / f"{stem}.mp4")
            if found is None:
                with suppress(DamagedFile):
                    repair_part(folder, stem)
                continue
            part = known.get(f"{stem}.mp4") or Part(f"{stem}.mp4", codec=codec_of(stream, manifest.mode))
            part.frames, record = found
            report.parts.append(part)
            report.last, last[stream] = record.timestamp, record.captured_ns
        report.written = sum(part.frames for part in report.parts)
    return last


def _settle_track(folder: Path, stream: str, stems: list[str], report: StreamReport, settled: Settled) -> None:
    parts: list[Part] = []
    repairs: list[PartRepair] = []
    for stem in stems:
        try:
            part = repair_part(folder, stem)
            if part.changed:
                cut = f", {part.lost} cut off" if part.lost else ""
                settled.actions.append(f"completed {stem}.mp4: {len(part.records)} frames{cut}")
            if len(part.records):
                codec = scan(folder / f"{stem}.mp4").track.name
                parts.append(Part(f"{stem}.mp4", len(part.records), codec))
                repairs.append(part)
        except DamagedFile as error:
            settled.problems.append(error.message)
            parts += [old for old in report.parts if old.file == f"{stem}.mp4"]
    report.parts = parts
    if repairs:
        rows = np.concatenate([part.records for part in repairs])
        _add_gaps(report, rows["timestamp"], rows["sequence"])
        report.first, report.last = float(rows["timestamp"][0]), float(rows["timestamp"][-1])
        settled.last[stream] = int(rows["captured_ns"][-1])
    _balance(report, sum(part.frames for part in parts), repairs[-1].lost if repairs else 0)


def _add_gaps(report: StreamReport, timestamps: np.ndarray, numbers: np.ndarray) -> None:
    """Report what the sequence numbers miss behind the last frame that the manifest knows of."""
    known = -np.inf if report.last is None else report.last
    steps = np.diff(numbers.astype(np.int64)) - 1
    for at in np.flatnonzero((steps > 0) & (timestamps[1:] > known)):
        report.add_gap(Gap(float(timestamps[at]), float(timestamps[at + 1]), int(steps[at]), "unknown"))
        report.missed += int(steps[at])


def _settle_log(folder: Path, name: str, report: StreamReport, settled: Settled) -> None:
    try:
        log = repair_log(folder, name)
    except DamagedFile as error:
        settled.problems.append(error.message)
        return
    if log.cut or log.lost or log.rebuilt:
        settled.actions.append(f"completed {name}.pldata: {log.count} records, {log.cut} bytes cut off")
    stamps = read_array(folder / f"{name}_timestamps.npy", STAMP_DTYPE)
    if len(stamps):
        report.first, report.last = float(stamps[0]), float(stamps[-1])
    report.size = (folder / f"{name}.pldata").stat().st_size
    _balance(report, log.count, log.lost)


def _balance(report: StreamReport, written: int, torn: int) -> None:
    """Make ``received == written + dropped + lost`` hold: what was announced and is not on disk is lost."""
    report.written = written
    accounted = written + sum(report.dropped.values())
    report.received = max(report.received, accounted + torn)
    report.lost = report.received - accounted


def _changed(folder: Path, manifest: Manifest) -> dict[str, FileSum]:
    """Return what a closed recording promised of files that are not so any more and that nothing can make again.

    A new sum would pass the change off as what was recorded. A log that is shorter tells of its loss in its accounts.
    """
    promises = {
        name: promised for name, promised in manifest.files.items() if Path(name).suffix in (".pldata", ".toml")
    }
    return {
        name: promised
        for name, promised in promises.items()
        if promised.xxh3_128 and Path(name).name == name and (folder / name).is_file()
        if (found := file_sum(folder / name)) != promised and found.size >= promised.size
    }


def _load(folder: Path) -> tuple[Manifest, list[str]]:
    """Return the manifest, and what had to be done to get one."""
    try:
        return Manifest.load(folder), []
    except (DamagedFile, NotARecording) as error:
        try:
            info = json.loads((folder / PLAYER_INFO).read_bytes())
            uuid, software = str(info["recording_uuid"]), str(info["written_by"])
            timestamp, unix_s = float(info["start_time_synced_s"]), float(info["start_time_system_s"])
            start = ClockReading(_host_ns(folder, timestamp), round(unix_s * 1e9), 0, timestamp)
        except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
            raise error from None
        manifest = Manifest(uuid, software, start, str(info.get("recording_name", "")), stop_reason="unknown")
        manifest.events.append({"event": "manifest-rebuilt", "reason": error.message})
        return manifest, [f"made a new {MANIFEST}: {error.message}"]


def _host_ns(folder: Path, timestamp: float) -> int:
    """Return the host time that belongs to a Pupil time, by the first frame there is; by an epoch of 0 without one."""
    for stem in (stem for stems in stream_parts(folder).values() for stem in stems):
        try:
            records = scan(folder / f"{stem}.mp4").records
        except DamagedFile:
            continue
        if len(records):
            return int(records["captured_ns"][0]) + round((timestamp - float(records["timestamp"][0])) * 1e9)
    return round(timestamp * 1e9)


def _is_closed(folder: Path, manifest: Manifest) -> bool:
    left_over = any(path.suffix == WRITING or path.name == RESERVE for path in folder.iterdir())
    return (
        manifest.state != "recording"
        and not left_over
        and not any(event.get("event") in LEFT_OUT for event in manifest.events)
        and (folder / USER_INFO).is_file()
        and all(
            (folder / name).is_file() and (folder / name).stat().st_size == promised.size
            for name, promised in manifest.files.items()
        )
    )
