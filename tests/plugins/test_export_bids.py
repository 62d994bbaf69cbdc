"""BIDS: the official validator takes whole datasets, and their tables read back as what was recorded."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
import pandas as pd

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.bids.columns import InFrames
from gazed_plugins.export.bids.dataset import complete_dataset
from gazed_plugins.export.bids.exporter import BidsExporter
from gazed_plugins.export.errors import ExportError, NothingToExport
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import check_exporter
from gazed_plugins.offline_data import write_log
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table
from gazed_recorder.testing_classic import make_classic_recording
from gazed_recorder.testing_rich import make_rich_recording

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def validated(dataset: Path) -> tuple[int, set[tuple[str, str]]]:
    """Return the exit code of the official validator, and its errors and warnings as severity and code."""
    if not VALIDATOR.exists():
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run(
        [VALIDATOR, "--format", "json", "--max-rows", "-1", str(dataset)],
        env={**os.environ, "HOME": str(dataset.parent), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return done.returncode, {(each["severity"], each.get("subCode") or each["code"]) for each in issues}


def read(stem: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a table without header, by pandas, and its sidecar."""
    sidecar = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    table = pd.read_csv(
        stem.with_name(f"{stem.name}.tsv.gz"),
        sep="\t",
        header=None,
        names=sidecar["Columns"],
        na_values="n/a",
        keep_default_na=False,
    )
    return table, sidecar


def export(recording: Recording, target: Path, **args: str) -> Path:
    """Export a recording, and return what the names of its files in ``beh`` begin with."""
    exporter = BidsExporter(args)
    exporter.write(recording, target, lambda _done, _total: None)
    subject = Path(exporter.name(recording, "label-000")).parent.name
    return target / "beh" / f"{subject}_{target.name}_task-{args.get('task', 'eyetracking')}"


def bare(folder: Path, name: str = "", **logs: list[dict[str, Any]]) -> Recording:
    """Make a folder as a program without a manifest leaves it, with these logs; nothing tells its date."""
    folder.mkdir()
    info = {
        "recording_uuid": "",
        "recording_name": name,
        "recording_software_name": "Pupil Capture",
        "recording_software_version": "1.7.42",
        "start_time_system_s": 0.0,
        "start_time_synced_s": 5.0,
        "duration_s": 2.0,
    }
    (folder / "info.player.json").write_text(json.dumps(info))
    for log, datums in logs.items():
        write_log(folder, log, [(datum["topic"], datum["timestamp"], msgpack.packb(datum)) for datum in datums])
    return Recording(folder)


def named(folder: Path, name: str) -> Path:
    (folder / "user_info.csv").write_text(f"key,value\r\nname,{name}\r\n", encoding="utf-8", newline="")
    return folder


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rich_recording(tmp_path_factory.mktemp("rich"), seconds=1.5)


@pytest.mark.parametrize("args", [{}, {"subject": "7", "task": "reading"}])
def test_it_keeps_the_contract(rich: Path, tmp_path: Path, args: dict[str, str]) -> None:
    target = check_exporter(BidsExporter, args, rich, tmp_path)
    assert target.relative_to(tmp_path / "export").as_posix() == f"sub-{'7' if args else 'P0'}/ses-sessionA000"


def test_the_validator_takes_a_dataset_of_many(tmp_path: Path) -> None:
    recordings, output = tmp_path / "recordings", tmp_path / "dataset"
    for number, (session, name) in enumerate(
        (("one", "P 1"), ("one", "P 1"), ("zwei Wörter", "Jürgen"), ("x", "太郎"))
    ):
        folder = make_rich_recording(recordings, session=session, number=number, seconds=1.5, videos=number == 0)
        export_recording(named(folder, name), "bids", output)
    one_eye = make_rich_recording(recordings, session="left", seconds=0.5, eyes=(1,), methods=("2d",))
    export_recording(one_eye, "bids", output, args={"subject": "left", "session": "1", "task": "rest"})
    for version in ("0.7.4", "1.7", "3.5"):
        classic = make_classic_recording(recordings / version, version, seconds=0.5, videos=False)
        export_recording(classic, "bids", output, args={"subject": f"v{version.replace('.', '')}"})
    exports = sorted(path.relative_to(output).as_posix() for path in output.glob("sub-*/*"))
    assert len([path for path in exports if re.fullmatch(r"sub-Jurgen/ses-zweiWrter000\w*", path)]) == 1
    assert len([path for path in exports if re.fullmatch(r"sub-[0-9a-f]{8}/ses-x000", path)]) == 1
    assert {"sub-P1/ses-one000", "sub-P1/ses-one001", "sub-left/ses-1"} < set(exports)
    assert len(exports) == 8
    code, found = validated(output)
    assert code == 0
    # What only those know who made the experiment.
    recommended = {"Instructions", "TaskDescription", "CogAtlasID", "CogPOID", "StimulusPresentation"}
    recommended |= {"InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName"}
    recommended |= {"HEDVersion", "License", "SourceDatasets", "Authors", "TOO_FEW_AUTHORS"}
    assert found == {("warning", each) for each in recommended}


