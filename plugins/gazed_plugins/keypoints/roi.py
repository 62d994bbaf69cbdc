"""Boxes that were drawn around an eye, as the region in which its pupil is searched."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import shown
from gazed_plugins.export.errors import AlreadyThere
from gazed_plugins.keypoints.errors import ImportFailed, NotKeypoints
from gazed_plugins.keypoints.load import load_arrays
from gazed_plugins.offline_data import OFFLINE_FOLDER, locked_folder, open_closed
from gazed_plugins.pupil.roi import Roi, store_roi, stored_rois

__all__ = ["RoiResult", "import_roi"]

Floats = NDArray[np.float64]


class RoiResult(msgspec.Struct, frozen=True):
    """What was taken in."""

    recording: str
    stream: str
    boxes: int
    """Boxes in the file."""
    roi: Roi
    """Minimal x and y, maximal x and y, px."""


def import_roi(
    file: str | Path,
    folder: str | Path,
    *,
    eye: int = 0,
    track: int | None = None,
    margin: float = 0.0,
    force: bool = False,
) -> RoiResult:
    """Let ``gazed detect`` search an eye's pupils only where boxes were drawn: in the smallest one around all of them.

    Args:
        file: tracks of the VGG Image Annotator, csv.
        folder: the recording.
        eye: 0 is the right one.
        track: whose boxes, if there are several.
        margin: px to add on each side. The detector sees no pupil that is nearer to the end than about its size:
            boxes around pupils need that much.
        force: replace the region that was taken in before.

    Raises:
        NotARecording, DamagedFile: the recording cannot be read.
        MissingExtra, NotKeypoints, OSError: the file cannot be read.
        ImportFailed: the recording has no video of this eye, or no box lies in it.
        AlreadyThere: there is a region of this eye.
        RecordingRefused: a detection works on this recording.
    """
    recording, stream = open_closed(folder), f"eye{eye}"
    if stream not in recording.streams:
        raise ImportFailed(f"{recording.path} has no video {stream}, found {', '.join(recording.streams) or 'none'}")
    _refuse_second(recording.path / OFFLINE_FOLDER, stream, force)
    path = Path(file).expanduser()
    with path.open("rb"):
        pass
    low, high = _boxes(path, track)
    roi = _around(low - margin, high + margin, recording.eyes[eye].size)
    if roi is None:
        raise ImportFailed(f"{path}: no box lies in the images of {stream}")
    with locked_folder(recording) as offline:
        _refuse_second(offline, stream, force)
        store_roi(offline, stream, roi)
    return RoiResult(str(recording.path), stream, len(low), roi)


def _refuse_second(offline: Path, stream: str, force: bool) -> None:
    if not force and stream in stored_rois(offline):
        raise AlreadyThere(f"{offline} has a region of interest of {stream}", hint="--force replaces it")


def _boxes(path: Path, track: int | None) -> tuple[Floats, Floats]:
    """Return the corners with the smallest and with the largest x and y, each of shape (boxes, 2)."""
    arrays = load_arrays(path, "VIA-tracks")
    tracks = [str(name) for name in arrays["individuals"].tolist()]
    if track is None and len(tracks) > 1:
        raise NotKeypoints(f"{path} has the tracks {', '.join(tracks)}", hint="say which: --track NUMBER")
    wanted = tracks[0] if track is None else f"id_{track}"
    if wanted not in tracks:
        raise NotKeypoints(f"{path} has no track {shown(track)}, found {', '.join(tracks)}")
    center, size = (arrays[name][:, :, tracks.index(wanted)] for name in ("position", "shape"))
    there = np.isfinite(center).all(axis=1) & np.isfinite(size).all(axis=1)
    return (center - size / 2)[there], (center + size / 2)[there]


def _around(low: Floats, high: Floats, size: tuple[int, int]) -> Roi | None:
    """Return the smallest region of the image around all boxes; ``None`` if they are nowhere in it."""
    if not len(low):
        return None
    # The detector wants the last column of the image left out, but not the last row.
    limits = np.array([size[0] - 1, size[1]])
    first, last = (np.clip(corner, 0, limits) for corner in (low.min(axis=0), high.max(axis=0)))
    (left, top), (right, bottom) = np.floor(first).astype(int).tolist(), np.ceil(last).astype(int).tolist()
    return (left, top, right, bottom) if right > left and bottom > top else None
