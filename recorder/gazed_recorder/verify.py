"""``verify``: proving that a recording holds what it promises."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from gazed_bus.errors import MessageError
from gazed_bus.frame import AUDIO
from gazed_recorder.arrays import read_array
from gazed_recorder.atomic import WRITING
from gazed_recorder.classic import PUPIL_DATA, classic_name
from gazed_recorder.datalog import STAMP_DTYPE, PldataReader, check_datum
from gazed_recorder.errors import DamagedFile, NotARecording
from gazed_recorder.finish import file_sum
from gazed_recorder.info import INFO_CSV, PLAYER_INFO, USER_INFO, of_manifest
from gazed_recorder.layout import log_names, stream_parts
from gazed_recorder.manifest import MANIFEST, MOST_GAPS, Manifest, StreamReport, kind_of
from gazed_recorder.player_sound import played_stem
from gazed_recorder.space import RESERVE
from gazed_recorder.verify_clock import check_clock
from gazed_recorder.verify_part import PartCheck, check_part

__all__ = ["Verification", "verify"]

_MOST_PROBLEMS = 20
_CAMERA_TYPES = ("radial", "fisheye", "dummy")
# What Pupil Player's searches for videos and sound find.
_PLAYED = re.compile(r"(?:(world|eye[01]).*\.(?:mp4|mjpeg|h264|mkv|avi|fake))|(?:(audio).*\.mp4)")
# What Pupil Player puts into a recording without a video of the world.
_NO_WORLD = "world.fake"
_INFO_TYPES: dict[str, type] = {
    "duration_s": float,
    "meta_version": str,
    "min_player_version": str,
    "recording_name": str,
    "recording_software_name": str,
    "recording_software_version": str,
    "recording_uuid": str,
    "start_time_synced_s": float,
    "start_time_system_s": float,
    "system_info": str,
}


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found."""

    ok: bool
    problems: list[str]
    """Each names the file, what was found and what was wanted."""
    streams: dict[str, dict[str, int]]
    """For each stream ``frames`` (decoded, or records of a log), ``timestamps``, ``gaps``, ``dropped``, ``lost``."""


def verify(folder: Path, *, deep: bool = True, progress: Callable[[float], None] | None = None) -> Verification:
    """Check every file of a recording against every other and against the manifest. Changes nothing.

    ``deep`` decodes each frame and sums up each file; without it the mp4 files are demuxed only, the checksums of their
    frames compared all the same. ``progress`` is told the share that is done, 0 to 1. A recording of Pupil Capture's
    has no manifest and no checksums; what it has is checked.

    Raises:
        NotARecording: the folder is none.
    """
    if not (folder / MANIFEST).is_file() and not (folder / PLAYER_INFO).is_file():
        raise NotARecording(
            f"{folder} holds neither {MANIFEST} nor {PLAYER_INFO}", hint="name the folder that holds world.mp4"
        )
    return _Verifier(folder, deep, progress or (lambda _: None)).run()