@pytest.mark.parametrize(
    ("key", "value", "errors"),
    [
        ("RecordedEye", None, {"RecordedEye"}),
        ("Columns", ["x_coordinate", "timestamp", "y_coordinate"], {"timestamp", "x_coordinate"}),
        ("SampleCoordinateSystem", "somewhere", {"SampleCoordinateSystem"}),
    ],
)
def test_the_validator_would_tell(rich: Path, tmp_path: Path, key: str, value: object, errors: set[str]) -> None:
    """The same dataset with one thing wrong in it is refused: passing means something."""
    output = tmp_path / "dataset"
    export_recording(rich, "bids", output)
    (sidecar,) = output.glob("sub-P0/*/beh/*eye1_physio.json")
    content = json.loads(sidecar.read_text())
    if isinstance(value, list):
        value = value + content[key][3:]
    sidecar.write_text(json.dumps({**content, key: value} if value else {k: v for k, v in content.items() if k != key}))
    code, found = validated(output)
    assert code == 16
    assert {code for severity, code in found if severity == "error"} == errors


def test_tables_read_back_exactly(rich: Path, tmp_path: Path) -> None:
    recording = Recording(rich)
    stem = export(recording, tmp_path / "ses-1")
    pupil = recording.pupil
    for label, eye, side in (("eye1", 1, "left"), ("eye2", 0, "right")):
        table, sidecar = read(stem.with_name(f"{stem.name}_recording-{label}_physio"))
        flat, solid = (pupil[pupil["topic"] == f"pupil.{eye}.{kind}"] for kind in ("2d", "3d"))
        found = flat["ellipse_axis_b"] > 0
        assert not found.all()
        columns = {
            "timestamp": flat["timestamp"],
            "confidence": flat["confidence"],
            "confidence_3d": solid["confidence"],
        }
        for name, source in (("x_coordinate", "ellipse_center_x"), ("y_coordinate", "ellipse_center_y")):
            columns[name] = np.where(found, flat[source], np.nan)
        for name in ("ellipse_axis_a", "ellipse_axis_b", "ellipse_angle"):
            columns[name] = np.where(found, flat[name], np.nan)
        columns["pupil_size"] = np.where(found, flat["diameter"], np.nan)
        for name in sidecar["Columns"]:
            np.testing.assert_array_equal(table[name], columns[name] if name in columns else solid[name], name)
        assert sidecar["RecordedEye"] == side
        assert sidecar["SamplingFrequency"] == pytest.approx(120, abs=0.01)
        assert sidecar["StartTime"] == flat["timestamp"][0] - 100.0
        assert sidecar["PupilDetector"] == "2d c++; pye3d 0.3.2 real-time"
        assert "diameter" in sidecar["pupil_size"]["Description"]
    gaze = recording.gaze
    table, sidecar = read(stem.with_name(f"{stem.name}_recording-eye3_physio"))
    np.testing.assert_array_equal(table["x_coordinate"], gaze["norm_pos_x"] * 320)
    np.testing.assert_array_equal(table["y_coordinate"], (1 - gaze["norm_pos_y"]) * 240)
    assert sorted(set(table["eyes"])) == ["both", "left", "right"]
    for name in set(sidecar["Columns"]) - {"x_coordinate", "y_coordinate", "eyes"}:
        np.testing.assert_array_equal(table[name], gaze[name], name)
    assert len(sidecar["Columns"]) == 22
    assert (sidecar["RecordedEye"], sidecar["GazeMapper"], sidecar["CalibrationCount"]) == ("cyclopean", "Gazer3D", 1)
    assert sidecar["UnixTimeOfStart"] == pytest.approx(recording.info.start_time_system_s, abs=1e-6)
    # No date in the packed file, and no name.
    assert (
        gzip.compress(b"", mtime=0)[4:8]
        == stem.with_name(f"{stem.name}_recording-eye3_physio.tsv.gz").read_bytes()[4:8]
    )


