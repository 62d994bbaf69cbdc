"""Detection in all frames of one recorded eye video, into a log of its own.

Run as ``python -m gazed_plugins.pupil.eye_video FOLDER STREAM WORK SETTINGS``, the settings as JSON; it prints ``News``
as JSON, one a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.errors import PluginError
from gazed_plugins.images import gray_jpeg
from gazed_plugins.offline_data import telling_full_disk, write_log
from gazed_plugins.pupil.detector import PupilDetector
from gazed_plugins.pupil.intrinsics import EyeCamera, eye_camera
from gazed_plugins.pupil.settings import PupilSettings
from gazed_recorder.atomic import replace_file
from gazed_recorder.errors import DamagedFile, RecorderError
from gazed_recorder.reader import Recording
from gazed_recorder.reading.video import RecordedFrame
from gazed_timesync import GazedError

__all__ = ["EyeResult", "News", "detect_eye"]

_REPORT_EVERY = 64


class EyeResult(msgspec.Struct, frozen=True):
    """What was found in one eye video: ``frames == detected + skipped + unreadable``."""

    frames: int
    detected: int
    skipped: int
    """Frames that ``every_nth`` left out."""
    unreadable: int
    gated: dict[str, int]
    """Frames in which a lid hides the pupil, by the gate's reason."""
    confident: int
    """Frames whose 2D confidence (3D, where there is no 2D) is at least 0.6."""
    focal_length: float
    """Pixels; of the last image size."""
    camera: str
    """Where the focal length comes from, as ``EyeCamera.origin``."""
    seconds: float
    """How long it took."""


class News(msgspec.Struct, frozen=True):
    """What the process tells: how far it is, and at last a result or an error (``GazedError.as_dict``)."""

    done: int
    result: EyeResult | None = None
    error: dict[str, str] | None = None


def detect_eye(
    folder: Path,
    stream: str,
    work: Path,
    settings: PupilSettings,
    focal_length: float | None,
    count: Callable[[int], None],
) -> EyeResult:
    """Detect in every frame of ``stream`` and write ``<stream>.pldata`` with its timestamps into ``work``.

    ``<stream>.json`` beside it is the result, written last: where it is, nothing is done again. ``count`` is called
    with the number of frames done.

    Raises:
        DamagedFile: the video ends before its timestamps do, or cannot be read at all.
        PluginArgument: the ROI does not fit the image.
        OSError: the log cannot be written.
    """
    done = work / f"{stream}.json"
    if done.exists():
        result = msgspec.json.decode(done.read_bytes(), type=EyeResult)
        count(result.frames)
        return result
    for stale in work.glob(f"{stream}*"):
        stale.unlink()
    start = time.monotonic()
    run = _EyeRun(Recording(folder), stream, settings, focal_length)
    write_log(work, stream, run.records(count))
    result = run.result(time.monotonic() - start)
    replace_file(done, msgspec.json.encode(result))
    return result


class _EyeRun:
    def __init__(self, recording: Recording, stream: str, settings: PupilSettings, focal_length: float | None) -> None:
        self._recording = recording
        self._stream = stream
        self._settings = settings
        self._focal_length = focal_length
        self._detector: PupilDetector | None = None
        self._gated: dict[str, int] = {}
        self._frames = self._detected = self._unreadable = self._confident = 0

    def records(self, count: Callable[[int], None]) -> Iterator[tuple[str, float, bytes]]:
        """Yield topic, time and packed datum of all that is found."""
        for frame in self._recording.frames(self._stream):
            self._frames += 1
            if self._frames % _REPORT_EVERY == 0:
                count(self._frames)
            if frame.index % self._settings.every_nth:
                continue
            try:
                gray = _gray(frame)
            except DamagedFile:
                self._unreadable += 1
                continue
            datums = self._detector_for((gray.shape[1], gray.shape[0])).detect(gray, frame.timestamp)
            for datum in datums:
                yield datum["topic"], frame.timestamp, msgpack.packb(datum)
            self._detected += 1
            self._confident += bool(datums) and datums[0]["confidence"] >= 0.6
        count(self._frames)

    def result(self, seconds: float) -> EyeResult:
        self._keep_counts()
        camera = self._detector.camera if self._detector else EyeCamera(0.0, (0, 0), "unknown")
        return EyeResult(
            frames=self._frames,
            detected=self._detected,
            skipped=self._frames - self._detected - self._unreadable,
            unreadable=self._unreadable,
            gated=self._gated,
            confident=self._confident,
            focal_length=camera.focal_length,
            camera=camera.origin,
            seconds=seconds,
        )

    def _detector_for(self, resolution: tuple[int, int]) -> PupilDetector:
        """Return the detector; a camera that came back with another image size gets a new one."""
        if self._detector is None or self._detector.camera.resolution != resolution:
            self._keep_counts()
            eye = int(self._stream[3:])
            self._detector = PupilDetector(eye, self._camera(resolution), self._settings, mode="post-hoc")
        return self._detector

    def _keep_counts(self) -> None:
        if self._detector is not None:
            for reason, number in self._detector.gated.items():
                self._gated[reason] = self._gated.get(reason, 0) + number

    def _camera(self, resolution: tuple[int, int]) -> EyeCamera:
        manifest = self._recording.manifest
        report = manifest.streams.get(self._stream) if manifest else None
        info = report.info if report else {}
        path = self._recording.path / f"{self._stream}.intrinsics"
        model = info.get("intrinsics")
        camera = eye_camera(
            resolution,
            device=str(info.get("device", "")),
            intrinsics=model if isinstance(model, dict) else None,
            path=path if path.exists() else None,
        )
        if camera.origin == "assumed" and self._focal_length is not None:
            return EyeCamera(self._focal_length, resolution, "argument")
        return camera


def _gray(frame: RecordedFrame) -> NDArray[np.uint8]:
    """Return the brightness of a frame; of a JPEG as the live detector decodes it.

    Raises:
        DamagedFile: it cannot be decoded.
    """
    try:
        return gray_jpeg(frame.jpeg)
    except (RecorderError, PluginError):
        # Re-encoded video; or a JPEG with the tables left out, which only the video decoder takes.
        return frame.gray


def _tell(news: News) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(news) + b"\n")
    # Where nobody reads any more this fails, and the process ends.
    sys.stdout.buffer.flush()


def main(argv: list[str]) -> int:
    """Detect in one eye video and tell of it on standard output; return the exit code."""
    folder, stream, work = Path(argv[1]), argv[2], Path(argv[3])
    chosen: dict[str, Any] = json.loads(argv[4])
    focal_length = chosen.pop("focal_length")
    try:
        settings = PupilSettings.of(chosen)
        with telling_full_disk(work):
            result = detect_eye(folder, stream, work, settings, focal_length, lambda done: _tell(News(done)))
    except GazedError as error:
        _tell(News(0, error=error.as_dict()))
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        _tell(News(0, error=PluginError(f"{stream}: {error}").as_dict()))
        return 1
    _tell(News(result.frames, result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
