"""Figures of a recording, for ``gazed info``, ``gazed demo`` and ``gazed bench``."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from gazed_bus.frame import AUDIO
from gazed_recorder.arrays import read_array
from gazed_recorder.errors import DamagedFile
from gazed_recorder.layout import stream_parts
from gazed_recorder.manifest import Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.records import FRAME_DTYPE

__all__ = ["describe", "recorded_frames", "stream_figures"]


def stream_figures(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``{stream: {received, written, dropped, fps}}`` of the videos and the sound of a recording made by gazed.

    ``received`` and ``written`` count frames or blocks of sound, ``dropped`` is the sum over all reasons, ``fps`` is
    measured between the first and the last one on disk.

    Raises:
        NotARecording: the folder has no manifest.
        DamagedFile: the manifest cannot be read.
    """
    return {
        name: {
            "received": report.received,
            "written": report.written,
            "dropped": sum(report.dropped.values()),
            "fps": _rate(report.written, report.first, report.last),
        }
        for name, report in Manifest.load(folder).streams.items()
        if report.kind != "data"
    }


def recorded_frames(folder: Path, stream: str) -> npt.NDArray[np.void]:
    """Return the frame records of a video, or of the sound, all parts in order: ``FRAME_DTYPE`` of shape (frames,).

    Raises:
        DamagedFile: a file cannot be read.
    """
    stems = stream_parts(folder)[stream]
    return np.concatenate([read_array(folder / f"{stem}_frames.npy", FRAME_DTYPE) for stem in stems])


def describe(folder: Path) -> dict[str, Any]:
    """Return what is in a recording, Pupil Capture's own too: one map, as ``gazed info --json`` prints it.

    Times are Pupil time in seconds; ``size_mb`` counts 1,000,000 bytes; sound is counted in blocks; ``state`` and
    ``started`` are null where nobody wrote them down, and so is the ``count`` of what cannot be read; ``offline`` names
    what was computed afterwards; ``accuracy`` has an entry for each calibration and validation; ``missing`` has a
    sentence for each thing that is not as it should be.

    Raises:
        NotARecording: the folder is none.
        DamagedFile: a file cannot be read.
    """
    recording = Recording(folder)
    info, manifest = recording.info, recording.manifest
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    # gazed's own info file names Pupil Capture, so that Pupil's tools take it.
    software = manifest.software if manifest else f"{info.recording_software_name} {info.recording_software_version}"
    sound = {AUDIO: "audio"} if recording.has_sound else {}
    kinds = dict.fromkeys(recording.streams, "video") | sound | dict.fromkeys(recording.logs, "data")
    start = info.start_time_system_s
    return {
        "recording": str(folder.absolute()),
        "uuid": info.recording_uuid,
        "state": manifest.state if manifest else None,
        "software": software.strip() or None,
        "format": info.meta_version or None,
        "mode": manifest.mode if manifest else None,
        "started": datetime.fromtimestamp(start, UTC).isoformat(timespec="milliseconds") if start == start else None,
        "duration_s": round(recording.duration, 3),
        "stop_reason": manifest.stop_reason if manifest else None,
        "size_mb": round(size / 1e6, 1),
        "streams": {name: {"kind": kind, **_extent(recording, name)} for name, kind in kinds.items()},
        "offline": sorted(recording.offline.logs) + [f"gaze: {name}" for name in recording.offline.mappings],
        "accuracy": _accuracy(recording),
        "missing": list(recording.missing),
    }


class _Score(msgspec.Struct):
    degrees: float | None


class _Told(msgspec.Struct):
    data: str
    gazer_class_name: str
    timestamp: float
    accuracy: _Score
    precision: _Score
    targets: list[Any]


def _accuracy(recording: Recording) -> list[dict[str, Any]]:
    """Return what calibrations and validations of the recording found; angles in degrees, ``None`` if unknown."""
    found = []
    for note in recording.data("notify") if "notify" in recording.logs else ():
        # Anybody may have sent something of that subject.
        with suppress(msgspec.ValidationError):
            if note.get("topic") == "notify.accuracy.result":
                told = msgspec.convert(note, _Told)
                degrees = {"accuracy_deg": told.accuracy.degrees, "precision_deg": told.precision.degrees}
                of = {"of": told.data, "gazer": told.gazer_class_name, "timestamp": told.timestamp}
                found.append({**of, **degrees, "targets": len(told.targets)})
    return found


def _extent(recording: Recording, name: str) -> dict[str, Any]:
    try:
        timestamps = recording.timestamps(name)
    except DamagedFile:  # stands among what is missing
        return {"count": None, "rate": 0.0, "first": None, "last": None}
    known = timestamps[np.isfinite(timestamps)]
    if not len(known):
        return {"count": len(timestamps), "rate": 0.0, "first": None, "last": None}
    first, last = float(known.min()), float(known.max())
    return {"count": len(timestamps), "rate": _rate(len(known), first, last), "first": first, "last": last}


def _rate(count: int, first: float | None, last: float | None) -> float:
    if first is None or last is None or last <= first:
        return 0.0
    return round((count - 1) / (last - first), 3)