def test_events_read_back(rich: Path, tmp_path: Path) -> None:
    recording = Recording(rich)
    stem = export(recording, tmp_path / "ses-1", task="reading")
    table, sidecar = read(stem.with_name(f"{stem.name}_recording-eye3_physioevents"))
    assert sidecar["OnsetSource"] == "timestamp"
    (blink,) = table[table["trial_type"] == "blink"].to_dict("records")
    onset, offset = recording.blinks["timestamp"]
    assert (blink["onset"], blink["duration"], blink["confidence"]) == (onset, offset - onset, 0.61)
    fixations, told = table[table["trial_type"] == "fixation"], recording.fixations[1::2]
    for name, column in (("onset", "timestamp"), ("dispersion", "dispersion"), ("norm_pos_y", "norm_pos_y")):
        assert fixations[name].tolist() == told[column].tolist()
    assert table["onset"].is_monotonic_increasing
    events = pd.read_csv(stem.with_name(f"{stem.name}_events.tsv"), sep="\t", na_values="n/a", keep_default_na=False)
    assert events["trial_type"].tolist() == ["trial 0", "Knopf gedrückt", "trial 1"]
    assert events["onset"].tolist() == [at - 100.0 for at in recording.annotations["timestamp"].tolist()]
    assert events["side"].isna().tolist() == [True, False, True]
    scans = pd.read_csv(tmp_path / "ses-1" / "sub-P0_ses-1_scans.tsv", sep="\t")
    assert len(scans) == 3
    assert all((tmp_path / "ses-1" / name).exists() for name in scans["filename"])
    assert set(scans["acq_time"]) == {"2026-03-01T00:01:39.998000Z"}


def test_a_validation_tells_how_good_gaze_is(rich: Path, tmp_path: Path) -> None:
    def note(data: str, degrees: float | None) -> dict[str, Any]:
        score = {"degrees": degrees, "used": 9, "total": 10}
        targets = [{"norm_pos": [0.25, 0.5], "accuracy": {**score, "degrees": each}} for each in (0.5, None, 1.5)]
        more = {"accuracy": score, "precision": score, "targets": targets, "data": data}
        return {"topic": "notify.accuracy.result", "subject": "accuracy.result", "timestamp": 5.0, **more}

    gaze = [{"topic": "gaze.2d.0.", "timestamp": 5.5, "norm_pos": [0.1, 0.2], "confidence": 1.0}]
    notes = [note("validation", 1.0), note("calibration", 0.7), {**note("validation", 2.0), "accuracy": "good"}]
    folder = bare(tmp_path / "rec", "x", gaze=gaze, notify=notes).path
    for name in ("world.mp4", "world_timestamps.npy"):
        shutil.copy(rich / name, folder)
    stem = export(Recording(folder), tmp_path / "ses-1")
    _, sidecar = read(stem.with_name(f"{stem.name}_recording-eye3_physio"))
    assert (sidecar["AverageCalibrationError"], sidecar["MaximalCalibrationError"]) == (1.0, 1.5)
    assert sidecar["CalibrationErrorMeasuredBy"] == "validation"
    assert (sidecar["CalibrationPosition"][0], sidecar["CalibrationUnit"]) == ([80.0, 120.0], "pixel")
    assert (sidecar["SamplingFrequency"], sidecar["CalibrationCount"]) == (0.0, 0)


