"""Every source that needs no device keeps the contract, and the contract catches those that do not."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from gazed_capture.errors import DeviceLost, EndOfStream, SourceError, SourceNotFound, SourceOptionError
from gazed_capture.file import FileSource
from gazed_capture.simulated import SimulatedSource
from gazed_capture.source import Source
from gazed_capture.testing import FakeSource, check_source
from gazed_capture.tone import ToneSource
from gazed_timesync import HostNs


def _video(path: Path) -> Path:
    jpeg = cv2.imencode(".jpg", np.zeros((48, 64), np.uint8))[1].tobytes()
    with av.open(str(path), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=100, width=64, height=48)
        stream.time_base = Fraction(1, 10**6)
        container.start_encoding()
        for index in range(8):
            packet = av.Packet(jpeg)
            packet.stream, packet.time_base, packet.pts, packet.dts = (
                stream,
                stream.time_base,
                index * 10000,
                index * 10000,
            )
            container.mux_one(packet)
    return path


@pytest.mark.parametrize("pace", ["timestamps", "free"])
def test_file_keeps_the_contract(tmp_path: Path, pace: str) -> None:
    video = _video(tmp_path / "world.mp4")
    check_source(lambda: FileSource("world", {"path": str(video), "pace": pace}))


def test_simulated_keeps_the_contract() -> None:
    options = {"width": 96, "height": 96, "fps": 100, "seconds": 2.0}
    check_source(lambda: SimulatedSource("eye0", options))


def test_tone_keeps_the_contract() -> None:
    check_source(lambda: ToneSource("audio", {"channels": 2, "lose": [1]}))


def test_fake_keeps_the_contract() -> None:
    steps = ["frame", "timeout", "frame", "missed", "frame", "frame", "frame"] * 3
    check_source(lambda: FakeSource("eye0", {"steps": steps, "fps": 200}))


def test_fake_follows_its_script_across_a_loss() -> None:
    source = FakeSource("eye1", {"steps": ["frame", "missed", "frame", "lost", "absent", "frame", "error"]})
    source.open()
    assert [source.read(0).sequence, source.read(0).sequence] == [0, 2]
    assert source.stats().missed == 1
    for _ in range(2):
        with pytest.raises(DeviceLost):
            source.read(0)
    source.close()
    with pytest.raises(SourceNotFound):
        source.open()
    source.open()
    assert source.read(0).sequence == 0
    with pytest.raises(SourceError, match="stumbled"):
        source.read(0)
    with pytest.raises(EndOfStream):
        source.read(0)


def test_fake_refuses_a_step_it_does_not_know() -> None:
    with pytest.raises(SourceOptionError, match="jump"):
        FakeSource("world", {"steps": ["jump"]})


class _Backwards(FakeSource):
    def read(self, timeout: float):
        frame = super().read(timeout)
        return frame and dataclasses.replace(frame, captured_ns=HostNs(frame.host_ns - 10**9 * frame.sequence))


class _Future(FakeSource):
    def read(self, timeout: float):
        frame = super().read(timeout)
        return frame and dataclasses.replace(frame, captured_ns=HostNs(frame.host_ns + 10**9))


class _Garbage(FakeSource):
    def read(self, timeout: float):
        frame = super().read(timeout)
        return frame and dataclasses.replace(frame, payload=b"no picture")


class _OtherSize(FakeSource):
    def read(self, timeout: float):
        frame = super().read(timeout)
        return frame and dataclasses.replace(frame, width=frame.width + 1)


class _AlwaysOpen(FakeSource):
    def close(self) -> None:
        pass


class _TakesEverything(FakeSource):
    def __init__(self, stream, options):
        super().__init__(stream, {"steps": options.get("steps", ())})


_leaked: list[int] = []


class _Leaks(FakeSource):
    def open(self):
        _leaked.append(os.open("/dev/null", os.O_RDONLY))
        return super().open()


class _CountsWrong(FakeSource):
    def stats(self):
        return dataclasses.replace(super().stats(), delivered=0)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (_Backwards, "does not rise"),
        (_Future, "captured after"),
        (_Garbage, "no JPEG"),
        (_OtherSize, "size differs"),
        (_AlwaysOpen, "after close"),
        (_TakesEverything, "unknown option"),
        (_Leaks, "left files open"),
        (_CountsWrong, "delivered"),
    ],
)
def test_the_contract_catches_a_source_that_breaks_it(kind: type[Source], text: str) -> None:
    factory: Callable[[], Source] = lambda: kind("world", {"steps": ["frame"] * 20})  # noqa: E731
    with pytest.raises(AssertionError, match=text):
        check_source(factory)
    while _leaked:
        os.close(_leaked.pop())
