from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from gazed_recorder.classic import write_pupil_data
from gazed_recorder.datalog import DatumLog
from gazed_recorder.errors import DamagedFile
from gazed_recorder.testing import make_recording


def record(folder: Path, name: str, count: int, size: int = 0) -> list[dict[str, object]]:
    datums = [{"topic": f"{name}.x", "timestamp": float(index), "x": bytes(size)} for index in range(count)]
    log = DatumLog(folder, name)
    for datum in datums:
        log.append(f"{name}.x", float(str(datum["timestamp"])), msgpack.packb(datum))
    log.close()
    return datums


def test_every_datum_is_under_its_classic_name(tmp_path: Path) -> None:
    made = {name: record(tmp_path, name, count) for name, count in {"pupil": 20, "notify": 2, "blinks": 70_000}.items()}
    assert write_pupil_data(tmp_path) == ""
    found = msgpack.unpackb((tmp_path / "pupil_data").read_bytes())
    assert found == {
        "pupil_positions": made["pupil"],
        "gaze_positions": [],
        "notifications": made["notify"],
        "blinks": made["blinks"],
    }
    assert list(tmp_path.glob("*.writing")) == []


def test_without_any_log_it_is_a_map_of_three_empty_lists(tmp_path: Path) -> None:
    assert write_pupil_data(tmp_path) == ""
    found = msgpack.unpackb((tmp_path / "pupil_data").read_bytes())
    assert found == {"pupil_positions": [], "gaze_positions": [], "notifications": []}


def test_it_is_left_out_when_there_is_no_time(tmp_path: Path) -> None:
    record(tmp_path, "pupil", 3000)
    asked = iter([False, True])
    assert write_pupil_data(tmp_path, lambda: next(asked)) == "there was no time"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pupil.pldata", "pupil_timestamps.npy"]


def test_it_is_left_out_when_there_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "pupil.pldata").touch()
    import os

    os.truncate(tmp_path / "pupil.pldata", 1 << 42)
    assert "MB wanted" in write_pupil_data(tmp_path)
    assert not (tmp_path / "pupil_data").exists()


def test_a_log_that_is_not_in_order_is_refused(tmp_path: Path) -> None:
    record(tmp_path, "pupil", 5)
    with (tmp_path / "pupil.pldata").open("ab") as file:
        file.write((tmp_path / "pupil.pldata").read_bytes()[: (tmp_path / "pupil.pldata").stat().st_size // 5])
    with pytest.raises(DamagedFile, match=r"pupil\.pldata: 6 records, 5 timestamps"):
        write_pupil_data(tmp_path)
    assert not (tmp_path / "pupil_data").exists()


def test_memory_stays_small_however_much_there_is(tmp_path: Path) -> None:
    record(tmp_path, "pupil", 20_000, size=4000)
    code = (
        "import pathlib, resource, sys; from gazed_recorder.classic import write_pupil_data as w;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; w(pathlib.Path(sys.argv[1]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert (tmp_path / "pupil_data").stat().st_size > 80_000_000
    assert int(run.stdout) < 20_000


def test_a_closed_recording_has_one(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, datums=5)
    found = msgpack.unpackb((folder / "pupil_data").read_bytes())
    assert {key: len(value) for key, value in found.items()} == {
        "pupil_positions": 5, "gaze_positions": 5, "notifications": 5, "annotation": 5,
    }  # fmt: skip
    assert found["pupil_positions"][0]["topic"] == "pupil.0.2d"
