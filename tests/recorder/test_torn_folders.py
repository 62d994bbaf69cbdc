"""What crashed programs leave behind opens, and says what it lacks."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest

from gazed_recorder.errors import DamagedFile, NotARecording, UnknownUnixTime
from gazed_recorder.reader import Recording
from gazed_recorder.repair import repair
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_classic import START_SYNCED, make_classic_recording
from gazed_recorder.testing_rich import make_rich_recording


def crashed_capture(root: Path) -> Path:
    """Leave a folder as Pupil Capture 3.5 leaves it that dies while it records: closing writes what is missing here."""
    folder = make_classic_recording(root, "3.5", seconds=1.0)
    for name in ("info.player.json", "user_info.csv", "world.intrinsics"):
        (folder / name).unlink()
    for stamps in folder.glob("*_timestamps.npy"):
        stamps.unlink()
    for video in folder.glob("*.mp4"):
        video.rename(video.with_name(f"{video.name}.writing"))
    content = (folder / "gaze.pldata").read_bytes()
    (folder / "gaze.pldata").write_bytes(content[:-100])
    return folder


def test_whole_recordings_miss_nothing(tmp_path: Path) -> None:
    assert Recording(make_recording(tmp_path, streams=("world", "eye0", "audio"), parts=2)).missing == ()
    assert Recording(make_rich_recording(tmp_path, seconds=0.5)).missing == ()


def test_capture_that_crashed(tmp_path: Path) -> None:
    folder = crashed_capture(tmp_path)
    whole = Recording(make_classic_recording(tmp_path / "whole", "3.5", seconds=1.0))
    recording = Recording(folder)
    assert recording.streams == ()
    assert len(recording.pupil) == len(whole.pupil)
    assert len(recording.gaze) == len(whole.gaze) - 1
    assert recording.timestamps("gaze").tolist() == whole.timestamps("gaze")[:-1].tolist()
    assert recording.info.recording_name == "000"
    assert recording.duration > 0.9
    assert (recording.user_info, recording.eyes) == ({}, {})
    with pytest.raises(NotARecording, match="no stream 'world'"):
        _ = recording.world
    with pytest.raises(UnknownUnixTime, match="does not say when it began") as raised:
        recording.to_unix(START_SYNCED)
    assert "start_time_system_s" in raised.value.hint
    told = "\n".join(recording.missing)
    assert "world.mp4.writing was never completed: without an index it cannot be read, and is left out" in told
    assert "info.player.json is missing: when the recording began is not known, its times are Pupil time only" in told
    assert "pupil.pldata has no pupil_timestamps.npy" in told
    assert "gaze.pldata ends in the middle of a datum" in told


@pytest.mark.parametrize("content", [None, b""])
def test_a_video_without_timestamps_is_left_out(tmp_path: Path, content: bytes | None) -> None:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.5, parts=2)
    (folder / "world_timestamps.npy").unlink()
    if content is not None:
        (folder / "world_timestamps.npy").write_bytes(content)
    recording = Recording(folder)
    assert [path.name for path in recording.world.paths] == ["world_001.mp4"]
    assert recording.missing == ("world.mp4 has no world_timestamps.npy, or nothing is in that: it is left out",)
    (folder / "world_001_timestamps.npy").unlink()
    assert Recording(folder).streams == ("eye0", "eye1")


def test_videos_with_more_or_fewer_frames_than_timestamps(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.5)
    for name, count in (("world", 18), ("eye0", 20)):
        np.save(folder / f"{name}_timestamps.npy", START_SYNCED + np.arange(count) / 30)
    (folder / "eye1.mp4").write_bytes(b"no video")
    recording = Recording(folder)
    world, eye0, eye1 = recording.missing
    assert world == "world.mp4 has 15 frames for 18 timestamps: the last of them have none"
    assert eye0 == "eye0.mp4 has 30 frames for 20 timestamps: the last of them are left out"
    assert eye1.startswith("eye1.mp4 cannot be opened, so that none of its frames can be read")
    assert len([*recording.eyes[0]]) == 20
    with pytest.raises(DamagedFile, match="ends after 15 frames, there are 18 timestamps"):
        list(recording.world)
    with pytest.raises(DamagedFile, match=r"eye1\.mp4"):
        list(recording.eyes[1])


def test_gazed_that_was_killed(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, frames=30, datums=40, closed=False)
    recording = Recording(folder)
    assert len(recording.missing) == 1
    assert f"gazed repair {folder}" in recording.missing[0]
    assert len([*recording.world]) == 30
    with (folder / "pupil.pldata").open("ab") as log:
        log.write(msgpack.packb(["pupil.0.2d", b"x" * 100])[:50])
    (folder / "info.player.json").unlink()
    recording = Recording(folder)
    assert len(recording.pupil) == len(recording.timestamps("pupil")) == 40
    assert recording.info.start_time_synced_s == 100.0
    assert recording.info.recording_uuid == "00000000-0000-0000-0000-000000000007"
    assert (recording.info.recording_software_name, recording.info.recording_software_version) == ("gazed", "test")
    assert recording.to_unix(100.0) == pytest.approx(1_772_323_300.0)
    told = "\n".join(recording.missing)
    assert "info.player.json is missing: what it says was taken from manifest.json" in told
    assert "pupil.pldata ends in the middle of a datum: its last 50 bytes are left out" in told
    repair(folder)
    assert Recording(folder).missing == ()


def test_timestamps_that_lag_behind_their_datums_in_a_killed_recording(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, datums=40, closed=False)
    stamps = np.load(folder / "gaze_timestamps.npy")
    np.save(folder / "gaze_timestamps.npy", stamps[:25])
    assert Recording(folder).timestamps("gaze").tolist() == stamps.tolist()
    assert len(Recording(folder).gaze) == 40


def test_what_the_manifest_promises_and_is_not_there(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, frames=10, parts=2)
    for name in ("eye0.mp4", "gaze.pldata"):
        (folder / name).unlink()
    told = Recording(folder).missing
    assert told == (
        "eye0.mp4 of eye0 is gone: manifest.json counts 10 in all",
        "gaze.pldata of gaze is gone: manifest.json counts 20 in all",
    )
    (folder / "manifest.json").unlink()
    recording = Recording(folder)
    assert recording.streams == ("world", "eye0")
    assert any("manifest.json is missing, although gazed wrote this" in sentence for sentence in recording.missing)


def test_a_damaged_description_is_damage_with_a_way_out(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.5)
    (folder / "info.player.json").write_bytes(b'{"duration_s": 1.0')
    with pytest.raises(DamagedFile, match=r"info\.player\.json") as raised:
        Recording(folder)
    assert "move it away" in raised.value.hint
    (folder / "info.player.json").rename(folder / "info.broken")
    assert len(Recording(folder).world) == 15


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("notes.txt", "photo.jpg"),
        ("world.mp4", "world_timestamps.npy", "export_info.csv"),
        ("offline_pupil.pldata", "fixations.pldata"),
        ("world_timestamps.npy",),
        ("world_viz.mp4",),
    ],
)
def test_what_is_no_recording(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(NotARecording, match="nor anything else of a recording") as raised:
        Recording(tmp_path)
    assert raised.value.hint


@pytest.mark.parametrize("path", ["gone", "a\0b", "~nobody_of_that_name/000", "x" * 5000])
def test_paths_that_lead_nowhere(tmp_path: Path, path: str) -> None:
    with pytest.raises(NotARecording):
        Recording(path if path.startswith("~") else tmp_path / path)
