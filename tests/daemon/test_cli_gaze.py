"""The commands for pupils and gaze: with a daemon that has them, with one that has not, and on recordings."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("pye3d.detector_3d")
pytest.importorskip("pupil_detectors")

from gazed.calibrating import begin, finish
from gazed.cli import main
from gazed.cli.live import _status_view
from gazed.errors import DaemonError
from gazed.testing import pid_of, small_daemon, wait_for
from gazed.trial import Trial
from gazed_bus.errors import RequestRefused
from gazed_plugins.errors import PluginError
from gazed_plugins.gaze.errors import CalibrationFailed
from gazed_recorder.testing import make_recording

EYE = {"width": 192, "height": 192, "seconds": 6}
WORLD = {"width": 640, "height": 360, "seconds": 6}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def one_object(result: Result) -> dict[str, Any]:
    assert result.stdout.count("\n") == 1, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gaze")


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Trial]:
    more = {
        "pupil": {"enabled": True, "options": {"every_nth": 2}},
        "gaze": {"enabled": True, "gazer": "Gazer2D", "folder": str(folder / "calibrations")},
    }
    with small_daemon(folder / "recordings", more=more, world=WORLD, eye0=EYE, eye1=EYE) as trial:
        for name in ("gaze", "marker", "pupil0", "pupil1"):
            pid_of(trial, name)
        yield trial


@pytest.fixture(scope="module")
def recording(daemon: Trial, folder: Path) -> Path:
    """A recording with a calibration and a validation, made with the commands."""
    port = ("--port", daemon.port)
    made = Path(daemon.remote.start("commands").rec_path)

    def collected(mode: str, references: int) -> bool:
        gaze = daemon.remote.status()["plugins"]["gaze"]
        return bool(gaze.get("collecting") == mode and gaze["references"] > references)

    started = run("calibrate", "start", "--name", "mine", *port)
    assert (started.exit_code, started.stdout) == (0, "calibration started; to end it: gazed calibrate stop\n")
    again = run("calibrate", "start", *port, "--json")
    assert (again.exit_code, one_object(again)["error"]["message"]) == (
        3, "the calibration did not start: a calibration runs",
    )  # fmt: skip
    other = run("validate", "stop", *port)
    assert (other.exit_code, other.stderr) == (
        3, "error: no validation runs, but a calibration\nhint: to end it: gazed calibrate stop\n",
    )  # fmt: skip
    wait_for(lambda: collected("calibration", 90))
    assert "gaze: not calibrated    calibration runs, with " in run("status", "--once", *port).stdout
    fitted = one_object(run("calibrate", "stop", *port, "--json"))
    assert (fitted["name"], fitted["gazer_class_name"]) == ("mine", "Gazer2D")
    assert fitted["accuracy"]["degrees"] < 5
    assert run("validate", "start", *port).exit_code == 0
    wait_for(lambda: collected("validation", 30))
    measured = run("validate", "stop", *port)
    assert measured.exit_code == 0, measured.output
    assert measured.stdout.startswith("validation of Gazer2D\naccuracy: ")
    wait_for(lambda: "gaze: Gazer2D, calibration mine\n" in run("status", "--once", *port).stdout)
    daemon.remote.stop()
    return made


def test_calibrations_are_stored_listed_and_used(daemon: Trial, recording: Path, folder: Path) -> None:
    (listed,) = one_object(run("calibrate", "list", "--folder", folder / "calibrations", "--json"))["calibrations"]
    assert (listed["name"], listed["recording"]) == ("mine", str(recording))
    shown = run("calibrate", "list", "--folder", folder / "calibrations").stdout
    assert "mine" in shown
    assert f"{listed['accuracy']['accuracy']['degrees']:.2f}" in shown
    used = run("calibrate", "use", "mine", "--port", daemon.port)
    assert (used.exit_code, used.stdout) == (0, "gaze is mapped with mine (Gazer2D)\n")
    unknown = run("calibrate", "use", "mini", "--port", daemon.port, "--json")
    assert (unknown.exit_code, one_object(unknown)["error"]["hint"]) == (2, "did you mean 'mine'?")


def test_nothing_to_stop_and_what_the_mapper_refuses(daemon: Trial) -> None:
    stopped = run("validate", "stop", "--port", daemon.port)
    assert (stopped.exit_code, stopped.stderr.splitlines()[-1]) == (3, "hint: gazed validate start")
    with pytest.raises(CalibrationFailed, match="Gazer9") as refused:
        begin(daemon.remote, "calibration", gazer="Gazer9")
    assert "Gazer2D, Gazer3D" in refused.value.hint


def test_a_calibration_outlives_the_process_that_maps(daemon: Trial, recording: Path) -> None:
    assert recording.is_dir()
    with daemon.remote.subscribe("notify.calibration.", "notify.process.died", "gaze.") as heard:

        def until(topic: str) -> dict[str, Any]:
            return wait_for(lambda: (each := heard.receive(0.1)) and each.topic.startswith(topic) and each.payload)

        for during in (False, True):
            if during:
                begin(daemon.remote, "calibration")
            os.kill(pid_of(daemon, "gaze"), signal.SIGKILL)
            if during:
                with pytest.raises((DaemonError, PluginError, RequestRefused)):
                    finish(daemon.remote, "calibration")
            assert until("notify.process.died")["name"] == "gaze"
            assert until("notify.calibration.loaded")["name"] == "mine"
            assert until("gaze.2d.")["norm_pos"]
            wait_for(lambda: daemon.remote.status()["processes"]["gaze"]["state"] == "ready")


def test_pupils_and_gaze_of_a_recording_anew(recording: Path) -> None:
    found = one_object(run("detect", recording, "--json"))
    assert set(found["eyes"]) == {"eye0", "eye1"}
    assert all(eye["detected"] == eye["frames"] > 100 for eye in found["eyes"].values())
    kept = run("detect", recording)
    assert kept.exit_code == 0
    assert "--redetect replaces them" in kept.stdout
    mapped = one_object(run("map", recording, "--json"))
    assert mapped["source"] == "offline_data/offline_pupil.pldata"
    assert mapped["gaze"] > 100
    assert Path(mapped["path"]).is_file()
    text = run("map", recording, "--gazer", "Gazer2D")
    assert text.exit_code == 0, text.output
    assert "in validation 1 of the recording" in text.stdout
    unknown = run("map", recording, "--calibration", "none", "--folder", recording)
    assert unknown.exit_code == 2
    assert unknown.stderr.splitlines()[-1] == (
        "hint: see: gazed calibrate list; in the recording: 'Recorded Calibration'"
    )


def test_the_accuracy_stands_in_the_info(recording: Path) -> None:
    found = one_object(run("info", recording, "--json"))["accuracy"]
    assert [(each["of"], each["gazer"]) for each in found] == [("calibration", "Gazer2D"), ("validation", "Gazer2D")]
    assert "\nvalidation of Gazer2D: accuracy " in run("info", recording).stdout


def test_a_daemon_without_a_mapper_says_how_to_get_one(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as bare:
        refused = run("calibrate", "start", "--port", bare.port, "--json")
        assert refused.exit_code == 1
        error = one_object(refused)["error"]
        assert "not enabled" in error["message"]
        assert "--set gaze.enabled=true" in error["hint"]


def test_the_examples_of_the_plugins_readme_run(daemon: Trial, recording: Path, tmp_path: Path) -> None:
    assert recording.is_dir()
    text = (Path(__file__).parents[2] / "plugins" / "README.md").read_text()
    examples = re.findall(r"^```python\n(import .*?)^```$", text, re.MULTILINE | re.DOTALL)
    ends = ("stored as P01 {'degrees': ", "notify.calibration.setup.v2")
    for example, end in zip(examples, ends, strict=True):
        path = tmp_path / "example.py"
        here = example.replace("gazed.Remote()", f"gazed.Remote(port={daemon.port})")
        path.write_text(here.replace("range(30)", "range(10)").replace("sleep(0.5)", "sleep(0.1)"))
        done = subprocess.run(
            [sys.executable, "-W", "error", path], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert end in done.stdout


def test_a_recording_without_eyes_and_one_without_pupils(tmp_path: Path) -> None:
    empty = run("detect", make_recording(tmp_path / "a", streams=("world",)), "--json")
    assert (empty.exit_code, one_object(empty)["error"]["code"]) == (1, "plugin")
    blind = run("map", make_recording(tmp_path / "b"))
    assert blind.exit_code == 2
    assert "holds no calibration" in blind.stderr


def test_a_mapper_that_has_only_just_begun_has_nothing_to_tell() -> None:
    status = {"recording": None, "time": 1.0, "listen": "", "streams": {}, "processes": {}, "free_gb": 9.0}
    status |= {"gb_per_hour": None, "plugins": {"gaze": {"per_s": 0.0}}}
    view = _status_view(status)
    assert not any("gaze" in str(line) for line in view.renderables)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"per_s": 0.0}, None),
        ({"state": "UNSYNCED", "leader": "", "participants": 0}, "UNSYNCED, leader: none    others: 0"),
        (
            {"state": "LOCKED", "leader": "lab", "participants": 1, "offset_s": -2e-6, "bound_s": 1.23e-5},
            "LOCKED, leader: lab    to go: -2.0 us  within: 12.3 us    others: 1",
        ),
        ({"state": "LEADER", "leader": "me", "participants": 2, "offset_s": 0, "bound_s": 0}, "LEADER    others: 2"),
    ],
)
def test_the_status_tells_how_the_clock_is_kept(told: dict[str, Any], wanted: str | None) -> None:
    status = {"recording": None, "time": 1.0, "listen": "", "streams": {}, "processes": {}, "free_gb": 9.0}
    status |= {"gb_per_hour": None, "plugins": {"Time_Sync": told}}
    lines = [str(line) for line in _status_view(status).renderables if "time sync" in str(line)]
    assert lines == ([f"time sync: {wanted}"] if wanted else [])


def test_the_status_names_processes_that_do_not_run() -> None:
    status = {"recording": None, "time": 1.0, "listen": "", "streams": {}, "free_gb": 9.0, "gb_per_hour": None}
    died = {"state": "failed", "restarts": 6, "reason": "ended with exit code 1"}
    status |= {"plugins": {}, "processes": {"Time_Sync": died, "broker": {"state": "ready", "restarts": 0}}}
    lines = [str(line) for line in _status_view(status).renderables]
    assert "Time_Sync: ended with exit code 1; the log says why" in lines


def test_without_a_screen_there_is_no_window(daemon: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    refused = run("calibrate", "screen", "--port", daemon.port)
    assert refused.exit_code == 1
    assert "no window can be opened" in refused.stderr
