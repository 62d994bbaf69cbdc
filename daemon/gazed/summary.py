"""Figures of a recording, for ``gazed info``, ``gazed demo`` and ``gazed bench``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gazed_recorder.manifest import Manifest, StreamReport

__all__ = ["describe", "stream_figures"]


def stream_figures(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``{stream: {received, written, dropped, fps}}`` of the videos of a recording made by gazed.

    ``received`` and ``written`` count frames, ``dropped`` is the sum over all reasons, ``fps`` is measured between the
    first and the last frame on disk.

    Raises:
        NotARecording: the folder has no manifest.
        DamagedFile: the manifest cannot be read.
    """
    return {
        name: {
            "received": report.received,
            "written": report.written,
            "dropped": sum(report.dropped.values()),
            "fps": round(_rate(report.written, report.first, report.last), 3),
        }
        for name, report in Manifest.load(folder).streams.items()
        if report.kind == "video"
    }


def describe(folder: Path) -> dict[str, Any]:
    """Return what is in a recording made by gazed: one map, as ``gazed info --json`` prints it.

    Times are Pupil time in seconds; ``size_mb`` counts 1,000,000 bytes.

    Raises:
        NotARecording: the folder has no manifest.
        DamagedFile: the manifest cannot be read.
    """
    manifest = Manifest.load(folder)
    end = manifest.stop or (manifest.clock[-1] if manifest.clock else manifest.start)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "recording": str(folder.absolute()),
        "uuid": manifest.recording_uuid,
        "state": manifest.state,
        "software": manifest.software,
        "mode": manifest.mode,
        "started": datetime.fromtimestamp(manifest.start.unix_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
        "duration_s": round((end.host_ns - manifest.start.host_ns) / 1e9, 3),
        "stop_reason": manifest.stop_reason,
        "size_mb": round(size / 1e6, 1),
        "streams": {name: _stream(report) for name, report in manifest.streams.items()},
    }


def _stream(report: StreamReport) -> dict[str, Any]:
    return {
        "kind": report.kind,
        "count": report.written,
        "rate": round(_rate(report.written, report.first, report.last), 3),
        "first": report.first,
        "last": report.last,
        "dropped": sum(report.dropped.values()),
        "gaps": report.gap_count,
        "device": report.info.get("device", ""),
    }


def _rate(count: int, first: float | None, last: float | None) -> float:
    return (
        (count - 1) / (last - first) if count > 1 and first is not None and last is not None and last > first else 0.0
    )
