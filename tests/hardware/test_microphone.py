"""The microphone through the real sound system: sounddevice, PortAudio, ALSA, its PulseAudio plugin, a daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import fake_audio
import pytest
import sound_checks
from fake_audio import FakeAudio
from sound_checks import MOST_MS, Player, as_blocks, click_times, errors_ms, frames_while, heard_as_played

from gazed_capture.errors import DeviceLost, SourceNotFound
from gazed_capture.microphone import MicrophoneSource
from gazed_capture.testing import check_source

pytestmark = pytest.mark.skipif(bool(fake_audio.missing()), reason=fake_audio.missing())
pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="pip install 'gazed[audio]'")


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeAudio]:
    with FakeAudio.running() as audio:
        yield audio


def use(audio: FakeAudio, monkeypatch: pytest.MonkeyPatch) -> FakeAudio:
    for name, value in audio.own.items():
        monkeypatch.setenv(name, value)
    return audio


@pytest.fixture
def audio(daemon: FakeAudio, monkeypatch: pytest.MonkeyPatch) -> FakeAudio:
    return use(daemon, monkeypatch)


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAudio]:
    """A sound system that a test may kill."""
    with FakeAudio.running() as audio:
        yield use(audio, monkeypatch)


def read_on(source: MicrophoneSource) -> None:
    while True:
        source.read(0.1)


@pytest.fixture
def source(audio: FakeAudio) -> Iterator[MicrophoneSource]:
    source = MicrophoneSource("audio", {"name": "mic"})
    yield source
    source.close()


def test_the_inputs_are_listed_and_chosen_by_name(audio: FakeAudio) -> None:
    names = [device.name for device in MicrophoneSource.devices()]
    assert "mic" in names
    assert MicrophoneSource("audio", {"name": "m?c"}).find().device.name == "mic"
    assert MicrophoneSource("audio", {}).find().device.name == "default"
    with pytest.raises(SourceNotFound, match="mic") as refusal:
        MicrophoneSource("audio", {"name": "mik"}).find()
    assert "'mic'" in refusal.value.hint


def test_the_microphone_keeps_the_contract(audio: FakeAudio) -> None:
    check_source(lambda: MicrophoneSource("audio", {"name": "mic", "channels": 2}))


def test_clicks_come_back_when_they_were_played(audio: FakeAudio) -> None:
    assert abs(median(heard_as_played({"name": "mic"}, "speaker", 3.0))) < MOST_MS


def test_a_reader_that_stands_still_costs_silence_and_no_time(source: MicrophoneSource, audio: FakeAudio) -> None:
    source.open()
    with Player("speaker", 5.0, audio.env) as player:
        player.wait_for(1)
        while (frame := source.read(1.0)) is None:
            pass
        player.wait_for(11)
        frames = [frame, *frames_while(source, player)]
        played = player.times()
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    # Nearly three seconds, of which two are kept.
    assert source.stats().missed > 10
    assert source.stats().missed == sum(frame.device_time is None for frame in frames)
    late = [at for at in click_times(as_blocks(frames)) if at > played[13]]
    assert late
    assert abs(median(errors_ms(late, played))) < MOST_MS


def test_a_process_that_stands_still_costs_no_time(audio: FakeAudio) -> None:
    command = [sys.executable, sound_checks.__file__, "listen", '{"name": "mic"}', "3.5"]
    with (
        subprocess.Popen(command, env=audio.env, stdout=subprocess.PIPE, text=True) as listener,
        Player("speaker", 5.0, audio.env) as player,
    ):
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        player.wait_for(1)
        listener.send_signal(signal.SIGSTOP)
        player.wait_for(6)
        listener.send_signal(signal.SIGCONT)
        found = json.loads(listener.stdout.read())
        played = player.times()
    assert found["in_order"]
    # The sound system keeps all of it, or not; what it does not keep is counted.
    assert found["missed"] == found["silent"]
    assert found["longest_step_s"] < 0.05
    late = found["clicks"][-4:]
    assert abs(median(errors_ms(late, played))) < MOST_MS


def test_a_sound_system_that_hangs_or_dies_is_a_lost_device_that_comes_back(mortal: FakeAudio) -> None:
    source = MicrophoneSource("audio", {"name": "mic"})
    for end in (mortal.hang, mortal.kill):
        source.open()
        while (frame := source.read(0.1)) is None:
            pass
        assert frame.sequence == 0
        end()
        ended = time.monotonic()
        with pytest.raises(DeviceLost):
            read_on(source)
        assert time.monotonic() - ended < 1.5
        source.close()
        assert time.monotonic() - ended < 5
        if end == mortal.hang:
            mortal.resume()
    with pytest.raises(SourceNotFound):
        source.open()
    source.close()
    mortal.start()
    source.open()
    while source.read(0.1) is None:
        pass
    source.close()


def test_without_portaudio_there_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "libportaudio.so.2").write_text("no library")
    program = (
        "from gazed_capture.microphone import MicrophoneSource\n"
        "from gazed_capture.errors import SourceError\n"
        "for ask in (MicrophoneSource.devices, MicrophoneSource('audio', {}).find):\n"
        "    try: ask()\n"
        "    except SourceError as error: print(error.code, error.hint)\n"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "source apt-get install libportaudio2\n" * 2
