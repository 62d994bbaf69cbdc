from __future__ import annotations

import json
from pathlib import Path

import av
import msgpack
import numpy as np
import pytest

from gazed_recorder.encoder import EncodedPart
from gazed_recorder.errors import DamagedFile, NotARecording, RecorderError
from gazed_recorder.manifest import ClockReading, Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.records import FrameRecord
from gazed_recorder.testing import make_jpeg, make_recording
from gazed_recorder.testing_rich import make_rich_recording


def gray_of(index: int) -> int:
    return 40 + index * 7 % 180


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("closed", [True, False])
def test_frames_in_order_and_by_number(tmp_path: Path, parts: int, closed: bool) -> None:
    recording = Recording(make_recording(tmp_path, frames=30, parts=parts, closed=closed))
    assert recording.streams == ("world", "eye0")
    frames = list(recording.frames("world"))
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.timestamp for frame in frames] == list(recording.timestamps("world"))
    assert [frame.jpeg for frame in frames] == [make_jpeg("world", index) for index in range(30)]
    for index in (0, 9, 10, 29, -1):
        frame = recording.frame("world", index)
        assert frame.index == index % 30
        assert abs(int(frame.gray[5, 5]) - gray_of(index % 30)) <= 1
        assert frame.bgr.shape == (48, 64, 3)
    assert [frame.index for frame in recording.frames("world", 17)] == list(range(17, 30))
    with pytest.raises(IndexError, match="30 frames"):
        recording.frame("world", 30)


@pytest.mark.parametrize("mode", ["h264", "mpeg4"])
def test_re_encoded_video_reads_the_same_way(tmp_path: Path, mode: str) -> None:
    folder = make_recording(tmp_path, streams=())
    part = EncodedPart(folder, "world", mode, 64, 48, 10.0)  # type: ignore[arg-type]
    for index in range(25):
        record = FrameRecord(index, float("nan"), 0, 0, 100.0 + index / 10, 0)
        part.write(record, make_jpeg("world", index))
    part.close()
    recording = Recording(folder)
    frames = list(recording.frames("world"))
    assert [frame.index for frame in frames] == list(range(25))
    for index in (0, 3, 12, 24):
        assert abs(int(recording.frame("world", index).gray[5, 5]) - gray_of(index)) <= 4
    with pytest.raises(RecorderError, match="holds no JPEGs"):
        _ = frames[0].jpeg


def test_datums_keep_their_order_and_topics(tmp_path: Path) -> None:
    recording = Recording(make_recording(tmp_path, datums=5))
    assert recording.logs == ("annotation", "gaze", "notify", "pupil")
    datums = list(recording.data("gaze"))
    assert [datum["timestamp"] for datum in datums] == list(recording.timestamps("gaze"))
    assert {datum["topic"] for datum in datums} == {"gaze.2d.0."}
    assert [datum["label"] for datum in recording.annotations] == [f"number {index}" for index in range(5)]


def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    recording = Recording(make_recording(tmp_path))
    with pytest.raises(NotARecording, match=r"no stream 'eye1', found world, eye0, annotation"):
        recording.timestamps("eye1")
    with pytest.raises(NotARecording, match=r"no log 'blinks'"):
        recording.data("blinks")
    with pytest.raises(NotARecording, match=r"holds no info\.player\.json"):
        Recording(tmp_path)
    with pytest.raises(NotARecording):
        Recording(tmp_path / "gone")


def test_unix_time_is_interpolated_between_the_readings(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=())
    manifest = Manifest.load(folder)
    manifest.clock = [
        ClockReading(round(t * 1e9), int((1e9 + t) * 1e9) + drift, 0, t) for t, drift in ((100.0, 0), (200.0, 8000000))
    ]
    manifest.stop = None
    manifest.start = manifest.clock[0]
    manifest.save(folder)
    recording = Recording(folder)
    assert recording.to_unix(150.0) == pytest.approx(1e9 + 150.004, abs=1e-6)
    assert recording.to_unix(250.0) == pytest.approx(1e9 + 250.008, abs=1e-6)
    many = recording.to_unix(np.array([90.0, 100.0]))
    assert many.tolist() == pytest.approx([1e9 + 90.0, 1e9 + 100.0], abs=1e-6)


def test_duration_of_a_recording_that_was_not_closed(tmp_path: Path) -> None:
    assert Recording(make_recording(tmp_path, frames=30)).duration == pytest.approx(1.5)
    assert Recording(make_recording(tmp_path, frames=30, closed=False)).duration == pytest.approx(0.01 + 29 / 30)


