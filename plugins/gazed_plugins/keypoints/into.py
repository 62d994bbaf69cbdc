"""Keypoints of an eye of a recording, as its pupils: beside what was recorded, where Pupil Player keeps its own."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgpack
import msgspec
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import AlreadyThere
from gazed_plugins.export.poses.streams import nearest_rows
from gazed_plugins.keypoints.ellipse import Datum, pupils
from gazed_plugins.keypoints.errors import FramesDiffer, ImportFailed, NotKeypoints
from gazed_plugins.keypoints.load import load_tracks
from gazed_plugins.keypoints.tracks import Points
from gazed_plugins.offline_data import OFFLINE_FOLDER, Progress, locked_folder, open_closed
from gazed_plugins.pupil.offline import PUPILS, VERSION, publish_pupils, status_of
from gazed_recorder.datalog import PldataReader, check_datum

__all__ = ["ImportResult", "Match", "check_points", "counted", "import_keypoints"]

Match = Literal["frame", "time"]
_TELL_EVERY = 256
_CONFIDENT = 0.6


class ImportResult(msgspec.Struct):
    """What was taken in."""

    recording: str
    stream: str
    source: str
    """The program that tracked the keypoints."""
    keypoints: tuple[str, ...]
    """Those on the edge of the pupil."""
    frames: int
    """Frames of the video."""
    rows: int
    """Rows of the file."""
    pupils: int = 0
    """Datums written: one for each frame that has a row."""
    found: int = 0
    """Those of them with an ellipse."""
    confident: int = 0
    """Those of them with a confidence of at least 0.6."""


class _Detected(msgspec.Struct):
    eyes: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class _Meta(msgspec.Struct):
    """What is told of pupils that were computed; by Pupil Player, only the first two."""

    version: int = 0
    detection_status: list[str] = []
    gazed: _Detected = msgspec.field(default_factory=_Detected)
    imported: dict[str, Any] = {}


def import_keypoints(
    file: str | Path,
    software: str,
    folder: str | Path,
    *,
    eye: int = 0,
    keypoints: Sequence[str] | None = None,
    individual: str | None = None,
    threshold: float = 0.6,
    match: Match = "frame",
    partial: bool = False,
    focal_length: float | None = None,
    pose_estimation: str = "PoseEstimation",
    force: bool = False,
    progress: Progress | None = None,
) -> ImportResult:
    """Make pupils of tracked keypoints, in ``offline_data`` of the recording, as ``gazed detect`` does of images.

    Pupils of other eyes that are there already stay. ``Recording(folder, offline=True)`` then has them.

    Args:
        file: what a program has tracked in the eye's video.
        software: that program, one of ``SOFTWARE``.
        folder: the recording.
        eye: 0 is the right one.
        keypoints: those on the edge of the pupil; all that do not tell of a centre if not given.
        individual: whose, if the file has several.
        threshold: least confidence of a keypoint that counts.
        match: which frame a row is of: ``frame``, that of the same number; ``time``, the nearest to the row's time,
            which is Pupil time.
        partial: whether the file may have fewer rows than the video frames, as it ends earlier.
        focal_length: px of the eye's camera; only keypoints in space need it.
        pose_estimation: of an NWB file, the name of the one that is meant.
        force: replace pupils of this eye that were computed before.
        progress: called now and then with the frames done and the frames there are.

    Raises:
        NotARecording, DamagedFile: the recording cannot be read.
        PluginArgument, MissingExtra, NotKeypoints, UnsafeFile, OSError: as ``load_tracks``.
        ImportFailed: the recording has no video of this eye, or is not closed.
        FramesDiffer: the keypoints are not those of its frames.
        AlreadyThere: this eye has pupils that were computed before.
        RecordingRefused: a detection works on this recording.
        DiskFull: there is no room.
    """
    recording, stream = open_closed(folder), f"eye{eye}"
    if stream not in recording.streams:
        raise ImportFailed(f"{recording.path} has no video {stream}, found {', '.join(recording.streams) or 'none'}")
    _earlier(recording.path / OFFLINE_FOLDER, eye, force)
    tracks = load_tracks(file, software, pose_estimation=pose_estimation)
    points = tracks.of(individual, stream, keypoints)
    check_points(points, threshold, focal_length)
    stamps = recording.timestamps(stream)
    rows = _rows(points, stamps, match, partial)
    result = ImportResult(str(recording.path), stream, software, points.names, len(stamps), len(points))
    with locked_folder(recording) as offline:
        meta = _earlier(offline, eye, force)
        work = offline / f".import-{stream}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            datums = pupils(points.at(rows[rows >= 0]), eye, recording.eyes[eye].size, threshold, focal_length)
            mine = _packed(counted(datums, result, progress), stamps[rows >= 0])
            others = _of_others(offline, eye) if meta.version else iter(())
            told = _meta(meta, result)
            publish_pupils(offline, work, heapq.merge(others, mine, key=lambda record: record[1]), told)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return result


def check_points(points: Points, threshold: float, focal_length: float | None) -> None:
    """Check what is needed to make pupils.

    Raises:
        PluginArgument: the threshold is none, or points in an image need no focal length.
        NotKeypoints: points in space need one.
    """
    if not 0 <= threshold <= 1:
        raise PluginArgument(f"the threshold is from 0 to 1, got {shown(threshold)}")
    if points.spatial and focal_length is None:
        raise NotKeypoints(
            f"{points.source} has points in space: to find them in the image, the camera's focal length is needed",
            hint="give it, in px: --focal-length 300; the points are in mm from this camera",
        )
    if not points.spatial and focal_length is not None:
        raise PluginArgument(f"{points.source} has points in an image, which need no focal length")


def counted(datums: Iterator[Datum], result: ImportResult, progress: Progress | None) -> Iterator[Datum]:
    """Yield what ``datums`` does, and count it in ``result``."""
    for number, datum in enumerate(datums, 1):
        result.pupils += 1
        result.found += datum["ellipse"]["axes"][0] > 0
        result.confident += datum["confidence"] >= _CONFIDENT
        if progress is not None and number % _TELL_EVERY == 0:
            progress(number, result.frames)
        yield datum
    if progress is not None:
        progress(result.frames, result.frames)


def _rows(points: Points, stamps: NDArray[np.float64], match: Match, partial: bool) -> NDArray[np.int64]:
    """Return for each frame of the video the row that is of it, or -1."""
    count, frames = len(points), len(stamps)
    if match == "time":
        if points.times is None:
            raise NotKeypoints(f"{points.source} files have no times to match frames by", hint="--match frame")
        rows = nearest_rows(points.times, stamps)
        if not (rows >= 0).sum() > count / 2:
            within = int((rows >= 0).sum())
            raise FramesDiffer(
                f"of {count} rows, the times of {within} are those of frames: they run from {points.times.min():.3f} "
                f"to {points.times.max():.3f} s, the video from {stamps[0]:.3f} to {stamps[-1]:.3f}"
            )
        return rows
    if count > frames or (count < frames and not partial):
        partly = "if it ends earlier, --partial takes it" if count < frames else "is it of another video?"
        by_time = "; its times are taken with --match time" if points.times is not None else ""
        raise FramesDiffer(f"the file has {count} rows, the video {frames} frames", hint=partly + by_time)
    return np.where(np.arange(frames) < count, np.arange(frames), -1)


def _earlier(offline: Path, eye: int, force: bool) -> _Meta:
    """Return what is told of pupils that were computed before; of version 0 if there are none that can stay."""
    path = offline / f"{PUPILS}.meta"
    if not path.exists():
        return _Meta()
    try:
        meta = msgspec.msgpack.decode(path.read_bytes(), type=_Meta)
    except msgspec.DecodeError:
        meta = _Meta()
    known, mine = meta.version == VERSION, f"pupil.{eye}.".encode()
    if not force and not (known and all(not topic.startswith(mine) for topic, _ in _records(offline))):
        raise AlreadyThere(
            f"{offline} has pupils of eye {eye} that were computed before",
            hint="--force replaces them; what was recorded stays in any case",
        )
    return meta if known else _Meta()


def _records(offline: Path) -> Iterator[tuple[bytes, bytes]]:
    return iter(PldataReader(offline / f"{PUPILS}.pldata"))


def _of_others(offline: Path, eye: int) -> Iterator[tuple[bytes, float, bytes]]:
    mine = f"pupil.{eye}.".encode()
    for topic, payload in _records(offline):
        if not topic.startswith(mine):
            yield topic, check_datum(payload)[1], payload


def _packed(datums: Iterator[Datum], stamps: NDArray[np.float64]) -> Iterator[tuple[bytes, float, bytes]]:
    for datum, stamp in zip(datums, stamps.tolist(), strict=True):
        yield datum["topic"].encode(), stamp, msgpack.packb({**datum, "timestamp": stamp})


def _meta(earlier: _Meta, result: ImportResult) -> dict[str, Any]:
    complete = status_of(["eye0"])[0]
    done = [f"eye{number}" for number, status in enumerate(earlier.detection_status) if status == complete]
    eyes = {name: each for name, each in earlier.gazed.eyes.items() if name != result.stream}
    told = {"source": result.source, "keypoints": list(result.keypoints)}
    return {
        "detection_status": status_of([*done, result.stream]),
        "gazed": {"eyes": eyes, "settings": earlier.gazed.settings},
        "imported": {**earlier.imported, result.stream: told},
    }
