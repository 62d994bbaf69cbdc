"""Datasets in movement's layout, of pupils and gaze, and their netCDF files."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

import xarray as xr

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.hdf5 import writing_hdf5
from gazed_plugins.export.poses.layout import load_dataset
from gazed_plugins.export.poses.netcdf import NetcdfExporter
from gazed_plugins.export.poses.streams import ellipse_points
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import check_exporter
from gazed_plugins.offline_data import write_log
from gazed_recorder.reader import Recording
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording

# netCDF4, which xarray prefers for reading where it is there, was built for an older numpy; numpy calls it harmless.
pytestmark = pytest.mark.filterwarnings("ignore:numpy.ndarray size changed:RuntimeWarning")

STREAMS = ["eye0", "eye0_3d", "eye1", "eye1_3d", "gaze", "gaze_3d"]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rich_recording(tmp_path_factory.mktemp("rich"), seconds=1.5)


def pupil(at: float, angle: float = 0.0, kind: str = "2d", **more: Any) -> dict[str, Any]:
    ellipse = {"center": [10.0 * at, 20.0], "axes": [8.0, 12.0], "angle": angle}
    datum = {"id": 0, "topic": f"pupil.0.{kind}", "method": "test", "norm_pos": [0.5, 0.5], "diameter": 12.0}
    return {**datum, "confidence": 1.0, "timestamp": at, "ellipse": ellipse, **more}


def recording_of(root: Path, datums: list[dict[str, Any]], **options: Any) -> Path:
    """Make a recording with just these pupils."""
    folder = make_recording(root, datums=0, **options)
    for path in folder.glob("pupil*"):
        path.unlink()
    write_log(folder, "pupil", ((datum["topic"], datum["timestamp"], msgpack.packb(datum)) for datum in datums))
    return folder


@pytest.mark.parametrize("args", [{}, {"dims": "singular", "rate": 100, "method": "2d"}])
def test_the_contract(args: dict[str, Any], rich: Path, tmp_path: Path) -> None:
    written = check_exporter(NetcdfExporter, args, rich, tmp_path)
    wanted = STREAMS if not args else ["eye0", "eye1", "gaze", "gaze_3d"]
    assert sorted(path.stem for path in written.iterdir()) == wanted


def test_all_of_it_comes_back_to_the_last_bit(rich: Path, tmp_path: Path) -> None:
    path = Path(export_recording(rich, "netcdf", tmp_path).path)
    for stream in STREAMS:
        wanted = load_dataset(rich, stream)
        with xr.open_dataset(path / f"{stream}.nc") as found:
            xr.testing.assert_identical(found.load(), wanted)
            # And it can be written again, by plain xarray, with what somebody has computed.
            found.assign(speed=wanted.position.differentiate("time")).to_netcdf(tmp_path / f"{stream} again.nc")
    eye = load_dataset(rich, "eye0")
    assert eye.position.isnull().any()


def test_a_pupil_is_five_points_and_the_values_of_its_datum(rich: Path) -> None:
    recording = Recording(rich)
    table = recording.pupil
    table = table[table["topic"] == "pupil.0.3d"]
    eye = load_dataset(recording, "eye0")
    assert eye.position.dims == ("time", "space", "keypoints", "individuals")
    assert eye.position.shape == (len(table), 2, 5, 1)
    assert eye.confidence.dims == ("time", "keypoints", "individuals")
    assert eye.individuals.values.tolist() == ["eye0"]
    assert eye.space.values.tolist() == ["x", "y"]
    np.testing.assert_array_equal(eye.time, table["timestamp"])
    np.testing.assert_array_equal(eye.unix_ns, recording.clock.to_unix_ns(table["timestamp"]))
    np.testing.assert_array_equal(eye.position.sel(keypoints="center", space="x")[:, 0], table["ellipse_center_x"])
    for name in ("diameter", "diameter_3d", "ellipse_angle", "ellipse_axis_a", "norm_pos_y"):
        np.testing.assert_array_equal(eye[name][:, 0], table[name])
    for keypoint in eye.keypoints.values:
        np.testing.assert_array_equal(eye.confidence.sel(keypoints=keypoint)[:, 0], table["confidence"])
    assert {"fps", "video_path"}.isdisjoint(eye.attrs)
    assert eye.nominal_rate == pytest.approx(120, rel=1e-3)
    told = ("source_software", "ds_type", "time_unit", "source_file", "image_width", "method")
    assert [eye.attrs[name] for name in told] == ["gazed", "poses", "seconds", "rich", 192, "3d: pye3d 0.3.2 real-time"]


def test_eyeballs_and_gaze(rich: Path) -> None:
    recording = Recording(rich)
    gaze, table = load_dataset(recording, "gaze"), recording.gaze
    np.testing.assert_array_equal(gaze.position.squeeze().sel(space="x"), table["norm_pos_x"] * 320)
    np.testing.assert_array_equal(gaze.position.squeeze().sel(space="y"), (1 - table["norm_pos_y"]) * 240)
    spatial = load_dataset(recording, "gaze_3d").position.squeeze()
    np.testing.assert_array_equal(spatial.sel(keypoints="gaze_point", space="z"), table["gaze_point_3d_z"])
    np.testing.assert_array_equal(spatial.sel(keypoints="eye_center1", space="x"), table["eye_center1_3d_x"])
    eye = load_dataset(recording, "eye1_3d")
    assert eye.sizes["space"] == 3
    assert eye.individuals.item() == "eye1"
    pupils = recording.pupil[recording.pupil["topic"] == "pupil.1.3d"]
    np.testing.assert_array_equal(eye.position.sel(keypoints="pupil_center")[:, 1, 0], pupils["circle_3d_center_y"])
    np.testing.assert_array_equal(eye.theta[:, 0], pupils["theta"])


def test_both_spellings_of_movement(rich: Path) -> None:
    old, new = load_dataset(rich, "eye0"), load_dataset(rich, "eye0", dims="singular")
    assert new.position.dims == ("time", "space", "keypoint", "individual")
    xr.testing.assert_identical(old.rename(keypoints="keypoint", individuals="individual"), new)


def test_methods_are_never_mixed(rich: Path, tmp_path: Path) -> None:
    found = load_dataset(rich, "eye0", method="2d")
    table = Recording(rich).pupil
    np.testing.assert_array_equal(found.diameter[:, 0], table[table["topic"] == "pupil.0.2d"]["diameter"])
    assert found.method == "2d: 2d c++"
    assert "diameter_3d" not in found
    with pytest.raises(NothingToExport, match="no poses 'eye0_3d', found eye0, eye1, gaze, gaze_3d"):
        load_dataset(rich, "eye0_3d", method="2d")
    # An eye that has a 3-D pupil only at the end: all of its 2-D ones are left out. And eyes that have none are 2-D.
    late = recording_of(tmp_path, [*(pupil(1.0 + n) for n in range(5)), pupil(9.0, kind="3d"), pupil(1.5, id=1)])
    assert load_dataset(late, "eye0").time.values.tolist() == [9.0]
    assert load_dataset(late, "eye1").time.values.tolist() == [1.5]
    only_2d = recording_of(tmp_path, [pupil(1.0), pupil(2.0)])
    with pytest.raises(NothingToExport, match="found none"):
        load_dataset(only_2d, "eye0", method="3d")


def test_old_topics_do_not_tell_the_method(tmp_path: Path) -> None:
    old = [pupil(1.0, topic="pupil.0", method="2d c++"), pupil(2.0, topic="pupil.0", method="3d c++")]
    folder = recording_of(tmp_path, old)
    assert load_dataset(folder, "eye0").time.values.tolist() == [2.0]
    assert load_dataset(folder, "eye0", method="2d").time.values.tolist() == [1.0]


def test_a_recording_that_does_not_tell_when_it_began(rich: Path, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(rich, tmp_path / "torn"))
    for name in ("manifest.json", "info.player.json", "info.csv"):
        (torn / name).unlink()
    assert "unix_ns" not in load_dataset(torn, "eye0").coords
    written = Path(export_recording(torn, "via", tmp_path / "out").path)
    assert (written / "eye0.timestamps.csv").read_text().splitlines()[1].endswith(",")


def test_an_ellipse_without_axes_is_none(tmp_path: Path) -> None:
    nothing = {"center": [0.0, 0.0], "axes": [0.0, 0.0], "angle": -90.0}
    folder = recording_of(tmp_path, [pupil(1.0), pupil(2.0, ellipse=nothing, confidence=0.0), pupil(3.0)])
    eye = load_dataset(folder, "eye0")
    assert eye.position.isnull().all(["space", "keypoints"]).values.ravel().tolist() == [False, True, False]
    assert eye.ellipse_angle.values.ravel().tolist() == [0.0, -90.0, 0.0]
    # In between, nobody knows.
    even = load_dataset(folder, "eye0", rate=2.0)
    assert even.time.values.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert even.confidence.sel(keypoints="center").values.ravel().tolist() == [1.0, 0.5, 0.0, 0.5, 1.0]
    found = even.position.notnull().all(["space", "keypoints"]).values.ravel().tolist()
    assert found == [True, False, False, False, True]


def test_a_regular_grid_for_all_streams(rich: Path) -> None:
    eyes = [load_dataset(rich, f"eye{eye}", rate=200.0) for eye in (0, 1)]
    for eye in eyes:
        assert eye.fps == 200.0
        assert "nominal_rate" not in eye.attrs
        np.testing.assert_allclose(np.diff(eye.time), 0.005, rtol=0, atol=1e-12)
    both = xr.merge(eyes, join="outer", compat="no_conflicts", combine_attrs="drop_conflicts")
    assert both.individuals.values.tolist() == ["eye0", "eye1"]
    assert both.sizes["time"] <= max(eye.sizes["time"] for eye in eyes) + 2
    exact = load_dataset(rich, "eye0")
    x = exact.position.sel(keypoints="center", space="x")[:, 0]
    known = eyes[0].position.sel(keypoints="center", space="x")[:, 0].dropna("time")
    np.testing.assert_allclose(known, np.interp(known.time, x.time, x), rtol=0, atol=1e-9)


def test_gaps_stay_gaps_and_angles_turn_the_shorter_way(tmp_path: Path) -> None:
    times = [*np.arange(1.0, 2.0, 0.1), *np.arange(3.0, 4.0, 0.1)]
    folder = recording_of(tmp_path, [pupil(at, angle=(89.0, -89.0)[n % 2]) for n, at in enumerate(times)])
    even = load_dataset(folder, "eye0", rate=40.0)
    gap = (even.time > 1.9 + 1e-9) & (even.time < 3.0 - 1e-9)
    assert even.position.isnull().any(["space", "keypoints"]).values.ravel().tolist() == gap.values.tolist()
    assert (even.confidence[gap.values] == 0).all()
    # From 89 to -89 degrees is two, not a half turn: the long axis stays level, and its ends where they are.
    known = even.isel(time=~gap.values, individuals=0)
    assert (np.abs(np.abs(known.ellipse_angle) - 90) < 1 + 1e-9).all()
    long = known.position.sel(keypoints="major_a") - known.position.sel(keypoints="center")
    assert (np.abs(long.sel(space="x")) > 5.99).all()


@given(
    st.tuples(*[st.floats(-500, 500)] * 2), st.floats(0.1, 200), st.floats(1, 5), st.floats(-360, 360, exclude_max=True)
)
def test_the_ellipse_can_be_made_of_its_points(center: tuple[float, float], minor: float, ratio: float, angle: float):
    values = dict(
        zip(("ellipse_center_x", "ellipse_center_y"), (np.array([each]) for each in center), strict=True),
        ellipse_axis_a=np.array([minor]),
        ellipse_axis_b=np.array([minor * ratio]),
        ellipse_angle=np.array([angle]),
    )
    found = ellipse_points(values)[0].T
    assert found[0].tolist() == list(center)
    (major_x, major_y), (minor_x, minor_y) = found[1] - found[2], found[3] - found[4]
    assert math.hypot(major_x, major_y) == pytest.approx(minor * ratio, abs=1e-9)
    assert math.hypot(minor_x, minor_y) == pytest.approx(minor, abs=1e-9)
    turned = math.degrees(math.atan2(minor_y, minor_x)) - angle
    assert min(turned % 180, 180 - turned % 180) < 1e-6 * max(1, 500 / minor)


def test_what_cannot_be_exported_says_why(rich: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToExport, match="no poses 'eye7', found eye0, eye0_3d, eye1, eye1_3d, gaze, gaze_3d"):
        load_dataset(rich, "eye7")
    for args in ({"method": "4d"}, {"dims": "many"}, {"rate": "fast"}, {"rate": 0}, {"rates": 5}):
        with pytest.raises(PluginArgument):
            NetcdfExporter(args)
    bare = make_recording(tmp_path, streams=("world",), datums=0, frames=2)
    with pytest.raises(NothingToExport, match="neither pupils nor gaze"):
        export_recording(bare, "netcdf", tmp_path / "out")
    assert list(tmp_path.glob("out/*")) == []


def test_an_error_while_hdf5_is_written_is_that_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), writing_hdf5(tmp_path / "a.h5"):
        raise ValueError("mine")
    with pytest.raises(FileExistsError), writing_hdf5(tmp_path / "a.h5"):
        pass