def make_capture_folder(root: Path) -> Path:
    """Write a folder as Pupil Capture 3.x does: plain mp4 of MPEG-4 in 1/65535 s, no manifest."""
    info = {
        "duration_s": 1.0, "meta_version": "2.3", "min_player_version": "2.0", "recording_name": "2026_03_01",
        "recording_software_name": "Pupil Capture", "recording_software_version": "3.5.8",
        "recording_uuid": "0b7d5f3c-8a53-4d0e-9a3e-8c3c5d2f6a11", "start_time_synced_s": 50.0,
        "start_time_system_s": 1_700_000_050.0, "system_info": "",
    }  # fmt: skip
    (root / "info.player.json").write_text(json.dumps(info))
    stamps = 50.0 + np.arange(20) / 30
    with av.open(root / "world.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), gray_of(index), np.uint8), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    np.save(root / "world_timestamps.npy", stamps)
    (root / "pupil.pldata").write_bytes(
        msgpack.packb(["pupil.0.2d", msgpack.packb({"topic": "pupil.0.2d", "timestamp": 50.5})])
    )
    np.save(root / "pupil_timestamps.npy", np.array([50.5]))
    return root


def test_pupil_captures_own_folders_open(tmp_path: Path) -> None:
    recording = Recording(make_capture_folder(tmp_path))
    assert recording.manifest is None
    assert [frame.timestamp for frame in recording.frames("world")] == list(recording.timestamps("world"))
    assert abs(int(recording.frame("world", 15).gray[5, 5]) - gray_of(15)) <= 4
    assert list(recording.data("pupil")) == [{"topic": "pupil.0.2d", "timestamp": 50.5}]
    assert recording.to_unix(51.0) == 1_700_000_051.0
    assert recording.duration == 1.0
    assert list(recording.annotations) == []


def test_a_video_that_is_too_short_or_no_video_is_told(tmp_path: Path) -> None:
    folder = make_capture_folder(tmp_path)
    np.save(folder / "world_timestamps.npy", np.arange(25.0))
    with pytest.raises(DamagedFile, match="ends after 20 frames, there are 25 timestamps"):
        list(Recording(folder).frames("world"))
    (folder / "world.mp4").write_bytes(b"no video")
    with pytest.raises(DamagedFile, match=r"world\.mp4: cannot be read at frame 0"):
        list(Recording(folder).frames("world"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"duration_s": NaN}', "[" * 100_000, "\x00"])
def test_bad_info_is_damage_not_a_crash(tmp_path: Path, text: str) -> None:
    (tmp_path / "info.player.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"info\.player\.json"):
        Recording(tmp_path)


def test_a_video_is_a_sequence_of_frames(tmp_path: Path) -> None:
    recording = Recording(make_recording(tmp_path, frames=30, parts=2, streams=("world", "eye0", "eye1")))
    world = recording.world
    assert (len(world), world.name, world.size, world.codec) == (30, "world", (64, 48), "mjpeg")
    assert [path.name for path in world.paths] == ["world.mp4", "world_001.mp4"]
    assert world.starts == (0, 15)
    assert sorted(recording.eyes) == [0, 1]
    assert recording.eyes[1].size == (32, 32)
    assert [frame.index for frame in world] == list(range(30))
    assert [frame.index for frame in world[12:18]] == [12, 13, 14, 15, 16, 17]
    assert [frame.index for frame in world[20:10:-3]] == [20, 17, 14, 11]
    assert world[5:5] == []
    assert world[-1].jpeg == make_jpeg("world", 29)
    with pytest.raises(IndexError, match="none of number 30"):
        world[30]
    stamps = world.timestamps
    assert world.at(float(stamps[7]) + 0.001).index == 7
    assert world.nearest(stamps[[3, 9]] - 0.001).tolist() == [3, 9]
    assert world.at(0.0).index == 0
    assert world.at(1e9).index == 29


def test_tables_of_what_was_not_recorded_are_empty(tmp_path: Path) -> None:
    recording = Recording(make_recording(tmp_path, streams=("eye0",), datums=3))
    assert [len(table) for table in (recording.blinks, recording.fixations)] == [0, 0]
    assert "dispersion" in recording.fixations
    assert recording.pupil["confidence"].tolist() == [1.0, 1.0, 1.0]
    assert recording.annotations["label"].tolist() == ["number 0", "number 1", "number 2"]
    assert recording.notifications["datum"][0]["label"] == "number 0"
    with pytest.raises(NotARecording, match="no stream 'world'"):
        _ = recording.world


def test_some_columns_are_what_they_are_among_all(tmp_path: Path) -> None:
    recording = Recording(make_rich_recording(tmp_path, seconds=1.5, videos=False))
    for log in ("pupil", "gaze", "fixations", "blinks", "notify", "annotation"):
        whole = recording.table(log)
        for name in whole.columns:
            alone = recording.table(log, [name])
            assert alone.columns == (name,)
            assert alone[name].dtype == whole[name].dtype
            np.testing.assert_array_equal(alone[name], whole[name], f"{log} {name}")
        with pytest.raises(KeyError, match="no column 'nothing', found"):
            recording.table(log, ["timestamp", "nothing"])
    pieces = list(recording.batches("gaze", 50, ["eye_center1_3d_x", "timestamp"]))
    assert [piece.columns for piece in pieces] == [("eye_center1_3d_x", "timestamp")] * len(pieces)
    np.testing.assert_array_equal(np.concatenate([piece["timestamp"] for piece in pieces]), recording.gaze["timestamp"])
