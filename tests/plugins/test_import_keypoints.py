"""Keypoints as pupils of a recording: the ellipse through them, and which frames they are of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cv2")
pytest.importorskip("xarray")

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import AlreadyThere
from gazed_plugins.export.run import export_recording
from gazed_plugins.keypoints.ellipse import fit_circle, fit_ellipse, pupils
from gazed_plugins.keypoints.errors import FramesDiffer, ImportFailed, NotKeypoints
from gazed_plugins.keypoints.into import import_keypoints
from gazed_plugins.keypoints.testing import NAMES, SIZE, TrackedPupils, angle_between, on_ellipses, save_npz
from gazed_plugins.keypoints.tracks import Points
from gazed_plugins.offline_data import locked_folder
from gazed_recorder.errors import NotARecording, RecordingRefused
from gazed_recorder.reader import Recording
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording
from gazed_recorder.verify import verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording with 60 frames an eye."""
    return make_rich_recording(tmp_path / "recordings", seconds=0.5)


def test_how_near_the_truth_it_is() -> None:
    """Points with a noise of 0.4 px: the centre is known to 0.2 px, the axes to 0.5 px."""
    truth = TrackedPupils(2000, noise=0.4)
    points = truth.points
    found = [datum["ellipse"] for datum in pupils(points, 0, SIZE, 0.6)]
    center = np.array([each["center"] for each in found]) - truth.center
    axes = np.array([each["axes"] for each in found]) - np.stack([truth.minor, truth.major], axis=1)
    assert np.sqrt((center**2).mean()) < 0.21
    assert np.sqrt((axes**2).mean()) < 0.52
    long = truth.major > 1.3 * truth.minor
    assert np.median(angle_between([each["angle"] for each in found], truth.angle)[long]) < 2


@given(
    st.tuples(st.floats(-50, 2000), st.floats(-50, 2000)), st.floats(4, 400), st.floats(1, 5), st.floats(0, 180),
    st.integers(5, 24),
)  # fmt: skip
def test_points_without_noise_give_it_back(
    center: tuple[float, float], minor: float, ratio: float, angle: float, points: int
) -> None:
    [edge] = on_ellipses(np.array([center]), [minor], [minor * ratio], [angle], points)
    found = fit_ellipse(edge.T)
    assert found is not None
    near = 3e-3 * minor * ratio
    assert found.center == pytest.approx(center, abs=near)
    assert found.axes == pytest.approx((minor, minor * ratio), abs=near)
    assert found.axes[0] <= found.axes[1]
    assert 0 <= found.angle < 180
    assert ratio < 1.1 or angle_between(found.angle, angle) < 2


def test_the_angle_is_that_of_pupils_own_detector() -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("pupil_detectors")
    from gazed_plugins.pupil.detector import PupilDetector
    from gazed_plugins.pupil.intrinsics import EyeCamera
    from gazed_plugins.pupil.settings import PupilSettings

    settings = PupilSettings.of({"detect_3d": False, "gate": False, "properties": {"coarse_detection": False}})
    for angle in (10.0, 80.0, 125.0):
        image = (140 + 30 * np.random.default_rng(0).random((240, 320))).astype(np.uint8)
        image[:5] = 255
        cv2.ellipse(image, (150, 110), (18, 27), angle, 0, 360, 20, -1, cv2.LINE_AA)
        detector = PupilDetector(0, EyeCamera(300.0, (320, 240), "assumed"), settings)
        image = cv2.GaussianBlur(image, (0, 0), 1.2)
        [detected] = [detector.detect(image, float(number))[0] for number in range(3)][-1:]
        edge = on_ellipses(np.array([[150.0, 110.0]]), [36.0], [54.0], [angle])
        points = Points(NAMES, edge, np.ones((1, len(NAMES))), None, "test")
        [mine] = pupils(points, 0, (320, 240), 0.6)
        assert angle_between(mine["ellipse"]["angle"], detected["ellipse"]["angle"]) < 1
        assert mine["ellipse"]["axes"] == pytest.approx(detected["ellipse"]["axes"], abs=1.5)
        assert mine["norm_pos"] == pytest.approx(detected["norm_pos"], abs=1e-3)
        assert mine["diameter"] == mine["ellipse"]["axes"][1]
        assert {*mine} == {*detected} - {"timestamp"}


