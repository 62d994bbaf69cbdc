from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazed_recorder.errors import DamagedFile, NotARecording, RecordingRefused
from gazed_recorder.folder import FolderLock
from gazed_recorder.manifest import Manifest
from gazed_recorder.mp4_write import mjpeg_track
from gazed_recorder.part import TrackPart, next_stem
from gazed_recorder.reader import Recording
from gazed_recorder.repair import repair, repair_unfinished, resume_point, settle
from gazed_recorder.testing import make_recording
from gazed_recorder.verify import verify


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp("model"), closed=False)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_killed_recording_is_completed_without_a_loss(tmp_path: Path, parts: int) -> None:
    folder = make_recording(tmp_path, parts=parts, closed=False)
    (folder / ".reserve").write_bytes(bytes(100))
    (folder / "manifest.json.writing").write_bytes(b"{")
    told: list[float] = []
    result = repair(folder, told.append)
    assert result.repaired
    assert (result.lost, result.problems) == ({}, [])
    assert {"removed .reserve", "removed manifest.json.writing"} <= set(result.actions)
    assert told[-1] == 1.0
    assert verify(folder).problems == []
    assert Manifest.load(folder).state == "repaired"
    assert json.loads((folder / "info.player.json").read_bytes())["duration_s"] > 0
    whole = make_recording(tmp_path, parts=parts)
    for name in (
        "world.mp4",
        "eye0_frames.npy",
        "pupil.pldata",
        "pupil_data",
        "world.intrinsics",
        "notify_timestamps.npy",
    ):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_second_repair_changes_nothing(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    repair(folder)
    before = contents(folder)
    assert not repair(folder).repaired
    assert contents(folder) == before


def test_a_healthy_recording_is_left_to_the_byte(tmp_path: Path) -> None:
    folder = make_recording(tmp_path)
    before = contents(folder)
    result = repair(folder)
    assert (result.repaired, result.actions) == (False, [])
    assert contents(folder) == before


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_cut_off_the_rest_is_whole(torn: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "torn"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(torn, folder)
    for stem in ("world", "eye0"):
        path = folder / f"{stem}.mp4"
        size = path.stat().st_size
        # A video's header is one write inside one page: it is there or it is not.
        os.truncate(path, data.draw(st.just(0) | st.integers(1000, size) | st.integers(size - 300, size), stem))
    for name in ("pupil.pldata", "gaze_timestamps.npy", "world_frames.npy", "eye0_timestamps.npy"):
        path = folder / name
        match data.draw(st.sampled_from(["whole", "cut", "gone"]), name):
            case "cut":
                os.truncate(path, data.draw(st.integers(0, path.stat().st_size), name))
            case "gone" if name.endswith(".npy"):
                path.unlink()
    result = repair(folder)
    assert result.problems == []
    manifest = Manifest.load(folder)
    recording = Recording(folder)
    for stream in ("world", "eye0"):
        kept = manifest.streams[stream].written
        assert result.lost.get(stream, 0) == 12 - kept
        if kept:
            assert len(list(recording.frames(stream))) == kept
    # A stream of which nothing is left is one that was expected: that stays a problem.
    wanted = [
        f"{name}: expected, but nothing of it was recorded"
        for name in ("eye0", "world")
        if name not in recording.streams
    ]
    assert verify(folder).problems == wanted
    before = contents(folder)
    repair(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("rows", [1, 40])
def test_a_recorder_that_is_really_killed(tmp_path: Path, rows: int) -> None:
    code = (
        "import pathlib, sys; from gazed_recorder.testing import make_recording;"
        "make_recording(pathlib.Path(sys.argv[1]), frames=100_000)"
    )
    stamps = tmp_path / "test" / "000" / "world_timestamps.npy"
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path])
    deadline = time.monotonic() + 60
    while not stamps.exists() or stamps.stat().st_size < 128 + rows * 8:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.kill()
    assert child.wait() == -9
    [(folder, result)] = repair_unfinished(tmp_path)
    assert (result.repaired, result.problems) == (True, [])
    assert len(list(Recording(folder).frames("world"))) >= rows
    assert [each for each in verify(folder).problems if "expected" not in each] == []


def test_sequence_gaps_behind_the_last_manifest_are_reported(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, frames=20, missing=(5, 6, 12), closed=False)
    manifest = Manifest.load(folder)
    report = manifest.streams["world"]
    report.last, report.missed, report.gaps, report.gap_count = None, 0, [], 0
    manifest.save(folder)
    repair(folder)
    report = Manifest.load(folder).streams["world"]
    assert [(gap.frames, gap.reason) for gap in report.gaps] == [(2, "unknown"), (1, "unknown")]
    assert (report.missed, report.gap_count) == (3, 2)
    assert verify(folder).problems == []


def test_what_was_announced_and_is_not_there_is_lost(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    manifest = Manifest.load(folder)
    manifest.streams["world"].received = 17
    manifest.streams["world"].dropped = {"queue-full": 2}
    manifest.streams["pupil"].received = 25
    manifest.save(folder)
    assert repair(folder).lost == {"world": 3, "pupil": 5}
    assert verify(folder).problems == []


def test_a_folder_that_is_being_written_is_refused(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    before = contents(folder)
    with FolderLock(folder), pytest.raises(RecordingRefused) as refused:
        repair(folder)
    assert refused.value.reason == "in-use"
    assert contents(folder) == before
    with FolderLock(folder):
        assert list(repair_unfinished(tmp_path)) == []


@pytest.mark.parametrize("harm", ["gone", "empty", "wrong type", "no text"])
def test_a_lost_manifest_is_made_anew(tmp_path: Path, harm: str) -> None:
    folder = make_recording(tmp_path, closed=False)
    old = Manifest.load(folder)
    if harm == "gone":
        (folder / "manifest.json").unlink()
    else:
        data = {"empty": b"", "wrong type": b'{"state": 7}', "no text": b'{"recording_uuid": "\xff"}'}[harm]
        (folder / "manifest.json").write_bytes(data)
    result = repair(folder)
    assert any("made a new manifest.json" in action for action in result.actions)
    assert verify(folder).problems == []
    new = Manifest.load(folder)
    assert (new.recording_uuid, new.session_name) == (old.recording_uuid, "test")
    assert new.start == type(old.start)(old.start.host_ns, old.start.unix_ns, 0, old.start.timestamp)


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotARecording):
        repair(tmp_path)
    (tmp_path / "info.player.json").write_text("{}")
    with pytest.raises(NotARecording):
        repair(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DamagedFile):
        repair(tmp_path)


def test_damage_is_left_alone_and_told(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    path = folder / "gaze.pldata"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 60] = b"\x17" * 60
    path.write_bytes(raw)
    result = repair(folder)
    assert any("gaze.pldata" in problem for problem in result.problems)
    assert path.read_bytes() == raw
    assert not (folder / "pupil_data").exists()
    assert any("gaze.pldata" in problem for problem in verify(folder).problems)
    assert verify(folder).streams["world"]["frames"] == 12


@pytest.mark.parametrize("more", [b"", msgpack.packb(["gaze", msgpack.packb({"topic": "gaze", "timestamp": 1.0})])])
def test_a_repair_does_not_pass_a_changed_log_off_as_the_recorded_one(tmp_path: Path, more: bytes) -> None:
    folder = make_recording(tmp_path)
    path = folder / "gaze.pldata"
    path.write_bytes(path.read_bytes().replace(b"number 7", b"number 8") + more)
    (folder / "info.csv").unlink()
    assert repair(folder).problems == [f"{path}: was changed after it was closed"]
    assert [each for each in verify(folder).problems if not each.startswith("gaze.pldata")] == []
    assert not verify(folder).ok
    before = contents(folder)
    repair(folder)
    assert contents(folder) == before


def test_a_lost_user_info_is_made_again(tmp_path: Path) -> None:
    folder = make_recording(tmp_path)
    (folder / "user_info.csv").unlink()
    assert repair(folder).repaired
    assert verify(folder).ok


def test_the_accounts_tell_the_bytes_of_a_repaired_log(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    manifest = Manifest.load(folder)
    manifest.streams["gaze"].size = 0
    manifest.save(folder)
    repair(folder)
    assert Manifest.load(folder).streams["gaze"].size == (folder / "gaze.pldata").stat().st_size


def test_all_unfinished_recordings_are_found_and_one_bad_one_stops_nothing(tmp_path: Path) -> None:
    first = make_recording(tmp_path / "a", closed=False)
    make_recording(tmp_path / "a")
    bad = make_recording(tmp_path / "b", closed=False)
    (bad / "manifest.json").write_bytes(b"{")
    (bad / "info.player.json").write_bytes(b"{")
    last = make_recording(tmp_path / "c", closed=False)
    done = dict(repair_unfinished(tmp_path))
    assert sorted(done) == [first, bad, last]
    assert [done[each].repaired for each in (first, bad, last)] == [True, False, True]
    assert "manifest.json" in done[bad].problems[0]


def test_settle_tells_where_to_go_on(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, parts=2, closed=False)
    manifest = Manifest.load(folder)
    settled = settle(folder, manifest)
    rows = np.load(folder / "world_001_frames.npy")
    assert settled.last["world"] == rows["captured_ns"][-1]
    assert [part.file for part in manifest.streams["world"].parts] == ["world.mp4", "world_001.mp4"]
    assert Manifest.load(folder).state == "recording"


def test_a_recorder_that_goes_on_learns_from_the_ends_of_the_videos_where_they_stand(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, parts=2, closed=False)
    with (folder / "world_001.mp4").open("ab") as file:
        file.write(bytes(40))
    # Killed before its first frame: its number is free again.
    part = TrackPart(folder, "world_002", mjpeg_track(64, 48))
    left = {path: path.read_bytes() for path in folder.glob("world_002*")}
    part.close()
    for path, content in left.items():
        path.write_bytes(content)
    assert next_stem(folder, "world") == "world_003"
    manifest = Manifest.load(folder)
    manifest.streams["world"].parts = []
    before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("world_002")}
    last = resume_point(folder, manifest)
    frames = {stream: np.load(folder / f"{stream}_001_frames.npy") for stream in ("world", "eye0")}
    assert last == {stream: int(rows["captured_ns"][-1]) for stream, rows in frames.items()}
    world = manifest.streams["world"]
    assert [(part.file, part.frames, part.codec) for part in world.parts] == [
        ("world.mp4", 6, "mjpeg"),
        ("world_001.mp4", 6, "mjpeg"),
    ]
    assert (world.written, world.last) == (12, float(frames["world"]["timestamp"][-1]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert next_stem(folder, "world") == "world_002"
