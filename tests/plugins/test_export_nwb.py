"""NWB: what pynwb, its validator, nwbinspector and movement read is what was recorded."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

pytest.importorskip("pynwb")
pytest.importorskip("ndx_pose")

import pynwb

from gazed_bus.intrinsics import pack_intrinsics
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.nwb.exporter import NwbExporter
from gazed_plugins.export.origins import eyes_of_gaze
from gazed_plugins.export.poses.streams import ellipse_points
from gazed_plugins.export.testing import check_exporter
from gazed_plugins.offline_data import write_log
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_classic import make_classic_recording
from gazed_recorder.testing_rich import make_rich_recording

WHO = {
    "subject": "S 1",
    "species": "Homo sapiens",
    "sex": "F",
    "age": "P25Y/P30Y",
    "subject_description": "wore no glasses",
    "experimenter": "Curie, Marie",
    "institution": "Sorbonne",
    "experiment_description": "Looking at things.",
}


class InPieces(Recording):
    """Streams very few rows at a time, so that series are filled in many pieces."""

    def batches(self, name: str, rows: int = 97, columns: Sequence[str] | None = None) -> Iterator[Table]:
        return super().batches(name, rows, columns)


def export(recording: Recording, target: Path, **args: Any) -> Path:
    NwbExporter(args).write(recording, target, lambda _done, _total: None)
    return target if target.is_file() else target / f"{target.name.removesuffix('-nwb')}.nwb"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        yield io.read()


def bare(folder: Path, **logs: list[dict[str, Any]]) -> Recording:
    """Make a folder as a program without a manifest leaves it, with these logs."""
    folder.mkdir()
    info = {
        "recording_uuid": "",
        "recording_name": "jürgen/日本 \0\ud800",
        "recording_software_name": "Pupil Capture",
        "recording_software_version": "1.7.42",
        "start_time_system_s": 0.0,
        "start_time_synced_s": 5.0,
        "duration_s": 2.0,
    }
    (folder / "info.player.json").write_text(json.dumps(info))
    for name, datums in logs.items():
        write_log(folder, name, [(datum["topic"], datum["timestamp"], msgpack.packb(datum)) for datum in datums])
    return Recording(folder)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_rich_recording(tmp_path_factory.mktemp("rich"), seconds=1.5)
    world = {
        "camera_matrix": [[300.0, 0.0, 160.0], [0.0, 300.0, 120.0], [0.0, 0.0, 1.0]],
        "dist_coefs": [[0.1, 0.0, 0.0, 0.0, 0.2]],
        "cam_type": "radial",
        "resolution": [320, 240],
    }
    (folder / "world.intrinsics").write_bytes(pack_intrinsics(world, 320, 240))
    # No camera is as regular as a formula, and nwbinspector would tell.
    stamps = np.load(folder / "world_timestamps.npy")
    np.save(folder / "world_timestamps.npy", stamps + 1e-5 * np.sin(1.7 * np.arange(len(stamps))))
    return folder


@pytest.fixture(scope="module")
def exported(rich: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(InPieces(rich), tmp_path_factory.mktemp("nwb") / "rich-000-nwb", **WHO)


@pytest.mark.parametrize("args", [{}, {**WHO, "videos": "none"}])
def test_it_keeps_the_contract(rich: Path, tmp_path: Path, args: dict[str, str]) -> None:
    target = check_exporter(NwbExporter, args, rich, tmp_path)
    names = ["eye0.mp4", "eye1.mp4", "session_A-000.nwb", "world.mp4"]
    assert target.name == ("session_A-000.nwb" if args else "session_A-000-nwb")
    assert args or sorted(path.name for path in target.iterdir()) == names


def test_the_validators_have_nothing_to_say(exported: Path) -> None:
    nwbinspector = pytest.importorskip("nwbinspector")
    assert pynwb.validate(path=str(exported)) == []
    found = list(nwbinspector.inspect_nwbfile(nwbfile_path=str(exported)))
    # Two blinks in a second and a half would be many.
    assert [(each.check_function_name, each.object_name) for each in found] == [("check_single_row", "blinks")]
    strict = nwbinspector.inspect_nwbfile(nwbfile_path=str(exported), config=nwbinspector.load_config("dandi"))
    assert [each for each in strict if each.importance.name != "BEST_PRACTICE_SUGGESTION"] == []


def test_series_have_exactly_the_columns(rich: Path, exported: Path) -> None:
    recording = Recording(rich)
    zero = recording.info.start_time_synced_s
    pupil = recording.pupil
    columns = {"2d": ("diameter", "confidence"), "3d": ("diameter", "diameter_3d", "confidence", "model_confidence")}
    series: dict[str, tuple[Table, np.ndarray[Any, Any]]] = {}
    for eye in (0, 1):
        for kind, names in columns.items():
            rows = pupil[(pupil["eye_id"] == eye) & (pupil["topic"] == f"pupil.{eye}.{kind}")]
            assert len(rows) == 180
            for name in names:
                series[f"eye{eye}_{kind}_{name}"] = rows, rows[name]
            for name in ("sphere_center", "circle_3d_center", "circle_3d_normal") if kind == "3d" else ():
                series[f"eye{eye}_{kind}_{name}"] = rows, vectors(rows, name)
    gaze = recording.gaze
    for name in ("gaze_point_3d", "eye_center0_3d", "gaze_normal0", "eye_center1_3d", "gaze_normal1"):
        series[f"gaze_3d_{name}"] = gaze, vectors(gaze, name)
    place = np.stack([gaze["norm_pos_x"], gaze["norm_pos_y"]], axis=1)
    series |= {"gaze_3d_confidence": (gaze, gaze["confidence"]), "gaze_3d_norm_pos": (gaze, place)}
    series["gaze_3d_pixel_pos"] = gaze, np.stack([place[:, 0] * 320, (1 - place[:, 1]) * 240], axis=1)
    with opened(exported) as content:
        behavior = content.processing["behavior"]
        found = {
            **behavior["PupilTracking"].time_series,
            **behavior["EyeTracking"].spatial_series,
            **behavior["BehavioralTimeSeries"].time_series,
        }
        assert sorted(found) == sorted(series)
        for name, (rows, values) in series.items():
            np.testing.assert_array_equal(found[name].data[:], values, err_msg=name)
            np.testing.assert_array_equal(found[name].timestamps[:] + zero, rows["timestamp"], err_msg=name)
            assert found[name].data.compression == "gzip"
        in_mm = {name for name in found if found[name].conversion == 1e-3}
        assert in_mm == {name for name in found if found[name].unit == "meters"}
        assert len(in_mm) == 9
        np.testing.assert_array_equal(found["gaze_3d_norm_pos"].control[:], eyes_of_gaze(gaze))
        assert set(eyes_of_gaze(gaze).tolist()) == {0, 1, 2}


def vectors(rows: Table, name: str) -> np.ndarray[Any, Any]:
    return np.stack([rows[f"{name}_{axis}"] for axis in "xyz"], axis=1)


def test_ellipses_are_poses(rich: Path, exported: Path) -> None:
    pupil = Recording(rich).pupil
    with opened(exported) as content:
        behavior = content.processing["behavior"]
        for key, eye, kind in (
            ("PoseEstimation", 0, "2d"),
            ("PoseEstimation_eye0_3d", 0, "3d"),
            ("PoseEstimation_eye1_2d", 1, "2d"),
            ("PoseEstimation_eye1_3d", 1, "3d"),
        ):
            rows = pupil[pupil["topic"] == f"pupil.{eye}.{kind}"]
            points = ellipse_points({name: rows[name] for name in rows.columns if name.startswith("ellipse")})
            pose = behavior[key]
            assert pose.device is content.devices[f"eye{eye}_camera"]
            assert pose.source_video is content.acquisition[f"eye{eye}_video"]
            assert (pose.scorer, pose.source_software) == (rows["method"][0], "Pupil Capture")
            nodes = pose.skeleton.nodes[:].tolist()
            assert nodes == ["center", "major_a", "major_b", "minor_a", "minor_b"]
            for number, node in enumerate(nodes):
                np.testing.assert_array_equal(pose[node].data[:], points[:, :, number])
                np.testing.assert_array_equal(pose[node].confidence[:], rows["confidence"])


def test_movement_reads_the_first_eye(rich: Path, exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("movement")
    code = (
        "import sys; from movement.io import load_dataset; import numpy as np\n"
        "data = load_dataset(sys.argv[1], source_software='NWB')\n"
        "np.savez(sys.argv[2], position=data.position.squeeze(), confidence=data.confidence.squeeze(),\n"
        "    keypoints=data[data.position.dims[2]], who=data[data.position.dims[3]], fps=data.fps)\n"
    )
    # A process of its own: it writes a log into the home folder.
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported), str(tmp_path / "read.npz")],
        env={"HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pupil = Recording(rich).pupil
    rows = pupil[pupil["topic"] == "pupil.0.2d"]
    with np.load(tmp_path / "read.npz") as read:
        assert read["keypoints"].tolist() == ["center", "major_a", "major_b", "minor_a", "minor_b"]
        points = ellipse_points({name: rows[name] for name in rows.columns if name.startswith("ellipse")})
        np.testing.assert_array_equal(read["position"], points)
        np.testing.assert_array_equal(read["confidence"][:, 0], rows["confidence"])
        assert read["who"].tolist() == [str(uuid.UUID(int=1))]
        assert read["fps"] == pytest.approx(120, abs=0.3)


def test_events_and_clocks(rich: Path, exported: Path) -> None:
    recording = Recording(rich)
    zero = recording.info.start_time_synced_s
    with opened(exported) as content:
        tables = {name: table.to_dataframe() for name, table in content.events.items()}
        assert content.identifier == recording.info.recording_uuid
        start = content.session_start_time
    assert start == datetime.fromtimestamp(recording.info.start_time_system_s, UTC)
    assert sorted(tables) == ["annotations", "blinks", "clock", "fixations", "notifications"]
    onset, offset = recording.blinks["timestamp"]
    assert tables["blinks"].to_numpy().tolist() == [[onset - zero, offset - onset, 0.61]]
    fixations = recording.fixations[1::2]
    assert tables["fixations"]["timestamp"].tolist() == (fixations["timestamp"] - zero).tolist()
    assert tables["fixations"]["duration"].to_numpy() == pytest.approx(0.25)
    assert tables["fixations"]["norm_pos_x"].tolist() == fixations["norm_pos_x"].tolist()
    annotations = tables["annotations"]
    assert annotations["annotation"].tolist() == ["trial 0", "Knopf gedrückt", "trial 1"]
    assert annotations["duration"].tolist() == [0.4, 0.0, 0.4]
    assert annotations["side"].tolist() == ["", "left", ""]
    assert annotations["trial"].tolist()[::2] == [0.0, 1.0]
    assert math.isnan(annotations["trial"][1])
    notes = tables["notifications"]
    assert notes["subject"].tolist() == ["recording.started", "calibration.result.v2", "stimulus", "recording.stopped"]
    assert notes["content"][2] == 'name = "fixation cross"\nposition = [0.5,0.5]\nrecord = true'
    clock = tables["clock"]
    assert clock["unix_ns"].tolist() == [pair.unix for pair in recording.clock.pairs]
    np.testing.assert_allclose(clock["unix_ns"] / 1e9, recording.to_unix(clock["pupil_time"].to_numpy()), atol=1e-6)
    np.testing.assert_array_equal(clock["timestamp"] + zero, clock["pupil_time"])


def test_cameras_and_the_wearer(rich: Path, exported: Path, tmp_path: Path) -> None:
    with opened(exported) as content:
        assert sorted(content.devices) == ["eye0_camera", "eye1_camera", "world_camera"]
        assert content.devices["world_camera"].intrinsic_matrix[0, 0] == 300.0
        assert content.devices["world_camera"].distortion_coefficients[:].tolist() == [0.1, 0.0, 0.0, 0.0, 0.2]
        assert not hasattr(content.devices["eye0_camera"], "intrinsic_matrix")
        subject = content.subject
        assert (subject.subject_id, subject.sex, subject.age) == ("S 1", "F", "P25Y/P30Y")
    with opened(export(Recording(rich), tmp_path / "a.nwb", videos="none")) as content:
        assert (content.subject.subject_id, content.subject.sex, content.subject.species) == ("P 0", "U", None)
        assert len(content.acquisition) == 0
        assert content.processing["behavior"]["PoseEstimation"].source_video is None


@pytest.mark.parametrize("videos", ["copy", "link"])
def test_videos_in_parts_stand_beside_it(tmp_path: Path, videos: str) -> None:
    folder = make_recording(tmp_path, frames=30, parts=3)
    recording = Recording(folder)
    path = export(recording, tmp_path / "all-nwb", videos=videos)
    with opened(path) as content:
        video = content.acquisition["world_video"]
        assert video.external_file[:].tolist() == ["world.mp4", "world_001.mp4", "world_002.mp4"]
        assert video.starting_frame[:].tolist() == [0, 10, 20]
        assert video.dimension[:].tolist() == [64, 48]
        np.testing.assert_array_equal(video.timestamps[:] + 100.0, recording.world.timestamps)
        for name in video.external_file[:]:
            beside = path.parent / name
            assert beside.read_bytes() == (folder / name).read_bytes()
            assert beside.samefile(folder / name) == (videos == "link")


def test_what_is_2d_and_what_is_3d_never_shares_a_series(tmp_path: Path) -> None:
    pupils = [
        {"topic": "pupil.0", "id": 0, "method": method, "timestamp": 5.0 + at, "confidence": 0.9, "diameter": 40.0 + at}
        for at, method in enumerate(("2d c++", "3d c++", "2d c++"))
    ]
    gaze = [
        {"topic": "gaze.2d.0.", "timestamp": 5.0, "norm_pos": [0.1, 0.2], "confidence": 1.0, "base_data": [pupils[0]]},
        {"topic": "gaze.3d.2", "timestamp": 6.0, "norm_pos": [0.3, 0.4], "confidence": 0.5, "base_data": []},
        {
            "topic": "gaze",
            "timestamp": 7.0,
            "norm_pos": [0.5, 0.6],
            "confidence": 0.7,
            "gaze_point_3d": [1.0, 2.0, 3.0],
        },
    ]
    with opened(export(bare(tmp_path / "mixed", pupil=pupils, gaze=gaze), tmp_path / "m.nwb")) as content:
        behavior = content.processing["behavior"]
        sizes, places = behavior["PupilTracking"].time_series, behavior["EyeTracking"].spatial_series
        assert sizes["eye0_2d_diameter"].data[:].tolist() == [40.0, 42.0]
        assert sizes["eye0_3d_diameter"].data[:].tolist() == [41.0]
        assert places["gaze_2d_norm_pos"].data[:].tolist() == [[0.1, 0.2]]
        assert places["gaze_3d_norm_pos"].data[:].tolist() == [[0.3, 0.4], [0.5, 0.6]]
        assert places["gaze_3d_norm_pos"].control[:].tolist() == [2, 3]
        assert "gaze_3d_pixel_pos" not in places


def test_odd_recordings(tmp_path: Path) -> None:
    """No manifest, no date, no UUID, names that no file can hold; each kind of data alone."""
    odd = {"": 1, "a/b:c": None, "id": [1, {"x": 2}], ".": b"\x00", "\0": True, "timestamp_": "t\0", "a": float("inf")}
    notes = [
        {"topic": "annotation", "timestamp": 5.5, "label": "\0é", **odd},
        {"topic": "annotation", "timestamp": 6.0},
    ]
    path = export(bare(tmp_path / "notes", annotation=notes), tmp_path / "notes.nwb")
    assert pynwb.validate(path=str(path)) == []
    with opened(path) as content:
        assert content.session_start_time == datetime.fromtimestamp(0, UTC)
        assert "not known" in content.notes
        assert content.session_id == "jürgen_日本 \N{REPLACEMENT CHARACTER}?"
        uuid.UUID(content.identifier)
        assert content.subject is None
        rows = content.events["annotations"].to_dataframe()
        assert rows["annotation"].tolist() == ["\N{REPLACEMENT CHARACTER}é", ""]
        assert sorted(set(rows) - {"timestamp", "duration", "annotation"}) == [
            "_", "a", "a_b_c", "id_2", "timestamp_", "unnamed", "unnamed_2",
        ]  # fmt: skip
    for name, datum in {
        "pupil": {"topic": "pupil.1.2d", "id": 1},
        "gaze": {"topic": "gaze.3d.1."},
        "blinks": {"topic": "blinks", "type": "onset"},
        "fixations": {"topic": "fixations", "id": 3, "duration": 200.0},
        "notify": {"topic": "notify.x", "subject": "x"},
    }.items():
        recording = bare(tmp_path / name, **{name: [{**datum, "timestamp": 4.9, "confidence": 0.5}]})
        with opened(export(recording, tmp_path / f"{name}.nwb")) as content:
            assert len(content.processing) + len(content.events) >= 1
    one_eye = Recording(make_rich_recording(tmp_path, seconds=0.5, eyes=(1,), methods=("2d",)))
    with opened(export(one_eye, tmp_path / "one-nwb")) as content:
        assert sorted(content.processing["behavior"]["PupilTracking"].time_series) == ["eye1_2d_diameter"]
        assert "left" in content.processing["behavior"]["PoseEstimation"].description
    for empty in (bare(tmp_path / "empty"), bare(tmp_path / "hollow", gaze=[])):
        with pytest.raises(NothingToExport, match="neither videos nor data"):
            export(empty, tmp_path / "empty.nwb")
    assert not (tmp_path / "empty.nwb").exists()


def test_samples_from_before_the_start_are_not_negative(tmp_path: Path) -> None:
    early = [{"topic": "gaze.2d.0.", "timestamp": at, "confidence": 1.0} for at in (-70.0, 4.75, 5.25)]
    with opened(export(bare(tmp_path / "near", gaze=early[1:]), tmp_path / "near.nwb")) as content:
        series = content.processing["behavior"]["EyeTracking"]["gaze_2d_norm_pos"]
        assert series.timestamps[:].tolist() == [0.0, 0.5]
        assert "0 s is Pupil time 4.75 s" in content.notes
    with opened(export(bare(tmp_path / "far", gaze=early), tmp_path / "far.nwb")) as content:
        series = content.processing["behavior"]["EyeTracking"]["gaze_2d_norm_pos"]
        assert series.timestamps[:].tolist() == [-75.0, -0.25, 0.25]


def test_a_recording_that_lost_its_description(tmp_path: Path) -> None:
    gaze = [{"topic": "gaze.2d.0.", "timestamp": at, "norm_pos": [0.1, 0.2]} for at in (7.5, 8.0)]
    folder = bare(tmp_path / "torn", gaze=gaze).path
    (folder / "info.player.json").unlink()
    path = export(Recording(folder), tmp_path / "torn.nwb")
    assert pynwb.validate(path=str(path)) == []
    with opened(path) as content:
        series = content.processing["behavior"]["EyeTracking"]["gaze_2d_norm_pos"]
        assert series.timestamps[:].tolist() == [0.0, 0.5]
        assert content.session_start_time == datetime.fromtimestamp(0, UTC)
        assert "not known" in content.notes
        assert not content.events


@pytest.mark.parametrize("version", ["0.7.4", "3.5"])
def test_recordings_of_pupil_capture(tmp_path: Path, version: str) -> None:
    recording = Recording(make_classic_recording(tmp_path, version, seconds=0.5, parts=2))
    path = export(recording, tmp_path / "classic-nwb")
    with opened(path) as content:
        behavior = content.processing["behavior"]
        kinds = ("3d",) if version < "2" else ("2d", "3d")
        assert sorted(behavior["PupilTracking"].time_series) == sorted(
            f"eye{eye}_{kind}_{name}"
            for eye in (0, 1)
            for kind in kinds
            for name in ("diameter", "diameter_3d")[: 2 if kind == "3d" else 1]
        )
        assert len(content.acquisition["world_video"].external_file) == 2
        gaze = behavior["EyeTracking"]["gaze_2d_norm_pos" if version == "0.7.4" else "gaze_3d_norm_pos"]
        np.testing.assert_array_equal(gaze.data[:, 0], recording.gaze["norm_pos_x"])


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"videos": "move"}, "copy, link, none"),
        ({"sex": "female"}, "M, F, O"),
        ({"age": "25"}, "P25Y"),
        ({"age": "P"}, "P25Y"),
        ({"species": "human"}, "Homo sapiens"),
        ({"subject": "a/b"}, "without slashes"),
        ({"lab": 7}, "a text"),
        ({"lab": "x" * 1001}, "a text"),
        ({"subjekt": "S"}, "subjekt"),
    ],
)
def test_arguments_are_checked(args: dict[str, object], text: str) -> None:
    with pytest.raises(PluginArgument, match=text):
        NwbExporter(args)
