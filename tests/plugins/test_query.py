"""SQL over a dataset: what it answers, and what it cannot be made to do."""

from __future__ import annotations

from shutil import copytree

import numpy as np
import pytest

from gazed_plugins.export.batch import export_many
from gazed_plugins.query import VIEWS, NoDataset, QueryError, query, running
from gazed_recorder.reader import Recording
from gazed_recorder.testing_rich import make_rich_recording


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    first = make_rich_recording(root, session="P1", number=1)
    second = make_rich_recording(root, session="P2", number=2, eyes=(0,), methods=("2d",), videos=False, seconds=1)
    return first, second


@pytest.fixture(scope="module")
def data(recordings, tmp_path_factory):
    output = tmp_path_factory.mktemp("data")
    export_many(recordings, "parquet", output)
    return output


def test_every_view_has_the_recordings(data, recordings):
    counts = {
        view: dict(query(data, f"SELECT recording, count(*) FROM {view} GROUP BY 1").to_pandas().to_numpy())  # noqa: S608
        for view in VIEWS
    }
    first, second = map(Recording, recordings)
    assert counts["pupil"] == {"P1-000": len(first.pupil), "P2-000": len(second.pupil)}
    assert counts["gaze"] == {"P1-000": len(first.gaze), "P2-000": len(second.gaze)}
    assert counts["frames"] == {"P1-000": sum(len(first.timestamps(name)) for name in first.streams)}
    assert counts["recordings"] == {"P1-000": 1, "P2-000": 1}
    told = query(data, "SELECT * FROM recordings ORDER BY recording").to_pylist()
    assert [row["recording_uuid"] for row in told] == [first.info.recording_uuid, second.info.recording_uuid]
    assert [row["pupil_count"] for row in told] == [len(first.pupil), len(second.pupil)]


def test_values_are_those_of_the_recording(data, recordings):
    table = query(data, "SELECT * FROM pupil WHERE recording = 'P1-000'")
    pupil = Recording(recordings[0]).pupil
    for name in pupil.columns:
        found = table[name].to_numpy() if pupil[name].dtype != object else np.array(table[name].to_pylist(), object)
        np.testing.assert_array_equal(found, pupil[name], err_msg=name)
    assert table["diameter_3d"].null_count == np.isnan(pupil["diameter_3d"]).sum() > 0


def test_recordings_can_be_joined_and_averages_leave_out_what_is_missing(data):
    sql = """
        SELECT r.recording_name, avg(p.diameter_3d) AS diameter, count(p.diameter_3d) AS n
        FROM pupil p JOIN recordings r USING (recording) GROUP BY ALL ORDER BY ALL
    """
    first, second = query(data, sql).to_pylist()
    assert 2 < first["diameter"] < 5
    assert (second["diameter"], second["n"]) == (None, 0)


def test_annotations_keep_whatever_they_have(data):
    found = query(
        data, "SELECT label, CAST(more->>'button' AS INT) AS button FROM annotations ORDER BY unix_ns LIMIT 2"
    )
    assert found.to_pylist() == [{"label": "trial 0", "button": None}, {"label": "Knopf gedrückt", "button": 1}]


def test_a_folder_may_be_called_anything_and_a_recording_like_a_date(data, tmp_path):
    other = tmp_path / "it's [all] *?{}% data"
    copytree(data / "recording=P1-000", other / "recording=2026-03-01")
    assert query(other, "SELECT DISTINCT recording FROM blinks").to_pylist() == [{"recording": "2026-03-01"}]


SECRET = "the secret of this program"  # noqa: S105


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('{data}/../other.csv')",
        "SELECT * FROM read_text('{data}/note.txt')",
        "SELECT * FROM read_blob('{data}/recording=P1-000/link.parquet')",
        "SELECT * FROM 'http://127.0.0.1:9/x.parquet'",
        "COPY (SELECT 1) TO '{data}/out.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/out.csv'",
        "EXPORT DATABASE '{data}/out'",
        "ATTACH '{data}/out.db'",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{data}/out.csv''')",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW pupil",
        "SELECT * FROM SECRET",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT \x00",
        "SELECT * FROM pupil WHERE",
    ],
)
def test_a_query_reads_the_dataset_and_does_nothing_else(data, tmp_path, sql):
    own = copytree(data, tmp_path / "data")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (own / "note.txt").write_text("a note")
    (own / "recording=P1-000" / "link.parquet").symlink_to(tmp_path / "other.csv")
    before = sorted(own.rglob("*"))
    with pytest.raises(QueryError):
        query(own, sql.format(data=own))
    assert sorted(own.rglob("*")) == before


def test_a_link_in_the_place_of_a_file_is_left_out(data, tmp_path):
    own = copytree(data, tmp_path / "data")
    for recording in own.glob("recording=*"):
        (recording / "blinks.parquet").unlink()
        (recording / "blinks.parquet").symlink_to(data / "recording=P1-000" / "blinks.parquet")
    with pytest.raises(QueryError):
        query(own, "SELECT * FROM blinks")


def test_what_is_wrong_is_told_with_what_there_is(data):
    with pytest.raises(QueryError, match="pupils does not exist") as refusal:
        query(data, "SELECT * FROM pupils")
    assert refusal.value.hint == f"there are {', '.join(VIEWS)}"
    with pytest.raises(QueryError, match='"diamter" not found') as refusal:
        query(data, "SELECT diamter FROM blinks")
    assert "; blinks has recording, timestamp, topic, type" in refusal.value.hint
    with pytest.raises(QueryError, match="Could not convert"):
        query(data, "SELECT CAST(topic AS INT) FROM pupil")
    with pytest.raises(QueryError, match="one SELECT, found COPY") as refusal:
        query(data, "COPY pupil TO 'x.csv'")
    assert "--output" in refusal.value.hint


def test_a_file_that_is_no_parquet_is_named(data, tmp_path):
    own = copytree(data, tmp_path / "data")
    broken = own / "recording=P2-000" / "gaze.parquet"
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(QueryError, match=str(broken)):
        query(own, "SELECT * FROM gaze")
    assert query(own, "SELECT count(*) AS n FROM pupil").to_pylist()[0]["n"] > 0


def test_no_dataset(tmp_path):
    with pytest.raises(NoDataset, match="holds no recordings") as refusal:
        query(tmp_path, "SELECT 1")
    assert "gazed export" in refusal.value.hint
    with pytest.raises(NoDataset, match="No such file"):
        query(tmp_path / "gone", "SELECT 1")


def test_a_large_answer_streams(data):
    with running(data, "SELECT a.pupil_ns FROM pupil a, pupil b") as answer:
        rows = 0
        for batch in answer.to_arrow_reader(1000):
            rows += batch.num_rows
            if rows > 10_000:
                break
    assert rows > 10_000
