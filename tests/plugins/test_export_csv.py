"""The exporter ``csv``: Pupil Player's tables to the letter, and its other files."""

from __future__ import annotations

import csv
import io
import json
import runpy
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_plugins.errors import PluginArgument
from gazed_plugins.events.blink_offline import blink_response, find_blinks
from gazed_plugins.events.fixation_offline import find_fixations
from gazed_plugins.export.csv_text import Numbers, Pairs, Texts, Whole, csv_text
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.exporter import find_exporter
from gazed_plugins.export.player.exporter import CsvExporter
from gazed_plugins.export.player.tables import world_times
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import check_exporter
from gazed_plugins.gaze.camera import default_camera
from gazed_plugins.offline_data import write_log
from gazed_recorder.datalog import PldataReader, unpack_datum
from gazed_recorder.mp4_boxes import mjpeg_track
from gazed_recorder.part import TrackPart
from gazed_recorder.reader import Recording
from gazed_recorder.records import FrameRecord
from gazed_recorder.testing import SIZE, make_jpeg, make_recording
from gazed_recorder.testing_classic import make_classic_recording
from gazed_recorder.testing_rich import make_rich_recording

NO_VIDEOS = {"videos": False}
PUPIL = (
    "pupil_timestamp,world_index,eye_id,confidence,norm_pos_x,norm_pos_y,diameter,method,ellipse_center_x,"
    "ellipse_center_y,ellipse_axis_a,ellipse_axis_b,ellipse_angle,diameter_3d,model_confidence,model_id,"
    "sphere_center_x,sphere_center_y,sphere_center_z,sphere_radius,circle_3d_center_x,circle_3d_center_y,"
    "circle_3d_center_z,circle_3d_normal_x,circle_3d_normal_y,circle_3d_normal_z,circle_3d_radius,theta,phi,"
    "projected_sphere_center_x,projected_sphere_center_y,projected_sphere_axis_a,projected_sphere_axis_b,"
    "projected_sphere_angle"
)
GAZE = (
    "gaze_timestamp,world_index,confidence,norm_pos_x,norm_pos_y,base_data,gaze_point_3d_x,gaze_point_3d_y,"
    "gaze_point_3d_z,eye_center0_3d_x,eye_center0_3d_y,eye_center0_3d_z,gaze_normal0_x,gaze_normal0_y,gaze_normal0_z,"
    "eye_center1_3d_x,eye_center1_3d_y,eye_center1_3d_z,gaze_normal1_x,gaze_normal1_y,gaze_normal1_z"
)


def make_folder(
    root: Path, logs: dict[str, list[dict[str, Any]]], world: list[float] | None = None, **info: Any
) -> Path:
    """Make a recording of Pupil Capture's with these datums, and a world video with frames at these times, s."""
    folder = root / "000"
    folder.mkdir(parents=True)
    known = {
        "meta_version": "2.3",
        "recording_uuid": "1",
        "recording_name": "000",
        "recording_software_name": "Pupil Capture",
        "recording_software_version": "3.5.1",
        "start_time_system_s": 1_700_000_000.0,
        "start_time_synced_s": 100.0,
        "duration_s": 2.0,
    }
    (folder / "info.player.json").write_text(json.dumps(known | info))
    for name, datums in logs.items():
        write_log(folder, name, ((datum["topic"], datum["timestamp"], msgpack.packb(datum)) for datum in datums))
    if world:
        part = TrackPart(folder, "world", mjpeg_track(*SIZE["world"]))
        for index, time in enumerate(world):
            part.write(FrameRecord(index, time, 0, 0, time, 0), make_jpeg("world", index))
        part.close()
        (folder / "world_frames.npy").unlink()
    return folder


def export(folder: Path, output: Path, **args: Any) -> Path:
    return Path(export_recording(folder, "csv", output, args=NO_VIDEOS | args).path)


def lines(path: Path) -> list[str]:
    text = path.read_bytes().decode()
    assert text.endswith("\r\n")
    return text[:-2].split("\r\n")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