class _Verifier:
    def __init__(self, folder: Path, deep: bool, progress: Callable[[float], None]) -> None:
        self.folder = folder
        self.deep = deep
        self.progress = progress
        self.problems: list[str] = []
        self.streams: dict[str, dict[str, int]] = {}
        self.reports: dict[str, StreamReport] = {}
        self.manifest: Manifest | None = None
        self.parts: dict[str, list[PartCheck]] = {}
        self.total = max(1, sum(path.stat().st_size for path in folder.iterdir() if path.is_file()))
        self.done = 0
        self.told = 0

    def run(self) -> Verification:
        self.collect(self.check_manifest)
        tracks, logs = stream_parts(self.folder), log_names(self.folder)
        for stream in sorted(tracks.keys() | {name for name, report in self.reports.items() if report.kind != "data"}):
            self.collect(self.check_track, stream, tracks.get(stream, []))
        for log in sorted({*logs} | {name for name, report in self.reports.items() if report.kind == "data"}):
            self.collect(self.check_log, log)
        if self.manifest is not None:
            self.collect(check_clock, self.folder, self.manifest, logs, self.parts)
        self.collect(self.check_player_info)
        for stream in tracks:
            if self.manifest is None and (self.folder / f"{stream}.intrinsics").exists():
                self.collect(self.check_intrinsics, stream)
        self.collect(self.check_pupil_data, logs)
        self.collect(self.check_player_sound, tracks.get(AUDIO, []))
        self.collect(self.check_user_info)
        self.collect(self.check_files)
        self.progress(1.0)
        return Verification(not self.problems, self.problems, self.streams)

    def collect(self, check: Callable[..., Iterator[str]], *arguments: Any) -> None:
        """Run one check; what stops it is a problem as well, and the next one runs all the same."""
        try:
            for count, problem in enumerate(check(*arguments)):
                if count < _MOST_PROBLEMS:
                    self.problems.append(problem)
        except DamagedFile as error:
            self.problems.append(error.message)
        except OSError as error:
            self.problems.append(f"{error.filename}: {error.strerror}")

    def seen(self, size: int) -> None:
        self.done += size
        if self.done - self.told > self.total / 200:
            self.told = self.done
            self.progress(min(1.0, self.done / self.total))

    # --- manifest ---------------------------------------------------------------------------------------------------

    def check_manifest(self) -> Iterator[str]:
        if not (self.folder / MANIFEST).is_file():
            if b'"written_by": "gazed' in (self.folder / PLAYER_INFO).read_bytes():
                yield f"{MANIFEST} is missing, although gazed wrote this recording"
            return
        self.manifest = Manifest.load(self.folder)
        self.reports = self.manifest.streams
        if self.manifest.state == "recording":
            yield f"{MANIFEST}: the recording was not closed; run: gazed repair {self.folder}"
        if self.manifest.format != 1:
            yield f"{MANIFEST}: format {self.manifest.format}, this version of gazed knows format 1"
        for path in sorted(self.folder.iterdir()):
            if path.suffix == WRITING or path.name == RESERVE:
                yield f"{path.name} was left over; run: gazed repair {self.folder}"

    def check_counts(self, name: str, counts: dict[str, int]) -> Iterator[str]:
        report = self.reports.get(name)
        if report is None:
            if self.manifest is not None:
                yield f"{MANIFEST} does not name stream {name}, which has files"
            return
        dropped = sum(report.dropped.values())
        counts.update(gaps=report.gap_count, dropped=dropped, lost=report.lost)
        if report.written != counts["timestamps"]:
            yield f"{name}: {counts['timestamps']} on disk, {MANIFEST} promises {report.written}"
        if report.received != report.written + dropped + report.lost:
            yield (
                f"{name}: {report.received} received, but {report.written} written + {dropped} dropped + "
                f"{report.lost} lost"
            )
        if report.gap_count < len(report.gaps) or (report.gap_count > len(report.gaps) < MOST_GAPS):
            yield f"{name}: {MANIFEST} counts {report.gap_count} gaps and lists {len(report.gaps)}"
        if report.expected and not counts["timestamps"]:
            yield f"{name}: expected, but nothing of it was recorded"

    # --- streams ----------------------------------------------------------------------------------------------------

    def check_track(self, stream: str, stems: list[str]) -> Iterator[str]:
        ours = self.manifest is not None
        parts = self.parts[stream] = []
        for stem in stems:
            part = check_part(self.folder, stem, ours=ours, deep=self.deep, seen=self.seen)
            parts.append(part)
            yield from part.problems
        stamps = np.concatenate([part.timestamps for part in parts] or [np.zeros(0)])
        counts = {"frames": sum(part.frames for part in parts), "timestamps": len(stamps), "gaps": 0, "dropped": 0}
        self.streams[stream] = counts
        for before, after, stem in zip(parts, parts[1:], stems[1:], strict=False):
            if len(before.timestamps) and len(after.timestamps) and not before.timestamps[-1] < after.timestamps[0]:
                yield f"{stem}_timestamps.npy begins before the end of the part in front of it"
        yield from self.check_counts(stream, counts)
        if report := self.reports.get(stream):
            promised = [(part.file, part.frames, part.codec) for part in report.parts if part.frames]
            found = [
                (f"{stem}.mp4", len(part.timestamps), part.track.name if part.track else "")
                for stem, part in zip(stems, parts, strict=True)
            ]
            if promised != found:
                yield f"{stream}: {MANIFEST} names the parts {promised}, found {found}"
            yield from _unexplained(stream, report, parts)
        if ours and parts and kind_of(stream) == "video":
            track = parts[0].track
            yield from self.check_intrinsics(stream, (track.width, track.height) if track else None)

    def check_log(self, name: str) -> Iterator[str]:
        path, stamps_path = self.folder / f"{name}.pldata", self.folder / f"{name}_timestamps.npy"
        counts = self.streams[name] = {"frames": 0, "timestamps": 0, "gaps": 0, "dropped": 0}
        reader = PldataReader(path)
        try:
            stamps = read_array(stamps_path, STAMP_DTYPE)
            counts["timestamps"] = len(stamps)
            for _, payload in reader:
                number = reader.count - 1
                self.seen(len(payload))
                try:
                    _, timestamp = check_datum(payload)
                except MessageError as error:
                    yield f"{path.name}: record {number}: {error.message}"
                    continue
                if number < len(stamps) and timestamp != stamps[number]:
                    yield f"{stamps_path.name}: row {number} is {stamps[number]!r}, the datum says {timestamp!r}"
        finally:
            counts["frames"] = reader.count
        if reader.torn:
            yield f"{path.name}: torn, {reader.torn} bytes behind its last whole record"
        if reader.count != len(stamps):
            yield f"{path.name}: {reader.count} records, {len(stamps)} timestamps"
        yield from self.check_counts(name, counts)
        if (report := self.reports.get(name)) and report.size != reader.end:
            yield f"{path.name}: its records take {reader.end} bytes, {MANIFEST} promises {report.size}"

    # --- the other files --------------------------------------------------------------------------------------------

    def check_player_info(self) -> Iterator[str]:
        path = self.folder / PLAYER_INFO
        try:
            info = json.loads(path.read_bytes())
            uuid.UUID(str(info.get("recording_uuid")))
        except (ValueError, AttributeError, RecursionError) as error:
            yield f"{PLAYER_INFO}: {error}"
            return
        for key, kind in _INFO_TYPES.items():
            if type(info.get(key)) is not kind or (kind is float and not math.isfinite(info[key])):
                yield f"{PLAYER_INFO}: {key} is {info.get(key)!r:.80}, wanted a {kind.__name__}"
        if self.manifest is not None and self.manifest.state != "recording":
            for key, value in of_manifest(self.manifest).items():
                if info.get(key) != value:
                    yield f"{PLAYER_INFO}: {key} is {info.get(key)!r:.80}, by {MANIFEST} it is {value!r:.80}"

    def check_intrinsics(self, stream: str, wanted: tuple[int, int] | None = None) -> Iterator[str]:
        """Check a camera model; ``wanted`` is the size of the images, the only one that may be there."""
        path = self.folder / f"{stream}.intrinsics"
        found = _unpack(path)
        if not isinstance(found, dict) or found.get("version") != 1:
            yield f"{path.name}: wanted a map with version 1, found {found!r:.80}"
            return
        models = {key: model for key, model in found.items() if key != "version"}
        for key, model in models.items():
            size = model.get("resolution") if isinstance(model, dict) else None
            if not isinstance(size, list) or key != str(tuple(size)):
                yield f"{path.name}: key {key!r:.80} is not the tuple of its resolution {size!r:.80}"
            elif model.get("cam_type") not in _CAMERA_TYPES or not _has_shape(model.get("camera_matrix"), (3, 3)):
                yield f"{path.name}: {key} is no camera model, found {model!r:.200}"
        if wanted is not None and [*models] != [str(wanted)]:
            yield f"{path.name}: has models for {[*models]!r:.80}, the images are {wanted[0]}x{wanted[1]}"

    def check_pupil_data(self, logs: list[str]) -> Iterator[str]:
        path = self.folder / PUPIL_DATA
        if self.manifest is None or self.manifest.state == "recording":
            return
        if not path.exists() and any(event.get("event") == "pupil-data-skipped" for event in self.manifest.events):
            return
        found = _count_lists(path)
        wanted = {classic_name(log): self.streams[log]["timestamps"] for log in logs if log in self.streams}
        for key in sorted({*wanted, *found}):
            if wanted.get(key, 0) != found.get(key, 0):
                yield f"{PUPIL_DATA}: {found.get(key, 0)} datums under {key}, wanted {wanted.get(key, 0)}"

    def check_player_sound(self, stems: list[str]) -> Iterator[str]:
        if self.manifest is None or self.manifest.state == "recording":
            return
        skipped = any(event.get("event") == "player-sound-skipped" for event in self.manifest.events)
        for stem in map(played_stem, stems):
            if skipped and not (self.folder / f"{stem}.mp4").exists():
                continue
            yield from check_part(self.folder, stem, ours=False, deep=self.deep, seen=self.seen).problems

    def check_user_info(self) -> Iterator[str]:
        path = self.folder / USER_INFO
        if self.manifest is None or not path.is_file():
            return
        try:
            head = path.read_bytes().decode().partition("\n")[0]
        except UnicodeDecodeError as error:
            yield f"{USER_INFO}: no UTF-8: {error}"
            return
        if "key" not in head or "value" not in head:
            yield f"{USER_INFO}: begins with {head!r:.80}, wanted the header key,value"

    def check_files(self) -> Iterator[str]:
        if self.manifest is None:
            return
        if self.manifest.state != "recording":
            for name in (INFO_CSV, USER_INFO):
                if not (self.folder / name).is_file():
                    yield f"{name} is missing"
            for name in sorted(self.own_files() - self.manifest.files.keys()):
                yield f"{name}: {MANIFEST} does not name it among its files"
        ours = self.own_files()
        for path in sorted(self.folder.iterdir()):
            if (match := _PLAYED.fullmatch(path.name)) and path.name not in ours and path.name != _NO_WORLD:
                yield f"{path.name}: players take it for a part of {match[1] or match[2]}; move it into a sub-folder"
        for name, promised in self.manifest.files.items():
            path = self.folder / name
            if Path(name).name != name or not path.is_file():
                yield f"{name} is missing; {MANIFEST} promises {promised.size} bytes"
                continue
            found = file_sum(path, whole=self.deep and bool(promised.xxh3_128))
            if found.size != promised.size:
                yield f"{name}: {found.size} bytes, {MANIFEST} promises {promised.size}"
            elif found.xxh3_128 and found.xxh3_128 != promised.xxh3_128:
                yield f"{name} was changed: xxh3_128 {found.xxh3_128}, {MANIFEST} promises {promised.xxh3_128}"

    def own_files(self) -> set[str]:
        """Return the names of the files there are whose size and sum the manifest of a closed recording tells."""
        tracks = [(f"{stem}.mp4", stem) for stems in stream_parts(self.folder).values() for stem in stems]
        logs = [(f"{name}.pldata", name) for name in log_names(self.folder)]
        arrays = {f"{stem}_frames.npy" for _, stem in tracks} | {f"{name}_timestamps.npy" for _, name in tracks + logs}
        names = {file for file, _ in tracks + logs} | arrays | {PLAYER_INFO, INFO_CSV, PUPIL_DATA}
        played = [played_stem(stem) for stem in stream_parts(self.folder).get(AUDIO, ())]
        names |= {f"{stem}{end}" for stem in played for end in (".mp4", "_timestamps.npy")}
        names |= {f"{stream}.intrinsics" for stream in stream_parts(self.folder)}
        return {name for name in names if (self.folder / name).is_file()}


