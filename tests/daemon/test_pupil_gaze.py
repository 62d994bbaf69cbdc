"""Pupils and gaze in a whole daemon: detected, calibrated over the bus, mapped, recorded; and what dies comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pye3d.detector_3d")
pytest.importorskip("pupil_detectors")

from gazed import Recording
from gazed.testing import pid_of, small_daemon, wait_for
from gazed.trial import Trial
from gazed_bus.client import Subscriber
from gazed_recorder.manifest import Manifest
from gazed_recorder.verify import verify

EYE = {"width": 192, "height": 192, "seconds": 6}


def tables(folder: Path) -> dict[str, Any]:
    return {
        "pupil": {"enabled": True, "options": {"every_nth": 2}},
        "gaze": {"enabled": True, "gazer": "Gazer2D", "folder": str(folder)},
        "plugins": {"start": ["Blink_Detection"]},
    }


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("daemon")
    world = {"width": 640, "height": 360, "seconds": 6}
    with small_daemon(
        folder / "recordings", more=tables(folder / "calibrations"), world=world, eye0=EYE, eye1=EYE
    ) as trial:
        for name in ("pupil0", "pupil1"):
            wait_for(lambda name=name: detected(trial, name))
        for name in ("gaze", "marker", "Blink_Detection"):
            pid_of(trial, name)
        yield trial


def plugin(daemon: Trial, name: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.remote.status()["plugins"].get(name, {})
    return found


def detected(daemon: Trial, name: str) -> int:
    return int(plugin(daemon, name).get("detected", 0))


def hear(heard: Subscriber, *subjects: str) -> dict[str, Any]:
    """Return the next notification with one of these subjects."""

    def look() -> dict[str, Any] | None:
        message = heard.receive(0.5)
        return message.payload if message and message.payload["subject"] in subjects else None

    return wait_for(look, 40.0)  # type: ignore[return-value]


def test_eyes_are_seen_through_the_camera_that_the_daemon_knows(daemon: Trial) -> None:
    wait_for(lambda: plugin(daemon, "pupil1").get("camera") == "stream")
    with daemon.remote.subscribe("pupil.") as pupils:
        seen = {(message := pupils.receive(5)).topic: message.payload for _ in range(40)}
    assert set(seen) == {"pupil.0.2d", "pupil.0.3d", "pupil.1.2d", "pupil.1.3d"}
    for topic, datum in seen.items():
        assert (datum["topic"], datum["id"]) == (topic, int(topic[6]))
    wait_for(lambda: plugin(daemon, "pupil0")["per_s"] > 5)
    skipped = plugin(daemon, "pupil0")["skipped"]["every_nth"]
    assert skipped > 0


def test_a_calibration_over_the_bus_gives_gaze_and_all_of_it_is_recorded(daemon: Trial) -> None:
    folder = Path(daemon.remote.start("calibration").rec_path)
    with daemon.remote.subscribe("notify.") as heard, daemon.remote.subscribe("gaze.") as gaze:
        daemon.remote.notify("calibration.should_start", name="here")
        hear(heard, "calibration.started")
        wait_for(lambda: plugin(daemon, "gaze")["references"] > 90)
        daemon.remote.notify("calibration.should_stop")
        result = hear(heard, "accuracy.result", "calibration.failed")
        assert result["subject"] == "accuracy.result", result
        assert result["name"] == "here"
        datums = [gaze.receive(10).payload for _ in range(60)]
    for datum in datums:
        assert datum["topic"].startswith("gaze.2d.")
        assert datum["base_data"]
    daemon.remote.stop()
    assert verify(folder).problems == []
    recording = Recording(folder)
    stamps = {log: recording.timestamps(log) for log in ("pupil", "gaze", "notify")}
    assert len(stamps["pupil"]) > 100
    assert set(np.isin([datum["timestamp"] for datum in datums], stamps["gaze"])) == {True}
    frames = np.concatenate([recording.timestamps("eye0"), recording.timestamps("eye1")])
    inside = [stamp for stamp in stamps["pupil"] if frames.min() <= stamp <= frames.max()]
    assert np.isin(inside, frames).all()
    subjects = [note["subject"] for note in recording.data("notify")]
    assert {"calibration.setup.v2", "calibration.result.v2", "accuracy.result"} <= set(subjects)
    assert plugin(daemon, "gaze")["calibration"] == "here"
    assert (folder.parents[2] / "calibrations" / "here.calib").is_file()


def test_a_killed_detector_comes_back_and_the_recording_does_not_notice(daemon: Trial) -> None:
    folder = Path(daemon.remote.start("killed detector").rec_path)
    victim = pid_of(daemon, "pupil0")
    with daemon.remote.subscribe("notify.process.died") as died, daemon.remote.subscribe("pupil.0.2d") as pupils:
        os.kill(victim, signal.SIGKILL)
        assert died.receive(10).payload["name"] == "pupil0"
        wait_for(lambda: pid_of(daemon, "pupil0") != victim)
        while pupils.receive(0) is not None:
            pass
        assert pupils.receive(15) is not None
    assert daemon.remote.status()["processes"]["pupil0"]["restarts"] == 1
    daemon.remote.stop()
    assert verify(folder).problems == []
    for stream in ("world", "eye0", "eye1"):
        report = Manifest.load(folder).streams[stream]
        assert (report.dropped, report.lost, report.gap_count) == ({}, 0, 0), stream


def test_an_eye_that_is_switched_off_takes_its_detector_along(daemon: Trial) -> None:
    daemon.remote.notify("eye_process.should_stop.1", eye_id=1)
    wait_for(lambda: daemon.remote.status()["processes"]["pupil1"]["state"] == "stopped")
    assert "pupil1" not in daemon.remote.status()["plugins"]
    before = pid_of(daemon, "pupil0")
    daemon.remote.notify("eye_process.should_start.1", eye_id=1)
    pid_of(daemon, "pupil1")
    assert pid_of(daemon, "pupil0") == before
    wait_for(lambda: detected(daemon, "pupil1"))


def test_plugins_of_pupil_capture_that_the_mapper_stands_for_are_no_error(daemon: Trial) -> None:
    with daemon.remote.subscribe("logging.error") as errors, daemon.remote.subscribe("notify.calibration.") as heard:
        daemon.remote.notify("start_plugin", name="ScreenMarkerChoreographyPlugin")
        daemon.remote.notify("start_plugin", name="Gazer2D", args={"params": {}, "calib_data": {}})
        assert heard.receive(10).payload["subject"] == "calibration.failed"
        daemon.remote.notify("stop_plugin", name="Gazer2D")
        daemon.remote.notify("stop_plugin", name="No_Such_Plugin")
        said = [errors.receive(10).payload["msg"] for _ in range(2)]
    assert not any("enabled plugins" in text for text in said)
    assert said[-1] == "stop_plugin: %r is not running"
