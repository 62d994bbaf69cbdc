from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import gazed
from gazed import samples
from gazed.cli import main
from gazed_recorder.verify import verify


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAZED_SAMPLES", str(tmp_path / "cache"))


def run(*arguments: object) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(main, ["samples", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_the_bundled_sample_is_a_whole_recording(tmp_path: Path) -> None:
    code, found = run("fetch", "tiny")
    folder = Path(str(found["recording"]))
    assert (code, folder) == (0, tmp_path / "cache" / "tiny")
    assert verify(folder).ok
    recording = gazed.Recording(folder)
    assert recording.streams == ("world", "eye0", "eye1")
    assert (len(recording.pupil), len(recording.gaze)) == (436, 218)
    assert {"onset", "offset"} == set(recording.blinks["type"])
    assert len(recording.fixations) > 10
    assert recording.annotations["label"].tolist() == ["half time"]
    assert run("fetch", "tiny") == (0, found)


def test_a_copy_is_made_once(tmp_path: Path) -> None:
    code, found = run("fetch", "tiny", "--output", tmp_path / "mine")
    assert (code, found) == (0, {"recording": str(tmp_path / "mine" / "tiny")})
    assert verify(tmp_path / "mine" / "tiny").ok
    code, refused = run("fetch", "tiny", "--output", tmp_path / "mine")
    assert code == 1
    assert "is there already" in str(refused)


def test_samples_are_listed_and_unknown_ones_refused(tmp_path: Path) -> None:
    code, found = run("list")
    assert code == 0
    assert [sample["name"] for sample in found["samples"]] == list(samples.SAMPLES)  # type: ignore[index]
    assert found["folder"] == str(tmp_path / "cache")
    code, refused = run("fetch", "huge")
    assert code == 2
    assert refused["error"] == {
        "code": "unknown-sample",
        "message": "no sample 'huge'",
        "hint": "there are: tiny, wearer",
    }


def test_what_is_bundled_is_small_and_stays_inside_its_folder() -> None:
    archive = Path(samples.__file__).parent / "sample_data" / "tiny.tar.xz"
    assert archive.stat().st_size < 1_000_000
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    assert all(member.isfile() or member.isdir() for member in members)
    assert all(Path(member.name).parts[0] == "tiny" and ".." not in member.name for member in members)


@pytest.mark.slow
def test_the_wearer_is_recorded_here() -> None:
    code, found = run("fetch", "wearer")
    assert code == 0
    assert len(gazed.Recording(str(found["recording"])).eyes[1]) > 1000
