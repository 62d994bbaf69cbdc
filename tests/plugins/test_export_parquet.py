"""Parquet: the contract, the schema that never changes, and values that come back as they were."""

from __future__ import annotations

import json
from shutil import copytree

import duckdb
import msgpack
import numpy as np
import pytest
from pyarrow import parquet

from gazed_plugins.export.batch import export_many
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.parquet import TABLES, ParquetExporter
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import check_exporter
from gazed_recorder.datalog import DatumLog
from gazed_recorder.reader import Recording
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_rich_recording(tmp_path_factory.mktemp("recordings"))


def exported(folder, output):
    return output / f"recording={folder.parent.name}-000", export_recording(folder, "parquet", output)


def test_the_contract(folder, tmp_path):
    target = check_exporter(ParquetExporter, {}, folder, tmp_path)
    assert sorted(path.stem for path in target.iterdir()) == sorted(TABLES)


def test_every_recording_has_the_same_files_with_the_same_columns(folder, tmp_path):
    others = [
        make_rich_recording(tmp_path, session="one-eyed", eyes=(1,), methods=("2d",), videos=False),
        make_recording(tmp_path, streams=("world",), datums=0),
        make_recording(tmp_path, streams=(), datums=3),
    ]
    export_many([folder, *others], "parquet", tmp_path / "out")
    schemas = [
        {path.name: parquet.read_schema(path) for path in sorted(recording.glob("*.parquet"))}
        for recording in sorted((tmp_path / "out").glob("recording=*"))
    ]
    assert len(schemas) == 4
    assert all(schema == schemas[0] for schema in schemas)
    assert schemas[0].keys() == {f"{table}.parquet" for table in TABLES}


def test_every_value_comes_back_as_it_was_and_what_was_missing_is_null(folder, tmp_path):
    target, _ = exported(folder, tmp_path)
    recording = Recording(folder)
    for name in ("pupil", "gaze", "blinks", "fixations"):
        wanted, found = recording.table(name), parquet.read_table(target / f"{name}.parquet")
        assert found.column_names == [*wanted.columns, "pupil_ns", "unix_ns"]
        assert len(found) == len(wanted)
        for column in wanted.columns:
            values = wanted[column]
            if values.dtype == np.float64:
                np.testing.assert_array_equal(found[column].to_numpy(), values, err_msg=column)
                assert found[column].null_count == np.isnan(values).sum()
            elif values.dtype == np.int64:
                assert found[column].to_pylist() == [None if value == -1 else value for value in values.tolist()]
            elif column == "base_data":
                assert [json.loads(text) for text in found[column].to_pylist()] == values.tolist()
            else:
                assert found[column].to_pylist() == values.tolist()


def test_times_are_in_nanoseconds_and_in_order(folder, tmp_path):
    target, _ = exported(folder, tmp_path)
    recording = Recording(folder)
    pupil = parquet.read_table(target / "pupil.parquet")
    stamps = recording.pupil["timestamp"]
    np.testing.assert_array_equal(pupil["pupil_ns"].to_numpy(), np.rint(stamps * 1e9).astype(np.int64))
    np.testing.assert_array_equal(pupil["unix_ns"].to_numpy(), recording.clock.to_unix_ns(stamps))
    assert (np.diff(pupil["unix_ns"].to_numpy()) >= 0).all()
    frames = parquet.read_table(target / "frames.parquet").to_pandas()
    assert list(frames["stream"].unique()) == ["world", "eye0", "eye1"]
    world = frames[frames["stream"] == "world"]
    assert world["frame"].tolist() == list(range(60))
    np.testing.assert_array_equal(world["timestamp"], recording.timestamps("world"))


def test_one_row_tells_what_the_recording_is(folder, tmp_path):
    target, _ = exported(folder, tmp_path)
    recording = Recording(folder)
    row = parquet.read_table(target / "recording.parquet").to_pylist()[0]
    assert row["recording_uuid"] == recording.info.recording_uuid
    assert row["start_timestamp"] == recording.info.start_time_synced_s
    assert row["duration"] == recording.duration
    for name in ("pupil", "gaze", "fixations", "blinks"):
        assert row[f"{name}_count"] == len(recording.table(name))
    assert row["frames_count"] == 60 + 240 + 240
    assert row["notifications_count"] == 4


def test_duckdb_reads_the_dataset_without_us(folder, tmp_path):
    exported(folder, tmp_path)
    with duckdb.connect() as connection:
        pupils = connection.read_parquet(f"{tmp_path}/**/pupil.parquet", hive_partitioning=True)
        assert pupils.select("recording").distinct().fetchall() == [("rich-000",)]


def add(folder, name, datums):
    log = DatumLog(folder, name)
    for datum in datums:
        log.append(datum["topic"], datum["timestamp"], msgpack.packb(datum))
    log.close()


def test_whatever_annotations_and_notifications_hold_becomes_text_or_null(folder, tmp_path):
    own = copytree(folder, tmp_path / "odd" / "000")
    odd = [
        {"topic": "annotation", "label": "a", "timestamp": 201, "duration": "long", "nested": {"x": [1, None]}},
        {"topic": "annotation", "label": {"no": "text"}, "timestamp": 202.5, "bytes": b"\x00\xff", "true": True},
        {"topic": "annotation", "label": 7, "timestamp": 1e300},
    ]
    add(own, "annotation", odd)
    target, _ = exported(own, tmp_path / "out")
    rows = parquet.read_table(target / "annotations.parquet").to_pylist()[-3:]
    assert [row["label"] for row in rows] == ["a", '{"no":"text"}', "7"]
    assert [row["duration"] for row in rows] == [None, None, None]
    assert [json.loads(row["more"] or "null") for row in rows] == [
        {"nested": {"x": [1, None]}}, {"bytes": "AP8=", "true": True}, None,
    ]  # fmt: skip
    assert [row["timestamp"] for row in rows] == [201.0, 202.5, 1e300]
    assert (rows[0]["pupil_ns"], rows[2]["pupil_ns"], rows[2]["unix_ns"]) == (201_000_000_000, None, None)


def test_a_recording_with_nothing_in_it(tmp_path):
    folder = make_recording(tmp_path, streams=(), datums=0)
    with pytest.raises(NothingToExport):
        export_recording(folder, "parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_long_recordings_come_in_row_groups(tmp_path):
    folder = make_rich_recording(tmp_path, seconds=150, videos=False, classic=False)
    target, _ = exported(folder, tmp_path / "out")
    file = parquet.ParquetFile(target / "pupil.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [65536, 6464]
    pupil = Recording(folder).pupil
    np.testing.assert_array_equal(file.read(["norm_pos_x"])["norm_pos_x"].to_numpy(), pupil["norm_pos_x"])
