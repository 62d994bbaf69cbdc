"""The small files that tell what a recording is: ``info.player.json``, ``info.csv``, ``user_info.csv``, intrinsics.

All are made from the manifest. Formats: Pupil Player's recording info 2.3, the ``info.csv`` of Pupil Capture 1.7, and
Pupil's camera models, version 1.
"""

from __future__ import annotations

import csv
import getpass
import io
import json
import platform
import time
from collections.abc import Iterable
from pathlib import Path

import av
import av.error

from gazed_bus.intrinsics import dummy_intrinsics, pack_intrinsics
from gazed_recorder.atomic import replace_file
from gazed_recorder.errors import DamagedFile
from gazed_recorder.manifest import Manifest, StreamReport

__all__ = [
    "INFO_CSV", "PLAYER_INFO", "USER_INFO", "duration_s", "of_manifest", "write_info_csv", "write_intrinsics",
    "write_player_info", "write_user_info",
]  # fmt: skip

PLAYER_INFO = "info.player.json"
INFO_CSV = "info.csv"
USER_INFO = "user_info.csv"
# Readers choose by these names how to take the data: they tell the dialect. The maker is in the manifest.
_SOFTWARE = "Pupil Capture"
_SOFTWARE_VERSION = "3.6.0"
_CLASSIC_VERSION = "1.7.0"


def duration_s(manifest: Manifest) -> float:
    """Return the seconds from the start to the stop, or to the last frame or datum where there was no orderly stop."""
    if manifest.stop is not None:
        return max(0.0, manifest.stop.timestamp - manifest.start.timestamp)
    last = [report.last for report in manifest.streams.values() if report.last is not None]
    return max(0.0, max(last, default=0.0) - manifest.start.timestamp)


def of_manifest(manifest: Manifest) -> dict[str, str | float]:
    """Return those fields of ``info.player.json`` by which it belongs to the manifest beside it."""
    return {
        "duration_s": duration_s(manifest),
        "recording_uuid": manifest.recording_uuid,
        "start_time_synced_s": float(manifest.start.timestamp),
        "start_time_system_s": manifest.start.unix_ns / 1e9,
    }


def write_player_info(folder: Path, manifest: Manifest) -> None:
    """Write ``info.player.json``; at the start with a duration of 0.0, so that Pupil Player takes a torn folder.

    The system information of an existing one is kept: a repair may run on another machine.

    Raises:
        OSError: it cannot be written.
    """
    info = {
        **of_manifest(manifest),
        "meta_version": "2.3",
        "min_player_version": "2.0",
        "recording_name": _name(folder, manifest),
        "recording_software_name": _SOFTWARE,
        "recording_software_version": _SOFTWARE_VERSION,
        "system_info": _system_info(folder),
        "written_by": manifest.software,
    }
    replace_file(folder / PLAYER_INFO, json.dumps(info, indent=4, sort_keys=True).encode())


def write_info_csv(folder: Path, manifest: Manifest) -> None:
    """Write ``info.csv`` with every key that Pupil Capture 1.7 (and later, up to 1.15) wrote.

    Raises:
        OSError: it cannot be written.
    """
    begun = time.localtime(manifest.start.unix_ns / 1e9)
    world = manifest.streams.get("world", StreamReport(kind="video"))
    rows = {
        "Recording Name": _name(folder, manifest),
        "Start Date": time.strftime("%d.%m.%Y", begun),
        "Start Time": time.strftime("%H:%M:%S", begun),
        "Start Time (System)": repr(manifest.start.unix_ns / 1e9),
        "Start Time (Synced)": repr(float(manifest.start.timestamp)),
        "Recording UUID": manifest.recording_uuid,
        "Duration Time": time.strftime("%H:%M:%S", time.gmtime(duration_s(manifest))),
        "World Camera Frames": str(world.written),
        "World Camera Resolution": _resolution(folder, world),
        "Capture Software Version": _CLASSIC_VERSION,
        "Data Format Version": _CLASSIC_VERSION,
        "System Info": _system_info(folder),
    }
    replace_file(folder / INFO_CSV, _key_value(rows.items()))


def write_user_info(folder: Path, manifest: Manifest) -> None:
    """Write ``user_info.csv``: what the user said about the recording; ``name`` always comes first.

    Raises:
        OSError: it cannot be written.
    """
    replace_file(folder / USER_INFO, _key_value({"name": "", **manifest.user_info}.items()))


def write_intrinsics(folder: Path, manifest: Manifest) -> None:
    """Write ``<stream>.intrinsics`` for the first part of each video; an unknown camera gets Pupil's dummy model.

    Raises:
        OSError: a file cannot be written.
        DamagedFile: the size of the images is neither in the manifest nor in the video.
    """
    for stream, report in manifest.streams.items():
        if report.kind == "video" and report.parts:
            width, height = _image_size(folder, report)
            model = report.info.get("intrinsics")
            # A camera that came back with another image size describes the later parts, not the first.
            if not model or list(model.get("resolution", ())) != [width, height]:
                model = dummy_intrinsics(width, height)
            replace_file(folder / f"{stream}.intrinsics", pack_intrinsics(model, width, height))


def _image_size(folder: Path, report: StreamReport) -> tuple[int, int]:
    """Return width and height of the first part, by which readers choose the camera model."""
    path = folder / report.parts[0].file
    try:
        with av.open(path) as container:
            video = container.streams.video[0]
            return video.width, video.height
    except (av.error.FFmpegError, IndexError) as error:
        match report.info:
            case {"width": int(width), "height": int(height)}:
                return width, height
        raise DamagedFile(f"{path}: no video in it: {error}") from error


def _resolution(folder: Path, world: StreamReport) -> str:
    try:
        return "{}x{}".format(*_image_size(folder, world)) if world.parts else ""
    except DamagedFile:
        return ""


def _name(folder: Path, manifest: Manifest) -> str:
    return manifest.session_name or folder.absolute().parent.name


def _system_info(folder: Path) -> str:
    try:
        return str(json.loads((folder / PLAYER_INFO).read_bytes())["system_info"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        system = platform.uname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return (
        f"User: {user}, Platform: {system.system}, Machine: {system.node}, "
        f"Release: {system.release}, Version: {system.version}"
    )


def _key_value(rows: Iterable[tuple[str, str]]) -> bytes:
    """Return rows as Pupil's readers want them: comma, no quotes, backslash escapes, one line a row, CRLF."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONE, escapechar="\\")
    writer.writerows([("key", "value"), *((" ".join(k.split()), " ".join(v.split())) for k, v in rows)])
    return text.getvalue().encode(errors="replace")