FLAT = {
    "topic": "pupil.0.2d", "id": 0, "method": "2d c++", "norm_pos": [0.25, 1e-05], "diameter": 40.5,
    "confidence": 0.875, "timestamp": 100.25,
    "ellipse": {"center": [48.0, 192.0], "axes": [20.0, 40.5], "angle": -90.0},
}  # fmt: skip
SOLID = {
    "topic": "pupil.1.3d", "id": 1, "method": "pye3d 0.3.0 real-time", "norm_pos": [0.5, 0.1], "diameter": 12.0,
    "confidence": 1.0, "timestamp": 100.5,
    "ellipse": {"center": [96.0, 172.8], "axes": [10.0, 12.0], "angle": 45.0},
    "location": [96.0, 172.8], "diameter_3d": 3.5, "model_confidence": 0.1,
    "sphere": {"center": [1.5, -2.5, 40.0], "radius": 10.392304845413264},
    "circle_3d": {"center": [1.0, 2.0, 30.0], "normal": [0.0, -0.0, -1.0], "radius": 1.75},
    "theta": 1.5707963267948966, "phi": -1.5707963267948966,
    "projected_sphere": {"center": [110.0, 80.5], "axes": [140.0, 141.0], "angle": 0.0},
}  # fmt: skip


def test_pupils_are_written_as_player_writes_them(tmp_path: Path) -> None:
    """All 34 columns in their order; empty is what is missing, nan what is no number."""
    bare = {"topic": "pupil.0.3d", "id": 0, "method": 'pye3d "x", y', "norm_pos": [0.5, 0.5], "diameter": 0.0}
    no_number = SOLID | {"timestamp": 101.0, "phi": float("nan"), "theta": float("nan"), "model_id": 7, "id": 0}
    no_number["ellipse"] = {"center": [float("nan"), 1.0], "axes": [1e16, 5e-324], "angle": float("inf")}
    datums = [
        no_number,
        FLAT,
        bare | {"confidence": 0.0, "timestamp": 100.75},
        SOLID,
        {key: value for key, value in SOLID.items() if key != "sphere"} | {"timestamp": 100.625},
    ]
    folder = make_folder(tmp_path, {"pupil": datums}, [100.0, 100.5, 101.0])
    header, *rows = lines(export(folder, tmp_path / "out") / "pupil_positions.csv")
    assert header == PUPIL
    assert len(PUPIL.split(",")) == 34
    solid_end = "1.0,2.0,30.0,0.0,-0.0,-1.0,1.75,1.5707963267948966,-1.5707963267948966,110.0,80.5,140.0,141.0,0.0"
    solid_start = "1,1,1.0,0.5,0.1,12.0,pye3d 0.3.0 real-time,96.0,172.8,10.0,12.0,45.0,"
    assert rows == [
        "100.25,1,0,0.875,0.25,1e-05,40.5,2d c++,48.0,192.0,20.0,40.5,-90.0" + "," * 21,
        f"100.5,{solid_start}3.5,0.1,,1.5,-2.5,40.0,10.392304845413264,{solid_end}",
        # A part is missing, the others are there; see the module columns.
        f"100.625,{solid_start}3.5,0.1,,nan,nan,nan,nan,{solid_end}",
        '100.75,2,0,0.0,0.5,0.5,0.0,"pye3d ""x"", y"' + "," * 26,
        (
            "101.0,2,0,1.0,0.5,0.1,12.0,pye3d 0.3.0 real-time,nan,1.0,1e+16,5e-324,inf,3.5,0.1,7,1.5,-2.5,40.0,"
            "10.392304845413264,1.0,2.0,30.0,0.0,-0.0,-1.0,1.75,nan,nan,110.0,80.5,140.0,141.0,0.0"
        ),
    ]


