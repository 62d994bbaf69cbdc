"""What comes back when the exports of a recording are loaded by ``movement``: the table of the formats, measured.

Run it with HOME set to a folder of its own: movement writes there when it is imported.

    HOME=$(mktemp -d) .venv/bin/python tests/bench/roundtrip_movement.py [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from movement.filtering import filter_by_confidence, savgol_filter
from movement.io import load_bboxes, load_dataset, load_poses
from movement.kinematics import compute_speed, compute_velocity
from movement.validators.datasets import ValidPosesInputs

from gazed_plugins.export.poses.layout import load_dataset as poses_of
from gazed_plugins.export.poses.streams import read_poses
from gazed_plugins.export.run import export_recording
from gazed_plugins.keypoints.reader import read
from gazed_recorder.reader import Recording
from gazed_recorder.testing_rich import make_rich_recording

KEYPOINT, INDIVIDUAL = ValidPosesInputs.DIM_NAMES[2:]
DIMS = "plural" if KEYPOINT == "keypoints" else "singular"
FILES = {
    "dlc .h5": ("dlc", {}, "eye0.h5", "DeepLabCut"),
    "dlc .csv": ("dlc", {"file": "csv"}, "eye0.csv", "DeepLabCut"),
    "sleap": ("sleap", {}, "eye0.analysis.h5", "SLEAP"),
    "lightningpose": ("lightningpose", {}, "eye0.csv", "LightningPose"),
}


def measure(folder: Path, work: Path) -> dict[str, dict[str, Any]]:
    """Return by format what came back: largest errors of position (px) and confidence, names, what the time is."""
    recording = Recording(folder)
    wanted = next(poses for poses in read_poses(recording, flat=True)).on_frames(recording)
    results = {"netcdf": netcdf(folder, work)}
    for number, (name, (to, args, file, software)) in enumerate(FILES.items()):
        result = export_recording(folder, to, work / str(number), args=args)
        dataset = load_dataset(Path(result.path) / file, source_software=software)
        results[name] = {
            "position": error(dataset.position.values[..., 0], wanted.position),
            "confidence": error(dataset.confidence.values[:, 0, 0], wanted.confidence),
            **names(dataset),
            **times(dataset, Path(result.path) / "eye0.timestamps.csv", recording),
        }
    results["nwb"] = nwb(folder, work)
    results["via"] = boxes(folder, work, wanted, recording)
    return results


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    assert (np.isnan(found) == np.isnan(wanted)).all()
    return float(np.nanmax(np.abs(found.astype(np.float64) - wanted)))


def names(dataset: xr.Dataset) -> dict[str, Any]:
    return {"keypoints": dataset[KEYPOINT].values.tolist(), "individuals": dataset[INDIVIDUAL].values.tolist()}


def times(dataset: xr.Dataset, sidecar: Path, recording: Recording) -> dict[str, Any]:
    """The format has frame numbers; with the file beside it they are the times of the video."""
    beside = pd.read_csv(sidecar)
    assert (dataset.time.values == beside["frame"].values).all()
    return {
        "time_unit": dataset.time_unit,
        "frames": len(dataset.time),
        "sidecar_s": error(beside["timestamp"].to_numpy(), recording.timestamps("eye0")),
    }


def netcdf(folder: Path, work: Path) -> dict[str, Any]:
    """Load the native files, and have movement work on them."""
    result = export_recording(folder, "netcdf", work / "netcdf", args={"dims": DIMS})
    with xr.open_dataset(Path(result.path) / "eye0.nc") as file:
        dataset = file.load()
    wanted = poses_of(folder, "eye0", dims=DIMS)
    ValidPosesInputs.validate(dataset)
    velocity = compute_velocity(dataset.position)
    by_hand = np.gradient(dataset.position.values, dataset.time.values, axis=0)
    confident = filter_by_confidence(dataset.position, dataset.confidence, threshold=0.6)
    even = poses_of(folder, "eye0", dims=DIMS, rate=200.0)
    smooth = savgol_filter(even.position, window=5)
    again = work / "again.nc"
    dataset.assign(speed=compute_speed(dataset.position)).to_netcdf(again)
    with xr.open_dataset(again) as file:
        saved = file.load()
    spatial = poses_of(folder, "eye0_3d", dims=DIMS)
    ValidPosesInputs.validate(spatial)
    return {
        "position": error(dataset.position.values, wanted.position.values),
        "confidence": error(dataset.confidence.values, wanted.confidence.values),
        "identical": dataset.identical(wanted),
        **names(dataset),
        "time_unit": dataset.time_unit,
        "time_s": error(dataset.time.values, wanted.time.values),
        "frames": len(dataset.time),
        "velocity": error(velocity.values, by_hand),
        "confident": int(confident.notnull().all("space").sum()),
        "smooth": int(smooth.notnull().sum()),
        "saved_again": bool((saved.position == dataset.position).where(dataset.position.notnull(), True).all()),
        "dims_3d": dict(spatial.sizes),
    }


def nwb(folder: Path, work: Path) -> dict[str, Any]:
    """Load the 2-D ellipses of the right eye, each at the time of its datum; and their times by gazed's own reader."""
    result = export_recording(folder, "nwb", work / "nwb")
    path = Path(result.path)
    path = path if path.is_file() else next(path.glob("*.nwb"))
    dataset = load_poses.from_nwb_file(path)
    wanted = poses_of(folder, "eye0", method="2d", dims=DIMS)
    since = wanted.time.values - wanted.time.values[0]
    exact = read(path, "NWB", "PoseEstimation")["times"]
    return {
        "position": error(dataset.position.values, wanted.position.values),
        "confidence": error(dataset.confidence.values, wanted.confidence.values),
        **names(dataset),
        "time_unit": dataset.time_unit,
        "time_s": error(dataset.time.values, since),
        "time_read_s": error(exact - exact[0], since),
        "frames": len(since),
    }


def boxes(folder: Path, work: Path, wanted: Any, recording: Recording) -> dict[str, Any]:
    result = export_recording(folder, "via", work / "via")
    path = Path(result.path) / "eye0.csv"
    dataset = load_bboxes.from_via_tracks_file(path, use_frame_numbers_from_file=True)
    frames = dataset.time.values.astype(int)
    assert (frames == np.flatnonzero(wanted.found)).all()
    center = wanted.position[frames, :, 0]
    half = np.hypot(wanted.position[frames, :, 1] - center, wanted.position[frames, :, 3] - center)
    return {
        "position": error(dataset.position.values[..., 0], center),
        "shape": error(dataset["shape"].values[..., 0], 2 * half),
        "confidence": error(dataset.confidence.values[..., 0], wanted.confidence[frames]),
        "individuals": dataset[INDIVIDUAL].values.tolist(),
        "time_unit": dataset.time_unit,
        "frames": len(frames),
        "sidecar_s": error(
            pd.read_csv(path.with_suffix(".timestamps.csv"))["timestamp"].to_numpy(),
            recording.timestamps("eye0"),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--recording", type=Path, help="another than a generated one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = chosen.recording or make_rich_recording(Path(work), seconds=1.5)
        results = measure(folder, Path(work))
    if chosen.json:
        print(json.dumps(results))
        return
    for name, found in results.items():
        print(f"{name:14}", *(f"{key}={value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
