"""The whole daemon with a microphone on a real sound system: what it records is when it was heard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import fake_audio
import pytest
from fake_audio import FakeAudio
from sound_checks import MOST_MS, Player, click_times, errors_ms

from gazed.config import load_config
from gazed.testing import pid_of, wait_for
from gazed.trial import Trial
from gazed_recorder.manifest import Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.verify import verify

pytestmark = pytest.mark.skipif(bool(fake_audio.missing()), reason=fake_audio.missing())
pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="pip install 'gazed[audio]'")


@contextmanager
def daemon_that_listens(root: Path) -> Iterator[Trial]:
    world = {"width": 320, "height": 240, "fps": 30, "seconds": 2}
    streams = {
        "world": {"source": "simulated", "options": world},
        "eye0": {"enabled": False},
        "eye1": {"enabled": False},
        "audio": {"enabled": True, "source": "microphone", "options": {"name": "mic"}},
    }
    settings = {"root": str(root), "floor_mb": 1, "warn_mb": 100}
    with Trial(load_config(overrides={"recorder": settings, "streams": streams})) as trial:
        yield trial


@pytest.fixture
def audio(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAudio]:
    with FakeAudio.running() as audio:
        for name, value in audio.own.items():
            monkeypatch.setenv(name, value)
        yield audio


def heard(folder: Path) -> list[float]:
    """Return when clicks begin in a recording, in seconds of the host's clock."""
    sound = Recording(folder).sound()
    return click_times((block.timestamp, block.samples[:, 0]) for block in sound)


def test_recorded_clicks_are_when_they_were_played_and_the_death_of_sound_costs_no_picture(
    audio: FakeAudio, tmp_path: Path
) -> None:
    with daemon_that_listens(tmp_path) as daemon:
        folder = Path(daemon.remote.start("clicks").rec_path)
        with Player("speaker", 4.0, audio.env) as player:
            played = player.times()
        daemon.remote.stop()

        torn = Path(daemon.remote.start("torn").rec_path)
        os.kill(pid_of(daemon, "audio"), signal.SIGKILL)
        wait_for(lambda: daemon.remote.status()["processes"]["audio"]["restarts"] == 1)
        pid_of(daemon, "audio")
        wait_for((torn / "sound_001.mp4").exists)
        with Player("speaker", 1.5, audio.env) as player:
            played_again = player.times()
        daemon.remote.stop()

    for recording in (folder, torn):
        assert verify(recording).problems == []
    clean = Manifest.load(folder).streams["audio"]
    assert (clean.kind, clean.missed, clean.dropped) == ("audio", 0, {})
    assert clean.written == len(list(Recording(folder).sound()))
    errors = errors_ms(heard(folder), played)
    # What was played last may have been on its way when the recording stopped.
    assert len(errors) >= len(played) / 2
    assert abs(median(errors)) < MOST_MS
    assert abs(median(errors_ms(heard(torn)[-2:], played_again))) < MOST_MS
    world = Manifest.load(torn).streams["world"]
    assert (world.missed, world.dropped, world.gap_count) == (0, {}, 0)


def test_a_dead_sound_system_is_told_and_comes_back_into_the_same_recording(audio: FakeAudio, tmp_path: Path) -> None:
    with daemon_that_listens(tmp_path) as daemon:
        folder = Path(daemon.remote.start("pulled").rec_path)
        audio.kill()
        wait_for(lambda: daemon.remote.status()["streams"]["audio"]["state"] == "lost")
        assert daemon.remote.status()["streams"]["world"]["state"] == "streaming"
        audio.start()
        wait_for(lambda: daemon.remote.status()["streams"]["audio"]["state"] == "streaming")
        wait_for((folder / "sound_001.mp4").exists)
        daemon.remote.stop()
    assert verify(folder).problems == []
    manifest = Manifest.load(folder)
    assert manifest.streams["audio"].gap_count == 1
    assert manifest.streams["world"].gap_count == 0
