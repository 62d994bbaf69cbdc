import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gazed.cli import main
from gazed_recorder.errors import RecordingRefused
from gazed_recorder.finish import finish
from gazed_recorder.layout import stream_parts
from gazed_recorder.manifest import Manifest
from gazed_recorder.mp4_scan import scan
from gazed_recorder.reader import Recording
from gazed_recorder.repair import repair
from gazed_recorder.retime import retime, rewrite_part
from gazed_recorder.testing import EPOCH_NS, make_recording
from gazed_recorder.verify import verify


def with_bad_times(root: Path, **options) -> tuple[Path, np.ndarray]:
    """Record 9 s whose first second was mapped late, as by a clock that had just begun; return the true times too."""
    folder = make_recording(root, frames=270, streams=("world", "eye0"), **options)
    manifest = Manifest.load(folder)
    for stream in ("world", "eye0"):
        manifest.streams[stream].info["clock"] = "hardware"
    manifest.save(folder)
    stems = stream_parts(folder)["world"]
    truth = np.concatenate([scan(folder / f"{stem}.mp4").records["timestamp"] for stem in stems])
    first = 0
    for stem in stems:
        found = scan(folder / f"{stem}.mp4")
        records = found.records.copy()
        off = 3e-3 * np.exp(-30.0 * np.arange(first, first + len(records)) / 270)
        records["timestamp"] += off
        records["captured_ns"] = EPOCH_NS + np.rint(records["timestamp"] * 1e9).astype(np.int64)
        rewrite_part(folder, stem, records, found)
        first += len(records)
    finish(folder, manifest)
    return folder, truth


@pytest.mark.parametrize("options", [{}, {"parts": 2}, {"missing": (50, 51, 120)}])
def test_times_are_fitted_once_more(tmp_path: Path, options) -> None:
    folder, truth = with_bad_times(tmp_path, **options)
    packets = [frame.bgr.tobytes() for frame in Recording(folder).frames("world")]
    result = retime(folder)
    assert result["world"].frames > 30
    assert result["world"].largest_s == pytest.approx(3e-3, rel=0.1)
    assert np.abs(Recording(folder).timestamps("world") - truth).max() < 20e-6
    assert [frame.bgr.tobytes() for frame in Recording(folder).frames("world")] == packets
    assert verify(folder).problems == []
    manifest = Manifest.load(folder)
    assert manifest.state == "complete"
    assert [event["event"] for event in manifest.events].count("retimed") >= 1
    for gap in manifest.streams["world"].gaps:
        assert np.abs(truth - gap.after).min() < 20e-6
    again = retime(folder)
    assert again["world"].largest_s < 1e-6


def test_what_has_no_stamps_of_its_own_is_left_to_the_byte(tmp_path: Path) -> None:
    folder = make_recording(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert all("no stamps" in each.reason for each in retime(folder).values())
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_short_stretch_is_left(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=("world",))
    manifest = Manifest.load(folder)
    manifest.streams["world"].info["clock"] = "hardware"
    manifest.save(folder)
    assert "5 s" in retime(folder)["world"].reason


@pytest.mark.parametrize("fps", [0, -30.0, "x", None])
def test_a_rate_that_is_none_is_left(tmp_path: Path, fps: object) -> None:
    folder = make_recording(tmp_path, streams=("world",))
    manifest = Manifest.load(folder)
    manifest.streams["world"].info |= {"clock": "hardware", "fps": fps}
    manifest.save(folder)
    assert "frame rate" in retime(folder)["world"].reason


def test_a_torn_recording_is_repaired_first(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    with pytest.raises(RecordingRefused, match="not closed"):
        retime(folder)
    repair(folder)
    retime(folder)


def test_a_kill_between_the_files_is_healed_by_repair(tmp_path: Path) -> None:
    folder, truth = with_bad_times(tmp_path)
    old = (folder / "world_timestamps.npy").read_bytes()
    retime(folder)
    (folder / "world_timestamps.npy").write_bytes(old)
    manifest = Manifest.load(folder)
    manifest.state = "recording"
    manifest.save(folder)
    (folder / ".retimeXYZ").mkdir()
    repair(folder)
    assert np.abs(Recording(folder).timestamps("world") - truth).max() < 20e-6
    assert verify(folder).problems == []
    retime(folder)
    assert not (folder / ".retimeXYZ").exists()


def test_the_command(tmp_path: Path) -> None:
    folder, _ = with_bad_times(tmp_path)
    result = CliRunner().invoke(main, ["repair", str(folder), "--retime", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["repaired"] is False
    assert found["retimed"]["world"]["frames"] > 30
    text = CliRunner().invoke(main, ["repair", str(folder), "--retime"]).stdout
    assert "world: " in text
