"""The table "What survives" in the README of exports, measured: each format read back by the reader that it names."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pynwb", reason="needs gazed[nwb]")
pytest.importorskip("rerun", reason="needs gazed[rerun]")
pytest.importorskip("pyarrow", reason="needs gazed[batch]")
import pandas as pd
import pyarrow.parquet as pq
import pynwb
from rerun.chunk import RrdReader

from gazed_plugins.export.exporter import format_names
from gazed_plugins.export.run import export_recording
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table
from gazed_recorder.testing_classic import make_classic_recording
from gazed_recorder.testing_rich import make_rich_recording

ROOT = Path(__file__).parents[2]
README = ROOT / "plugins" / "gazed_plugins" / "export" / "README.md"
SCRIPT = ROOT / "tests" / "bench" / "roundtrip_movement.py"
MOVEMENT = {"dlc", "sleap", "lightningpose", "via"}
KEYPOINTS = ["center", "major_a", "major_b", "minor_a", "minor_b"]
Found = dict[str, np.ndarray[Any, Any]]


def promises() -> dict[str, dict[str, str]]:
    """Return the table of the README: by format, what each column says."""
    text = README.read_text().split("## What survives")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def limit(promise: str) -> float:
    """Return how far off a value may be."""
    found = re.match(r"(\d+e-\d+)", promise)
    assert found or promise.startswith("exact"), promise
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rich_recording(tmp_path_factory.mktemp("rich"), seconds=1.5)


@pytest.fixture(scope="module")
def right(rich: Path) -> Table:
    """The 2-D pupils of the right eye."""
    pupil = Recording(rich).pupil
    return pupil[(pupil["eye_id"] == 0) & (pupil["topic"] == "pupil.0.2d")]


def by_csv(folder: Path) -> Found:
    table = pd.read_csv(folder / "pupil_positions.csv")
    table = table[(table["eye_id"] == 0) & (table["method"] == "2d c++")]
    return named(table, time="pupil_timestamp")


def by_xarray(folder: Path) -> Found:
    import xarray

    with xarray.open_dataset(folder / "eye0.nc", engine="h5netcdf") as file:
        center = file.position.sel(keypoints="center", individuals="eye0").values
        confidence = file.confidence.sel(keypoints="center", individuals="eye0").values
        return {"time": file.time.values, "x": center[:, 0], "y": center[:, 1], "confidence": confidence}


def by_pynwb(folder: Path) -> Found:
    with pynwb.NWBHDF5IO(next(folder.glob("*.nwb")), "r") as io:
        behavior = io.read().processing["behavior"]
        center = behavior["PoseEstimation"]["center"].data[:]
        confidence = behavior["BehavioralTimeSeries"]["eye0_2d_confidence"]
        since_start, values = confidence.timestamps[:], confidence.data[:]
    return {"time": since_start, "x": center[:, 0], "y": center[:, 1], "confidence": values}


def by_bids(folder: Path) -> Found:
    path = next(folder.glob("beh/*recording-eye2_physio.tsv.gz"))
    columns = json.loads(path.with_name(path.name.replace(".tsv.gz", ".json")).read_text())["Columns"]
    with gzip.open(path, "rt") as file:
        table = pd.read_csv(file, sep="\t", names=columns, na_values="n/a")
    return named(table, time="timestamp", x="x_coordinate", y="y_coordinate", confidence="confidence")


def by_rerun(file: Path) -> Found:
    reader = RrdReader(file)
    entity = "/pupil/0/2d"
    table = reader.store(store=reader.recordings()[0]).stream().filter(content=entity).collect()
    frame = table.reader(index="pupil_time", contents=entity).to_pandas()
    names = {"x": "ellipse_center_x", "y": "ellipse_center_y", "confidence": "confidence"}
    values = {name: frame[f"{entity}:gazed.Pupil:{column}"].explode().to_numpy(float) for name, column in names.items()}
    return {"time": frame["pupil_time"].to_numpy("timedelta64[ns]").astype(np.int64) / 1e9, **values}


def by_pyarrow(folder: Path) -> Found:
    table = pq.ParquetFile(folder / "pupil.parquet").read().to_pandas()
    return named(table[(table["eye_id"] == 0) & (table["topic"] == "pupil.0.2d")], time="timestamp")


def named(
    table: pd.DataFrame,
    time: str,
    x: str = "ellipse_center_x",
    y: str = "ellipse_center_y",
    confidence: str = "confidence",
) -> Found:
    return {
        "time": table[time].to_numpy(),
        "x": table[x].to_numpy(),
        "y": table[y].to_numpy(),
        "confidence": table[confidence].to_numpy(),
    }


READERS: dict[str, tuple[dict[str, Any], Callable[[Path], Found]]] = {
    "csv": ({"videos": False}, by_csv),
    "netcdf": ({"method": "2d"}, by_xarray),
    "nwb": ({"videos": "copy"}, by_pynwb),
    "bids": ({}, by_bids),
    "rerun": ({"videos": False}, by_rerun),
    "parquet": ({}, by_pyarrow),
}


def test_every_format_but_video_is_in_the_table() -> None:
    assert set(promises()) == set(format_names()) - {"video"}
    assert set(promises()) == set(READERS) | MOVEMENT


@pytest.mark.parametrize("name", READERS)
def test_what_comes_back_is_what_the_table_says(name: str, rich: Path, right: Table, tmp_path: Path) -> None:
    args, read = READERS[name]
    found = read(Path(export_recording(rich, name, tmp_path, args=args).path))
    if name == "nwb":
        found["time"] = found["time"] + Recording(rich).info.start_time_synced_s
    wanted = {"time": "timestamp", "x": "ellipse_center_x", "y": "ellipse_center_y", "confidence": "confidence"}
    promise = promises()[name]
    seen = right["ellipse_axis_b"] > 0
    for what, column in wanted.items():
        assert len(found[what]) == len(right), what
        allowed = limit(promise[{"x": "positions", "y": "positions"}.get(what, what)])
        rows = seen if what in "xy" else np.ones(len(right), bool)
        assert np.abs(found[what][rows] - right[column][rows]).max() <= allowed, what


@pytest.mark.parametrize(("version", "torn"), [("0.7.4", False), ("3.5", True)])
def test_every_format_takes_what_an_old_or_a_crashed_program_has_left(version: str, torn: bool, tmp_path: Path) -> None:
    """The first is pickled; of the second nobody knows when it began."""
    folder = make_classic_recording(tmp_path / "old", version)
    if torn:
        (folder / "info.player.json").unlink()
    assert np.isnan(Recording(folder).info.start_time_system_s) == torn
    for name in format_names():
        made = Path(export_recording(folder, name, tmp_path / name).path)
        files = [made] if made.is_file() else [path for path in made.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) > 1000, name


@pytest.mark.skipif(find_spec("movement") is None, reason="needs gazed[movement]")
def test_what_movement_reads_back(tmp_path: Path) -> None:
    """In a process of its own: movement writes into the home folder when it is imported."""
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, str(SCRIPT), "--json"]
    done = subprocess.run(command, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    native = found.pop("netcdf")
    assert (native["position"], native["confidence"], native["time_s"], native["velocity"]) == (0, 0, 0, 0)
    assert native["identical"]
    assert native["saved_again"]
    assert native["keypoints"] == KEYPOINTS
    assert native["individuals"] == ["eye0"]
    assert native["time_unit"] == "seconds"
    # movement makes a constant rate of the times of NWB; gazed's reader takes them as they are.
    session = found.pop("nwb")
    assert (session["position"], session["confidence"], session["time_read_s"]) == (0, 0, 0)
    assert 1e-6 < session["time_s"] < 1e-3
    assert session["keypoints"] == KEYPOINTS
    boxes = found.pop("via")
    assert max(boxes["position"], boxes["shape"]) <= limit(promises()["via"]["positions"])
    assert boxes["confidence"] <= limit(promises()["via"]["confidence"])
    assert boxes["individuals"] == ["id_0"]
    assert boxes["sidecar_s"] == 0
    assert found.keys() == {"dlc .h5", "dlc .csv", "sleap", "lightningpose"}
    for name, back in found.items():
        promise = promises()[name.split()[0]]
        assert back["position"] <= limit(promise["positions"]), name
        assert back["confidence"] <= limit(promise["confidence"]), name
        assert back["keypoints"] == KEYPOINTS
        assert back["individuals"] == ["individual_0" if name == "lightningpose" else "eye0"]
        # Frames are numbered, and the file beside them has their times.
        assert (back["time_unit"], back["sidecar_s"], back["frames"]) == ("frames", 0, 180)
