"""Exports take the gaze mapping that is asked for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgpack
import pytest
from click.testing import CliRunner

from gazed.cli import main
from gazed_plugins.export.run import export_recording
from gazed_recorder.errors import UnknownMapping
from gazed_recorder.testing_classic import START_SYNCED, make_classic_recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.5)
    place = folder / "offline_data" / "gaze-mappings"
    place.mkdir(parents=True)
    for name, x in (("First-1", 0.25), ("Second-2", 0.75)):
        datum = {"topic": "gaze.2d.0.", "timestamp": START_SYNCED + 0.2, "norm_pos": [x, 0.5], "confidence": 1.0}
        base = [{"id": 0, "timestamp": START_SYNCED + 0.2}]
        (place / f"{name}.pldata").write_bytes(msgpack.packb(["gaze", msgpack.packb({**datum, "base_data": base})]))
    return folder


def places(export: str) -> list[float]:
    with (Path(export) / "gaze_positions.csv").open(newline="") as file:
        return [float(row["norm_pos_x"]) for row in csv.DictReader(file)]


def test_by_name_from_python(folder: Path, tmp_path: Path) -> None:
    assert len(places(export_recording(folder, "csv", tmp_path / "recorded").path)) > 1
    assert places(export_recording(folder, "csv", tmp_path / "first", offline="First-1").path) == [0.25]
    with pytest.raises(UnknownMapping, match="2 gaze mappings: 'First-1', 'Second-2'"):
        export_recording(folder, "csv", tmp_path / "any", offline=True)


def test_by_name_from_the_shell(folder: Path, tmp_path: Path) -> None:
    command = ["export", str(folder), "--to", "csv", "--output", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, [*command, "--offline"])
    assert json.loads(result.stdout)["error"]["code"] == "unknown-mapping"
    result = CliRunner().invoke(main, [*command, "--mapping", "Second-2"])
    assert result.exit_code == 0, result.output
    assert places(json.loads(result.stdout)["done"][str(folder)]) == [0.75]
