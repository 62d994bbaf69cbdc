"""The same for every device that is here: whatever ``gazed devices`` finds is held to the contract and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazed.config import load_config
from gazed.testing import wait_for
from gazed.trial import Trial
from gazed_capture.errors import SourceError
from gazed_capture.source import DeviceInfo, Source, find_source
from gazed_capture.testing import check_source
from gazed_recorder.manifest import Manifest
from gazed_recorder.verify import verify
from gazed_timesync import GazedError

pytestmark = [pytest.mark.camera, pytest.mark.timeout(300)]

CAMERAS = ("uvc", "v4l2")
STREAMS = ("world", "eye0", "eye1")


def found(kind: str) -> list[DeviceInfo]:
    try:
        devices = [device for device in find_source(kind).devices() if not device.problem]
    except GazedError as error:
        pytest.skip(str(error))
    if kind == "microphone":
        # Sound systems offer each card again under many names, some of which only convert.
        devices = [device for device in devices if "(hw:" in device.name]
    return devices or pytest.skip(f"source {kind!r} finds no device that can be opened")


def options_for(kind: str, stream: str, device: DeviceInfo) -> dict[str, Any]:
    """Return options with which a device opens: a mode of about 30 frames a second, and a format that it has."""
    if kind == "microphone":
        return {"name": device.name}
    width, height, fps = min(device.modes, key=lambda mode: abs(mode[2] - 30))
    where = {"path" if device.controller else "node": device.path}
    options = {**where, "width": width, "height": height, "fps": fps}
    refusals = []
    for form in ("mjpeg", "gray", "yuyv"):
        try:
            source = find_source(kind)(stream, {**options, "format": form})
            try:
                source.open()
            finally:
                source.close()
        except SourceError as error:
            refusals.append(str(error))
        else:
            return {**options, "format": form}
    raise AssertionError(f"{device} opens in no format: {refusals}")


@pytest.mark.parametrize("kind", [*CAMERAS, "microphone"])
def test_every_device_keeps_the_contract(kind: str) -> None:
    stream = "audio" if kind == "microphone" else "eye0"
    for device in found(kind):
        options = options_for(kind, stream, device)

        def make(options: dict[str, Any] = options) -> Source:
            return find_source(kind)(stream, options)

        assert make().find().device.path == device.path
        check_source(make, frames=20)


@pytest.mark.parametrize("kind", CAMERAS)
def test_what_the_devices_deliver_is_recorded(kind: str, tmp_path: Path) -> None:
    devices = found(kind)[: len(STREAMS)]
    streams = {
        name: {"source": kind, "options": options_for(kind, name, device)}
        for name, device in zip(STREAMS, devices, strict=False)
    }
    others = {name: {"enabled": False} for name in STREAMS if name not in streams}
    settings = {"root": str(tmp_path), "floor_mb": 1, "warn_mb": 100, "start_timeout_s": 2.5}
    with Trial(load_config(overrides={"recorder": settings, "streams": {**streams, **others}})) as daemon:
        folder = Path(daemon.remote.start("devices").rec_path)
        wait_for(lambda: all(daemon.remote.status()["streams"][name]["written"] >= 60 for name in streams), timeout=60)
        daemon.remote.stop()
    assert verify(folder).problems == []
    manifest = Manifest.load(folder)
    assert manifest.state == "complete"
    for name in streams:
        report = manifest.streams[name]
        assert report.received == report.written + sum(report.dropped.values()) + report.lost
        # A busy machine may have cost the camera a restart, and with it a new part.
        parts = [np.load(folder / part.file.replace(".mp4", "_timestamps.npy")) for part in report.parts]
        stamps = np.concatenate(parts)
        assert len(stamps) == report.written
        assert (np.diff(stamps) > 0).all()
