"""The exporter ``csv`` with the layout ``classic``: the columns that Pupil Player 0.7's documentation lists."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_plugins.export.player.exporter import CsvExporter
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import check_exporter
from gazed_plugins.offline_data import write_log
from gazed_recorder.reader import Recording
from gazed_recorder.reading.correlate import correlate
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording

PUPIL = [
    "timestamp", "index", "id", "confidence", "norm_pos_x", "norm_pos_y", "diameter", "method", "2d_ellipse_center_x",
    "2d_ellipse_center_y", "2d_ellipse_axis_a", "2d_ellipse_axis_b", "2d_ellipse_angle", "diameter_3d",
    "model_confidence", "model_id", "sphere_center_x", "sphere_center_y", "sphere_center_z", "sphere_radius",
    "circle_3d_center_x", "circle_3d_center_y", "circle_3d_center_z", "circle_3d_normal_x", "circle_3d_normal_y",
    "circle_3d_normal_z", "circle_3d_radius", "theta", "phi", "projected_sphere_center_x",
    "projected_sphere_center_y", "projected_sphere_axis_a", "projected_sphere_axis_b", "projected_sphere_angle",
]  # fmt: skip
GAZE = [
    "timestamp", "index", "confidence", "norm_pos_x", "norm_pos_y", "base_data", "gaze_point_3d_x", "gaze_point_3d_y",
    "gaze_point_3d_z", "eye_center0_3d_x", "eye_center0_3d_y", "eye_center0_3d_z", "gaze_normal0_x", "gaze_normal0_y",
    "gaze_normal0_z", "eye_center1_3d_x", "eye_center1_3d_y", "eye_center1_3d_z", "gaze_normal1_x", "gaze_normal1_y",
    "gaze_normal1_z",
]  # fmt: skip


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rich_recording(tmp_path_factory.mktemp("rich"), seconds=3.0)


def export(folder: Path, output: Path, **args: Any) -> Path:
    return Path(export_recording(folder, "csv", output, args={"videos": False, **args}).path)


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_files_have_the_documented_columns_in_their_order(rich: Path, tmp_path: Path) -> None:
    output = export(rich, tmp_path, layout="classic")
    assert {path.name for path in output.iterdir()} == {
        "pupil_positions.csv", "pupil_positions_unix.csv", "gaze_positions.csv", "gaze_positions_unix.csv",
        "pupil_gaze_positions_info.txt",
    }  # fmt: skip
    assert rows(output / "pupil_positions.csv")[0] == PUPIL
    assert rows(output / "gaze_positions.csv")[0] == GAZE
    text = (output / "pupil_gaze_positions_info.txt").read_text()
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == PUPIL + GAZE


def test_only_index_differs_from_todays_values(rich: Path, tmp_path: Path) -> None:
    classic, today = export(rich, tmp_path, layout="classic"), export(rich, tmp_path)
    for name in ("pupil_positions.csv", "gaze_positions.csv"):
        both = zip(rows(classic / name)[1:], rows(today / name)[1:], strict=True)
        same = [(old[:1] + old[2:], new[:1] + new[2:], old[1] == new[1]) for old, new in both]
        two_eyes = [each for each in same if name == "pupil_positions.csv" or " " in each[0][4]]
        assert two_eyes
        assert all(old == new for old, new, _ in two_eyes)
        assert sum(index for _, _, index in same) > 0.9 * len(same)


def test_gaze_of_one_eye_stands_in_the_columns_of_eye_0(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, datums=0)
    for path in folder.glob("gaze*"):
        path.unlink()
    base = [{"topic": "pupil.1.3d", "id": 1, "timestamp": 100.0}]
    datum = {
        "topic": "gaze.3d.1.", "timestamp": 100.0, "confidence": 1.0, "norm_pos": [0.5, 0.5], "base_data": base,
        "eye_center_3d": [-40.0, 15.0, -20.0], "gaze_normal_3d": [0.1, 0.2, 0.3], "gaze_point_3d": [1.0, 2.0, 3.0],
    }  # fmt: skip
    write_log(folder, "gaze", [("gaze.3d.1.", 100.0, msgpack.packb(datum))])
    [_, row] = rows(export(folder, tmp_path / "out", layout="classic") / "gaze_positions.csv")
    assert row[5:] == ["100.0-1", "1.0", "2.0", "3.0", "-40.0", "15.0", "-20.0", "0.1", "0.2", "0.3", *[""] * 6]


def as_documented(times: list[float], frames: list[float]) -> list[list[float]]:
    """Return the data of each frame: up to its midpoint to the next one; none is left for the last."""
    found: list[list[float]] = [[] for _ in frames]
    rest = sorted(times)
    for number, (this, following) in enumerate(pairwise(frames)):
        while rest and rest[0] <= (this + following) / 2.0:
            found[number].append(rest.pop(0))
    return found


@given(
    st.lists(st.floats(99.0, 104.0), max_size=20),
    st.lists(st.floats(0.01, 1.0), max_size=8).map(
        lambda steps: [100.0 + sum(steps[:n]) for n in range(len(steps) + 1)]
    ),
)
def test_the_index_is_that_of_the_documented_loop(times: list[float], frames: list[float]) -> None:
    stamps = np.sort(np.array([*times, *frames], np.float64))
    index = correlate(stamps, np.array(frames), "midpoint")
    wanted = as_documented(stamps.tolist(), frames)
    assert [stamps[index == number].tolist() for number in range(len(frames))] == wanted


def test_what_the_rule_gives_no_frame_is_kept_without_one_or_left_out(rich: Path, tmp_path: Path) -> None:
    recording = Recording(rich)
    kept = rows(export(rich, tmp_path, layout="classic") / "pupil_positions.csv")[1:]
    left = rows(export(rich, tmp_path / "player", layout="classic", range="player") / "pupil_positions.csv")[1:]
    index = recording.correlate(recording.pupil, "midpoint")
    assert [row[1] for row in kept] == ["" if each < 0 else str(each) for each in index.tolist()]
    assert left == [row for row in kept if row[1]]
    assert 0 < len(left) < len(kept)


def test_it_keeps_the_contract_of_exporters(tmp_path: Path) -> None:
    folder = make_rich_recording(tmp_path / "recording", seconds=0.5)
    check_exporter(CsvExporter, {"layout": "classic", "videos": False}, folder, tmp_path / "work")