def test_gaze_is_written_as_player_writes_it(tmp_path: Path) -> None:
    """All 21 columns in their order; gaze of eye 1 alone stands in the columns of eye 1."""
    two = [FLAT | {"timestamp": 100.123456789}, FLAT | {"timestamp": 100.2, "id": 1}]
    flat = {"topic": "gaze.2d.01.", "norm_pos": [0.5, 2e-05], "confidence": 0.9, "timestamp": 100.1617283945}
    point = {"gaze_point_3d": [1.0, -2.0, 500.0]}
    centers, normals = (
        {"0": [20.0, 15.0, -20.0], "1": [-40.0, 15.0, -20.0]},
        {"0": [0.0, 0.0, 1.0], "1": [0.1, 0.2, 0.3]},
    )
    alone = {"eye_center_3d": [-40.0, 15.0, -20.0], "gaze_normal_3d": [0.1, 0.2, 0.3]}
    datums = [
        flat | {"base_data": two},
        flat | point | {"timestamp": 100.5, "eye_centers_3d": centers, "gaze_normals_3d": normals, "base_data": two},
        flat | point | alone | {"timestamp": 100.75, "base_data": two[1:]},
        flat | point | alone | {"timestamp": 101.0, "base_data": two[:1]},
        {key: value for key, value in flat.items() if key != "norm_pos"} | {"timestamp": 101.5, "base_data": []},
    ]
    folder = make_folder(tmp_path, {"gaze": datums}, [100.0, 100.5, 101.0])
    header, *rows = lines(export(folder, tmp_path / "out") / "gaze_positions.csv")
    assert header == GAZE
    assert len(GAZE.split(",")) == 21
    assert rows == [
        "100.1617283945,0,0.9,0.5,2e-05,100.123456789-0 100.2-1" + "," * 15,
        (
            "100.5,1,0.9,0.5,2e-05,100.123456789-0 100.2-1,1.0,-2.0,500.0,20.0,15.0,-20.0,0.0,0.0,1.0,"
            "-40.0,15.0,-20.0,0.1,0.2,0.3"
        ),
        "100.75,2,0.9,0.5,2e-05,100.2-1,1.0,-2.0,500.0,,,,,,,-40.0,15.0,-20.0,0.1,0.2,0.3",
        "101.0,2,0.9,0.5,2e-05,100.123456789-0,1.0,-2.0,500.0,-40.0,15.0,-20.0,0.1,0.2,0.3,,,,,,",
        "101.5,2,0.9,,," + "," * 15,
    ]


def test_gaze_of_before_3_0_has_eyes_by_number(tmp_path: Path) -> None:
    packed = msgpack.packb(
        {
            "topic": "gaze.3d.01.", "timestamp": 100.5, "confidence": 1.0, "norm_pos": [0.5, 0.5],
            "gaze_point_3d": [1.0, 2.0, 3.0], "eye_centers_3d": {0: [4.0, 5.0, 6.0], 1: [7.0, 8.0, 9.0]},
            "gaze_normals_3d": {0: [0.1, 0.2, 0.3], 1: [0.4, 0.5, 0.6]}, "base_data": [FLAT],
        }
    )  # fmt: skip
    folder = make_folder(tmp_path, {}, [100.0, 101.0])
    write_log(folder, "gaze", [("gaze.3d.01.", 100.5, packed)])
    assert lines(export(folder, tmp_path / "out") / "gaze_positions.csv")[1] == (
        "100.5,1,1.0,0.5,0.5,100.25-0,1.0,2.0,3.0,4.0,5.0,6.0,0.1,0.2,0.3,7.0,8.0,9.0,0.4,0.5,0.6"
    )


@pytest.mark.parametrize(
    ("time", "index"), [(99.0, 0), (100.0, 0), (100.2499999, 0), (100.25, 1), (100.74, 1), (100.75, 2), (101.9, 2)]
)
def test_the_world_frame_is_the_nearest_and_of_two_the_later(tmp_path: Path, time: float, index: int) -> None:
    folder = make_folder(tmp_path, {"pupil": [FLAT | {"timestamp": time}]}, [100.0, 100.5, 101.0])
    [row] = table(export(folder, tmp_path / "out") / "pupil_positions.csv")
    assert (row["pupil_timestamp"], row["world_index"]) == (repr(time), str(index))


def test_without_a_world_video_it_is_players_virtual_one(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"pupil": [FLAT | {"timestamp": 100.0 + 1 / 30}]})
    frames = world_times(Recording(folder))
    assert (frames[0], len(frames)) == (100.0, 150)
    output = export(folder, tmp_path / "out")
    assert table(output / "pupil_positions.csv")[0]["world_index"] == "1"
    assert "Frame Index Range:,0 - 149" in lines(output / "export_info.csv")


