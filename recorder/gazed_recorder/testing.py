"""Small recordings made with the real writers, for tests of whatever reads or mends recordings."""

from __future__ import annotations

import io
import shutil
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import msgpack
import numpy as np

from gazed_bus.frame import AUDIO
from gazed_recorder.datalog import DatumLog
from gazed_recorder.finish import finish
from gazed_recorder.folder import make_folder
from gazed_recorder.info import write_player_info, write_user_info
from gazed_recorder.layout import stem_of
from gazed_recorder.manifest import ClockReading, Gap, Manifest, Part, StreamReport, codec_of, kind_of
from gazed_recorder.mp4_boxes import mjpeg_track
from gazed_recorder.part import TrackPart
from gazed_recorder.records import FrameRecord
from gazed_recorder.sound import SoundPart

__all__ = ["EPOCH_NS", "SAMPLE_RATE", "SIZE", "make_jpeg", "make_recording", "make_sound"]

EPOCH_NS = 1_000_000_000_000
"""Host time at which the Pupil time of the recordings is 0."""
SIZE = {"world": (64, 48), "eye0": (32, 32), "eye1": (32, 32), "audio": (1024, 2)}
"""Width and height of the images; of sound, samples in a block and channels."""
SAMPLE_RATE = 48_000
"""Samples a second of the sound."""
_START = 100.0
_UNIX_NS = 1_772_323_200_000_000_000
_RATE = {"world": 30.0, "eye0": 120.0, "eye1": 120.0, "audio": SAMPLE_RATE / SIZE["audio"][0]}


def make_jpeg(stream: str, index: int) -> bytes:
    """Return the JPEG of a flat gray image, a different gray for each ``index``; 4:2:2 as cameras send it."""
    width, height = SIZE[stream]
    image = av.VideoFrame.from_ndarray(np.full((height, width), 40 + index * 7 % 180, np.uint8), format="gray")
    codec = av.VideoCodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuvj422p"
    codec.framerate = Fraction(30)
    out = io.BytesIO()
    for packet in (*codec.encode(image.reformat(format="yuvj422p")), *codec.encode(None)):
        out.write(bytes(packet))
    return out.getvalue()


def make_sound(index: int) -> bytes:
    """Return block number ``index`` of the sound: noise, which is the same each time."""
    samples, channels = SIZE[AUDIO]
    return np.random.default_rng(index).bytes(2 * samples * channels)


def make_recording(
    root: Path,
    *,
    frames: int = 12,
    datums: int = 20,
    streams: tuple[str, ...] = ("world", "eye0"),
    parts: int = 1,
    missing: tuple[int, ...] = (),
    closed: bool = True,
) -> Path:
    """Record ``frames`` frames a stream in so many ``parts`` and ``datums`` datums a log; return the folder.

    ``streams`` may name ``audio`` as well. Frames with the numbers ``missing`` never came from the device, the manifest
    tells of each one; sound is always whole.

    Without ``closed`` everything is left as a recorder leaves it that is killed after its last write.
    """
    folder = make_folder(root, "test", datetime(2026, 3, 1, tzinfo=UTC)).path
    start = _reading(_START)
    reports = {name: StreamReport(kind=kind_of(name), expected=True, info=_info(name)) for name in streams}
    manifest = Manifest(str(uuid.UUID(int=7)), "gazed test", start, "test", {"name": "P 1"}, streams=reports)
    manifest.clock.append(start)
    manifest.save(folder)
    write_player_info(folder, manifest)
    write_user_info(folder, manifest)
    with ExitStack() as still_open:
        for name in streams:
            numbers = [index for index in range(frames) if name == AUDIO or index not in missing]
            _record_stream(folder, name, numbers, parts, reports[name], still_open)
        for log in ("pupil", "gaze", "notify", "annotation"):
            reports[log] = StreamReport(kind="data")
            _record_log(folder, log, datums, reports[log], still_open)
        manifest.save(folder)
        if not closed:
            # What the files hold at this instant is what a kill would leave.
            shutil.copytree(folder, folder.with_suffix(".killed"))
    if not closed:
        shutil.rmtree(folder)
        return folder.with_suffix(".killed").rename(folder)
    manifest.stop = _reading(_START + frames / 30.0 + 0.5)
    manifest.stop_reason = "asked"
    manifest.clock.append(manifest.stop)
    finish(folder, manifest)
    return folder


def _reading(timestamp: float) -> ClockReading:
    return ClockReading(EPOCH_NS + round(timestamp * 1e9), _UNIX_NS + round(timestamp * 1e9), 500, timestamp)


def _info(stream: str) -> dict[str, object]:
    width, height = SIZE[stream]
    info: dict[str, object] = {"stream": stream, "source": "test", "width": width, "height": height}
    return {**info, "fps": _RATE[stream], "sample_rate": SAMPLE_RATE if stream == AUDIO else None}


def _new_part(folder: Path, stem: str, stream: str) -> TrackPart:
    if stream == AUDIO:
        return SoundPart(folder, stem, SAMPLE_RATE, *SIZE[AUDIO])
    return TrackPart(folder, stem, mjpeg_track(*SIZE[stream]))


def _record_stream(
    folder: Path, stream: str, numbers: list[int], parts: int, report: StreamReport, still_open: ExitStack
) -> None:
    for number in range(parts):
        stem = f"{stem_of(stream)}_{number:03d}" if number else stem_of(stream)
        part = _new_part(folder, stem, stream)
        for at in range(number * len(numbers) // parts, (number + 1) * len(numbers) // parts):
            index = numbers[at]
            timestamp = _START + 0.01 + index / _RATE[stream]
            captured = EPOCH_NS + round(timestamp * 1e9)
            record = FrameRecord(index, timestamp - 3.0, captured + 5_000_000, captured, timestamp, 0)
            part.write(record, make_sound(index) if stream == AUDIO else make_jpeg(stream, index))
            gap = index - numbers[at - 1] - 1 if at else 0
            if gap and report.last is not None:
                report.missed += gap
                report.add_gap(Gap(report.last, timestamp, gap, "device"))
            report.first, report.last = part.first if report.first is None else report.first, timestamp
        report.parts.append(Part(f"{stem}.mp4", part.frames, codec_of(stream, "jpeg")))
        report.written = report.received = report.written + part.frames
        if number < parts - 1:
            part.close()
        else:
            still_open.callback(part.close)


def _record_log(folder: Path, name: str, count: int, report: StreamReport, still_open: ExitStack) -> None:
    topics = {"pupil": "pupil.0.2d", "gaze": "gaze.2d.0.", "notify": "notify.test", "annotation": "annotation"}
    log = DatumLog(folder, name)
    for index in range(count):
        timestamp = _START + 0.02 + index / 100
        datum = {"topic": topics[name], "timestamp": timestamp, "label": f"number {index}", "confidence": 1.0}
        log.append(topics[name], timestamp, msgpack.packb(datum))
        report.first, report.last = timestamp if report.first is None else report.first, timestamp
    log.flush()
    still_open.callback(log.close)
    report.received, report.written, report.size = log.count, log.count, log.size
