"""Pupil Player's two tables the plain way: a log in memory, one datum after the other as a map for csv.DictWriter.

It is what ``bench_export_csv.py`` measures against, and what a test compares bytes with.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

PUPIL = (
    "pupil_timestamp", "world_index", "eye_id", "confidence", "norm_pos_x", "norm_pos_y", "diameter", "method",
    "ellipse_center_x", "ellipse_center_y", "ellipse_axis_a", "ellipse_axis_b", "ellipse_angle", "diameter_3d",
    "model_confidence", "model_id", "sphere_center_x", "sphere_center_y", "sphere_center_z", "sphere_radius",
    "circle_3d_center_x", "circle_3d_center_y", "circle_3d_center_z", "circle_3d_normal_x", "circle_3d_normal_y",
    "circle_3d_normal_z", "circle_3d_radius", "theta", "phi", "projected_sphere_center_x",
    "projected_sphere_center_y", "projected_sphere_axis_a", "projected_sphere_axis_b", "projected_sphere_angle",
)  # fmt: skip
GAZE = (
    "gaze_timestamp", "world_index", "confidence", "norm_pos_x", "norm_pos_y", "base_data", "gaze_point_3d_x",
    "gaze_point_3d_y", "gaze_point_3d_z", "eye_center0_3d_x", "eye_center0_3d_y", "eye_center0_3d_z",
    "gaze_normal0_x", "gaze_normal0_y", "gaze_normal0_z", "eye_center1_3d_x", "eye_center1_3d_y", "eye_center1_3d_z",
    "gaze_normal1_x", "gaze_normal1_y", "gaze_normal1_z",
)  # fmt: skip
NO_POINT = [None] * 3


def read_log(folder: Path, name: str) -> tuple[Any, list[bytes]]:
    """Return the timestamps of a log, (n,), and its packed datums, both in the order of time."""
    with (folder / f"{name}.pldata").open("rb") as file:
        packed = [payload for _, payload in msgpack.Unpacker(file, use_list=False)]
    times = np.load(folder / f"{name}_timestamps.npy")
    order = np.argsort(times, kind="stable").tolist()
    return times[order], [packed[number] for number in order]


def nearest(times: Any, frames: Any) -> list[int]:
    """Return the world frame of each datum."""
    after = np.clip(np.searchsorted(frames, times), 1, len(frames) - 1)
    return (after - (times - frames[after - 1] < frames[after] - times)).tolist()


def ellipse(value: dict[str, Any] | None) -> list[Any]:
    """Return the five cells of an ellipse."""
    return [None] * 5 if value is None else [*value["center"], *value["axes"], value["angle"]]


def pupil_row(datum: dict[str, Any], index: int) -> list[Any]:
    """Return the row of a pupil."""
    row = [str(datum["timestamp"]), index, datum["id"], datum["confidence"], *datum["norm_pos"], datum["diameter"]]
    row += [datum["method"], *ellipse(datum.get("ellipse"))]
    try:
        sphere, circle = datum["sphere"], datum["circle_3d"]
        return [
            *row, datum["diameter_3d"], datum["model_confidence"], datum.get("model_id"), *sphere["center"],
            sphere["radius"], *circle["center"], *circle["normal"], circle["radius"], datum["theta"], datum["phi"],
            *ellipse(datum["projected_sphere"]),
        ]  # fmt: skip
    except KeyError:
        return row + [None] * 21


def gaze_row(datum: dict[str, Any], index: int) -> list[Any]:
    """Return the row of gaze."""
    base = " ".join(f"{pupil['timestamp']}-{pupil['id']}" for pupil in datum["base_data"])
    row = [str(datum["timestamp"]), index, datum["confidence"], *datum["norm_pos"], base]
    row += datum.get("gaze_point_3d", NO_POINT)
    if "eye_centers_3d" in datum:
        for eye in (0, 1):
            for parts in (datum["eye_centers_3d"], datum["gaze_normals_3d"]):
                row += parts.get(str(eye)) or parts.get(eye) or NO_POINT
        return row
    if "eye_center_3d" not in datum:
        return row + [None] * 12
    alone, nothing = [*datum["eye_center_3d"], *datum["gaze_normal_3d"]], [None] * 6
    return [*row, *nothing, *alone] if datum["base_data"][0]["id"] else [*row, *alone, *nothing]


def write_tables(folder: Path, target: Path, frames: Any) -> None:
    """Write ``pupil_positions.csv`` and ``gaze_positions.csv``; ``frames`` (n,) are the times of world frames, s."""
    for name, header, row_of in (("pupil", PUPIL, pupil_row), ("gaze", GAZE, gaze_row)):
        times, packed = read_log(folder, name)
        with (target / f"{name}_positions.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            for payload, index in zip(packed, nearest(times, frames), strict=True):
                row = row_of(msgpack.unpackb(payload, use_list=False, strict_map_key=False), index)
                writer.writerow(dict(zip(header, row, strict=True)))