def test_a_lone_world_frame_is_frame_0(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"pupil": [FLAT, SOLID]}, [100.4])
    assert {row["world_index"] for row in table(export(folder, tmp_path / "out") / "pupil_positions.csv")} == {"0"}


def test_nothing_is_left_out_unless_players_range_is_asked_for(tmp_path: Path) -> None:
    times = [99.9, 100.0, 100.5, 100.999, 101.0, 101.1]
    folder = make_folder(tmp_path, {"pupil": [FLAT | {"timestamp": time} for time in times]}, [100.0, 100.5, 101.0])
    everything, players = (export(folder, tmp_path / kind, range=kind) for kind in ("all", "player"))
    found = [[row["pupil_timestamp"] for row in table(each / "pupil_positions.csv")] for each in (everything, players)]
    assert found == [list(map(repr, times)), list(map(repr, times[1:4]))]
    assert len(lines(players / "pupil_positions_unix.csv")) == 4
    told = [(each / "pupil_gaze_positions_info.txt").read_text() for each in (everything, players)]
    assert "3 pupils and 0 gaze positions that lie outside of the world video's time are in the tables" in told[0]
    assert "3 pupils and 0 gaze positions that lie outside of the world video's time are left out" in told[1]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rich_recording(tmp_path_factory.mktemp("rich"), seconds=6.0)


def test_a_recording_is_what_row_by_row_gives(rich: Path, tmp_path: Path) -> None:
    plain = runpy.run_path(str(Path(__file__).parents[1] / "bench" / "plain_csv.py"))
    plain["write_tables"](rich, tmp_path, Recording(rich).world.timestamps)
    output = export(rich, tmp_path / "out")
    for name in ("pupil_positions.csv", "gaze_positions.csv"):
        assert (output / name).read_bytes() == (tmp_path / name).read_bytes()


def test_what_gaze_rests_on_is_found_among_the_pupils_by_its_text(rich: Path, tmp_path: Path) -> None:
    output = export(rich, tmp_path)
    pupils = {f"{row['pupil_timestamp']}-{row['eye_id']}" for row in table(output / "pupil_positions.csv")}
    bases = [row["base_data"].split(" ") for row in table(output / "gaze_positions.csv")]
    assert bases
    assert {text for base in bases for text in base} <= pupils


def test_a_real_headsets_gaze_goes_the_same_way(tmp_path: Path) -> None:
    real = Path(__file__).parents[3] / "shared" / "data" / "binocular_gaze.pldata"
    if not real.exists():
        pytest.skip("the data of a real headset is not here")
    folder = make_folder(tmp_path, {})
    (folder / "gaze.pldata").write_bytes(real.read_bytes())
    # Maps in it are packed once more, which is too much for a plain reader.
    datums = [unpack_datum(payload) for _, payload in PldataReader(real)]
    again = make_folder(tmp_path / "again", {"gaze": datums, "pupil": []})
    plain = runpy.run_path(str(Path(__file__).parents[1] / "bench" / "plain_csv.py"))
    plain["write_tables"](again, tmp_path, world_times(Recording(folder)))
    wanted = (tmp_path / "gaze_positions.csv").read_bytes()
    assert (export(folder, tmp_path / "out") / "gaze_positions.csv").read_bytes() == wanted


def test_the_unix_time_of_each_row_stands_beside_it(rich: Path, tmp_path: Path) -> None:
    recording, output = Recording(rich), export(rich, tmp_path)
    tables = {"pupil_positions": "pupil_timestamp", "gaze_positions": "gaze_timestamp", "fixations": "start_timestamp"}
    for name, column in {**tables, "blinks": "start_timestamp", "annotations": "timestamp"}.items():
        rows, unix = table(output / f"{name}.csv"), table(output / f"{name}_unix.csv")
        assert [row["pupil_time_s"] for row in unix] == [row[column] for row in rows]
        times = np.array([float(row[column]) for row in rows])
        assert [int(row["unix_ns"]) for row in unix] == recording.clock.to_unix_ns(times).tolist()
        assert rows


def test_without_unix_time_there_are_no_such_files(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"pupil": [FLAT], "annotation": [FLAT | {"label": "x", "topic": "annotation"}]})
    (folder / "info.player.json").unlink()
    output = export(folder, tmp_path / "out")
    assert (output / "pupil_positions.csv").exists()
    assert not list(output.glob("*_unix.csv"))