def test_points_that_are_on_no_ellipse() -> None:
    line = np.stack([np.arange(8.0), 2 * np.arange(8.0)], axis=1)
    assert fit_ellipse(line) is None
    assert fit_ellipse(np.ones((8, 2))) is None
    assert fit_ellipse(np.stack([np.arange(-4.0, 5.0), 0.001 * np.arange(-4.0, 5.0) ** 2], axis=1)) is None
    assert fit_circle(np.stack([np.arange(8.0), np.arange(8.0), np.arange(8.0)], axis=1)) is None


def test_confidence_is_that_of_the_points_times_their_share() -> None:
    truth = TrackedPupils(5)
    truth.confidence[:] = 0.9
    truth.confidence[0, :2] = 0.1
    truth.confidence[1, :4] = 0.1
    truth.position[2, :, :3] = np.nan
    truth.position[3] = np.nan
    truth.confidence[4] = 7.0
    points = truth.points
    found = list(pupils(points, 1, SIZE, 0.6))
    assert [datum["confidence"] for datum in found] == pytest.approx([0.9 * 6 / 8, 0.0, 0.9 * 5 / 8, 0.0, 1.0])
    nothing = {"ellipse": {"center": [0.0, 0.0], "axes": [0.0, 0.0], "angle": 0.0}, "norm_pos": [0.0, 1.0]}
    assert {key: found[3][key] for key in nothing} == nothing
    assert (found[0]["topic"], found[0]["id"], found[0]["method"]) == ("pupil.1.2d", 1, "keypoints test")


