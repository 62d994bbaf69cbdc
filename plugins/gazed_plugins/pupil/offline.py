"""Detection in the eye videos of a recording, every frame, beside what was recorded.

The results are Pupil Player's: ``offline_data/offline_pupil.pldata``, ``offline_pupil_timestamps.npy`` and
``offline_pupil.meta``, a msgpack map of ``version`` 4 and the ``detection_status`` of eyes 0 and 1; ours has ``gazed``
in addition, the results by eye and the settings. Source of the format: Pupil Player's post-hoc pupil detection.

What was recorded is never touched. Each eye is worked on by a process of its own, in the folder
``offline_data/.detect-<settings>``; eyes that were done when a run was killed need not be done again. The results
appear at the end, the ``.meta`` last, without which they do not count.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import xxhash

from gazed_plugins.errors import PluginError
from gazed_plugins.pupil.eye_video import EyeResult, detect_eye
from gazed_plugins.pupil.settings import PupilSettings
from gazed_recorder.atomic import replace_file
from gazed_recorder.datalog import DatumLog, PldataReader, check_datum
from gazed_recorder.folder import FolderLock
from gazed_recorder.reader import Recording

__all__ = ["OFFLINE_FOLDER", "DetectionResult", "detect_recording"]

OFFLINE_FOLDER = "offline_data"
_NAME = "offline_pupil"
_VERSION = 4
_COMPLETE, _NO_VIDEO = "complete", "No eye video found."
_LOOK_S = 0.1
# Read by the libraries when a process loads them: threads of theirs cost time and gain none.
_ONE_THREAD = dict.fromkeys(("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")

Progress = Callable[[int, int], None]


class DetectionResult(msgspec.Struct, frozen=True):
    """What ``detect_recording`` did."""

    eyes: dict[str, EyeResult]
    """By stream: ``eye0``, ``eye1``, …"""
    settings: dict[str, Any]
    kept: bool = False
    """Whether the results were there already, and nothing was done."""


def detect_recording(
    folder: str | Path,
    *,
    redetect: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    settings: PupilSettings | None = None,
    focal_length: float | None = None,
) -> DetectionResult:
    """Detect pupils in every frame of the eye videos of a recording, gazed's own or Pupil Capture's.

    Args:
        folder: the recording.
        redetect: replace results of an earlier detection, of ours or of Pupil Player's.
        workers: processes at a time, at most one an eye; as many as there are processors if not given.
        progress: called about ten times a second with the frames done and the frames there are.
        settings: what to detect, and how.
        focal_length: of the eye cameras in px, where the recording does not know it.

    Raises:
        NotARecording, DamagedFile: the recording, or one of its eye videos, cannot be read.
        RecordingRefused: another detection works on this recording.
        PluginError: there is no eye video, or the recording is not closed.
        OSError: the results cannot be written.
    """
    recording, settings = Recording(folder), settings or PupilSettings()
    streams = [stream for stream in recording.streams if stream.startswith("eye")]
    if not streams:
        raise PluginError(f"{recording.path} has no eye video, found {', '.join(recording.streams) or 'none'}")
    if recording.manifest is not None and recording.manifest.state == "recording":
        raise PluginError(f"{recording.path} is not closed", hint=f"stop the recording, or: gazed repair {folder}")
    offline = recording.path / OFFLINE_FOLDER
    offline.mkdir(exist_ok=True)
    with FolderLock(offline):
        kept = None if redetect else _existing(offline)
        if kept is not None:
            return kept
        chosen = {**asdict(settings), "focal_length": focal_length}
        digest = xxhash.xxh3_64_hexdigest(json.dumps(chosen, sort_keys=True).encode())
        work = offline / f".detect-{digest}"
        if redetect:
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(exist_ok=True)
        eyes = _run(recording, streams, work, workers, progress, settings, focal_length)
        result = DetectionResult(eyes, chosen)
        _publish(offline, work, result)
    return result


def _existing(offline: Path) -> DetectionResult | None:
    """Return earlier results that are complete."""
    try:
        meta = msgpack.unpackb((offline / f"{_NAME}.meta").read_bytes())
        done = meta["version"] == _VERSION and set(meta["detection_status"]) <= {_COMPLETE, _NO_VIDEO}
        if not done:
            return None
        known = meta.get("gazed", {"eyes": {}, "settings": {}})
        return DetectionResult(msgspec.convert(known["eyes"], dict[str, EyeResult]), known["settings"], kept=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException):
        return None


def _run(
    recording: Recording,
    streams: list[str],
    work: Path,
    workers: int | None,
    progress: Progress | None,
    settings: PupilSettings,
    focal_length: float | None,
) -> dict[str, EyeResult]:
    total = sum(len(recording.timestamps(stream)) for stream in streams)
    context = get_context("spawn")
    counters: dict[str, Synchronized[int]] = {stream: context.Value("q", 0) for stream in streams}
    at_once = max(1, min(len(streams), workers or os.cpu_count() or 1))
    with _environment(_ONE_THREAD):
        pool = ProcessPoolExecutor(at_once, context, initializer=_share, initargs=(counters, os.getpid()))
        with pool:
            jobs = {s: pool.submit(_work, recording.path, s, work, settings, focal_length) for s in streams}
            try:
                _watch(jobs, progress, lambda: sum(counter.value for counter in counters.values()), total)
            except BrokenProcessPool as error:
                raise PluginError(
                    f"{recording.path}: a process that detects pupils was killed",
                    hint="is there enough memory? What is done is kept; start it again",
                ) from error
            except BaseException:
                # Whoever waits for nobody any more is told so by the counter.
                for counter in counters.values():
                    counter.value = -(1 << 62)
                pool.shutdown(cancel_futures=True)
                raise
            return {stream: job.result() for stream, job in jobs.items()}


def _watch(jobs: dict[str, Future[EyeResult]], progress: Progress | None, done: Callable[[], int], total: int) -> None:
    waiting = set(jobs.values())
    while waiting:
        ended, waiting = wait(waiting, _LOOK_S)
        for job in ended:
            job.result()
        if progress is not None:
            progress(done(), total)


_counters: dict[str, Synchronized[int]] = {}
_parent = 0


def _share(counters: dict[str, Synchronized[int]], parent: int) -> None:
    global _parent  # noqa: PLW0603 - the one way to hand a shared counter to the processes of a pool
    _counters.update(counters)
    _parent = parent
    # Ctrl-C reaches every process of a terminal; the parent tells these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(folder: Path, stream: str, work: Path, settings: PupilSettings, focal_length: float | None) -> EyeResult:
    counter = _counters[stream]

    def count(done: int) -> None:
        if counter.value < 0 or os.getppid() != _parent:
            raise SystemExit(1)
        counter.value = done

    return detect_eye(folder, stream, work, settings, focal_length, count)


def _publish(offline: Path, work: Path, result: DetectionResult) -> None:
    """Bring the eyes together in the order of time, and the whole into its place."""
    for stale in work.glob(f"{_NAME}*"):
        stale.unlink()
    logs = [_records(work / f"{stream}.pldata") for stream in result.eyes]
    log = DatumLog(work, _NAME)
    try:
        for stamp, topic, payload in heapq.merge(*logs, key=lambda record: record[0]):
            log.append(topic, stamp, payload)
        log.flush()
        log.sync()
    finally:
        log.close()
    status = [_COMPLETE if f"eye{number}" in result.eyes else _NO_VIDEO for number in (0, 1)]
    meta = {"detection_status": status, "version": _VERSION, "gazed": msgspec.to_builtins(result)}
    (offline / f"{_NAME}.meta").unlink(missing_ok=True)
    for name in (f"{_NAME}.pldata", f"{_NAME}_timestamps.npy"):
        (work / name).replace(offline / name)
    replace_file(offline / f"{_NAME}.meta", msgpack.packb(meta))
    for old in offline.glob(".detect-*"):
        shutil.rmtree(old)


def _records(path: Path) -> Iterator[tuple[float, bytes, bytes]]:
    for topic, payload in PldataReader(path):
        yield check_datum(payload)[1], topic, payload


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