def test_fixations_are_those_found_in_the_recording(rich: Path, tmp_path: Path) -> None:
    recording, output = Recording(rich), export(rich, tmp_path)
    gaze = sorted(recording.data("gaze"), key=lambda datum: float(datum["timestamp"]))
    found = find_fixations(gaze, default_camera("", 320, 240), recording.world.timestamps)
    rows = table(output / "fixations.csv")
    assert list(rows[0]) == [
        "id", "start_timestamp", "duration", "start_frame_index", "end_frame_index", "norm_pos_x", "norm_pos_y",
        "dispersion", "confidence", "method", "gaze_point_3d_x", "gaze_point_3d_y", "gaze_point_3d_z", "base_data",
    ]  # fmt: skip
    assert [list(row.values()) for row in rows] == [
        [
            *map(str, (datum["id"], datum["timestamp"], datum["duration"], datum["start_frame_index"])),
            *map(str, (datum["end_frame_index"], *datum["norm_pos"], datum["dispersion"], datum["confidence"])),
            *map(str, (datum["method"], *datum["gaze_point_3d"])),
            " ".join(str(time) for _, time in datum["base_data"]),
        ]
        for datum in found
    ]
    assert len(found) > 10
    assert (output / "fixation_report.csv").read_text().splitlines() == [
        "fixation classifier,Dispersion_Duration", "max_dispersion,1.500 deg", "min_duration,80 ms",
        "max_duration,220 ms", "", f"fixation_count,{len(found)}",
    ]  # fmt: skip


def test_flat_gaze_has_fixations_by_the_worlds_camera(tmp_path: Path) -> None:
    folder = make_rich_recording(tmp_path, seconds=2.0, methods=("2d",))
    rows = table(export(folder, tmp_path / "out", max_dispersion=3.0) / "fixations.csv")
    assert rows
    assert {row["method"] for row in rows} == {"2d gaze"}
    assert {row["gaze_point_3d_x"] for row in rows} == {""}


def test_blinks_are_those_found_in_the_recording(rich: Path, tmp_path: Path) -> None:
    recording, output = Recording(rich), export(rich, tmp_path)
    pupils = recording.pupil
    flat = np.array(["2d" in topic for topic in pupils["topic"]])
    times, sure = pupils["timestamp"][flat], pupils["confidence"][flat]
    found, response = find_blinks(times, sure), blink_response(times, sure)
    rows = table(output / "blinks.csv")
    assert list(rows[0]) == [
        "id", "start_timestamp", "duration", "end_timestamp", "start_frame_index", "index", "end_frame_index",
        "confidence", "filter_response", "base_data",
    ]  # fmt: skip
    for row, blink in zip(rows, found, strict=True):
        assert (row["id"], row["confidence"]) == (str(blink.id), str(blink.confidence))
        assert (row["start_timestamp"], row["end_timestamp"]) == (str(blink.start_timestamp), str(blink.end_timestamp))
        assert float(row["duration"]) == blink.end_timestamp - blink.start_timestamp
        first, middle, last = (int(row[name]) for name in ("start_frame_index", "index", "end_frame_index"))
        assert recording.world.timestamps[first] >= blink.start_timestamp
        assert middle == (first + last) // 2
        samples = slice(blink.start, blink.end)
        assert row["filter_response"].split() == list(map(str, response[samples].tolist()))
        assert row["base_data"].split() == list(map(str, times[samples].tolist()))
    assert found
    assert lines(output / "blink_detection_report.csv") == [
        "key,value", "history_length,0.2", "onset_confidence_threshold,0.5", "offset_confidence_threshold,0.5",
        f"blinks_exported,{len(found)}",
    ]  # fmt: skip


