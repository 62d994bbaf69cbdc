"""Clicks played at known times into one device, and heard through a source from another.

As commands, each prints its result as JSON: ``play DEVICE SECONDS`` the host times of its clicks, one a line as they
are handed over, all of them at the end; ``listen OPTIONS SECONDS`` what a microphone with these options heard.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gazed_bus.frame import Frame
from gazed_capture.microphone import MicrophoneSource
from gazed_timesync import UnixNs, host_now
from gazed_timesync.devices.stream_clock import StreamClock

__all__ = ["MOST_MS", "Player", "as_blocks", "click_times", "errors_ms", "frames_while", "heard_as_played", "listen"]

RATE = 48_000
EVERY_S = 0.25
_CLICK = 26_000
MOST_MS = 15.0
"""What clicks may be off in the median on a busy machine, most of it the player's own stamps: less than a block."""
_LEAD_S = 0.5  # of silence, until the player's stamps are good


class Player:
    """A process that plays clicks into an output, until ``times`` is asked for or its seconds are over."""

    def __init__(self, device: str, seconds: float, env: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, str(Path(__file__)), "play", device, str(seconds)]
        self._process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    def wait_for(self, clicks: int) -> None:
        """Wait until so many more clicks were handed to the output."""
        assert self._process.stdout is not None
        for _ in range(clicks):
            assert self._process.stdout.readline() == "click\n"

    @property
    def playing(self) -> bool:
        return self._process.poll() is None

    def times(self) -> list[float]:
        """Wait for the end, and return when the clicks were at the converter, in seconds of the host's clock."""
        output, _ = self._process.communicate(timeout=120)
        assert self._process.returncode == 0
        return json.loads(output.splitlines()[-1])

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def click_times(blocks: Iterable[tuple[float, np.ndarray]], rate: float = RATE) -> list[float]:
    """Return when clicks begin.

    Args:
        blocks: (time of the first sample in seconds, int16 samples of one channel), without gaps.
        rate: samples a second.
    """
    times, last = [], 0
    for start, samples in blocks:
        loud = np.abs(np.concatenate([[last], samples]).astype(int)) > _CLICK // 2
        times += [start + onset / rate for onset in np.flatnonzero(loud[1:] & ~loud[:-1])]
        last = int(samples[-1])
    return times


def errors_ms(heard: Sequence[float], played: Sequence[float]) -> list[float]:
    """Return heard minus played for each click heard, in ms, against the nearest one played."""
    return [1e3 * min((at - click for click in played), key=abs) for at in heard]


def frames_while(source: MicrophoneSource, player: Player) -> Iterator[Frame]:
    """Yield what an open source delivers while clicks are played."""
    while player.playing:
        frame = source.read(0.05)
        if frame is not None:
            yield frame


def as_blocks(frames: Iterable[Frame]) -> Iterator[tuple[float, np.ndarray]]:
    """Turn frames of sound into what ``click_times`` takes."""
    for frame in frames:
        yield frame.captured_ns / 1e9, np.frombuffer(frame.payload, "<i2")[:: frame.height]


def heard_as_played(options: Mapping[str, Any], output: str, seconds: float) -> list[float]:
    """Play clicks into ``output`` and hear them by a microphone with these options; return the errors in ms.

    Raises:
        AssertionError: blocks are out of order, miscounted, or half of the clicks were not heard.
    """
    source = MicrophoneSource("audio", options)
    source.open()
    try:
        with Player(output, seconds) as player:
            frames = list(frames_while(source, player))
            played = player.times()
        assert [frame.sequence for frame in frames] == list(range(len(frames)))
        assert source.stats().missed == sum(frame.device_time is None for frame in frames)
    finally:
        source.close()
    heard = click_times(as_blocks(frames))
    assert len(heard) >= len(played) / 2
    return errors_ms(heard, played)


def listen(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Open a microphone and tell what it heard: clicks, and the facts of its blocks."""
    source = MicrophoneSource("audio", options)
    source.open()
    try:
        frames: list[Frame] = []
        while not frames or len(frames) * frames[0].width < seconds * RATE:
            if (frame := source.read(0.05)) is not None:
                if not frames:
                    print("listening", flush=True)
                frames.append(frame)
        stats = source.stats()
    finally:
        source.close()
    return {
        "clicks": click_times(as_blocks(frames)),
        "in_order": [frame.sequence for frame in frames] == list(range(len(frames))),
        "longest_step_s": float(np.diff([frame.captured_ns for frame in frames]).max()) / 1e9,
        "silent": sum(frame.device_time is None for frame in frames),
        "missed": stats.missed,
        "error_s": stats.clock.error_s,
    }


def play(device: str, seconds: float) -> list[float]:
    """Play clicks, and return when they are at the converter by the sound system's stamps."""
    import sounddevice

    clock = StreamClock()
    clicks: list[float] = []
    position = 0

    def fill(out: Any, frames: int, times: Any, _: object) -> None:
        nonlocal position
        clock.observe(times.currentTime, host_now(), UnixNs(time.time_ns()))
        first_s = clock.to_host(times.outputBufferDacTime) / 1e9
        since = (position + np.arange(frames) - round(_LEAD_S * RATE)) % round(EVERY_S * RATE)
        sound = np.where((since < 8) & (position >= _LEAD_S * RATE), _CLICK, 0).astype("<i2")
        clicks.extend(first_s + index / RATE for index in np.flatnonzero((since == 0) & (sound > 0)))
        out[:] = np.repeat(sound, 2).tobytes()
        position += frames

    stream = sounddevice.RawOutputStream(
        device=device, samplerate=RATE, channels=2, dtype="int16", blocksize=480, latency=0.2, callback=fill
    )
    with contextlib.closing(stream):
        stream.start()
        told = 0
        while position < seconds * RATE:
            time.sleep(0.02)
            for _ in clicks[told:]:
                print("click", flush=True)
                told += 1
    return clicks


if __name__ == "__main__":
    if sys.argv[1] == "play":
        result: object = play(sys.argv[2], float(sys.argv[3]))
    else:
        result = listen(json.loads(sys.argv[2]), float(sys.argv[3]))
    print(json.dumps(result))
