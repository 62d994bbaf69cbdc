"""What a microphone may be asked for; how it hears is tested with a real sound system in ``tests/hardware``."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from gazed_capture.errors import SourceError, SourceOptionError
from gazed_capture.microphone import MicrophoneSource


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"nane": "mic"}, "did you mean 'name'"),
        ({"name": ""}, "name"),
        ({"rate": 48_000.0}, "rate is a whole number from 8000 to 192000"),
        ({"rate": 4_000}, "rate"),
        ({"channels": 0}, "channels"),
        ({"latency_ms": -1}, "latency_ms is a number from 0 to 1000"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SourceOptionError) as refusal:
        MicrophoneSource("audio", options)
    assert text in str(refusal.value) + refusal.value.hint


def test_a_microphone_that_is_not_open_says_so() -> None:
    source = MicrophoneSource("audio", {})
    with pytest.raises(SourceError, match="not open"):
        source.read(0)
    assert source.stats().delivered == 0
    source.close()


def test_without_the_package_a_microphone_is_lost_and_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    source = MicrophoneSource("audio", {})
    with pytest.raises(SourceError, match="package sounddevice") as caught:
        source.open()
    assert not isinstance(caught.value, SourceOptionError)
    source.close()
