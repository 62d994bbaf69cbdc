"""Pupils and gaze as DeepLabCut, SLEAP, Lightning Pose and VIA files: frames, times, and what movement reads back."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("h5py")
pytest.importorskip("tables")

import h5py
import pandas as pd

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.exporter import find_exporter
from gazed_plugins.export.poses.deeplabcut import DeepLabCutExporter
from gazed_plugins.export.poses.streams import Poses, read_poses
from gazed_plugins.export.poses.via import ViaExporter
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.steps import Steps
from gazed_plugins.export.testing import check_exporter
from gazed_recorder.reader import Recording
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording

FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("dlc", {}),
    ("dlc", {"file": "csv", "method": "2d"}),
    ("sleap", {}),
    ("lightningpose", {}),
    ("via", {}),
]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rich_recording(tmp_path_factory.mktemp("rich"), seconds=1.5)


@pytest.fixture
def poses(rich: Path) -> Poses:
    return next(read_poses(Recording(rich), flat=True))


@pytest.mark.parametrize(("name", "args"), FORMATS)
def test_the_contract(name: str, args: dict[str, Any], rich: Path, tmp_path: Path) -> None:
    written = check_exporter(find_exporter(name), args, rich, tmp_path)
    streams = {path.name.split(".")[0] for path in written.iterdir()}
    assert streams == ({"eye0", "eye1"} if name == "via" else {"eye0", "eye1", "gaze"})
    for stream in streams:
        assert (written / f"{stream}.timestamps.csv").exists()


def test_pandas_reads_what_deeplabcut_would_have_written(rich: Path, tmp_path: Path) -> None:
    path = Path(export_recording(rich, "dlc", tmp_path).path)
    frames = next(read_poses(Recording(rich), flat=True)).on_frames(Recording(rich))
    found = pd.read_hdf(path / "eye0.h5")
    assert found.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    assert found.index.equals(pd.RangeIndex(180))
    np.testing.assert_array_equal(found["gazed", "eye0", "major_a", "y"], frames.position[:, 1, 1])
    np.testing.assert_array_equal(found["gazed", "eye0", "minor_b", "likelihood"], frames.confidence)
    table = export_recording(rich, "dlc", tmp_path / "csv", args={"file": "csv"})
    back = pd.read_csv(Path(table.path) / "eye0.csv", header=[0, 1, 2, 3], index_col=0)
    np.testing.assert_array_equal(back.to_numpy(), found.to_numpy())


def test_sleap_has_its_own_axes(rich: Path, tmp_path: Path) -> None:
    path = Path(export_recording(rich, "sleap", tmp_path).path)
    with h5py.File(path / "eye1.analysis.h5") as file:
        shapes = {name: file[name].shape for name in file}
        assert shapes == {
            "tracks": (1, 2, 5, 180),
            "point_scores": (1, 5, 180),
            "instance_scores": (1, 180),
            "tracking_scores": (1, 180),
            "track_occupancy": (180, 1),
            "track_names": (1,),
            "node_names": (5,),
            "edge_names": (4, 2),
            "edge_inds": (4, 2),
            **dict.fromkeys(("video_ind", "video_path", "labels_path", "provenance"), ()),
        }
        assert file["video_path"][()] == b"eye1.mp4"
        occupied = file["track_occupancy"][:, 0].astype(bool)
        assert (np.isfinite(file["tracks"][0, 0, 0]) == occupied).all()
        assert 0 < occupied.sum() < 180


@pytest.mark.parametrize("name", ["dlc", "sleap"])
def test_nothing_in_a_file_tells_when_it_was_written(name: str, rich: Path, tmp_path: Path) -> None:
    before = int(time.time())
    path = Path(export_recording(rich, name, tmp_path).path)
    after = int(time.time())
    for file in path.glob("*.h5"):
        content = file.read_bytes()
        assert not any(second.to_bytes(4, "little") in content for second in range(before, after + 1))


def test_each_row_is_a_frame_of_the_video(rich: Path, poses: Poses) -> None:
    recording = Recording(rich)
    stamps = recording.timestamps("eye0")
    assert (poses.times == stamps).all()
    # Datums of before the recording began, and frames that nobody looked at.
    some = poses[np.array([*range(50), *range(60, 180)])]
    early = replace(
        some,
        times=np.concatenate([[stamps[0] - 1.0], some.times]),
        confidence=np.concatenate([[0.5], some.confidence]),
        values={name: np.concatenate([[7.0], column]) for name, column in some.values.items()},
    )
    frames = early.on_frames(recording)
    assert (frames.times == stamps).all()
    missing = np.isin(np.arange(180), np.arange(50, 60))
    assert (frames.confidence[missing] == 0).all()
    assert np.isnan(frames.position[missing]).all()
    for column in poses.values:
        np.testing.assert_array_equal(frames.values[column][~missing], poses.values[column][~missing])
    # Times that were fitted once more afterwards: no frame gets another's datum.
    fitted = replace(poses, times=stamps + 0.0012).on_frames(recording)
    np.testing.assert_array_equal(fitted.confidence, poses.confidence)
    # Of two datums for a frame, the nearest in time; of two that are equally near, the first.
    twice = poses[np.array([5, 5, 6, 6])]
    near = replace(
        twice, times=twice.times + np.array([0.003, 0.001, 0.0, 0.0]), confidence=np.array([0.1, 0.2, 0.3, 0.4])
    )
    assert near.on_frames(recording).confidence[[5, 6]].tolist() == [0.2, 0.3]


def test_gaze_is_on_the_frames_of_the_world(rich: Path, tmp_path: Path) -> None:
    recording = Recording(rich)
    path = Path(export_recording(rich, "lightningpose", tmp_path).path)
    back = pd.read_csv(path / "gaze.csv", header=[0, 1, 2], index_col=0)
    world, gaze = recording.world.timestamps, recording.gaze
    assert len(back) == len(world)
    nearest = np.abs(gaze["timestamp"][:, None] - world).argmin(axis=0)
    near = np.abs(gaze["timestamp"][nearest] - world) < 1 / 240
    assert near.sum() > 20
    np.testing.assert_array_equal(back["gazed", "gaze", "x"].to_numpy()[near], 320 * gaze["norm_pos_x"][nearest][near])


def test_the_times_beside_it_are_exact(rich: Path, tmp_path: Path) -> None:
    recording = Recording(rich)
    path = Path(export_recording(rich, "via", tmp_path).path)
    with (path / "eye1.timestamps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(180))
    assert [float(row["timestamp"]) for row in rows] == recording.timestamps("eye1").tolist()
    unix = [int(row["unix_ns"]) for row in rows]
    assert unix == recording.clock.to_unix_ns(recording.timestamps("eye1")).tolist()


def test_without_a_video_rows_are_datums(tmp_path: Path) -> None:
    folder = make_rich_recording(tmp_path, seconds=0.5, videos=False)
    path = Path(export_recording(folder, "dlc", tmp_path / "out").path)
    assert sorted(each.name for each in path.iterdir()) == [
        "eye0.h5", "eye0.timestamps.csv", "eye1.h5", "eye1.timestamps.csv",
    ]  # fmt: skip
    stamps = pd.read_csv(path / "eye0.timestamps.csv")["timestamp"]
    pupils = Recording(folder).pupil
    np.testing.assert_array_equal(stamps, pupils[pupils["topic"] == "pupil.0.3d"]["timestamp"])


@given(st.floats(1, 100), st.floats(1, 4), st.floats(-180, 180), st.floats(-200, 200), st.floats(-200, 200))
def test_the_box_is_the_smallest_around_the_ellipse(minor: float, ratio: float, angle: float, x: float, y: float):
    from gazed_plugins.export.poses.streams import PUPIL_2D
    from gazed_plugins.export.poses.via import boxes

    given_values = {
        "ellipse_center_x": x, "ellipse_center_y": y, "ellipse_axis_a": minor, "ellipse_axis_b": minor * ratio,
        "ellipse_angle": angle, "diameter": 0.0, "norm_pos_x": 0.0, "norm_pos_y": 0.0,
    }  # fmt: skip
    values = {name: np.array([value]) for name, value in given_values.items()}
    [(left, top, width, height)] = boxes(Poses("eye0", PUPIL_2D, np.zeros(1), np.ones(1), values, None)).tolist()
    turn, around = np.radians(angle), np.linspace(0, 2 * np.pi, 2000)
    a, b = minor / 2 * np.cos(around), minor * ratio / 2 * np.sin(around)
    xs, ys = x + a * np.cos(turn) - b * np.sin(turn), y + a * np.sin(turn) + b * np.cos(turn)
    near = 1e-4 * minor * ratio
    assert [left, top] == pytest.approx([xs.min(), ys.min()], abs=near)
    assert [left + width, top + height] == pytest.approx([xs.max(), ys.max()], abs=near)


def test_what_cannot_be_exported_says_why(rich: Path, tmp_path: Path) -> None:
    for args in ({"file": "xlsx"}, {"method": 3}, {"dims": "plural"}):
        with pytest.raises(PluginArgument):
            DeepLabCutExporter(args)
    with pytest.raises(PluginArgument, match="no argument 'file'"):
        ViaExporter({"file": "csv"})
    bare = make_recording(tmp_path, streams=("world",), datums=0, frames=2)
    for name, _ in FORMATS:
        with pytest.raises(NothingToExport):
            export_recording(bare, name, tmp_path / "out")


def test_long_recordings_are_written_in_pieces(poses: Poses, tmp_path: Path) -> None:
    long = poses[np.arange(40_000) % len(poses)]
    told: list[int] = []
    DeepLabCutExporter({}).write_poses(long, tmp_path, Steps(lambda done, _: told.append(done), 40_000))
    DeepLabCutExporter({"file": "csv"}).write_poses(long, tmp_path, Steps(lambda done, _: told.append(done), 40_000))
    back = pd.read_csv(tmp_path / "eye0.csv", header=[0, 1, 2, 3], index_col=0)
    np.testing.assert_array_equal(pd.read_hdf(tmp_path / "eye0.h5").to_numpy(), back.to_numpy())
    assert back.index.tolist() == list(range(40_000))
