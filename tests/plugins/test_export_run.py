"""Exporting one recording: the whole of it appears or nothing, whoever dies or gets in the way."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from shutil import copyfile, copytree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import (
    AlreadyThere,
    BeingExported,
    BeingRecorded,
    SameName,
    UnknownFormat,
    UnsafeOutput,
)
from gazed_plugins.export.find import find_recordings, label_of, refuse_same_names
from gazed_plugins.export.place import HIDDEN, OutputFolder, Receipt
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import tree_of
from gazed_recorder.errors import DiskFull, NotARecording
from gazed_recorder.folder import FolderLock
from gazed_recorder.repair import repair
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording

RECEIPT = Receipt("a recording", "text", {}, "")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_rich_recording(tmp_path_factory.mktemp("recordings"), seconds=0.5, videos=False)


@pytest.fixture
def folder(original, tmp_path):
    return copytree(original, tmp_path / "session" / "000")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_export_goes_into_the_recording_and_leaves_the_rest_as_it_was(folder):
    before = tree_of(folder, times=True)
    told = []
    result = export_recording(folder, "parquet", progress=lambda done, total: told.append((done, total)))
    assert result.path == str(folder / "exports" / "parquet" / "recording=session-000")
    assert not result.skipped
    assert told[-1][0] == told[-1][1] > 0
    assert names_in(folder / "exports" / "parquet") == [HIDDEN, "recording=session-000"]
    assert [path.suffix for path in (folder / "exports" / "parquet" / HIDDEN).iterdir()] == [".json"]
    after = tree_of(folder, times=True)
    assert {name: each for name, each in after.items() if not name.startswith("exports")} == before


def test_what_is_there_is_kept_replaced_or_skipped(folder, tmp_path):
    output = tmp_path / "out"
    first = export_recording(folder, "parquet", output)
    target = Path(first.path)
    with pytest.raises(AlreadyThere, match="is there already") as refusal:
        export_recording(folder, "parquet", output)
    assert "--force" in refusal.value.hint
    (target / "mark").touch()
    assert export_recording(folder, "parquet", output, resume=True).skipped
    assert (target / "mark").exists()
    assert not export_recording(folder, "parquet", output, force=True).skipped
    assert not (target / "mark").exists()
    assert names_in(output) == [HIDDEN, target.name]
    with pytest.raises(AlreadyThere, match="made with other options"):
        export_recording(folder, "parquet", output, resume=True, offline=True)
    (next((output / HIDDEN).glob("*.json"))).unlink()
    with pytest.raises(AlreadyThere, match="nothing tells what it was made of"):
        export_recording(folder, "parquet", output, resume=True)


def test_another_recording_of_the_same_name_replaces_nothing(folder, tmp_path):
    other = make_rich_recording(tmp_path / "other", seconds=0.2, videos=False, number=5, session="session")
    target = Path(export_recording(folder, "parquet", tmp_path / "out").path)
    before = tree_of(target)
    for way in ({}, {"resume": True}, {"force": True}):
        with pytest.raises(AlreadyThere, match="of another recording") as refusal:
            export_recording(other, "parquet", tmp_path / "out", **way)
    assert "--output" in refusal.value.hint
    assert tree_of(target) == before


def test_what_cannot_be_asked_for_is_refused_before_anything_is_made(folder, tmp_path):
    with pytest.raises(UnknownFormat, match="parquet") as refusal:
        export_recording(folder, "parqet", tmp_path / "out")
    assert refusal.value.hint == "did you mean parquet?"
    with pytest.raises(PluginArgument, match="color"):
        export_recording(folder, "parquet", tmp_path / "out", args={"color": 1})
    with pytest.raises(NotARecording):
        export_recording(tmp_path, "parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", [".", "exports/..", "offline_data", "exports/../surfaces"])
def test_recorded_files_are_out_of_reach(folder, inside):
    before = tree_of(folder)
    with pytest.raises(UnsafeOutput, match="where nothing may be written"):
        export_recording(folder, "parquet", folder / inside)
    assert tree_of(folder) == before


@pytest.mark.parametrize("link", ["exports", "exports/parquet"])
def test_a_link_in_the_place_of_exports_is_refused(folder, tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    (folder / link).parent.mkdir(exist_ok=True)
    (folder / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeOutput, match="is a link"):
        export_recording(folder, "parquet")
    assert names_in(tmp_path / "elsewhere") == []


def test_an_export_of_another_recording_goes_beside_its_own(folder, tmp_path, original):
    copy = copytree(original, tmp_path / "copy")
    result = export_recording(copy, "parquet", folder / "exports" / "all")
    assert Path(result.path).parent == folder / "exports" / "all"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", ".", "away/x"])
def test_no_name_leads_out_of_the_output_folder(name, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeOutput, match="leads out of"):
        OutputFolder(tmp_path / "out").put(name, RECEIPT, Path.touch)
    assert names_in(tmp_path / "elsewhere") == []


def write_and_fail(fresh):
    fresh.mkdir()
    (fresh / "half").write_text("half")
    raise OSError(errno.EIO, "the disk failed")


def test_a_failed_write_leaves_the_old_export_or_nothing_at_all(tmp_path):
    place = OutputFolder(tmp_path / "new" / "out")
    with pytest.raises(OSError, match="the disk failed"):
        place.put("x", RECEIPT, write_and_fail)
    assert names_in(tmp_path) == []
    place.put("x", RECEIPT, lambda fresh: fresh.write_text("whole"))
    with pytest.raises(OSError, match="the disk failed"):
        place.put("x", RECEIPT, write_and_fail)
    assert (place.path / "x").read_text() == "whole"
    assert place.receipt("x") == RECEIPT
    assert not list(place.path.glob(f"{HIDDEN}/*.writing"))


def test_a_file_in_the_place_of_the_output_folder_is_an_error(folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        export_recording(folder, "parquet", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


KILLED = """
import os, signal, sys
from pathlib import Path
from gazed_plugins.export.place import OutputFolder, Receipt
def write(fresh):
    fresh.mkdir()
    (fresh / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
OutputFolder(Path(sys.argv[1])).put(sys.argv[2], Receipt("a recording", "text", {}, ""), write)
"""


def kill_while_writing(output, name):
    done = subprocess.run([sys.executable, "-c", KILLED, str(output), name], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(output.glob(f"{HIDDEN}/*.writing/new/{name}/half"))


def test_what_a_killed_process_left_goes_with_the_next_run_of_the_same_or_of_any(tmp_path):
    place = OutputFolder(tmp_path)
    kill_while_writing(tmp_path, "x")
    place.put("x", RECEIPT, lambda fresh: fresh.write_text("whole"))
    kill_while_writing(tmp_path, "y")
    place.sweep()
    assert names_in(tmp_path) == [HIDDEN, "x"]
    assert not list((tmp_path / HIDDEN).glob("*.writing"))


def test_an_old_export_that_a_killed_process_put_aside_comes_back(tmp_path):
    place = OutputFolder(tmp_path)
    place.put("x", RECEIPT, Path.mkdir)
    kill_while_writing(tmp_path, "x")
    work = next((tmp_path / HIDDEN).glob("*.writing"))
    (tmp_path / "x").rename(work / "old")
    place.sweep()
    assert (work / "old").exists()
    with pytest.raises(OSError, match="the disk failed"):
        place.put("x", RECEIPT, write_and_fail)
    assert (tmp_path / "x").is_dir()
    assert not work.exists()


def test_two_at_the_same_time_do_not_meet(tmp_path):
    place = OutputFolder(tmp_path)

    def meanwhile(fresh):
        with pytest.raises(BeingExported, match="another process") as refusal:
            place.put("x", RECEIPT, Path.touch)
        assert "wait" in refusal.value.hint
        place.sweep()
        place.put("y", RECEIPT, Path.touch)
        fresh.write_text("first")

    place.put("x", RECEIPT, meanwhile)
    assert (tmp_path / "x").read_text() == "first"
    assert (tmp_path / "y").exists()


def test_many_processes_that_export_the_same_leave_one_whole_export(folder, tmp_path):
    script = "import sys; from gazed_plugins.export.run import export_recording as e; e(*sys.argv[1:], resume=True)"
    command = [sys.executable, "-c", script, str(folder), "parquet", str(tmp_path / "out")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate()[1] for process in running]
    assert 0 in [process.returncode for process in running]
    assert all("BeingExported" in text for process, text in zip(running, said, strict=True) if process.returncode)
    assert names_in(tmp_path / "out") == [HIDDEN, "recording=session-000"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_told_and_nothing_stays_on_it(folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(DiskFull, match="is full"):
            export_recording(folder, "parquet", disk / "out")
        assert names_in(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_read_only_output_is_told(folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(OSError, match="Read-only") as refusal:
            export_recording(folder, "parquet", disk)
        assert refusal.value.errno == errno.EROFS
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_recordings_are_found_at_any_depth_in_order_and_once(original, tmp_path):
    for name in ("b/001", "b/000", "a/deep/er/000", ".hidden/000"):
        copytree(original, tmp_path / name)
    copytree(original, tmp_path / "b" / "000" / "exports" / "inside")
    (tmp_path / "torn" / "000").mkdir(parents=True)
    (tmp_path / "torn" / "000" / "manifest.json").write_text("{")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "info.csv").write_text("key,value\n")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "b")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    found = find_recordings([tmp_path, tmp_path / "b"])
    assert not found.unreadable
    assert [(str(path.relative_to(tmp_path)), label) for path, label in found.recordings.items()] == [
        ("a/deep/er/000", "a-deep-er-000"),
        ("b/000", "b-000"),
        ("b/001", "b-001"),
        ("old", f"{tmp_path.name}-old"),
        ("torn/000", "torn-000"),
    ]


def test_what_is_no_folder_or_holds_no_recording_is_refused(tmp_path):
    with pytest.raises(NotARecording, match="not a folder"):
        find_recordings([tmp_path / "gone"])
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(NotARecording, match="no recording in"):
        find_recordings([tmp_path / "empty"])


def test_videos_without_anything_else_are_a_recording_to_whoever_names_it(tmp_path):
    folder = make_recording(tmp_path / "a", streams=("world",))
    for path in folder.iterdir():
        if not path.name.startswith("world"):
            path.unlink()
    assert list(find_recordings([folder]).recordings) == [folder]
    with pytest.raises(NotARecording, match="no recording in"):
        find_recordings([tmp_path])


def test_the_output_folder_is_not_looked_into(original, tmp_path):
    copytree(original, tmp_path / "s" / "000")
    copytree(original, tmp_path / "out" / "000")
    assert list(find_recordings([tmp_path], tmp_path / "out").recordings) == [tmp_path / "s" / "000"]


def test_labels():
    assert label_of(Path("/recordings/first try/000")) == "first_try-000"
    assert label_of(Path("/recordings/P 1/monday/000"), Path("/recordings")) == "P_1-monday-000"
    assert label_of(Path("/recordings/s/../t/000")) == "t-000"
    assert label_of(Path("/recordings/田中/000")) != label_of(Path("/recordings/佐藤/000"))
    assert re.fullmatch("000-[0-9a-f]{8}", label_of(Path("/recordings/田中/000")))
    assert len(label_of(Path("/", "x" * 250, "y" * 250))) == 100


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1, max_size=4))
def test_any_name_makes_a_safe_label(parts):
    label = label_of(Path("/", *parts))
    assert re.fullmatch("[A-Za-z0-9_-]{1,100}", label)
    assert label == label_of(Path("/", *parts))


def test_two_recordings_of_one_label_are_refused(tmp_path):
    refuse_same_names({Path("a/s/000"): "s-000", Path("a/s/001"): "s-001"})
    with pytest.raises(SameName, match=r"a/S/000 and b/s/000 would both") as refusal:
        refuse_same_names({Path("a/S/000"): "S-000", Path("b/s/000"): "s-000"})
    assert "in which both are" in refusal.value.hint


def test_a_recording_that_has_not_ended_is_refused_and_a_torn_one_is_not(tmp_path):
    folder = make_recording(tmp_path, closed=False)
    with FolderLock(folder), pytest.raises(BeingRecorded, match="is being recorded"):
        export_recording(folder, "parquet", tmp_path / "out")
    export_recording(folder, "parquet", tmp_path / "out")
    assert repair(folder).repaired
    with pytest.raises(AlreadyThere, match="before the recording changed"):
        export_recording(folder, "parquet", tmp_path / "out", resume=True)


def test_an_export_of_what_was_analysed_since_is_not_taken_for_done(folder, tmp_path):
    offline = folder / "offline_data"
    offline.mkdir()
    for name in ("offline_pupil.pldata", "offline_pupil_timestamps.npy"):
        copyfile(folder / name.replace("offline_", ""), offline / name)
    export_recording(folder, "parquet", tmp_path / "out", offline=True)
    assert export_recording(folder, "parquet", tmp_path / "out", offline=True, resume=True).skipped
    os.utime(offline / "offline_pupil.pldata", ns=(1, 1))
    with pytest.raises(AlreadyThere, match="before the recording changed"):
        export_recording(folder, "parquet", tmp_path / "out", offline=True, resume=True)