def test_what_is_2d_and_what_is_3d_never_shares_a_column(tmp_path: Path) -> None:
    def pupil(at: float, method: str, **more: Any) -> dict[str, Any]:
        ellipse = {"center": [at, 2 * at], "axes": [3.0, 4.0], "angle": 5.0}
        return {
            "topic": "pupil.1",
            "id": 1,
            "method": method,
            "timestamp": at,
            "diameter": 4.0,
            "ellipse": ellipse,
            **more,
        }

    only_solid = [pupil(5.0, "3d c++", diameter_3d=3.3), pupil(5.5, "3d c++")]
    stem = export(bare(tmp_path / "old", pupil=only_solid), tmp_path / "ses-old")
    table, sidecar = read(stem.with_name(f"{stem.name}_recording-eye1_physio"))
    assert "3D detector" in sidecar["x_coordinate"]["Description"]
    assert "confidence_3d" not in table
    assert table["diameter_3d"].tolist()[0] == 3.3
    both = [pupil(5.0, "2d c++"), pupil(5.0, "pye3d", diameter_3d=3.3), pupil(5.1, "pye3d"), pupil(5.2, "2d c++")]
    gaze = [{"topic": f"gaze.{kind}.1.", "timestamp": 5.0, "norm_pos": [0.1, 0.2]} for kind in ("2d", "3d", "3d")]
    stem = export(bare(tmp_path / "new", pupil=both, gaze=gaze), tmp_path / "ses-new")
    table, _ = read(stem.with_name(f"{stem.name}_recording-eye1_physio"))
    assert table["timestamp"].tolist() == [5.0, 5.1, 5.2]
    assert table["x_coordinate"].fillna(-1).tolist() == [5.0, -1, 5.2]
    assert table["diameter_3d"].fillna(-1).tolist() == [3.3, -1, -1]
    assert len(read(stem.with_name(f"{stem.name}_recording-eye3_physio"))[0]) == 2
    assert len(read(stem.with_name(f"{stem.name}_recording-eye4_physio"))[0]) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30).map(sorted),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_each_pupil_is_in_one_frame_however_they_come(pupils: list[tuple[int, bool]], cuts: list[int]) -> None:
    rows = Table({"timestamp": np.array([at for at, _ in pupils], float), "x": np.arange(len(pupils), dtype=float)})
    solid = np.array([kind for _, kind in pupils])
    frames = InFrames()
    edges = [0, *sorted(min(cut, len(pupils)) for cut in cuts), len(pupils)]
    parts = [frames.add(rows[a:b], solid[a:b]) for a, b in pairwise(edges)]
    made = Table.concatenated([*parts, frames.finish()])  # type: ignore[list-item]
    for name, kind in (("x_2d", ~solid), ("x_3d", solid)):
        kept = ~np.isnan(made[name])
        assert made[name][kept].tolist() == rows["x"][kind].tolist()
        assert made["timestamp"][kept].tolist() == rows["timestamp"][kind].tolist()
    counts = [
        max(np.sum(~solid & (rows["timestamp"] == at)), np.sum(solid & (rows["timestamp"] == at))) for at in range(7)
    ]
    assert len(made) == sum(counts)


def test_odd_recordings(tmp_path: Path) -> None:
    with pytest.raises(NothingToExport, match="neither pupils nor gaze"):
        export(bare(tmp_path / "empty"), tmp_path / "ses-0")
    notes = [{"topic": "annotation", "timestamp": 5.0, "label": "x"}]
    with pytest.raises(NothingToExport, match="neither pupils nor gaze"):
        export(bare(tmp_path / "notes", annotation=notes), tmp_path / "ses-0")
    assert not (tmp_path / "ses-0").exists()
    odd = {
        "stim_file": "none.png",
        "onset": 3,
        "hed": "Red",
        "a\tb": "c\td\n",
        "A b": {"x": [1, 2]},
        "": True,
        "a_b": None,
    }
    notes = [{"topic": "annotation", "timestamp": 5.5, "label": "\0 é\n", "duration": -1, **odd}, *notes]
    pupils = [
        {"topic": "pupil.0", "id": 0, "timestamp": 5.0 + at, "confidence": at, "theta": float("inf")} for at in (0, 1)
    ]
    unknown = [{"topic": "pupil.7.2d", "id": 7, "timestamp": 5.0}, {"topic": "pupil", "timestamp": 5.0}]
    output = tmp_path / "dataset"
    recording = bare(tmp_path / "odd", "..", pupil=[*pupils, *unknown], annotation=notes)
    export_recording(recording.path, "bids", output)
    stem = next(output.glob("sub-unknown/ses-*/beh/*_events.tsv"))
    events = pd.read_csv(stem, sep="\t", keep_default_na=False)
    assert list(events) == [
        "onset", "duration", "trial_type", "stim_file_2", "onset_2", "hed_2", "a_b", "A_b_2", "unnamed", "a_b_3",
    ]  # fmt: skip
    assert events["trial_type"].tolist() == ["x", "\N{REPLACEMENT CHARACTER} é"]
    assert events["duration"].tolist() == ["n/a", "n/a"]
    assert events["a_b"].tolist() == ["n/a", "c d"]
    assert [path.name.rpartition("recording-")[2] for path in stem.parent.glob("*physio.tsv.gz")] == [
        "eye2_physio.tsv.gz"
    ]
    scans = pd.read_csv(next(output.glob("sub-unknown/*/*_scans.tsv")), sep="\t", keep_default_na=False)
    assert scans["acq_time"].tolist() == ["n/a"]
    code, found = validated(output)
    assert (code, [code for severity, code in found if severity == "error"]) == (0, [])


