"""How near a recording of the simulated wearer comes to the truth that lies in its folder ``truth``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gazed_recorder.reader import Recording

__all__ = ["gaze_errors", "measure_accuracy", "pupil_errors"]

Floats = npt.NDArray[np.float64]

_VISIBLE = 0.9
_CONFIDENT = 0.6


def measure_accuracy(folder: Path) -> dict[str, Any]:
    """Return ``gaze_error_deg_median``, ``gaze_error_deg_p95``, ``pupil_error_px_median`` and the ``gazer``.

    Also ``gaze_confident``, the part of the gaze datums that was measured. What the recording does not hold is NaN.

    Raises:
        DamagedFile: a log cannot be read.
    """
    recording = Recording(folder)
    pupil, (gaze, total) = pupil_errors(recording), gaze_errors(recording)
    median, p95 = np.percentile(gaze, (50, 95)) if len(gaze) else (np.nan, np.nan)
    return {
        "gaze_error_deg_median": round(float(median), 3),
        "gaze_error_deg_p95": round(float(p95), 3),
        "pupil_error_px_median": round(float(np.median(pupil)), 3) if len(pupil) else float("nan"),
        "gazer": _gazer(recording),
        "gaze_confident": round(len(gaze) / total, 3) if total else 0.0,
    }


def pupil_errors(recording: Recording) -> Floats:
    """Return, in px, how far the ellipses of the 2D pupils are from the true ones, where those can be seen (N,)."""
    errors: list[float] = []
    truths = {eye: _truth(recording, f"eye{eye}") for eye in (0, 1)}
    for datum in _datums(recording, "pupil"):
        truth = truths[datum["id"]].get(datum["timestamp"]) if "2d" in datum["method"] else None
        if truth is not None and truth["pupil_visible"] > _VISIBLE:
            x, y = datum["ellipse"]["center"]
            errors.append(float(np.hypot(x - truth["cx"], y - truth["cy"])))
    return np.array(errors)


def gaze_errors(recording: Recording) -> tuple[Floats, int]:
    """Return the angles (N,) in degrees between gaze and what was looked at, and how many gaze datums there are.

    Only gaze with a confidence of at least 0.6 is measured. Angles are those at the world camera; gaze is its place in
    the world image, seen through that camera's intrinsics, which in the simulation have no distortion.
    """
    model = recording.manifest.streams["world"].info["intrinsics"] if recording.manifest else None
    truths = {eye: _truth(recording, f"eye{eye}") for eye in (0, 1)}
    places, targets, total = [], [], 0
    for datum in _datums(recording, "gaze"):
        seen = [truths[base["id"]].get(base["timestamp"]) for base in datum["base_data"]]
        total += all(truth is not None for truth in seen)
        if datum["confidence"] >= _CONFIDENT and seen[0] is not None:
            places.append(datum["norm_pos"])
            targets.append(seen[0]["target_mm"])
    if model is None or not places:
        return np.empty(0), total
    width, height = model["resolution"]
    pixels = np.array(places) * [width, -height] + [0, height]
    corner = np.linalg.inv(np.array(model["camera_matrix"]))
    looked = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ corner.T
    return _angles(looked, np.array(targets)), total


def _angles(first: Floats, second: Floats) -> Floats:
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1, 1))))


def _truth(recording: Recording, stream: str) -> dict[float, Any]:
    path = recording.path / "truth" / f"{stream}_truth.npy"
    rows = np.load(path) if path.exists() else np.empty(0, [("timestamp", "f8")])
    return dict(zip(rows["timestamp"].tolist(), rows, strict=True))


def _datums(recording: Recording, log: str) -> Iterable[dict[str, Any]]:
    return recording.data(log) if log in recording.logs else ()


def _gazer(recording: Recording) -> str | None:
    """Return the class name of the gazer that the recording's last calibration is of."""
    notes = [note for note in _datums(recording, "notify") if note["topic"] == "notify.calibration.result.v2"]
    return str(notes[-1]["gazer_class_name"]) if notes else None
