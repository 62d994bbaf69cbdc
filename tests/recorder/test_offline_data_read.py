"""What was computed after a recording, by Pupil Player or by gazed, takes the place of what was recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from gazed_recorder.errors import UnknownMapping
from gazed_recorder.reader import Recording
from gazed_recorder.testing_classic import START_SYNCED, make_classic_recording


def write_log(path: Path, topic: str, datums: Iterable[dict[str, Any]], stamps: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    datums = [*datums]
    path.write_bytes(b"".join(msgpack.packb([topic, msgpack.packb(datum)]) for datum in datums))
    if stamps:
        np.save(path.with_name(f"{path.stem}_timestamps.npy"), np.array([datum["timestamp"] for datum in datums]))


def write_mappers(folder: Path, *mappers: tuple[str, str]) -> None:
    entries = [[*mapper, "calibration", [0, 9], [0, 9], 5.0, 0.0, 0.0, True, "Done", "", ""] for mapper in mappers]
    (folder / "offline_data" / "gaze_mappers.msgpack").write_bytes(msgpack.packb({"version": 1, "data": entries}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.5)
    offline = folder / "offline_data"
    pupils = [{"topic": "pupil.0.3d", "timestamp": START_SYNCED + t, "id": 0, "diameter": 9.0} for t in range(3)]
    write_log(offline / "offline_pupil.pldata", "pupil.0.3d", pupils)
    (offline / "offline_pupil.meta").write_bytes(msgpack.packb({"detection_status": ["complete"] * 2, "version": 4}))
    # Player packs what a fixation rests on once more.
    base = msgpack.ExtType(13, msgpack.packb({"topic": "gaze.3d.01.", "timestamp": START_SYNCED}))
    fixation = {"topic": "fixation", "id": 7, "timestamp": START_SYNCED, "duration": 111.0, "base_data": [base]}
    write_log(offline / "fixations.pldata", "fixation", [fixation])
    note = {"topic": "annotation", "label": "set in Player", "timestamp": START_SYNCED, "duration": 0.0}
    write_log(offline / "annotation_player.pldata", "annotation", [note])
    write_log(offline / "camera_pose.pldata", "head_pose", [{"topic": "head_pose", "timestamp": START_SYNCED}])
    return folder


def gaze(x: float, count: int = 4) -> list[dict[str, Any]]:
    return [
        {"topic": "gaze", "timestamp": START_SYNCED + t, "norm_pos": [x, 0.5], "base_data": []} for t in range(count)
    ]


def test_what_there_is_is_listed_and_taken_if_asked_for(folder: Path) -> None:
    write_log(folder / "offline_data" / "gaze-mappings" / "Default-1.pldata", "gaze", gaze(0.1))
    recorded = Recording(folder)
    assert sorted(recorded.offline.logs) == ["annotation", "fixations", "head_pose", "pupil"]
    assert [*recorded.offline.mappings] == ["Default-1"]
    assert len(recorded.pupil) > 3
    assert "head_pose" not in recorded.logs

    offline = Recording(folder, offline=True)
    assert offline.pupil["diameter"].tolist() == [9.0] * 3
    assert offline.timestamps("pupil").tolist() == [START_SYNCED, START_SYNCED + 1, START_SYNCED + 2]
    assert offline.gaze["norm_pos_x"].tolist() == [0.1] * 4
    assert offline.fixations["id"].tolist() == [7]
    assert offline.fixations["base_data"][0] == [{"topic": "gaze.3d.01.", "timestamp": START_SYNCED}]
    assert [*offline.annotations["label"]] == ["set in Player"]
    assert "head_pose" in offline.logs
    # What was not computed is as it was recorded.
    assert len(offline.blinks) == len(recorded.blinks)
    assert [*offline.notifications["subject"]] == [*recorded.notifications["subject"]]
    assert offline.missing == ()


def test_several_gaze_mappings_need_a_name(folder: Path) -> None:
    mappings = folder / "offline_data" / "gaze-mappings"
    write_log(mappings / "Left_eye_only-aa-1.pldata", "gaze", gaze(0.1))
    write_log(mappings / "Both_eyes-bb-2.pldata", "gaze", gaze(0.2))
    write_log(mappings / "Both_eyes-cc-3.pldata", "gaze", gaze(0.3), stamps=False)
    write_log(mappings / "nobody_lists_it.pldata", "gaze", gaze(0.4))
    write_mappers(folder, ("aa-1", "Left eye only"), ("bb-2", "Both eyes"), ("cc-3", "Both eyes"), ("dd", "Not run"))
    recorded = Recording(folder)
    assert [*recorded.offline.mappings] == ["Both eyes", "Both_eyes-cc-3", "Left eye only", "nobody_lists_it"]
    with pytest.raises(UnknownMapping, match="4 gaze mappings: 'Both eyes', 'Both_eyes-cc-3', ") as raised:
        Recording(folder, offline=True)
    assert "offline=" in raised.value.hint
    for name, x in (
        ("Left eye only", 0.1), ("Left_eye_only-aa-1", 0.1), ("Both eyes", 0.2), ("Both_eyes-cc-3", 0.3),
        ("nobody_lists_it", 0.4),
    ):  # fmt: skip
        offline = Recording(folder, offline=name)
        assert offline.gaze["norm_pos_x"].tolist() == [x] * 4, name
        assert len(offline.pupil) == 3
        assert len(offline.timestamps("gaze")) == 4
    with pytest.raises(UnknownMapping, match=r"no gaze mapping 'left', found 'Both eyes'"):
        Recording(folder, offline="left")


def test_without_offline_data_what_was_recorded_is_left(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.5)
    assert len(Recording(folder, offline=True).pupil) == len(Recording(folder).pupil)
    assert Recording(folder).offline.mappings == {}
    with pytest.raises(UnknownMapping, match="no gaze mapping 'any', found none"):
        Recording(folder, offline="any")


def test_a_detection_that_never_ended_is_left_out_and_told(folder: Path) -> None:
    (folder / "offline_data" / "offline_pupil.meta").unlink()
    offline = Recording(folder, offline=True)
    assert len(offline.pupil) == len(Recording(folder).pupil)
    [told] = offline.missing
    assert "offline_pupil.pldata has no offline_pupil.meta: that detection never ended" in told
    assert Recording(folder).missing == ()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1", b"\x80", b"\x90" * 3, msgpack.packb({"data": 3}), msgpack.packb({"data": [[1]]}), b"\x91" * 3000],
)
def test_a_list_of_mappers_that_cannot_be_read_costs_only_the_names(folder: Path, content: bytes) -> None:
    write_log(folder / "offline_data" / "gaze-mappings" / "Default-1.pldata", "gaze", gaze(0.1))
    (folder / "offline_data" / "gaze_mappers.msgpack").write_bytes(content)
    offline = Recording(folder, offline=True)
    assert len(offline.gaze) == 4
    assert [*offline.offline.mappings] == ["Default-1"]
    assert all("gaze_mappers.msgpack cannot be read" in told for told in offline.missing)


def test_offline_data_of_a_recording_with_pupil_data(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "0.7.4", seconds=0.5)
    write_log(folder / "offline_data" / "gaze-mappings" / "New-1.pldata", "gaze", gaze(0.6))
    offline = Recording(folder, offline=True)
    assert offline.gaze["norm_pos_x"].tolist() == [0.6] * 4
    assert set(offline.pupil["topic"]) == {"pupil.0", "pupil.1"}


def test_a_clock_among_offline_data_is_none(folder: Path) -> None:
    write_log(folder / "offline_data" / "clock.pldata", "clock.pair", [{"topic": "clock.pair", "timestamp": 0.0}])
    offline = Recording(folder, offline=True)
    assert "clock" not in offline.logs
    assert offline.clock.pairs[0].unix > 0
