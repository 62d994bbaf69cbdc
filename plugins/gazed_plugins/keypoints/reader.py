"""The process in which ``movement`` reads a file; it gives back arrays.

Run as ``python -m gazed_plugins.keypoints.reader FILE SOFTWARE OUT POSE_ESTIMATION``. Writes the arrays to OUT, an
``.npz``, or prints why not, a JSON object with ``error``, on its last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read"]


def read(path: Path, software: str, pose_estimation: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of movement's dataset: position, confidence, keypoints, individuals, times; of boxes shape.

    Axes are movement's own, in its order: time, space, keypoints (not of boxes), individuals.
    """
    from movement.io import load_bboxes, load_dataset, load_poses

    if software == "VIA-tracks":
        dataset = load_bboxes.from_via_tracks_file(path, use_frame_numbers_from_file=True)
        arrays = {name: dataset[name].to_numpy() for name in ("position", "shape", "confidence")}
        return {**arrays, "frames": dataset["time"].to_numpy(), "individuals": _names(dataset, -1)}
    if software == "NWB":
        dataset = load_poses.from_nwb_file(path, pose_estimation_key=pose_estimation)
    else:
        dataset = load_dataset(path, source_software=software)
    arrays = {name: dataset[name].to_numpy().astype(np.float64) for name in ("position", "confidence")}
    arrays |= {"keypoints": _names(dataset, -2), "individuals": _names(dataset, -1)}
    if software == "NWB":
        arrays["times"] = _times_of_nwb(path, pose_estimation)
    return arrays


def _names(dataset: Any, dimension: int) -> NDArray[Any]:
    return np.array([str(name) for name in dataset[dataset["position"].dims[dimension]].to_numpy()])


def _times_of_nwb(path: Path, pose_estimation: str) -> NDArray[np.float64]:
    """Return the times that movement replaces by those of a constant rate."""
    import pynwb

    with pynwb.NWBHDF5IO(path, "r") as file:
        series = file.read().processing["behavior"][pose_estimation].pose_estimation_series.values()
        times = [_times(each) for each in series]
    if not all(np.array_equal(each, times[0]) for each in times):
        raise ValueError(f"the keypoints of {pose_estimation} have not all the same times")
    return times[0]


def _times(series: Any) -> NDArray[np.float64]:
    if series.timestamps is not None:
        return np.asarray(series.timestamps, np.float64)
    return np.asarray(series.starting_time + np.arange(len(series.data)) / series.rate, np.float64)


def main(argv: list[str]) -> int:
    """Read a file and write its arrays; return the exit code."""
    try:
        arrays = read(Path(argv[1]), argv[2], argv[4])
        # An array of objects would be written as a pickle.
        np.savez(argv[3], allow_pickle=False, **arrays)
    except Exception as error:  # noqa: BLE001 - whatever the libraries stumble over is what is wrong with the file
        text = " ".join(str(error).split())[:500]
        print(json.dumps({"error": f"{type(error).__name__}: {text}"}), flush=True)  # noqa: T201 - for who started us
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
