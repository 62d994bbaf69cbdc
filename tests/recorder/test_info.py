from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest

from gazed_recorder.errors import DamagedFile
from gazed_recorder.info import (
    duration_s,
    write_info_csv,
    write_intrinsics,
    write_player_info,
    write_user_info,
)
from gazed_recorder.manifest import ClockReading, Manifest, Part, StreamReport
from gazed_recorder.testing import make_recording

START = ClockReading(5_000_000_000, 1_772_366_400_000_000_000, 300, 12.5)


def manifest(**changes: object) -> Manifest:
    return Manifest("0b7d5f3c-8a53-4d0e-9a3e-8c3c5d2f6a11", "gazed 0.1.0", START, **changes)  # type: ignore[arg-type]


def read_csv(path: Path) -> dict[str, str]:
    """Read as Pupil's own tools do: no quotes, backslash escapes, header."""
    lines = path.read_bytes().decode().split("\r\n")
    assert lines[0] == "key,value"
    assert lines[-1] == ""
    rows = {}
    for line in lines[1:-1]:
        cells, cell, chars = [], "", iter(line)
        for char in chars:
            if char == "\\":
                cell += next(chars)
            elif char == ",":
                cells.append(cell)
                cell = ""
            else:
                cell += char
        key, value = [*cells, cell]
        rows[key] = value
    return rows


def test_player_takes_the_info_from_the_start_on(tmp_path: Path) -> None:
    write_player_info(tmp_path, manifest(session_name="P 1"))
    info = json.loads((tmp_path / "info.player.json").read_bytes())
    assert info["duration_s"] == 0.0
    assert all(isinstance(info[key], float) for key in ("duration_s", "start_time_synced_s", "start_time_system_s"))
    assert info["start_time_system_s"] == 1_772_366_400.0
    assert (info["meta_version"], info["min_player_version"]) == ("2.3", "2.0")
    assert (info["recording_name"], info["recording_software_name"]) == ("P 1", "Pupil Capture")
    assert info["written_by"] == "gazed 0.1.0"
    assert list(info) == sorted(info)


def test_the_duration_is_that_of_the_clocks_or_of_the_data(tmp_path: Path) -> None:
    stop = ClockReading(0, 0, 0, 20.0)
    assert duration_s(manifest(stop=stop)) == 7.5
    assert duration_s(manifest(streams={"pupil": StreamReport(kind="data", last=14.0)})) == 1.5
    assert duration_s(manifest()) == 0.0
    write_player_info(tmp_path, manifest(stop=stop))
    assert json.loads((tmp_path / "info.player.json").read_bytes())["duration_s"] == 7.5


def test_the_machine_that_recorded_stays_named(tmp_path: Path) -> None:
    write_player_info(tmp_path, manifest())
    path = tmp_path / "info.player.json"
    info = json.loads(path.read_bytes())
    path.write_text(json.dumps({**info, "system_info": "User: another"}))
    write_player_info(tmp_path, manifest())
    assert json.loads(path.read_bytes())["system_info"] == "User: another"


def test_info_csv_has_every_classic_key(tmp_path: Path) -> None:
    folder = make_recording(tmp_path)
    rows = read_csv(folder / "info.csv")
    assert list(rows) == [
        "Recording Name", "Start Date", "Start Time", "Start Time (System)", "Start Time (Synced)", "Recording UUID",
        "Duration Time", "World Camera Frames", "World Camera Resolution", "Capture Software Version",
        "Data Format Version", "System Info",
    ]  # fmt: skip
    assert (rows["World Camera Frames"], rows["World Camera Resolution"]) == ("12", "64x48")
    assert rows["Start Time (Synced)"] == "100.0"
    assert rows["Start Date"].count(".") == 2
    assert rows["Duration Time"] == "00:00:00"
    assert ", Machine: " in rows["System Info"]


def test_a_recording_without_world_has_an_info_csv(tmp_path: Path) -> None:
    write_info_csv(tmp_path, manifest(streams={"eye0": StreamReport(kind="video")}))
    rows = read_csv(tmp_path / "info.csv")
    assert (rows["World Camera Frames"], rows["World Camera Resolution"]) == ("0", "")


def test_user_info_survives_commas_quotes_and_lines(tmp_path: Path) -> None:
    said = {"note": 'a, "b" \\ c\r\nsecond,key,value', "ümlaut": "ß", "name": "P 1"}
    write_user_info(tmp_path, manifest(user_info=said))
    rows = read_csv(tmp_path / "user_info.csv")
    assert next(iter(rows)) == "name"
    assert rows == {"name": "P 1", "note": 'a, "b" \\ c second,key,value', "ümlaut": "ß"}


def test_an_unknown_camera_gets_the_dummy_model(tmp_path: Path) -> None:
    folder = make_recording(tmp_path)
    found = msgpack.unpackb((folder / "world.intrinsics").read_bytes())
    assert set(found) == {"version", "(64, 48)"}
    assert found["version"] == 1
    assert found["(64, 48)"]["cam_type"] == "dummy"
    assert found["(64, 48)"]["camera_matrix"][0] == [1000.0, 0.0, 32.0]
    assert found["(64, 48)"]["dist_coefs"] == [[0.0] * 5]


def test_known_intrinsics_are_kept(tmp_path: Path) -> None:
    model = {"camera_matrix": [[1.0]], "dist_coefs": [[0.1]], "cam_type": "radial", "resolution": [4, 2]}
    report = StreamReport(kind="video", parts=[Part("eye0.mp4")], info={"width": 4, "height": 2, "intrinsics": model})
    write_intrinsics(tmp_path, manifest(streams={"eye0": report}))
    assert msgpack.unpackb((tmp_path / "eye0.intrinsics").read_bytes()) == {"version": 1, "(4, 2)": model}


def test_a_size_that_nobody_told_is_read_from_the_video(tmp_path: Path) -> None:
    folder = make_recording(tmp_path)
    report = StreamReport(kind="video", parts=[Part("eye0.mp4")])
    (folder / "eye0.intrinsics").unlink()
    write_intrinsics(folder, manifest(streams={"eye0": report}))
    assert "(32, 32)" in msgpack.unpackb((folder / "eye0.intrinsics").read_bytes())
    report.parts[0].file = "gone.mp4"
    with pytest.raises(DamagedFile, match=r"gone\.mp4"):
        write_intrinsics(folder, manifest(streams={"eye0": report}))


def test_a_camera_that_came_back_with_another_size_does_not_describe_the_first_part(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=("eye0",))
    model = {"camera_matrix": [[1.0]], "dist_coefs": [0.0], "resolution": [64, 48], "cam_type": "radial"}
    info = {"width": 64, "height": 48, "intrinsics": model}
    write_intrinsics(folder, manifest(streams={"eye0": StreamReport("video", parts=[Part("eye0.mp4")], info=info)}))
    found = msgpack.unpackb((folder / "eye0.intrinsics").read_bytes())
    assert (found["(32, 32)"]["cam_type"], found["(32, 32)"]["resolution"]) == ("dummy", [32, 32])
