"""``gazed import`` and ``gazed detect --roi``: what they take, what they say, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("cv2")

from gazed.cli import main
from gazed_recorder.reader import Recording
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def runs(*first: object) -> Callable[..., Result]:
    return lambda *others: run(*first, *others)


def one_object(result: Result) -> dict[str, Any]:
    assert result.stdout.count("\n") == 1, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_rich_recording(tmp_path / "recordings", seconds=0.25)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """Eight points on a circle of 20 px around (90, 100), in 30 frames, and where its centre is."""
    around = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    edge = np.stack([90 + 10 * np.cos(around), 100 + 10 * np.sin(around)])
    position = np.tile(np.column_stack([edge, [90, 100]]), (30, 1, 1))
    names = np.array([*(f"edge{number}" for number in range(8)), "center"])
    np.savez(tmp_path / "eye.npz", position=position, confidence=np.full((30, 9), 0.9), keypoints=names)
    return tmp_path / "eye.npz"


def test_into_a_recording(folder: Path, points: Path) -> None:
    done = run("import", "keypoints", points, "--from", "NUMPY", "--into", folder, "--eye", 1)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"numpy: {', '.join(f'edge{number}' for number in range(8))}",
        "eye1: 30 pupils in 30 frames, 30 with an ellipse, 30 confident",
        str(folder),
    ]
    again = run("import", "keypoints", points, "--from", "numpy", "--into", folder, "--eye", 1, "--json")
    assert again.exit_code == 2
    assert one_object(again)["error"]["code"] == "already-there"
    some = ("--keypoints", "edge0, edge1,edge2,edge3,edge4", "--threshold", 0.5, "--force", "--json")
    forced = one_object(run("import", "keypoints", points, "--from", "numpy", "--into", folder, "--eye", 1, *some))
    assert forced["keypoints"] == ["edge0", "edge1", "edge2", "edge3", "edge4"]
    assert (forced["pupils"], forced["frames"], forced["found"]) == (30, 30, 30)
    table = Recording(folder, offline=True).pupil
    assert table["diameter"] == pytest.approx(20.0, abs=1e-3)


def test_a_recording_of_a_video(folder: Path, points: Path, tmp_path: Path) -> None:
    video = ("--video", folder / "eye0.mp4", "--output", tmp_path / "new")
    make = runs("import", "keypoints", points, "--from", "numpy")
    done = make(*video, "--fps", 60, "--name", "rat", "--started", "2026-03-01T10:00:00+01:00", "--json")
    made = one_object(done)
    assert made["recording"] == str(tmp_path / "new" / "rat" / "000")
    assert run("verify", made["recording"]).exit_code == 0
    info = one_object(run("info", made["recording"], "--json"))
    assert info["started"].startswith("2026-03-01T09:00:00")
    np.save(tmp_path / "times.npy", 5 + np.arange(30) / 50)
    timed = one_object(make(*video, "--timestamps", tmp_path / "times.npy", "--json"))
    assert Recording(timed["recording"]).timestamps("eye0")[0] == 5.0
    unknown = make(*video, "--json")
    assert (unknown.exit_code, one_object(unknown)["error"]["code"]) == (1, "import")


def test_wrong_usage(folder: Path, points: Path, tmp_path: Path) -> None:
    make = runs("import", "keypoints", points, "--from", "numpy")
    video = ("--video", folder / "eye0.mp4")
    for arguments, said in (
        ((), "give either --into"),
        (("--into", folder, *video), "give either --into"),
        (("--into", folder, "--fps", 3), "--fps does not go with --into"),
        ((*video, "--output", tmp_path, "--partial"), "--partial does not go with --video"),
        (video, "--video needs --output"),
        ((*video, "--output", tmp_path, "--started", "yesterday"), "--started"),
        (("--into", tmp_path / "nowhere"), "nowhere"),
        (("--into", folder, "--eye", 4), "no video eye4"),
    ):
        done = make(*arguments)
        assert said in done.stderr, done.stderr
        assert done.exit_code in (1, 2)
    assert run("import", "keypoints", points, "--into", folder).exit_code == 2
    missing = run("import", "keypoints", tmp_path / "no.npz", "--from", "numpy", "--into", folder)
    assert missing.exit_code == 1
    assert "No such file" in missing.stderr
    text = run("import", "keypoints", "--help").stdout
    assert "gazed import keypoints eye0DLC.h5 --from DeepLabCut --into recordings/first/000 --eye 0" in text


def test_detect_only_there(tmp_path: Path) -> None:
    pytest.importorskip("pye3d.detector_3d")
    folder = make_recording(tmp_path, streams=("eye0",), frames=3, datums=2)
    for wrong in ("0", "x=1,2,3,4", "0=a,2,3,4", "0=1;2;3;4"):
        assert "--roi is EYE=X0,Y0,X1,Y1" in run("detect", folder, "--roi", wrong).stderr
    assert "roi is [min x, min y, max x, max y]" in run("detect", folder, "--roi", "0=1,2,3").stderr
    outside = run("detect", folder, "--roi", "0=0,0,500,500")
    assert outside.exit_code != 0
    assert "reaches out of an image of 32x32 px" in outside.stderr
    assert "region of interest of 'eye1'" in run("detect", folder, "--roi", "1=0,0,9,9").stderr
    done = run("detect", folder, "--roi", "0=2,3,20,21", "--workers", 1)
    assert done.exit_code == 0
    assert "eye0: searched in x 2 to 20, y 3 to 21" in done.stdout
    kept = one_object(run("detect", folder, "--json"))
    assert kept["settings"]["rois"] == {"eye0": [2, 3, 20, 21]}


def test_boxes_from_a_file_that_is_none(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("x,y\n1,2\n")
    done = run("import", "roi", path, "--into", folder, "--json")
    wanted = (2, "not-keypoints") if find_spec("movement") else (1, "missing-extra")
    assert (done.exit_code, one_object(done)["error"]["code"]) == wanted
