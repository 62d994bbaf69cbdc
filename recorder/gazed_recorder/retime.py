"""``retime``: finding the times of recorded frames once more, from the stamps and arrivals that are kept of each.

The constant delay between exposure and arrival is in no clock; it is left as the recording has it, by the median.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gazed_recorder.errors import RecordingRefused
from gazed_recorder.finish import finish
from gazed_recorder.folder import FolderLock
from gazed_recorder.layout import log_names, video_parts
from gazed_recorder.manifest import Gap, Manifest, StreamReport
from gazed_recorder.mp4_scan import Mp4Scan, scan
from gazed_recorder.part import TrackPart, part_files
from gazed_recorder.reading.clock import RecordedClock, read_clock
from gazed_recorder.records import FrameRecord
from gazed_timesync.devices.offline_clock import refit_arrivals

__all__ = ["Retimed", "retime", "rewrite_part"]

_MIN_STEP_NS = 1000
_MIN_STEP_S = 1e-6
_SCRATCH = ".retime"


class Retimed(msgspec.Struct, frozen=True):
    """What happened to the times of one stream, in seconds; ``reason`` tells why nothing did."""

    frames: int = 0
    """How many got another time."""
    median_s: float = 0.0
    """The usual change, either way."""
    largest_s: float = 0.0
    reason: str = ""


def retime(folder: Path, progress: Callable[[float], None] | None = None) -> dict[str, Retimed]:
    """Fit the times of all videos with stamps of the camera's own once more; return what changed, for each video.

    The videos are written anew, each frame to the byte, so that there must be room for the largest part once more. Data
    that was made from the frames keeps the times it was made with. ``progress`` is told the share that is done, 0 to 1.
    A kill leaves a folder that ``repair`` completes.

    Raises:
        NotARecording: gazed did not make the folder.
        DamagedFile: a file cannot be read.
        RecordingRefused: the recording is not closed, or somebody writes there.
        OSError: there is no room, or the folder cannot be written.
    """
    with FolderLock(folder):
        manifest = Manifest.load(folder)
        if manifest.state == "recording":
            raise RecordingRefused(
                f"{folder} was not closed", reason="not-closed", hint=f"complete it first: gazed repair {folder}"
            )
        for left_over in folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left_over)
        clock = read_clock(folder, manifest, log_names(folder))
        state = manifest.state
        done: dict[str, Retimed] = {}
        parts = video_parts(folder)
        for number, (stream, stems) in enumerate(parts.items()):
            done[stream] = _retime_stream(folder, stems, manifest, manifest.streams[stream], clock)
            if done[stream].frames:
                fields = msgspec.structs.asdict(done[stream])
                manifest.events.append({"event": "retimed", "stream": stream, **fields})
            if progress:
                progress((number + 1) / len(parts))
        if manifest.state != state:
            finish(folder, manifest, state=state)
        return done


def _retime_stream(
    folder: Path, stems: list[str], manifest: Manifest, report: StreamReport, clock: RecordedClock
) -> Retimed:
    scans = [scan(folder / f"{stem}.mp4") for stem in stems]
    old = np.concatenate([each.records for each in scans])
    if report.info.get("clock") != "hardware" or not np.isfinite(old["device_time"]).any():
        return Retimed(reason="its frames have no stamps of the camera's own")
    fps = report.info.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < 1e6:
        return Retimed(reason=f"its frame rate is not known: {fps!r:.40}")
    captured = _fit(old, 1 / fps)
    if captured is None:
        return Retimed(reason="the stamps of its frames do not go on for 5 s")
    stamps = _rising(clock.to_pupil(captured), _MIN_STEP_S)
    change = np.abs(stamps - old["timestamp"])
    if not change.any():
        return Retimed(reason="its times are what they would be")
    # From here on it is not as the manifest promises, until all is done.
    manifest.state = "recording"
    manifest.save(folder, durable=True)
    new = old.copy()
    new["captured_ns"], new["timestamp"] = captured, stamps
    first = 0
    for stem, each in zip(stems, scans, strict=True):
        rewrite_part(folder, stem, new[first : first + len(each.records)], each)
        first += len(each.records)
    report.first, report.last = float(stamps[0]), float(stamps[-1])
    for number, gap in enumerate(report.gaps):
        after, before = np.interp((gap.after, gap.before), old["timestamp"], stamps).tolist()
        report.gaps[number] = Gap(after, before, gap.frames, gap.reason)
    return Retimed(int((change > 0).sum()), float(np.median(change)), float(change.max()))


def _fit(rows: NDArray[Any], period_s: float) -> NDArray[np.int64] | None:
    """Return exposures on the host's clock, ns; nothing if no stamp can be used."""
    arrivals = rows["host_ns"].astype(np.int64)
    late = refit_arrivals(rows["device_time"], arrivals, rows["sequence"].astype(np.int64), period_s)
    usable = late >= 0
    if not usable.any():
        return None
    captured = rows["captured_ns"].astype(np.int64)
    fitted = arrivals - late
    constant = round(float(np.median((captured - fitted)[usable])))
    captured = np.where(usable, np.minimum(fitted + constant, arrivals), captured)
    return _rising(captured, _MIN_STEP_NS)


def _rising(values: NDArray[Any], step: float) -> NDArray[Any]:
    """Return values each of which is a step above the one before, at least."""
    if (np.diff(values) >= step).all():
        return values
    steps = (np.arange(len(values)) * step).astype(values.dtype)
    raised: NDArray[Any] = np.maximum.accumulate(values - steps) + steps
    return raised


def rewrite_part(folder: Path, stem: str, records: NDArray[Any], found: Mp4Scan) -> None:
    """Write a part anew with other records, of the same frames; it takes the place of the old one when it is whole.

    Args:
        folder: the recording.
        stem: of the part.
        records: one for each frame, shape (n,), ``FRAME_DTYPE``; timestamps rise.
        found: what the part holds.

    Raises:
        OSError: there is no room, or the folder cannot be written; the part is as it was.
    """
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=_SCRATCH))
    try:
        part = TrackPart(scratch, stem, found.track)
        try:
            with (folder / f"{stem}.mp4").open("rb") as video:
                for row, size, offset, key in zip(records, found.sizes, found.offsets, found.keys, strict=True):
                    part.write(FrameRecord(*row.tolist()), os.pread(video.fileno(), int(size), int(offset)), bool(key))
            part.sync()
        finally:
            part.close()
        # The arrays follow the video: if this is cut short, repair makes them from it.
        for source, target in zip(part_files(scratch, stem), part_files(folder, stem), strict=True):
            source.replace(target)
    finally:
        shutil.rmtree(scratch)
