"""Detection in the eye videos of a recording, every frame, beside what was recorded.

The results are Pupil Player's: ``offline_data/offline_pupil.pldata``, ``offline_pupil_timestamps.npy`` and
``offline_pupil.meta``, a msgpack map of ``version`` 4 and the ``detection_status`` of eyes 0 and 1; ours has ``gazed``
in addition, the results by eye and the settings. Source of the format: Pupil Player's post-hoc pupil detection.

What was recorded is never touched. Each eye is worked on by a process of its own (both engines remember earlier frames:
in pieces, the numbers would be others), in the folder ``offline_data/.detect-<settings>``; eyes that were done when a
run was killed need not be done again. The results appear at the end, the ``.meta`` last, without which they do not
count.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import msgpack
import msgspec
import xxhash

from gazed_plugins.arguments import shown
from gazed_plugins.errors import PluginArgument, PluginError
from gazed_plugins.offline_data import Progress, locked_folder, open_closed, write_log
from gazed_plugins.pupil.eye_video import EyeResult, News
from gazed_plugins.pupil.roi import Roi, stored_rois
from gazed_plugins.pupil.settings import PupilSettings
from gazed_recorder.atomic import replace_file
from gazed_recorder.datalog import PldataReader, check_datum
from gazed_recorder.errors import DiskFull
from gazed_recorder.reader import Recording

__all__ = ["PUPILS", "VERSION", "DetectionResult", "detect_recording", "publish_pupils", "status_of"]

Record = tuple[str | bytes, float, bytes]
PUPILS, VERSION = "offline_pupil", 4
"""The name of Pupil Player's files, and the version of their format."""

_COMPLETE, _NO_VIDEO = "complete", "No eye video found."
# Read by the libraries when a process loads them: threads of theirs cost time and gain none.
_ONE_THREAD = dict.fromkeys(("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")


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
    rois: Mapping[str, Roi] | None = None,
) -> DetectionResult:
    """Detect pupils in every frame of the eye videos of a recording, gazed's own or Pupil Capture's.

    Args:
        folder: the recording.
        redetect: replace results of an earlier detection, of ours or of Pupil Player's.
        workers: processes at a time, at most one an eye; as many as there are processors if not given.
        progress: called every 64 frames with the frames done and the frames there are.
        settings: what to detect, and how.
        focal_length: of the eye cameras in px, where the recording does not know it.
        rois: of some eyes (``eye0``), in the place of ``settings.roi``; if not given, those that ``gazed import roi``
            has left in the recording, unless ``settings`` has one.

    Raises:
        NotARecording, DamagedFile: the recording cannot be read.
        RecordingRefused: another detection works on this recording.
        PluginError: there is no eye video, it cannot be read to its end, or the recording is not closed.
        PluginArgument: a region of interest is of no eye, or does not fit its image.
        DiskFull: there is no room for the results.
        OSError: they cannot be written.
    """
    recording, settings = open_closed(folder), settings or PupilSettings()
    streams = [stream for stream in recording.streams if stream.startswith("eye")]
    if not streams:
        raise PluginError(f"{recording.path} has no eye video, found {', '.join(recording.streams) or 'none'}")
    with locked_folder(recording) as offline:
        kept = None if redetect else _existing(offline)
        if kept is not None:
            return kept
        if rois is None:
            rois = stored_rois(offline) if settings.roi is None else {}
        chosen = {**asdict(settings), "focal_length": focal_length, "rois": _of_streams(rois, streams)}
        digest = xxhash.xxh3_64_hexdigest(json.dumps(chosen, sort_keys=True).encode())
        work = offline / f".detect-{digest}"
        if redetect:
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(exist_ok=True)
        eyes = _run(recording, streams, work, workers, progress, chosen)
        result = DetectionResult(eyes, chosen)
        _publish(offline, work, result)
    return result


def _of_streams(rois: Mapping[str, Roi], streams: list[str]) -> dict[str, Roi]:
    unknown = [name for name in rois if name not in streams]
    if unknown:
        raise PluginArgument(f"a region of interest of {shown(unknown[0])}: there are {', '.join(streams)}")
    return dict(rois)


