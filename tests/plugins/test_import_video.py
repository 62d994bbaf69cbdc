"""A tracked video as a recording of its own; and boxes as the regions in which pupils are searched."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip("cv2")

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import AlreadyThere
from gazed_plugins.export.run import export_recording
from gazed_plugins.keypoints.errors import FramesDiffer, ImportFailed, NotKeypoints
from gazed_plugins.keypoints.record import read_times, record_keypoints
from gazed_plugins.keypoints.testing import TrackedPupils
from gazed_recorder.manifest import Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.testing_rich import make_rich_recording
from gazed_recorder.verify import verify

needs_movement = pytest.mark.skipif(find_spec("movement") is None, reason="needs gazed[movement]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording with 60 frames an eye."""
    return make_rich_recording(tmp_path / "recordings", seconds=0.5)


def write_video(path: Path, codec: str = "libx264", frames: int = 30, size: tuple[int, int] = (64, 48)) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, 30)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p" if size[0] % 2 else "yuv420p"
        for number in range(frames):
            image = np.full((size[1], size[0], 3), 40 + 5 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_recording_of_a_tracked_video(tmp_path: Path) -> None:
    video = write_video(tmp_path / "left eye.mp4")
    times = 50.0 + np.arange(30) / 60 + 0.0003 * np.sin(np.arange(30))
    truth = TrackedPupils(30)
    path = truth.save(tmp_path / "eye.npz", times=times)
    started = datetime(2026, 3, 1, 10, tzinfo=UTC)
    result = record_keypoints(path, "numpy", video, tmp_path / "recordings", eye=1, started=started)
    folder = Path(result.recording)
    assert folder == tmp_path / "recordings" / "left eye" / "000"
    assert verify(folder).problems == []
    recording = Recording(folder)
    assert recording.streams == ("eye1",)
    np.testing.assert_array_equal(recording.timestamps("eye1"), times)
    np.testing.assert_array_equal(recording.pupil["timestamp"], times)
    np.testing.assert_allclose(recording.pupil["ellipse_center_x"], truth.center[:, 0], rtol=0, atol=1e-3)
    assert recording.to_unix(times[0]) == pytest.approx(started.timestamp(), abs=1e-6)
    assert recording.eyes[1].codec == "h264"
    for frame in recording.eyes[1]:
        assert abs(int(frame.gray.mean()) - (40 + 5 * frame.index)) <= 2
    manifest = Manifest.load(folder)
    [event] = manifest.events
    assert (event["event"], event["video"], event["unix_time"]) == ("imported", "left eye.mp4", "given")
    # The same once more is the same recording, in a folder of its own.
    again = record_keypoints(path, "numpy", video, tmp_path / "recordings", eye=1, started=started)
    assert again.recording.endswith("001")
    assert content_of(Path(again.recording)) == content_of(folder)


def test_jpegs_stay_what_they_are(folder: Path, tmp_path: Path) -> None:
    source = Recording(folder)
    path = TrackedPupils(60).save(tmp_path / "eye.npz")
    new = record_keypoints(path, "numpy", folder / "eye0.mp4", tmp_path / "new", name="rat 7/left", fps=120.0)
    made = Recording(new.recording)
    assert Path(new.recording) == tmp_path / "new" / "rat 7" / "left" / "000"
    assert [frame.jpeg for frame in made.eyes[0]] == [frame.jpeg for frame in source.eyes[0]]
    assert verify(made.path).ok
    np.testing.assert_array_equal(made.timestamps("eye0"), np.arange(60) / 120)
    assert Manifest.load(made.path).events[0]["unix_time"] == "unknown"
    # And it is a recording like any other: pupils can be exported.
    pytest.importorskip("xarray")
    from gazed_plugins.export.poses.layout import load_dataset

    assert load_dataset(made, "eye0").sizes["time"] == 60


def test_images_of_an_odd_size_become_jpegs(tmp_path: Path) -> None:
    video = write_video(tmp_path / "odd.mkv", "ffv1", 3, (33, 25))
    result = record_keypoints(TrackedPupils(3).save(tmp_path / "eye.npz"), "numpy", video, tmp_path / "new", fps=30)
    made = Recording(result.recording)
    assert (made.eyes[0].codec, made.eyes[0].size) == ("mjpeg", (33, 25))
    assert verify(made.path).ok


def test_times_from_files(tmp_path: Path) -> None:
    times = np.array([1.0, 1.5, 2.25])
    np.save(tmp_path / "t.npy", times)
    (tmp_path / "t.csv").write_text("frame,timestamp,unix_ns\n0,1.0,\n1,1.5,\n2,2.25,\n")
    for name in ("t.npy", "t.csv"):
        assert read_times(tmp_path / name).tolist() == times.tolist()
    (tmp_path / "bad.csv").write_text("frame,time\n0,1.0\n")
    np.save(tmp_path / "bad.npy", np.zeros((3, 3)))
    np.save(tmp_path / "worse.npy", np.array([print], object))
    for name in ("bad.csv", "bad.npy", "worse.npy"):
        with pytest.raises(NotKeypoints, match=name):
            read_times(tmp_path / name)


def test_a_recording_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    video, path = write_video(tmp_path / "eye.mp4"), TrackedPupils(30).save(tmp_path / "eye.npz")
    record = partial(record_keypoints, path, "numpy", video, tmp_path / "new")
    grown = np.arange(30.0)
    with pytest.raises(ImportFailed, match="not known") as refusal:
        record()
    assert "--timestamps" in refusal.value.hint
    with pytest.raises(PluginArgument, match="not both"):
        record(times=grown, fps=30.0)
    with pytest.raises(FramesDiffer, match="29 times"):
        record(times=grown[1:])
    for times in (grown[::-1], np.where(grown == 3, np.nan, grown), grown * 1e9):
        with pytest.raises(ImportFailed, match="do not grow"):
            record(times=times)
    with pytest.raises(FramesDiffer, match="29 rows"):
        record_keypoints(TrackedPupils(29).save(tmp_path / "b.npz"), "numpy", video, tmp_path / "new", fps=30)
    with pytest.raises(PluginArgument):
        record(fps=0.0)
    with pytest.raises(FileNotFoundError):
        record_keypoints(path, "numpy", tmp_path / "nowhere.mp4", tmp_path / "new", fps=30)
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    with pytest.raises(ImportFailed, match="no video that can be read"):
        record_keypoints(path, "numpy", tmp_path / "no.mp4", tmp_path / "new", fps=30)
    # One whose packets are there and cannot be decoded: what was begun is removed.
    torn = bytearray(video.read_bytes())
    at = torn.index(b"mdat") + 200
    torn[at : at + 1500] = bytes(1500)
    (tmp_path / "torn.mp4").write_bytes(torn)
    with pytest.raises((ImportFailed, FramesDiffer)):
        record_keypoints(path, "numpy", tmp_path / "torn.mp4", tmp_path / "new", fps=30)
    assert not list((tmp_path / "new").rglob("*.mp4"))
    assert not list((tmp_path / "new").rglob("manifest.json"))
    outside = record_keypoints(path, "numpy", video, tmp_path / "new", fps=30, name="../../out")
    assert Path(outside.recording) == tmp_path / "new" / "out" / "000"


@needs_movement
def test_boxes_are_where_pupils_are_searched(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pye3d.detector_3d")
    from gazed_plugins.keypoints.roi import import_roi
    from gazed_plugins.pupil.offline import detect_recording
    from gazed_plugins.pupil.roi import stored_rois
    from gazed_plugins.pupil.settings import PupilSettings

    written = Path(export_recording(folder, "via", tmp_path / "out").path)
    found = import_roi(written / "eye0.csv", folder, margin=10.5)
    table = Recording(folder).pupil
    seen = table[(table["topic"] == "pupil.0.3d") & (table["confidence"] > 0)]
    assert found.boxes == len(seen)
    left, top, right, bottom = found.roi
    assert left < seen["ellipse_center_x"].min() - 10 < seen["ellipse_center_x"].max() + 10 < right
    assert top < seen["ellipse_center_y"].min() - 10 < seen["ellipse_center_y"].max() + 10 < bottom
    offline = folder / "offline_data"
    assert stored_rois(offline) == {"eye0": found.roi}
    with pytest.raises(AlreadyThere):
        import_roi(written / "eye0.csv", folder)
    assert import_roi(written / "eye1.csv", folder, margin=1000, eye=1, track=1).roi == (0, 0, 191, 192)

    settings = PupilSettings(detect_3d=False)
    by_box = detect_recording(folder, settings=settings, workers=1)
    assert by_box.settings["rois"] == {"eye0": found.roi, "eye1": (0, 0, 191, 192)}
    # What is said at the moment counts more.
    corner = detect_recording(folder, settings=settings, workers=1, redetect=True, rois={"eye0": (0, 0, 20, 20)})
    assert corner.settings["rois"] == {"eye0": (0, 0, 20, 20)}
    assert corner.eyes["eye0"].confident == 0
    with pytest.raises(PluginArgument, match="region of interest of 'eye7'"):
        detect_recording(folder, redetect=True, rois={"eye7": (0, 0, 20, 20)})
    (offline / "gazed_roi.json").write_text('{"eye0": [5, 5, 1, 1]}')
    with pytest.raises(Exception, match="no regions of interest") as refusal:
        detect_recording(folder, redetect=True)
    assert "remove it" in getattr(refusal.value, "hint", "")