def test_a_recording_that_lost_its_description(tmp_path: Path) -> None:
    """Nothing tells when it began: times count from its first sample, and none is made up."""
    gaze = [{"topic": "gaze.2d.0.", "timestamp": at, "norm_pos": [0.1, 0.2]} for at in (7.5, 8.0)]
    notes = [{"topic": "annotation", "timestamp": 9.0, "label": "x"}]
    folder = bare(tmp_path / "torn", gaze=gaze, annotation=notes).path
    (folder / "info.player.json").unlink()
    stem = export(Recording(folder), tmp_path / "ses-1")
    _, sidecar = read(stem.with_name(f"{stem.name}_recording-eye3_physio"))
    assert (sidecar["StartTime"], sidecar["PupilTimeOfStart"], sidecar["SamplingFrequency"]) == (0.0, 7.5, 2.0)
    assert "UnixTimeOfStart" not in sidecar
    events = pd.read_csv(stem.with_name(f"{stem.name}_events.tsv"), sep="\t", keep_default_na=False)
    assert events.to_dict("records") == [{"onset": 1.5, "duration": "n/a", "trial_type": "x"}]


def test_participants_are_completed_and_what_others_wrote_stays(tmp_path: Path) -> None:
    for name in ("sub-01", "sub-03"):
        (tmp_path / name).mkdir()
    (tmp_path / "sub-03.txt").touch()
    complete_dataset(tmp_path)
    assert (tmp_path / "participants.tsv").read_text() == "participant_id\nsub-01\nsub-03\n"
    (tmp_path / "participants.tsv").write_bytes(
        "participant_id\tage\r\nsub-03\t31\r\nsub-09\t4ü\r\n".encode("utf-8-sig")
    )
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "README.md").rename(tmp_path / "README")
    edited = (tmp_path / "participants.tsv").read_bytes()
    (tmp_path / "sub-01").rmdir()
    complete_dataset(tmp_path)
    assert (tmp_path / "participants.tsv").read_bytes() == edited
    (tmp_path / "sub-02").mkdir()
    complete_dataset(tmp_path)
    rows = (tmp_path / "participants.tsv").read_text()
    assert rows == "participant_id\tage\nsub-02\tn/a\nsub-03\t31\nsub-09\t4ü\n"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "README", "dataset_description.json", "participants.tsv", "sub-03.txt",
    ]  # fmt: skip
    assert (tmp_path / "dataset_description.json").read_text() == "{}"
    (tmp_path / "sub-04").mkdir()
    (tmp_path / "participants.tsv").write_bytes(b"participant_id\n\xff\n")
    with pytest.raises(ExportError, match="UTF-8"):
        complete_dataset(tmp_path)


def test_many_at_once_leave_no_participant_out(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for count in range(5):
            (tmp_path / f"sub-{number}{count}").mkdir()
            complete_dataset(tmp_path)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [f"sub-{number}{count}" for number in range(8) for count in range(5)]
    assert (tmp_path / "participants.tsv").read_text().split() == ["participant_id", *names]
    assert not list(tmp_path.glob(".*"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_any_name_becomes_a_label(rich: Path, name: str) -> None:
    recording = Recording(rich)
    vars(recording)["user_info"] = {"name": name}
    subject, session = BidsExporter({}).name(recording, "session-000").split("/")
    assert re.fullmatch(r"sub-[0-9A-Za-z]{1,40}", subject)
    assert session == "ses-session000"
    if re.fullmatch(r"[0-9A-Za-z]{1,40}", name):
        assert subject == f"sub-{name}"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"subject": "P 1"}, "letters and digits"),
        ({"subject": 7}, "letters and digits"),
        ({"task": ""}, "letters and digits"),
        ({"session": "a/b"}, "letters and digits"),
        ({"run": "1"}, "run"),
    ],
)
def test_arguments_are_checked(args: dict[str, object], text: str) -> None:
    with pytest.raises(PluginArgument, match=text):
        BidsExporter(args)