def _existing(offline: Path) -> DetectionResult | None:
    """Return earlier results that are complete."""
    try:
        meta = msgpack.unpackb((offline / f"{PUPILS}.meta").read_bytes())
        done = meta["version"] == VERSION and set(meta["detection_status"]) <= {_COMPLETE, _NO_VIDEO}
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
    chosen: dict[str, Any],
) -> dict[str, EyeResult]:
    """Work on all eyes, some of them at a time, each in a process.

    Raises:
        PluginError: an eye could not be worked on; the others are told to stop.
    """
    total = sum(len(recording.timestamps(stream)) for stream in streams)
    waiting, done = list(streams), dict.fromkeys(streams, 0)
    at_once = max(1, workers or os.cpu_count() or 1)
    results: dict[str, EyeResult] = {}
    with DefaultSelector() as selector:
        running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            while len(results) < len(streams):
                while waiting and len(running) < at_once:
                    stream = waiting.pop(0)
                    running[stream] = process = _start(recording.path, stream, work, chosen)
                    assert process.stdout is not None  # noqa: S101 - for the type checker
                    selector.register(process.stdout, EVENT_READ, stream)
                for key, _ in selector.select():
                    news = _news(running[key.data], key.data)
                    done[key.data] = news.done
                    if news.result is not None:
                        selector.unregister(key.fileobj)
                        _end(running.pop(key.data))
                        results[key.data] = news.result
                if progress is not None:
                    progress(sum(done.values()), total)
        finally:
            for process in running.values():
                process.terminate()
                _end(process)
    return {stream: results[stream] for stream in streams}


def _start(folder: Path, stream: str, work: Path, chosen: dict[str, Any]) -> subprocess.Popen[bytes]:
    of_eye = {name: value for name, value in chosen.items() if name != "rois"}
    of_eye["roi"] = chosen["rois"].get(stream, of_eye["roi"])
    arguments = [str(folder), stream, str(work), json.dumps(of_eye)]
    return subprocess.Popen(
        [sys.executable, "-m", "gazed_plugins.pupil.eye_video", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # Lines in a buffer would be hidden from the selector.
        bufsize=0,
        env={**os.environ, **_ONE_THREAD},
        # Ctrl-C is for us; they end when they are told to, or cannot tell us anything any more.
        process_group=0,
    )


def _news(process: subprocess.Popen[bytes], stream: str) -> News:
    assert process.stdout is not None  # noqa: S101 - for the type checker
    line = process.stdout.readline()
    if not line:
        raise PluginError(
            f"{stream}: the process that detects pupils died with exit code {process.wait()}",
            hint="is there enough memory? What is done is kept; start it again",
        )
    news = msgspec.json.decode(line, type=News)
    if news.error is not None:
        kind = DiskFull if news.error["code"] == DiskFull.code else PluginError
        raise kind(news.error["message"], hint=news.error["hint"])
    return news


def _end(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _publish(offline: Path, work: Path, result: DetectionResult) -> None:
    """Bring the eyes together in the order of time, and the whole into its place."""
    logs = [_records(work / f"{stream}.pldata") for stream in result.eyes]
    meta = {"detection_status": status_of(result.eyes), "gazed": msgspec.to_builtins(result)}
    publish_pupils(offline, work, heapq.merge(*logs, key=lambda record: record[1]), meta)
    for old in offline.glob(".detect-*"):
        shutil.rmtree(old)


def status_of(eyes: Iterable[str]) -> list[str]:
    """Return Pupil Player's ``detection_status`` of eyes 0 and 1, where there are results of some streams."""
    done = set(eyes)
    return [_COMPLETE if f"eye{number}" in done else _NO_VIDEO for number in (0, 1)]


def publish_pupils(offline: Path, work: Path, pupils: Iterable[Record], meta: Mapping[str, Any]) -> None:
    """Put pupils in the place of those that were computed before, in one go: the ``.meta`` last, which says they count.

    Args:
        offline: the folder ``offline_data``, which the caller has locked.
        work: a folder in it, where they are written first.
        pupils: topic, Pupil time in s, and packed datum, in the order of time.
        meta: what the ``.meta`` holds beside the version.

    Raises:
        OSError: they cannot be written; those of before are still there.
    """
    for stale in work.glob(f"{PUPILS}*"):
        stale.unlink()
    write_log(work, PUPILS, pupils)
    (offline / f"{PUPILS}.meta").unlink(missing_ok=True)
    for name in (f"{PUPILS}.pldata", f"{PUPILS}_timestamps.npy"):
        (work / name).replace(offline / name)
    replace_file(offline / f"{PUPILS}.meta", msgpack.packb({"version": VERSION, **meta}))


def _records(path: Path) -> Iterator[Record]:
    for topic, payload in PldataReader(path):
        yield topic, check_datum(payload)[1], payload
