"""Writes the same keypoints in every format that pose estimation has, and reads each back with ``movement``.

A script for ``test_import_keypoints``, in a process of its own: these libraries change the one that imports them.

    python keypoint_files.py TRUTH.npz FOLDER
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import ndx_pose
import numpy as np
import pandas as pd
import pynwb
import sleap_io as sio

from gazed_plugins.keypoints.reader import read


def main() -> None:
    truth: dict[str, Any] = dict(np.load(sys.argv[1]))
    folder = Path(sys.argv[2])
    names = truth["keypoints"].tolist()
    deeplabcut(folder, truth["position"], truth["confidence"], names)
    sleap(folder, truth["position"], truth["confidence"], names)
    anipose(folder, truth["spatial"], truth["confidence"], names)
    nwb(folder, truth["position"], truth["confidence"], names, truth["times"])
    files = {
        "table.h5": "DeepLabCut",
        "fixed.h5": "DeepLabCut",
        "single.csv": "DeepLabCut",
        "lightning.csv": "LightningPose",
        "tracked.analysis.h5": "SLEAP",
        "tracked.slp": "SLEAP",
        "anipose.csv": "Anipose",
        "session.nwb": "NWB",
    }
    for name, software in files.items():
        pose = "Pupil" if software == "NWB" else ""
        np.savez(folder / f"{name}.npz", **read(folder / name, software, pose))


def deeplabcut(folder: Path, position: Any, confidence: Any, names: list[str]) -> None:
    rows = np.concatenate([position, confidence[:, None]], axis=1).transpose(0, 2, 1).reshape(len(position), -1)
    coords = ["x", "y", "likelihood"]
    several = pd.MultiIndex.from_product(
        [["net"], ["mouse"], names, coords], names=["scorer", "individuals", "bodyparts", "coords"]
    )
    frame = pd.DataFrame(rows, columns=several)
    # DeepLabCut writes tables; movement does not.
    frame.to_hdf(folder / "table.h5", key="df_with_missing", format="table", mode="w")
    frame.to_hdf(folder / "fixed.h5", key="df_with_missing", mode="w")
    one = pd.MultiIndex.from_product([["net"], names, coords], names=["scorer", "bodyparts", "coords"])
    for name in ("single.csv", "lightning.csv"):
        pd.DataFrame(rows, columns=one).to_csv(folder / name)


def sleap(folder: Path, position: Any, confidence: Any, names: list[str]) -> None:
    with h5py.File(folder / "tracked.analysis.h5", "w") as file:
        file["tracks"] = position.transpose(1, 2, 0)[None]
        file["point_scores"] = confidence.T[None]
        file["track_names"] = np.array(["mouse"], np.bytes_)
        file["node_names"] = np.array(names, np.bytes_)
    skeleton, track = sio.Skeleton(nodes=list(names)), sio.Track("mouse")
    video = sio.Video(filename="eye.mp4", open_backend=False)
    frames = []
    for number, (points, scores) in enumerate(zip(position.transpose(0, 2, 1), confidence, strict=True)):
        instance = sio.PredictedInstance.from_numpy(
            points, skeleton=skeleton, point_scores=scores, score=1.0, track=track
        )
        frames.append(sio.LabeledFrame(video=video, frame_idx=number, instances=[instance]))
    labels = sio.Labels(frames, videos=[video], skeletons=[skeleton], tracks=[track])
    sio.save_slp(labels, str(folder / "tracked.slp"), embed=False)


def anipose(folder: Path, spatial: Any, confidence: Any, names: list[str]) -> None:
    columns: dict[str, Any] = {}
    for number, name in enumerate(names):
        columns |= {f"{name}_{axis}": spatial[:, place, number] for place, axis in enumerate("xyz")}
        columns |= {f"{name}_error": 0.1, f"{name}_ncams": 2, f"{name}_score": confidence[:, number]}
    for name in (*(f"M_{row}{column}" for row in range(3) for column in range(3)), *(f"center_{n}" for n in range(3))):
        columns[name] = 0.0
    pd.DataFrame({**columns, "fnum": np.arange(len(spatial))}).to_csv(folder / "anipose.csv", index=False)


def nwb(folder: Path, position: Any, confidence: Any, names: list[str], times: Any) -> None:
    session = pynwb.NWBFile("tracked eyes", "mouse", datetime(2026, 3, 1, tzinfo=UTC))
    series = [
        ndx_pose.PoseEstimationSeries(
            name=name, data=position[:, :, number], unit="pixels", reference_frame="upper left",
            confidence=confidence[:, number], timestamps=times,
        )
        for number, name in enumerate(names)
    ]  # fmt: skip
    module = session.create_processing_module("behavior", "tracked")
    skeleton = ndx_pose.Skeleton(name="pupil", nodes=names)
    pose = ndx_pose.PoseEstimation(
        name="Pupil", pose_estimation_series=series, skeleton=skeleton, source_software="DeepLabCut"
    )
    module.add(ndx_pose.Skeletons(skeletons=[skeleton]))
    module.add(pose)
    with pynwb.NWBHDF5IO(folder / "session.nwb", "w") as file:
        file.write(session)


if __name__ == "__main__":
    main()