def test_annotations_have_a_column_for_each_key(tmp_path: Path) -> None:
    first = {"topic": "annotation", "label": 'B, "quoted"\r\nand on', "timestamp": 100.75, "duration": 0.5}
    second = {"topic": "annotation", "label": "Schläge", "timestamp": 100.25, "trial": 3, "added_in_capture": True}
    folder = make_folder(tmp_path, {"annotation": [first, second]}, [100.0, 100.5, 101.0])
    assert (export(folder, tmp_path / "out") / "annotations.csv").read_bytes().decode() == (
        "index,timestamp,label,duration,added_in_capture,trial\r\n"
        "1,100.25,Schläge,,True,3\r\n"
        '2,100.75,"B, ""quoted""\r\nand on",0.5,,\r\n'
    )


def test_the_info_tells_the_range_and_no_time_of_today(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"pupil": [FLAT]}, [100.0, 100.5, 175.25])
    assert lines(export(folder, tmp_path / "out") / "export_info.csv") == [
        "key,value", "Player Software Version,3.6.0", "Data Format Version,2.0", "Export Date,", "Export Time,",
        "Frame Index Range:,0 - 2", "Relative Time Range,00:00.000 - 01:15.250",
        "Absolute Time Range,100.0 - 175.25",
    ]  # fmt: skip


def test_every_column_has_its_words(rich: Path, tmp_path: Path) -> None:
    text = (export(rich, tmp_path) / "pupil_gaze_positions_info.txt").read_text()
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == [
        *PUPIL.split(","), *GAZE.split(","),
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["0.7.4", "0.9.4", "1.7", "3.5"])
def test_recordings_of_old_are_exported_as_any(tmp_path: Path, version: str) -> None:
    folder = make_classic_recording(tmp_path, version)
    recording, output = Recording(folder), export(folder, tmp_path / "out")
    assert [len(table(output / f"{name}_positions.csv")) for name in ("pupil", "gaze")] == [
        len(recording.pupil), len(recording.gaze),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [
        {"layout": "player3"}, {"layout": ["player"]}, {"range": "trim"}, {"videos": "no"}, {"max_dispersion": 0},
        {"min_duration": 300}, {"history_length": "long"}, {"unix": True},
    ],
)  # fmt: skip
def test_arguments_are_checked(args: dict[str, Any]) -> None:
    with pytest.raises(PluginArgument, match=next(iter(args))):
        CsvExporter(args)


def test_what_has_nothing_for_a_table_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, {"notify": [{"topic": "notify.x", "subject": "x", "timestamp": 100.0}]})
    with pytest.raises(NothingToExport, match="neither pupils nor gaze"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "000-csv").exists()


def test_it_keeps_the_contract_of_exporters(tmp_path: Path) -> None:
    assert find_exporter("csv") is CsvExporter
    folder = make_recording(tmp_path / "recording", streams=("world", "eye0", "audio"), parts=2)
    check_exporter(CsvExporter, {}, folder, tmp_path / "work")


FLOATS = st.floats() | st.sampled_from([1e16, 1e-4, 9.999999999999999e-05, 5e-324, -0.0, 1e22, 2.0**53, 1e15 + 0.3])
WORDS = st.none() | st.text() | st.sampled_from(["2d c++", "null", "u", "nul", "<|", "<~", "pye3d 0.3.2 real-time", ""])
ROWS = st.lists(
    st.tuples(FLOATS, st.booleans(), st.integers(-1, 2**62), WORDS, FLOATS, FLOATS, st.integers(0, 9), FLOATS),
    max_size=6,
)


@given(ROWS)
def test_the_text_is_that_of_the_csv_module(rows: list[tuple[Any, ...]]) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * 8
    floats = {place: np.array(columns[place], np.float64) for place in (0, 4, 5, 7)}
    whole = {place: np.array(columns[place], np.int64) for place in (2, 6)}
    blank = np.array(columns[1], np.bool_)
    text = csv_text(
        [
            Numbers(floats[0], blank),
            Whole(whole[2]),
            Texts(columns[3]),
            Pairs((floats[4], floats[5]), (whole[6], whole[6])),
            Numbers(floats[7]),
        ]
    )
    wanted = io.StringIO()
    for first, missing, number, word, one, two, eye, last in rows:
        pair = " ".join(f"{time!r}-{eye}" for time in (one, two) if time == time) if one == one else None
        blanked = None if missing and first != first else first
        csv.writer(wanted).writerow([blanked, None if number < 0 else number, word, pair, last])
    assert text == wanted.getvalue().encode()