def _unexplained(stream: str, report: StreamReport, parts: list[PartCheck]) -> Iterator[str]:
    """Yield the frames that the sequence numbers miss and the accounts do not know of.

    A camera process that followed another one counts anew, so that only what one process delivered is compared.
    """
    numbers = [part.records["sequence"].astype(np.int64) for part in parts if part.records is not None]
    if len(report.cameras) > 1 or not numbers:
        return
    steps = np.diff(np.concatenate(numbers))
    missing = int((steps[steps > 0] - 1).sum())
    known = report.missed + sum(report.dropped.values()) + report.lost
    if missing > known:
        yield f"{stream}: {missing} frames are missing by their sequence numbers, {MANIFEST} tells of {known}"


def _has_shape(found: object, shape: tuple[int, ...]) -> bool:
    try:
        return np.shape(np.asarray(found, np.float64)) == shape
    except (ValueError, TypeError):
        return False


def _unpack(path: Path) -> Any:
    try:
        return msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DamagedFile(f"{path.name}: cannot be unpacked: {error}") from error


def _count_lists(path: Path) -> dict[str, int]:
    """Count the datums of ``pupil_data`` without holding more than one."""
    found = {}
    try:
        with path.open("rb") as file:
            unpacker = msgpack.Unpacker(file, strict_map_key=False)
            for _ in range(unpacker.read_map_header()):
                key = str(unpacker.unpack())
                found[key] = unpacker.read_array_header()
                for _ in range(found[key]):
                    unpacker.skip()
            if unpacker.tell() != path.stat().st_size:
                raise DamagedFile(f"{path.name}: {path.stat().st_size - unpacker.tell()} bytes behind its end")
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DamagedFile(f"{path.name}: cannot be unpacked: {error!r}") from error
    return found
