"""A video in which an eye was tracked, and its pupils, as a recording of gazed's."""

from __future__ import annotations

import csv
import shutil
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import av.error
import msgpack
import numpy as np
import xxhash
from numpy.typing import NDArray

from gazed_plugins.arguments import shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.keypoints.ellipse import pupils
from gazed_plugins.keypoints.errors import FramesDiffer, ImportFailed, NotKeypoints
from gazed_plugins.keypoints.into import ImportResult, check_points, counted
from gazed_plugins.keypoints.load import load_tracks
from gazed_plugins.keypoints.tracks import Points
from gazed_plugins.offline_data import Progress, telling_full_disk, write_log
from gazed_recorder.encoder import Encoder
from gazed_recorder.finish import finish
from gazed_recorder.folder import FolderLock, make_folder
from gazed_recorder.info import write_player_info, write_user_info
from gazed_recorder.manifest import ClockReading, Manifest, Mode, Part, StreamReport, codec_of
from gazed_recorder.mp4_boxes import mjpeg_track
from gazed_recorder.part import TrackPart
from gazed_recorder.records import FrameRecord

__all__ = ["read_times", "record_keypoints"]

# Nanoseconds of later times are no whole numbers of 64 bits.
_LATEST = 4e9

Packet = tuple[bytes | memoryview, bool]


def record_keypoints(
    file: str | Path,
    software: str,
    video: str | Path,
    output: str | Path,
    *,
    times: NDArray[np.float64] | None = None,
    fps: float | None = None,
    name: str = "",
    started: datetime | None = None,
    eye: int = 0,
    keypoints: Sequence[str] | None = None,
    individual: str | None = None,
    threshold: float = 0.6,
    focal_length: float | None = None,
    pose_estimation: str = "PoseEstimation",
    progress: Progress | None = None,
) -> ImportResult:
    """Make a recording of a video of one eye and of what was tracked in it.

    A video of JPEGs is taken as it is, another one is encoded again as H.264 (as JPEGs if it has an odd size). Times
    are ``times``, or those that the file has, or every 1 / ``fps`` s from 0 on.

    Args:
        file: what a program has tracked in the video: a row a frame.
        software: that program, one of ``SOFTWARE``.
        video: the video.
        output: the folder for recordings; a new one is made in it.
        times: Pupil time of each frame, s, growing.
        fps: frames a second.
        name: of the session; that of the video if not given.
        started: when the first frame was taken. Without it, and if the video does not tell, the recording begins with
            the year 1970, and says that nobody knows.
        eye: 0 is the right one.
        keypoints: those on the edge of the pupil; all that do not tell of a centre if not given.
        individual: whose, if the file has several.
        threshold: least confidence of a keypoint that counts.
        focal_length: px of the camera; only keypoints in space need it.
        pose_estimation: of an NWB file, the name of the one that is meant.
        progress: called now and then with the frames done and the frames there are.

    Raises:
        PluginArgument, MissingExtra, NotKeypoints, UnsafeFile, OSError: as ``load_tracks``.
        ImportFailed: the video cannot be read, or its times are not known.
        FramesDiffer: keypoints, times and frames are not as many.
        RecordingRefused: no recording can be made there.
        DiskFull: there is no room.
    """
    source = _Video(Path(video).expanduser())
    points = load_tracks(file, software, pose_estimation=pose_estimation).of(individual, f"eye{eye}", keypoints)
    check_points(points, threshold, focal_length)
    stamps = _stamps(points, source, times, fps)
    begun, origin = (started, "given") if started else (source.created, "video")
    unix_ns = round(begun.timestamp() * 1e9) if begun else 0
    known = {"keypoints": Path(file).name, "software": software, "unix_time": origin if begun else "unknown"}
    output = Path(output).expanduser()
    with telling_full_disk(output):
        made = make_folder(output, name or source.path.stem, begun or datetime.fromtimestamp(0, UTC))
        result = ImportResult(str(made.path), f"eye{eye}", software, points.names, len(stamps), len(points))
        writer = _Writer(made.path, made.session, result, stamps, unix_ns)
        try:
            with FolderLock(made.path):
                writer.write_video(source)
                datums = pupils(points, eye, (source.width, source.height), threshold, focal_length)
                writer.write_pupils(counted(datums, result, progress))
                writer.close({"event": "imported", "video": source.path.name, **known})
        except BaseException:
            shutil.rmtree(made.path, ignore_errors=True)
            raise
    return result


def read_times(path: str | Path) -> NDArray[np.float64]:
    """Read times in seconds: an ``.npy`` of shape (frames,), or the column ``timestamp`` of a csv file.

    Raises:
        NotKeypoints: there are none in it.
        OSError: it cannot be opened.
    """
    path = Path(path).expanduser()
    try:
        if path.suffix == ".npy":
            found: NDArray[Any] = np.load(path, allow_pickle=False)
        else:
            with path.open(newline="", encoding="utf-8") as file:
                found = np.array([float(row["timestamp"]) for row in csv.DictReader(file)])
    except (ValueError, KeyError, TypeError, EOFError, csv.Error) as error:
        raise NotKeypoints(
            f"{path}: no times: {error!r:.200}", hint="an .npy of float64, or a csv with a column timestamp"
        ) from error
    if found.ndim != 1 or found.dtype.kind not in "fiu":
        raise NotKeypoints(f"{path}: {found.ndim}-D of {found.dtype}, wanted 1-D of numbers")
    return np.asarray(found, np.float64)


