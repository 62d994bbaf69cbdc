"""Source ``microphone`` on ALSA in the kernel: what is played into one end of snd-aloop is heard at the other."""

from __future__ import annotations

from statistics import median

from sound_checks import MOST_MS, heard_as_played

from gazed_capture.microphone import MicrophoneSource

EAR, MOUTH = "Loopback: PCM (hw:0,0)", "Loopback: PCM (hw:0,1)"


def test_the_card_is_listed() -> None:
    assert EAR in [device.name for device in MicrophoneSource.devices()]


def test_clicks_come_back_when_they_were_played() -> None:
    assert abs(median(heard_as_played({"name": EAR, "channels": 2}, MOUTH, 4.0))) < MOST_MS