def test_points_in_space_are_a_circle() -> None:
    """A pupil of 4 mm, 40 mm in front of the camera and turned: its ellipse in the image, and itself."""
    normal = np.array([0.3, -0.2, -1.0]) / np.linalg.norm([0.3, -0.2, -1.0])
    first = np.cross(normal, [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first)
    around = np.linspace(0, 2 * np.pi, len(NAMES), endpoint=False)
    center = np.array([1.0, -2.0, 40.0])
    ring = center + 2.0 * (np.outer(np.cos(around), first) + np.outer(np.sin(around), np.cross(normal, first)))
    points = Points(NAMES, ring.T[None], np.ones((1, len(NAMES))), None, "Anipose")
    [datum] = pupils(points, 0, SIZE, 0.6, focal_length=300.0)
    assert datum["diameter_3d"] == pytest.approx(4.0, abs=1e-9)
    assert datum["circle_3d"]["center"] == pytest.approx(center, abs=1e-9)
    assert datum["circle_3d"]["normal"] == pytest.approx(normal, abs=1e-9)
    assert datum["ellipse"]["center"] == pytest.approx([300 * 1 / 40 + 96, 300 * -2 / 40 + 96], abs=0.3)
    assert datum["diameter"] == pytest.approx(300 * 4.0 / 40, abs=0.5)
    behind = Points(points.names, -points.position, points.confidence, None, "Anipose")
    assert next(pupils(behind, 0, SIZE, 0.6, focal_length=300.0))["confidence"] == 0


def test_into_a_recording(folder: Path, tmp_path: Path) -> None:
    truth, told = TrackedPupils(60), []
    truth.position[7] = np.nan
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = import_keypoints(
        truth.save(tmp_path / "eye.npz"), "numpy", folder, eye=1, progress=lambda *each: told.append(each)
    )
    assert (result.frames, result.rows, result.pupils, result.found, result.confident) == (60, 60, 60, 59, 59)
    assert result.keypoints == NAMES
    assert told[-1] == (60, 60)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    recording = Recording(folder, offline=True)
    table = recording.pupil
    np.testing.assert_array_equal(table["timestamp"], recording.timestamps("eye1"))
    assert set(table["topic"]) == {"pupil.1.2d"}
    assert set(table["method"]) == {"keypoints numpy"}
    good = np.arange(60) != 7
    np.testing.assert_allclose(table["ellipse_center_x"][good], truth.center[good, 0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(table["norm_pos_y"][good], 1 - truth.center[good, 1] / 192, rtol=0, atol=1e-5)
    np.testing.assert_allclose(table["ellipse_axis_a"][good], truth.minor[good], rtol=0, atol=1e-3)
    np.testing.assert_allclose(table["diameter"][good], truth.major[good], rtol=0, atol=1e-3)
    assert angle_between(table["ellipse_angle"][good], truth.angle[good]).max() < 0.1
    np.testing.assert_allclose(table["confidence"][good], truth.confidence.mean(axis=1)[good])
    assert table["confidence"][7] == 0
    offline = folder / "offline_data"
    assert sorted(path.name for path in offline.iterdir()) == [
        "offline_pupil.meta", "offline_pupil.pldata", "offline_pupil_timestamps.npy",
    ]  # fmt: skip
    meta = msgpack.unpackb((offline / "offline_pupil.meta").read_bytes())
    assert meta["version"] == 4
    assert meta["detection_status"] == ["No eye video found.", "complete"]
    assert meta["imported"] == {"eye1": {"source": "numpy", "keypoints": list(NAMES)}}
    assert verify(folder).ok


def test_eyes_stand_beside_each_other_and_none_is_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    import_one = partial(import_keypoints, software="numpy", folder=folder)
    first, second = (TrackedPupils(60, seed=seed).save(tmp_path / f"{seed}.npz") for seed in (1, 2))
    import_one(first, eye=0)
    import_one(first, eye=1)
    both = Recording(folder, offline=True).pupil
    assert len(both) == 120
    assert (np.diff(both["timestamp"]) >= 0).all()
    meta = msgpack.unpackb((folder / "offline_data" / "offline_pupil.meta").read_bytes())
    assert meta["detection_status"] == ["complete", "complete"]
    with pytest.raises(AlreadyThere, match="has pupils of eye 1") as refusal:
        import_one(second, eye=1)
    assert "--force" in refusal.value.hint
    import_one(second, eye=1, force=True)
    again = Recording(folder, offline=True).pupil
    right, left = (again[again["eye_id"] == eye] for eye in (0, 1))
    np.testing.assert_array_equal(right["diameter"], both[both["eye_id"] == 0]["diameter"])
    assert (left["diameter"] != right["diameter"]).all()
    # Results of an unknown kind are not taken for anything.
    (folder / "offline_data" / "offline_pupil.meta").write_bytes(msgpack.packb({"version": 9}))
    with pytest.raises(AlreadyThere):
        import_one(second, eye=0)
    import_one(second, eye=0, force=True)
    assert set(Recording(folder, offline=True).pupil["eye_id"]) == {0}


def test_detected_pupils_of_the_other_eye_stay(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pye3d.detector_3d")
    from gazed_plugins.pupil.offline import detect_recording
    from gazed_plugins.pupil.settings import PupilSettings

    detected = detect_recording(folder, settings=PupilSettings(detect_3d=False), workers=1)
    path = TrackedPupils(60).save(tmp_path / "eye.npz")
    import_keypoints(path, "numpy", folder, eye=0, force=True)
    table = Recording(folder, offline=True).pupil
    assert [set(table[table["eye_id"] == eye]["method"]) for eye in (0, 1)] == [{"keypoints numpy"}, {"2d c++"}]
    kept = detect_recording(folder)
    assert kept.kept
    assert kept.eyes == {"eye1": detected.eyes["eye1"]}


def test_rows_that_are_not_those_of_the_video(folder: Path, tmp_path: Path) -> None:
    stamps = Recording(folder).timestamps("eye0")
    short, long = TrackedPupils(50).save(tmp_path / "short.npz"), TrackedPupils(61).save(tmp_path / "long.npz")
    with pytest.raises(FramesDiffer, match="the file has 61 rows, the video 60 frames"):
        import_keypoints(long, "numpy", folder, partial=True)
    with pytest.raises(FramesDiffer, match="the file has 50 rows, the video 60 frames") as refusal:
        import_keypoints(short, "numpy", folder)
    assert "--partial" in refusal.value.hint
    result = import_keypoints(short, "numpy", folder, partial=True)
    assert (result.rows, result.pupils) == (50, 50)
    assert Recording(folder, offline=True).pupil["timestamp"].tolist() == stamps[:50].tolist()
    # By time: rows of before the video, and frames without a row.
    times = np.concatenate([[stamps[0] - 1], stamps[10:59] + 0.001])
    timed = TrackedPupils(50).save(tmp_path / "timed.npz", times=times)
    with pytest.raises(FramesDiffer) as refusal:
        import_keypoints(timed, "numpy", folder, force=True)
    assert "--match time" in refusal.value.hint
    result = import_keypoints(timed, "numpy", folder, match="time", force=True)
    assert (result.rows, result.pupils) == (50, 49)
    table = Recording(folder, offline=True).pupil
    assert table["timestamp"].tolist() == stamps[10:59].tolist()
    assert table["diameter"][0] == pytest.approx(TrackedPupils(50).major[1], abs=1e-3)
    with pytest.raises(NotKeypoints, match="no times to match"):
        import_keypoints(short, "numpy", folder, match="time", force=True)
    elsewhere = TrackedPupils(50).save(tmp_path / "elsewhere.npz", times=np.arange(50.0) + 1e6)
    with pytest.raises(FramesDiffer, match="of 50 rows, the times of 0 are those of frames"):
        import_keypoints(elsewhere, "numpy", folder, match="time", force=True)


def test_what_cannot_be_taken_in_says_why(folder: Path, tmp_path: Path) -> None:
    path = TrackedPupils(60).save(tmp_path / "eye.npz")
    with pytest.raises(ImportFailed, match="no video eye2, found world, eye0, eye1"):
        import_keypoints(path, "numpy", folder, eye=2)
    with pytest.raises(NotARecording):
        import_keypoints(path, "numpy", tmp_path / "nowhere")
    with pytest.raises(PluginArgument, match="threshold is from 0 to 1"):
        import_keypoints(path, "numpy", folder, threshold=6)
    with pytest.raises(PluginArgument, match="need no focal length"):
        import_keypoints(path, "numpy", folder, focal_length=300)
    spatial = save_npz(tmp_path / "spatial.npz", position=np.ones((60, 3, len(NAMES))))
    with pytest.raises(NotKeypoints, match="points in space") as refusal:
        import_keypoints(spatial, "numpy", folder)
    assert "--focal-length" in refusal.value.hint
    with locked_folder(Recording(folder)), pytest.raises(RecordingRefused):
        import_keypoints(path, "numpy", folder)
    open_one = make_recording(tmp_path / "open", streams=("eye0",), frames=2, closed=False)
    with pytest.raises(Exception, match="not closed"):
        import_keypoints(path, "numpy", open_one)
    assert not (folder / "offline_data" / "offline_pupil.meta").exists()


def test_nothing_but_missing_points(folder: Path, tmp_path: Path) -> None:
    path = save_npz(tmp_path / "nan.npz", position=np.full((60, 2, len(NAMES)), np.nan))
    result = import_keypoints(path, "numpy", folder)
    assert (result.pupils, result.found, result.confident) == (60, 0, 0)


@pytest.mark.parametrize("match", ["frame", "time"])
def test_what_was_exported_comes_back(match: Any, folder: Path, tmp_path: Path) -> None:
    """As a lab would do that filters its pupils with movement: out, in again, and nothing has moved."""
    written = Path(export_recording(folder, "netcdf", tmp_path / "out").path)
    import_keypoints(written / "eye0.nc", "netCDF", folder, match=match)
    table = Recording(folder).pupil
    before = table[table["topic"] == "pupil.0.3d"]
    after = Recording(folder, offline=True).pupil
    for name in ("timestamp", "confidence"):
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=1e-12)
    for name in ("ellipse_center_x", "ellipse_center_y", "ellipse_axis_a", "ellipse_axis_b", "norm_pos_y", "diameter"):
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=1e-9)
    assert angle_between(after["ellipse_angle"], before["ellipse_angle"]).max() < 1e-9
