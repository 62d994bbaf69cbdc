"""Keypoints from files: every format of pose estimation, arrays, and files that are something else, or worse."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("cv2")
pytest.importorskip("h5py")
pytest.importorskip("tables")

import h5py
import pandas as pd
import tables

from gazed_plugins.errors import PluginArgument
from gazed_plugins.keypoints.errors import NotKeypoints, UnsafeFile
from gazed_plugins.keypoints.load import load_tracks
from gazed_plugins.keypoints.pickles import refuse_programs
from gazed_plugins.keypoints.testing import NAMES, TrackedPupils, save_npz
from gazed_plugins.keypoints.tracks import Tracks

needs_movement = pytest.mark.skipif(find_spec("movement") is None, reason="needs gazed[movement]")
FILES = Path(__file__).with_name("keypoint_files.py")


@needs_movement
def test_every_format_of_pose_estimation(tmp_path: Path) -> None:
    truth, rng = TrackedPupils(50), np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.01, 0.05, 50))
    spatial = rng.uniform(20, 100, (50, 3, len(NAMES)))
    given_file = truth.save(tmp_path / "truth", spatial=spatial, times=times).with_suffix(".npz")
    subprocess.run(
        [sys.executable, str(FILES), str(given_file), str(tmp_path)],
        env={**os.environ, "HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"},
        check=True,
        capture_output=True,
    )
    single = ("single.csv", "lightning.csv")
    several = ("table.h5", "fixed.h5", "tracked.analysis.h5", "tracked.slp", "session.nwb")
    for name in (*single, *several, "anipose.csv"):
        with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as found:
            near = 1e-5 if name.startswith("tracked") else 0.0
            wanted = spatial if name == "anipose.csv" else truth.position
            np.testing.assert_allclose(found["position"][..., 0], wanted, rtol=0, atol=near)
            np.testing.assert_allclose(found["confidence"][..., 0], truth.confidence, rtol=0, atol=near)
            assert tuple(found["keypoints"].tolist()) == NAMES
            if name in several:
                assert found["individuals"].tolist() == ["mouse"]
            # movement's own reader makes a constant rate of these.
            if name == "session.nwb":
                np.testing.assert_array_equal(found["times"], times)
    for name in ("table.h5", "fixed.h5"):
        refuse_programs(tmp_path / name)


@needs_movement
def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    """movement says why, from its own process; the home folder stays as it is."""
    path = tmp_path / "eye.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(NotKeypoints, match=r"eye\.csv: not read as DeepLabCut: ValueError: .*csv header rows"):
        load_tracks(path, "DeepLabCut")
    for software in ("DeepLabCut", "NWB", "SLEAP"):
        with pytest.raises(FileNotFoundError):
            load_tracks(tmp_path / "nowhere.h5", software)
    with pytest.raises(PluginArgument, match="got 'Excel'"):
        load_tracks(path, "Excel")


def test_numpy_arrays_as_movement_has_them(tmp_path: Path) -> None:
    truth = TrackedPupils(4)
    np.save(tmp_path / "three.npy", truth.position)
    np.save(tmp_path / "four.npy", truth.position[..., None])
    for name in ("three.npy", "four.npy"):
        found = load_tracks(tmp_path / name, "numpy")
        assert (found.keypoints[0], found.individuals) == ("keypoint_0", ("id_0",))
        # Nobody says how sure they are.
        assert (found.of(None, "eye0", None).confidence == 1).all()
    names = {"keypoint_names": np.array(NAMES), "individual_names": np.array(["left", "right"])}
    both = save_npz(
        tmp_path / "both.npz",
        position_array=np.stack([truth.position, truth.position + 1], axis=-1),
        confidence_array=np.stack([truth.confidence] * 2, axis=-1),
        timestamps=np.arange(4.0),
        **names,
    )
    found = load_tracks(both, "numpy")
    right = found.of("right", "eye0", ["edge1", "edge0", "edge2", "edge3", "edge7"])
    np.testing.assert_array_equal(right.position[:, :, 0], truth.position[:, :, 1] + 1)
    np.testing.assert_array_equal(right.confidence[:, 4], truth.confidence[:, 7])
    assert right.times is not None
    with pytest.raises(NotKeypoints, match="individuals left, right"):
        found.of(None, "eye0", None)
    with pytest.raises(NotKeypoints, match="no individual 'middle', found left, right"):
        found.of("middle", "eye0", None)
    with pytest.raises(NotKeypoints, match="no keypoint 'edge9'"):
        found.of("left", "eye0", ["edge9"])
    with pytest.raises(NotKeypoints, match="needs 5 keypoints on the edge of the pupil, found 2: edge0, edge1"):
        found.of("left", "eye0", ["edge0", "edge1"])


def test_a_centre_is_no_point_of_the_edge() -> None:
    names = ("Pupil_Centre", *NAMES, "center")
    tracks = Tracks(np.zeros((1, 2, 10, 1)), np.ones((1, 10, 1)), names, ("eye1",), "test")
    assert tracks.of(None, "eye1", None).names == NAMES
    two = Tracks(np.zeros((1, 2, 10, 2)), np.ones((1, 10, 2)), names, ("eye0", "eye1"), "test")
    assert len(two.of(None, "eye1", None)) == 1


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"position": np.zeros((3, 8, 2))}, r"have the shape \(3, 8, 2, 1\)"),
        ({"position": np.zeros(5)}, "1-D of float64, wanted 3 or 4-D"),
        ({"position": np.zeros((3, 2, 8), "U1")}, "of <U1"),
        ({"position": np.zeros((3, 2, 8)), "confidence": np.zeros((3, 7))}, r"confidences have the shape"),
        ({"position": np.zeros((3, 2, 8)), "keypoints": np.array(["a", "a"])}, "8 keypoints have the names"),
        ({"position": np.zeros((3, 2, 8)), "times": np.array([1.0, np.nan, 2.0])}, "some are no numbers"),
        ({"position": np.zeros((3, 2, 8)), "times": np.arange(2.0)}, "times of the shape"),
        ({"pose": np.zeros((3, 2, 8))}, r"holds the arrays \['pose'\]"),
        ({"position": np.array([print], object)}, "one of Python objects"),
    ],
)
def test_arrays_that_are_none(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(NotKeypoints, match=said):
        load_tracks(save_npz(tmp_path / "eye.npz", **arrays), "numpy")


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    for name, content in (("a.npy", b"no array"), ("b.npz", b"PK no archive"), ("c.npy", b""), ("d.nc", b"no netCDF")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NotKeypoints, match=name):
            load_tracks(tmp_path / name, "netCDF" if name == "d.nc" else "numpy")
    with h5py.File(tmp_path / "other.nc", "w") as file:
        file["temperature"] = np.zeros(3)
    with pytest.raises(NotKeypoints, match="no dataset of poses"):
        load_tracks(tmp_path / "other.nc", "netCDF")
    bomb = tmp_path / "bomb.npz"
    save_npz(bomb, position=np.zeros((3, 2, 8)))
    # An archive that says it unpacks into 4 GiB.
    content = bytearray(bomb.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    bomb.write_bytes(content)
    with pytest.raises(NotKeypoints, match="wanted at most 2147483648"):
        load_tracks(bomb, "numpy")


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/gazed-must-not-be",)


# Python ends at the text that is not ASCII, and PyTables then tries the whole once more in another encoding.
_IN_TWO_STEPS = b"S'\xff'\n0cos\nsystem\n(S'touch /tmp/gazed-must-not-be'\ntR."


@needs_movement
@pytest.mark.parametrize("payload", [*(pickle.dumps(_Evil(), number) for number in range(6)), _IN_TWO_STEPS])
def test_programs_in_hdf5_are_refused_unread(payload: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tracked.h5"
    pd.DataFrame(np.zeros((3, 3))).to_hdf(path, key="df_with_missing", mode="w")
    refuse_programs(path)
    with h5py.File(path, "a") as file:
        file["df_with_missing"].attrs.create("non_index_axes", np.bytes_(payload))
    with pytest.raises(UnsafeFile, match="'non_index_axes' of /df_with_missing is a pickle that may run a program"):
        load_tracks(path, "DeepLabCut")


def test_programs_elsewhere_in_hdf5(tmp_path: Path) -> None:
    objects, linked, text = (tmp_path / name for name in ("objects.h5", "linked.h5", "text.h5"))
    with tables.open_file(objects, "w") as file:
        file.create_vlarray("/", "rows", tables.ObjectAtom()).append(_Evil)
    with pytest.raises(UnsafeFile, match="may hold objects as pickles"):
        refuse_programs(objects)
    with h5py.File(linked, "w") as file:
        file["df_with_missing"] = h5py.ExternalLink(str(objects), "/rows")
    with pytest.raises(UnsafeFile, match="is a link to elsewhere"):
        refuse_programs(linked)
    with h5py.File(text, "w") as file:
        file.attrs.create("TITLE", "Tracked by us.", dtype=h5py.string_dtype())
        file.attrs["count"] = 3
        file["a"] = np.zeros(3)
        file["a"].attrs["CLASS"] = np.bytes_("ARRAY")
    refuse_programs(text)
    (tmp_path / "no.h5").write_bytes(b"\x89HDF and no more")
    with pytest.raises(NotKeypoints, match="no HDF5 file"):
        refuse_programs(tmp_path / "no.h5")


@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(), lambda each: st.lists(each, max_size=3)))
def test_what_pandas_keeps_as_pickles_is_none_of_them(value: Any) -> None:
    from gazed_plugins.keypoints.pickles import may_run

    packed = pickle.dumps(value, 0)
    assume(packed.isascii())
    assert not may_run(packed)
