"""Calibrations on disk: found again, never overwritten, and no name leads out of their folder."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazed_plugins.gaze.errors import UnknownCalibration
from gazed_plugins.gaze.registry import make_gazer
from gazed_plugins.gaze.store import (
    Calibration,
    calibrations_folder,
    list_calibrations,
    load_calibration,
    player_id,
    recorded_calibrations,
    save_calibration,
)
from gazed_plugins.gaze.testing import WORLD, session
from gazed_recorder.datalog import DatumLog
from gazed_recorder.reader import Recording
from gazed_recorder.testing import make_recording


def calibration(name: str = "", date: str = "2026-03-01T10:00:00+00:00", **fields) -> Calibration:
    known = {"unique_id": "1", "gazer_class_name": "Gazer2D", "timestamp": 5.0, "params": {}, "calib_data": {}}
    return Calibration(name=name, date=date, **{**known, **fields})


def test_what_was_stored_is_found_again(tmp_path: Path) -> None:
    data = session()
    params = make_gazer("Gazer2D", WORLD).fit(data)
    name = save_calibration(calibration("S1 morning", params=params, calib_data=data), tmp_path)
    assert name == "S1 morning"
    found = load_calibration("S1 morning", tmp_path)
    assert (found.params, found.calib_data) == (params, data)
    assert [(info.name, info.gazer_class_name) for info in list_calibrations(tmp_path)] == [(name, "Gazer2D")]


def test_no_calibration_is_overwritten(tmp_path: Path) -> None:
    names = [save_calibration(calibration("a", timestamp=float(k)), tmp_path) for k in range(3)]
    assert names == ["a", "a-2", "a-3"]
    assert [load_calibration(name, tmp_path).timestamp for name in names] == [0.0, 1.0, 2.0]
    assert len(list(tmp_path.iterdir())) == 3


def test_without_a_name_gazer_and_date_make_one(tmp_path: Path) -> None:
    assert save_calibration(calibration(), tmp_path) == "Gazer2D-20260301T100000"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.one_of(st.text(max_size=300), st.sampled_from(["../../x", "/etc/passwd", "..", ".", "a/b", "\0", "~", "-"])))
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "calibrations"
    got = save_calibration(calibration(name), folder)
    assert load_calibration(got, folder).name == got
    assert [path.name for path in tmp_path.iterdir()] == ["calibrations"]
    assert all(path.is_file() for path in folder.iterdir())


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    save_calibration(calibration("subject-1"), tmp_path)
    with pytest.raises(UnknownCalibration, match="no calibration 'subjct-1'") as caught:
        load_calibration("subjct-1", tmp_path)
    assert "subject-1" in caught.value.hint
    with pytest.raises(UnknownCalibration):
        load_calibration("", tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xc1", msgpack.packb(5), msgpack.packb({"name": 3}), b"\x91" * 100_000])
def test_damaged_files_are_told_and_do_not_spoil_the_list(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    save_calibration(calibration("good"), tmp_path)
    (tmp_path / "bad.calib").write_bytes(content)
    with pytest.raises(UnknownCalibration, match=r"bad\.calib is no calibration"):
        load_calibration("bad", tmp_path)
    assert [info.name for info in list_calibrations(tmp_path)] == ["good"]
    assert "bad.calib is no calibration" in caplog.text


def test_a_file_that_was_renamed_has_the_name_it_was_given(tmp_path: Path) -> None:
    save_calibration(calibration("old"), tmp_path)
    (tmp_path / "old.calib").rename(tmp_path / "new.calib")
    assert [info.name for info in list_calibrations(tmp_path)] == ["new"]
    assert load_calibration("new", tmp_path).name == "new"


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert calibrations_folder() == tmp_path / "gazed" / "calibrations"
    assert list_calibrations() == []


def test_recorded_calibrations(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, datums=0)
    data = session()
    log = DatumLog(folder, "notify")
    for stamp, subject, fields in (
        (
            1.0,
            "calibration.setup.v2",
            {"gazer_class_name": "Gazer2D", "calib_data": {"ref_list": [], "pupil_list": []}},
        ),
        (1.5, "calibration.failed", {"gazer_class_name": "Gazer2D"}),
        (2.0, "calibration.setup.v2", {"gazer_class_name": "Gazer2D", "calib_data": data}),
        (2.5, "calibration.result.v2", {"gazer_class_name": "Gazer2D", "params": {"left_model": {}}}),
        (3.0, "calibration.result.v2", {"gazer_class_name": 7, "params": {}}),
        (3.5, "calibration.result.v2", {"gazer_class_name": "Gazer3D", "params": {}}),
    ):
        note = {"topic": f"notify.{subject}", "subject": subject, "timestamp": stamp, **fields}
        log.append(note["topic"], stamp, msgpack.packb(note))
    log.close()
    first, second = recorded_calibrations(Recording(folder))
    assert (first.name, first.calib_data, first.unique_id) == ("Recorded Calibration", data, player_id("2.5"))
    assert (second.name, second.gazer_class_name, second.calib_data) == ("Recorded Calibration 2", "Gazer3D", {})
    assert first.recording == str(folder)
