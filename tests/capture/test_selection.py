"""Which of several devices is taken, and what is said when none or more than one fits."""

from __future__ import annotations

from typing import Any

import pytest

from gazed_capture.errors import DeviceAmbiguous, SourceNotFound, SourceOptionError
from gazed_capture.selection import Wanted, pick
from gazed_capture.source import DeviceInfo

RIGHT = DeviceInfo("uvc", "Pupil Cam2 ID0", "A", path="1-1")
LEFT = DeviceInfo("uvc", "Pupil Cam2 ID1", "B", path="1-2")
TWIN = DeviceInfo("uvc", "Pupil Cam2 ID1", "", path="2-1.4")


def choose(devices: list[DeviceInfo], **options: Any) -> DeviceInfo:
    return pick(Wanted.read("eye0", "uvc", options), devices)


def test_a_single_device_needs_no_option() -> None:
    assert choose([RIGHT]) is RIGHT


@pytest.mark.parametrize(
    "options",
    [
        {"serial": "B"},
        {"path": "1-2"},
        {"name": "Pupil Cam2 ID1"},
        {"name": "Pupil Cam? ID1"},
        {"name": "*ID[1-9]"},
        {"serial": "B", "path": "1-2", "name": "*"},
    ],
)
def test_serial_path_and_name_select(options: dict[str, str]) -> None:
    assert choose([RIGHT, LEFT], **options) is LEFT


def test_a_name_that_two_have_is_refused_with_both_listed() -> None:
    with pytest.raises(DeviceAmbiguous) as caught:
        choose([RIGHT, LEFT, TWIN], name="Pupil Cam? ID1")
    text = caught.value.message
    assert "eye0" in text
    assert "name = 'Pupil Cam? ID1'" in text
    assert "serial B, path 1-2" in text
    assert "serial none, path 2-1.4" in text
    assert "Cam2 ID0" not in text
    # One of them has no serial number, so only the path tells them apart.
    assert "path = '1-2'" in caught.value.hint


def test_no_option_and_two_devices_is_ambiguous() -> None:
    with pytest.raises(DeviceAmbiguous, match="2 fit") as caught:
        choose([RIGHT, LEFT])
    assert "serial = 'A'" in caught.value.hint


def test_devices_that_nothing_tells_apart() -> None:
    nameless = DeviceInfo("microphone", "mic", "")
    with pytest.raises(DeviceAmbiguous) as caught:
        choose([nameless, nameless])
    assert "unplug one" in caught.value.hint


def test_nothing_fits() -> None:
    with pytest.raises(SourceNotFound, match="Pupil Cam2 ID0") as caught:
        choose([RIGHT, LEFT], name="Pupil Cam2 ID2")
    assert "did you mean name = 'Pupil Cam2 ID" in caught.value.hint
    with pytest.raises(SourceNotFound) as caught:
        choose([RIGHT, LEFT], name=RIGHT.name, serial=LEFT.serial)
    assert RIGHT.name not in caught.value.hint
    with pytest.raises(SourceNotFound, match="serial = 'Z', path = '9-9'"):
        choose([RIGHT], serial="Z", path="9-9")


def test_nothing_is_there() -> None:
    with pytest.raises(SourceNotFound, match="none at all"):
        choose([])


@pytest.mark.parametrize("option", ["serial", "path", "name"])
@pytest.mark.parametrize("value", ["", 7, None, ["A"]])
def test_what_is_no_text_is_refused(option: str, value: object) -> None:
    with pytest.raises(SourceOptionError, match=option):
        choose([RIGHT], **{option: value})
