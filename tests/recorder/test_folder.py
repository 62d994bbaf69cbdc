from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gazed_recorder.errors import RecordingRefused
from gazed_recorder.folder import LOCK, FolderLock, clean_session_name, is_being_written, make_folder

NOW = datetime(2026, 3, 1, 12, 0, 0)


def test_numbers_count_up_and_nothing_is_overwritten(tmp_path: Path) -> None:
    made = [make_folder(tmp_path, "P 01", NOW) for _ in range(3)]
    assert [folder.path for folder in made] == [tmp_path / "P 01" / f"{number:03d}" for number in range(3)]
    assert {(folder.session, folder.notice) for folder in made} == {("P 01", "")}


def test_the_first_free_number_is_taken(tmp_path: Path) -> None:
    for number in (0, 1, 3):
        (tmp_path / "s" / f"{number:03d}").mkdir(parents=True)
    (tmp_path / "s" / "002").write_text("a file counts as taken")
    assert make_folder(tmp_path, "s", NOW).path.name == "004"


def test_an_empty_name_is_the_date(tmp_path: Path) -> None:
    assert make_folder(tmp_path, "", NOW).path == tmp_path / "2026_03_01" / "000"


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        ("P 01/left eye", "P 01/left eye"),
        ("../../etc/passwd", "etc/passwd"),
        ("/absolute", "absolute"),
        ("a/./b//c/..", "a/b/c"),
        ("con\x00trol\n", "con_trol_"),
        (".hidden", "hidden"),
        ("a" * 300, "a" * 100),
        ("é" * 300, "é" * 50),
        ('<>:"|?*\\', "________"),
        ("..", "2026_03_01"),
        ("\ud800", "_"),
    ],
)
def test_names_are_cleaned_and_the_change_is_told(tmp_path: Path, asked: str, used: str) -> None:
    made = make_folder(tmp_path, asked, NOW)
    assert made.path == tmp_path / used / "000"
    assert bool(made.notice) == (asked != used)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(), max_size=60))
@example("\udcff/..")
@example("/".join("x" * 30))
def test_any_name_stays_inside(tmp_path: Path, name: str) -> None:
    clean = clean_session_name(name, NOW)
    assert clean == clean_session_name(clean, NOW)
    parts = clean.split("/")
    assert 1 <= len(parts) <= 8
    assert all(0 < len(os.fsencode(part)) <= 100 and part.strip(" .") == part and part.isprintable() for part in parts)
    assert (tmp_path / clean).resolve().is_relative_to(tmp_path.resolve())


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "s").symlink_to(outside)
    with pytest.raises(RecordingRefused) as refused:
        make_folder(root, "s/deeper", NOW)
    assert refused.value.reason == "outside-root"
    assert list(outside.iterdir()) == []


def test_a_link_to_the_root_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    assert make_folder(tmp_path / "root", "s", NOW).path.resolve() == tmp_path / "disk" / "s" / "000"


def test_no_recording_inside_a_recording(tmp_path: Path) -> None:
    first = make_folder(tmp_path, "s", NOW).path
    (first / "info.player.json").write_text("{}")
    with pytest.raises(RecordingRefused) as refused:
        make_folder(tmp_path, "s/000", NOW)
    assert refused.value.reason == "name-taken"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(RecordingRefused, match=r"/s is not a folder") as refused:
        make_folder(tmp_path, "s", NOW)
    assert refused.value.reason == "name-taken"


def test_a_root_that_cannot_be_written_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingRefused) as refused:
        make_folder(tmp_path / "file" / "root", "s", NOW)
    assert refused.value.reason == "root-not-writable"
    assert "recorder.root" in refused.value.hint


def test_two_at_once_never_get_the_same_folder(tmp_path: Path) -> None:
    made: list[Path] = []

    def make() -> None:
        for _ in range(20):
            made.append(make_folder(tmp_path, "s", NOW).path)  # noqa: PERF401 - a race, not a list

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 80


def test_the_lock_is_exclusive_and_leaves_nothing(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as lock:
        with pytest.raises(RecordingRefused) as refused:
            FolderLock(tmp_path)
        assert refused.value.reason == "in-use"
    lock.release()
    assert list(tmp_path.iterdir()) == []
    FolderLock(tmp_path).release()


def test_the_lock_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from gazed_recorder.folder import FolderLock;"
        "lock = FolderLock(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert (tmp_path / LOCK).exists()
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_in_a_folder_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingRefused) as refused:
        FolderLock(tmp_path / "gone")
    assert refused.value.reason == "root-not-writable"


def test_whether_a_folder_is_being_written_is_asked_without_a_trace(tmp_path):
    assert not is_being_written(tmp_path)
    with FolderLock(tmp_path):
        assert is_being_written(tmp_path)
    assert not is_being_written(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / LOCK).touch()
    assert not is_being_written(tmp_path)
    assert (tmp_path / LOCK).exists()
