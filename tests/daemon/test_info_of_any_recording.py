"""``gazed info`` shows folders of every generation, and what torn ones lack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gazed.cli import main
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_classic import CLASSIC_VERSIONS, START_SYNCED, make_classic_recording


def info(folder: Path, *options: str) -> str:
    result = CliRunner().invoke(main, ["info", str(folder), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("version", CLASSIC_VERSIONS)
def test_every_generation(tmp_path: Path, version: str) -> None:
    folder = make_classic_recording(tmp_path, version, seconds=0.5)
    found = json.loads(info(folder, "--json"))
    assert found["software"].startswith(f"Pupil Capture {version}")
    assert found["state"] is None
    assert found["format"].startswith("2.3" if version == "3.5" else version)
    assert found["started"].startswith("2016-03-24T")
    assert {"world", "eye0", "eye1", "pupil", "gaze", "notify", "annotation"} <= found["streams"].keys()
    assert found["streams"]["world"]["count"] == 15
    assert found["streams"]["gaze"]["first"] > START_SYNCED
    assert len(found["missing"]) == (2 if version < "1.3" else 0)
    text = info(folder)
    assert text.count("missing: ") == len(found["missing"])
    assert "state      unknown" in text


def test_what_a_crash_left(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.5)
    (folder / "info.player.json").unlink()
    (folder / "world_timestamps.npy").unlink()
    (folder / "eye0_timestamps.npy").write_bytes(b"no array")
    found = json.loads(info(folder, "--json"))
    assert (found["started"], found["software"], found["format"]) == (None, None, None)
    assert "world" not in found["streams"]
    assert found["streams"]["eye0"]["count"] is None
    assert found["duration_s"] > 0.4
    text = info(folder)
    assert "missing: world.mp4 has no world_timestamps.npy" in text
    assert "eye0_timestamps.npy: no npy header" in text
    assert "unreadable" in text
    assert "started    unknown" in text


def test_gazed_that_was_killed_and_what_was_computed_later(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    (folder / "offline_data" / "gaze-mappings").mkdir(parents=True)
    (folder / "offline_data" / "gaze-mappings" / "Mine-1.pldata").write_bytes(b"")
    found = json.loads(info(folder, "--json"))
    assert found["offline"] == ["gaze: Mine-1"]
    [told] = found["missing"]
    assert f"gazed repair {folder}" in told
    assert "computed afterwards: gaze: Mine-1" in info(folder)
