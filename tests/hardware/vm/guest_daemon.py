"""The whole daemon on real drivers, with a cable pulled out of each kind of camera while it records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from usbcam.pictures import read_counter

from gazed.config import load_config
from gazed.testing import wait_for
from gazed.trial import Trial
from gazed_bus.client import Subscriber
from gazed_capture.usb import usb_devices
from gazed_recorder.manifest import Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.verify import verify
from vm.plug import plug, unplug

# The emulated processor is slow.
EYE = {"width": 192, "height": 192, "fps": 15}
PATIENCE_S = 60.0


@contextmanager
def daemon(root: Path) -> Iterator[Trial]:
    port = next(device.path for device in usb_devices() if device.serial == "EMU0002")
    streams: dict[str, Any] = {
        "world": ("v4l2", {"name": "vivid*", "format": "gray", "width": 320, "height": 180, "fps": 10}),
        "eye0": ("v4l2", {"serial": "EMU0001", **EYE}),
        "eye1": ("uvc", {"path": port, **EYE}),
    }
    tables = {
        name: {"source": source, "options": options, "enabled": True} for name, (source, options) in streams.items()
    }
    settings = {"root": str(root), "floor_mb": 1, "warn_mb": 100, "start_timeout_s": 2.5}
    with Trial(load_config(overrides={"recorder": settings, "streams": tables})) as trial:
        yield trial


def start(trial: Trial, session_name: str) -> Path:
    """Start a recording with more patience than a request for it has: this processor is emulated."""
    with trial.remote.subscribe("notify.recording.") as heard:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            trial.remote.notify("recording.should_start", session_name=session_name)
            outcome = hear_any(heard, "recording.started", "recording.failed")
            if outcome["subject"] == "recording.started":
                return Path(outcome["rec_path"])
    raise AssertionError(f"no recording could be started: {outcome['reason']}")


def stop(trial: Trial) -> None:
    with trial.remote.subscribe("notify.recording.") as heard:
        trial.remote.notify("recording.should_stop")
        hear_any(heard, "recording.stopped")


def hear_any(heard: Subscriber, *subjects: str) -> dict[str, Any]:
    """Wait for a notification of one of these subjects."""
    while (message := heard.receive(PATIENCE_S)) is not None:
        if message.payload["subject"] in subjects:
            return message.payload
    raise AssertionError(f"none of {subjects} came")


def wait_for_more(trial: Trial, *streams: str, frames: int = 30) -> None:
    """Wait until so many more frames of each stream are on the disk."""

    def written(stream: str) -> int:
        return int(trial.remote.status()["streams"][stream]["written"])

    wanted = {stream: written(stream) + frames for stream in streams}
    wait_for(lambda: all(written(stream) >= count for stream, count in wanted.items()), PATIENCE_S)


def hear(heard: Subscriber, subject: str, *streams: str) -> None:
    """Wait until each stream was the subject of a notification."""
    waiting = set(streams)
    while waiting:
        waiting.discard(hear_any(heard, subject)["stream"])


def test_cables_are_pulled_under_recording(tmp_path: Path) -> None:
    with daemon(tmp_path) as trial, trial.remote.subscribe("notify.camera.") as heard:
        folder = start(trial, "cables")
        wait_for_more(trial, "world", "eye0", "eye1")
        unplug(0)
        unplug(1)
        hear(heard, "camera.lost", "eye0", "eye1")
        wait_for_more(trial, "world")
        plug(0)
        plug(1)
        hear(heard, "camera.found", "eye0", "eye1")
        wait_for_more(trial, "eye0", "eye1", "world")
        stop(trial)
    assert verify(folder).problems == []
    manifest = Manifest.load(folder)
    assert manifest.state == "complete"
    for name in ("world", "eye0", "eye1"):
        report = manifest.streams[name]
        assert report.received == report.written + sum(report.dropped.values()) + report.lost
    for name in ("eye0", "eye1"):
        assert_every_image_is_in_its_place(folder, name)
    stamps = np.load(folder / "world_timestamps.npy")
    assert np.diff(stamps).max() < 2, "the others' cables cost the world camera frames"


def assert_every_image_is_in_its_place(folder: Path, stream: str) -> None:
    numbers, stamps = [], []
    for frame in Recording(folder).frames(stream):
        gray = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        numbers.append(read_counter(gray))
        stamps.append(frame.timestamp)
    disorder = [numbers[max(0, i - 2) : i + 2] for i in range(1, len(numbers)) if numbers[i] <= numbers[i - 1]]
    assert not disorder
    assert (np.diff(stamps) > 0).all()