def _stamps(points: Points, video: _Video, times: NDArray[np.float64] | None, fps: float | None) -> NDArray[np.float64]:
    if times is not None and fps is not None:
        raise PluginArgument("times are given for each frame, or by a rate, not both")
    if len(points) != video.frames:
        raise FramesDiffer(f"the file has {len(points)} rows, {video.path} {video.frames} frames")
    if fps is not None:
        if not 0 < fps <= 100_000:
            raise PluginArgument(f"a video has more than 0 frames a second, got {shown(fps)}")
        return np.arange(video.frames) / fps
    stamps = points.times if times is None else times
    if stamps is None:
        raise ImportFailed(
            f"when the frames of {video.path} were taken is not known",
            hint="give the times of all frames, or their rate: --timestamps times.npy, or --fps 60",
        )
    if len(stamps) != video.frames:
        raise FramesDiffer(f"there are {len(stamps)} times, {video.path} has {video.frames} frames")
    if not (np.isfinite(stamps).all() and (np.diff(stamps) > 0).all() and np.abs(stamps).max() < 1e9):
        raise ImportFailed(
            f"the times of the frames of {video.path} do not grow, or are no seconds: {shown(stamps[:5])}"
        )
    return stamps


class _Video:
    """A video from anywhere.

    Raises:
        OSError: there is none.
        ImportFailed: it cannot be read, or has no frames.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb"):
            pass
        try:
            with av.open(path) as container:
                video = container.streams.video[0]
                self.width, self.height = video.width, video.height
                self.jpegs = video.codec_context.name == "mjpeg"
                self.created = _date(container.metadata.get("creation_time", ""))
                self.frames = sum(packet.size > 0 for packet in container.demux(video))
        except (av.error.FFmpegError, IndexError, ValueError) as error:
            raise ImportFailed(f"{path}: no video that can be read: {error}") from error
        if not self.frames:
            raise ImportFailed(f"{path}: a video without frames")

    @property
    def mode(self) -> Mode:
        """How its frames are stored."""
        return "jpeg" if self.jpegs or self.width % 2 or self.height % 2 else "h264"

    def packets(self, encoder: Encoder | None) -> Iterator[Packet]:
        """Yield the frames as they are stored, and whether each needs no other."""
        try:
            with av.open(self.path) as container:
                if encoder is None:
                    yield from ((bytes(packet), True) for packet in container.demux(video=0) if packet.size)
                    return
                for frame in container.decode(video=0):
                    yield encoder.encode(frame.to_ndarray(format="bgr24").tobytes())
        except (av.error.FFmpegError, ValueError) as error:
            raise ImportFailed(f"{self.path}: cannot be read to its end: {error}") from error


class _Writer:
    """Writes the recording with the recorder's own means. Its host clock is Pupil time."""

    def __init__(
        self, folder: Path, session: str, result: ImportResult, stamps: NDArray[np.float64], unix_ns: int
    ) -> None:
        self._folder, self._result, self._stamps = folder, result, stamps
        self._start_ns, self._unix_ns = _ns(stamps[0]), unix_ns
        start = self._reading(float(stamps[0]))
        self.manifest = Manifest("", f"gazed {version('gazed')}", start, session, clock=[start])
        self._digest = xxhash.xxh3_128(stamps.tobytes())

    def write_video(self, source: _Video) -> None:
        """Write the eye's video."""
        stream, mode = self._result.stream, source.mode
        steps = np.diff(self._stamps)
        fps = float(1 / np.median(steps)) if len(steps) else 30.0
        info = {"stream": stream, "source": "import", "width": source.width, "height": source.height, "fps": fps}
        encoder = None if source.jpegs else Encoder(mode, source.width, source.height, fps, "bgr")
        track = encoder.track if encoder else mjpeg_track(source.width, source.height)
        part = TrackPart(self._folder, stream, track)
        try:
            for index, (packet, key) in enumerate(source.packets(encoder)):
                if index >= len(self._stamps):
                    break
                at = float(self._stamps[index])
                part.write(FrameRecord(index, float("nan"), _ns(at), _ns(at), at, 0), packet, key)
                self._digest.update(packet)
            if part.frames != len(self._stamps):
                raise FramesDiffer(f"{source.path}: {part.frames} of its {source.frames} frames can be decoded")
        finally:
            part.close()
            if encoder:
                encoder.close()
        report = StreamReport("video", expected=True, info=info, received=part.frames, written=part.frames)
        report.first, report.last = part.first, part.last
        report.parts = [Part(f"{stream}.mp4", part.frames, codec_of(stream, mode))]
        self.manifest.mode, self.manifest.streams[stream] = mode, report

    def write_pupils(self, datums: Iterator[dict[str, Any]]) -> None:
        """Write the log of pupils."""

        def records() -> Iterator[tuple[str, float, bytes]]:
            for datum, stamp in zip(datums, self._stamps.tolist(), strict=True):
                packed = msgpack.packb({**datum, "timestamp": stamp})
                self._digest.update(packed)
                yield datum["topic"], stamp, packed

        count = write_log(self._folder, "pupil", records())
        size = (self._folder / "pupil.pldata").stat().st_size
        first, last = float(self._stamps[0]), float(self._stamps[-1])
        self.manifest.streams["pupil"] = StreamReport(
            "data", received=count, written=count, size=size, first=first, last=last
        )

    def close(self, event: dict[str, str]) -> None:
        """Write everything else. The same video and keypoints are the same recording."""
        manifest, last = self.manifest, self._reading(float(self._stamps[-1]))
        manifest.recording_uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, self._digest.hexdigest()))
        manifest.events.append({**event, "timestamp": float(self._stamps[0])})
        manifest.stop, manifest.stop_reason = last, "imported"
        manifest.clock.append(last)
        write_player_info(self._folder, manifest)
        write_user_info(self._folder, manifest)
        finish(self._folder, manifest)

    def _reading(self, timestamp: float) -> ClockReading:
        host = _ns(timestamp)
        return ClockReading(host, self._unix_ns + host - self._start_ns, 0, timestamp)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _date(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
