"""The live detector: camera images in, Pupil's datums and answers out."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pye3d.detector_3d")
pytest.importorskip("pupil_detectors")

from gazed_bus.codec import Message
from gazed_bus.errors import CameraModelError
from gazed_capture.wearer.bank import open_bank
from gazed_capture.wearer.options import read_options
from gazed_plugins.errors import PluginArgument
from gazed_plugins.images import gray_jpeg
from gazed_plugins.pupil.detector import PupilDetector
from gazed_plugins.pupil.intrinsics import EyeCamera
from gazed_plugins.pupil.plugin import PupilDetectorPlugin
from gazed_plugins.testing import FakeContext, check_plugin

SIZE = 192


@cache
def jpegs() -> list[bytes]:
    options = {"width": SIZE, "height": SIZE, "fps": 100.0, "seed": 1, "seconds": 0.5}
    bank = open_bank(read_options("eye0", options).bank)
    images = [bank.jpeg(row) for row in range(10)]
    bank.close()
    return images


def frame(index: int, eye: int = 0, kind: str = "jpeg", **changed: Any) -> Message:
    data = jpegs()[index]
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    raw = {
        "jpeg": data,
        "gray": gray_jpeg(data).tobytes(),
        "bgr": bgr.tobytes(),
        "yuv": gray_jpeg(data).tobytes() + bytes(SIZE * SIZE),
    }[kind]
    payload = {"width": SIZE, "height": SIZE, "index": index, "timestamp": 5 + index / 100, "format": kind}
    return Message(f"frame.eye.{eye}", {**payload, **changed}, (raw,))


def status(intrinsics: object = None, device: object = "", eye: int = 0) -> Message:
    info = {"width": SIZE, "height": SIZE, "intrinsics": intrinsics}
    return Message("gazed.status", {"streams": {f"eye{eye}": {"device": device, "info": info}, "world": {}}})


def notification(subject: str, **fields: Any) -> Message:
    return Message(f"notify.pupil_detector.{subject}", {"subject": f"pupil_detector.{subject}", **fields})


def topics(context: FakeContext) -> list[str]:
    return [message.topic for message in context.published]


def test_it_keeps_the_contract_and_says_what_the_detector_says() -> None:
    context = check_plugin(PupilDetectorPlugin, {"eye": 1}, [frame(index, 1) for index in range(5)])
    assert topics(context) == ["pupil.1.2d", "pupil.1.3d"] * 5
    detector = PupilDetector(1, EyeCamera(561.47 * SIZE / 400, (SIZE, SIZE), "argument"))
    wanted = [datum for index in range(5) for datum in detector.detect(gray_jpeg(jpegs()[index]), 5 + index / 100)]
    assert [message.payload for message in context.published] == wanted


def test_other_eyes_are_not_its_business() -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {"eye": 1})
    assert context.subscriptions == {"frame.eye.1"}
    plugin.on_message(frame(0, 0))
    plugin.on_message(notification("set_enabled", value=False, eye_id=0))
    plugin.on_message(frame(0, 1))
    assert len(context.published) == 2


@pytest.mark.parametrize("kind", ["gray", "bgr", "yuv"])
def test_every_format_of_frames_is_read(kind: str) -> None:
    context = check_plugin(PupilDetectorPlugin, {}, [frame(0, kind=kind)])
    (wanted, _) = check_plugin(PupilDetectorPlugin, {}, [frame(0)]).published
    found = context.published[0].payload["ellipse"]["center"]
    assert found == pytest.approx(wanted.payload["ellipse"]["center"], abs=0.1)


def test_every_nth_frame() -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {"every_nth": 3, "detect_3d": False})
    for index in range(7):
        plugin.on_message(frame(index))
    assert [message.payload["timestamp"] for message in context.published] == [5.0, 5.03, 5.06]
    assert plugin.stats()["skipped"] == {"every_nth": 4, "unreadable": 0}
    assert plugin.stats()["detected"] == 3


def test_what_is_known_of_the_camera(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "eye0.intrinsics"
    model = {
        "camera_matrix": [[300.0, 0, 0], [0, 310.0, 0], [0, 0, 1]],
        "dist_coefs": [[0.0] * 5],
        "cam_type": "radial",
    }
    path.write_bytes(msgpack.packb({"version": 1, f"({SIZE}, {SIZE})": model}))
    for args, focal, origin in (
        ({"focal_length": 250}, 250.0, "argument"),
        ({"intrinsics": str(path)}, 305.0, "file"),
        ({"intrinsics": {**model, "resolution": [SIZE, SIZE]}}, 305.0, "stream"),
        ({"camera": "Pupil Cam3 ID0", "intrinsics": {"resolution": 3}}, 140.0, "built-in"),
        ({}, 561.47 * SIZE / 400, "assumed"),
    ):
        plugin = PupilDetectorPlugin(FakeContext(), args)
        plugin.on_message(status())
        plugin.on_message(frame(0))
        stats = plugin.stats()
        assert (stats["focal_length"], stats["camera"]) == (pytest.approx(focal), origin)
    assert caplog.text.count("focal length") == 1


def test_what_the_daemon_tells_of_the_camera(caplog: pytest.LogCaptureFixture) -> None:
    model = {"camera_matrix": [[300.0, 0, 0], [0, 310.0, 0], [0, 0, 1]], "resolution": [SIZE, SIZE]}
    plugin = PupilDetectorPlugin(FakeContext(), {"detect_3d": False})
    found = []
    for told in (
        status(),
        status(model, "Pupil Cam3 ID0"),
        status(None, "Pupil Cam3 ID0", eye=1),
        status(None, "Pupil Cam3 ID0"),
        status([], {}),
        Message("gazed.status", {"streams": {"eye0": {"device": "Pupil Cam2 ID0", "info": None}}}),
        Message("gazed.status", {"streams": 5}),
    ):
        plugin.on_message(frame(len(found)))
        plugin.on_message(told)
        plugin.on_message(frame(len(found)))
        found.append((plugin.stats()["focal_length"], plugin.stats()["camera"]))
    assumed, stream, built_in = (561.47 * SIZE / 400, "assumed"), (305.0, "stream"), (140.0, "built-in")
    assert found == [assumed, stream, stream, built_in, assumed, assumed, assumed]
    assert caplog.text.count("focal length") == 2
    assert plugin.stats()["detected"] == 14


def test_what_was_set_of_the_camera_counts_more_than_what_is_told() -> None:
    plugin = PupilDetectorPlugin(FakeContext(), {"focal_length": 250})
    plugin.on_message(status({"camera_matrix": [[3.0, 0, 0], [0, 3.0, 0], [0, 0, 1]], "resolution": [SIZE, SIZE]}))
    plugin.on_message(frame(0))
    assert plugin.stats()["focal_length"] == 250


def test_a_camera_that_comes_back_with_another_size(caplog: pytest.LogCaptureFixture) -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {"roi": [0, 0, 190, 190], "focal_length": 280})
    plugin.on_message(frame(0))
    small = cv2.resize(gray_jpeg(jpegs()[1]), (96, 96))
    payload = {"width": 96, "height": 96, "index": 1, "timestamp": 5.01, "format": "gray"}
    plugin.on_message(Message("frame.eye.0", payload, (small.tobytes(),)))
    assert len(context.published) == 4
    assert "the whole image is searched" in caplog.text
    x, y = context.published[2].payload["norm_pos"]
    assert 0.2 < x < 0.8
    assert 0.2 < y < 0.8


def test_detectors_are_switched_by_notification() -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {})

    def published(index: int) -> list[str]:
        context.published.clear()
        plugin.on_message(frame(index))
        return topics(context)

    plugin.on_message(notification("set_enabled", value=False, detector_plugin_class_name="Pye3DPlugin"))
    assert published(0) == ["pupil.0.2d"]
    plugin.on_message(notification("set_enabled", value=False, eye_id=0))
    assert context.subscriptions == set()
    assert published(1) == []
    plugin.on_message(notification("set_enabled", value=True))
    assert context.subscriptions == {"frame.eye.0"}
    assert published(2) == ["pupil.0.2d", "pupil.0.3d"]
    plugin.on_message(notification("set_enabled", value=False, detector_plugin_class_name="Detector2DPlugin"))
    assert published(3) == ["pupil.0.3d"]


def test_properties_are_set_and_told() -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {"eye": 1, "properties": {"blur_size": 3}})
    plugin.on_message(frame(0, 1))
    two, three = "Detector2DPlugin", "Pye3DPlugin"
    plugin.on_message(notification("set_properties", detector_plugin_class_name=two, values={"intensity_range": 17}))
    plugin.on_message(
        notification("set_properties", detector_plugin_class_name=three, values={"is_long_term_model_frozen": True})
    )
    plugin.on_message(notification("set_roi", value=[10, 10, 180, 180], eye_id=1))
    plugin.on_message(notification("broadcast_properties", eye_id=0))
    assert context.notified == []
    plugin.on_message(notification("broadcast_properties"))
    subjects = [told["subject"] for told in context.notified]
    assert subjects == [f"pupil_detector.properties.1.{two}", f"pupil_detector.properties.1.{three}"]
    values = context.notified[0]["values"]
    assert (values["intensity_range"], values["blur_size"], values["canny_treshold"]) == (17, 3, 160)
    assert context.notified[1]["values"] == {"is_long_term_model_frozen": True}
    assert all(0.02 < told["delay"] < 0.2 for told in context.notified)
    plugin.on_message(notification("broadcast_properties", detector_plugin_class_name=two, eye_id=1))
    assert len(context.notified) == 3
    assert plugin.stats()["refused"] == 0


def test_what_was_set_outlives_a_crash() -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {"eye": 0})
    plugin.on_message(notification("set_roi", value=[10, 10, 100, 100]))
    plugin.on_message(notification("set_enabled", detector_plugin_class_name="Pye3DPlugin", value=False))
    plugin.on_message(
        notification("set_properties", detector_plugin_class_name="Detector2DPlugin", values={"intensity_range": 30})
    )
    plugin.close()
    again = PupilDetectorPlugin(context, {"eye": 0})
    assert again._settings == plugin._settings
    assert (again._settings.roi, again._settings.detect_3d) == ((10, 10, 100, 100), False)
    again.close()


def test_the_model_is_reset_by_notification() -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {})
    plugin.on_message(notification("3d.reset_model"))

    def sphere(index: int) -> Any:
        plugin.on_message(frame(index))
        return context.published[-1].payload["sphere"]

    first = sphere(0)
    plugin.on_message(notification("3d.reset_model", id=1))
    assert sphere(8) == first
    plugin.on_message(notification("3d.reset_model", id=0))
    assert sphere(9) != first


@pytest.mark.parametrize(
    ("subject", "fields"),
    [
        ("set_enabled", {"value": 1}),
        ("set_enabled", {}),
        ("set_enabled", {"value": True, "detector_plugin_class_name": "Detector3DPlugin"}),
        ("set_enabled", {"value": True, "detector_plugin_class_name": []}),
        ("set_roi", {"value": [0, 0, 192, 10]}),
        ("set_roi", {"value": "all"}),
        ("set_properties", {"values": {"blur_size": 3}}),
        ("set_properties", {"values": 3, "detector_plugin_class_name": "Detector2DPlugin"}),
        ("set_properties", {"values": {"blur_size": 4}, "detector_plugin_class_name": "Detector2DPlugin"}),
        ("set_properties", {"values": {"blur_size": 3}, "detector_plugin_class_name": "Pye3DPlugin"}),
    ],
)
def test_wrong_notifications_change_nothing(
    subject: str, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    plugin = PupilDetectorPlugin(FakeContext(), {})
    plugin.on_message(frame(0))
    before = plugin._settings
    with caplog.at_level(logging.ERROR):
        plugin.on_message(notification(subject, **fields))
    assert "was refused" in caplog.text
    assert plugin._settings == before
    assert plugin.stats()["refused"] == 1


@pytest.mark.parametrize(
    "args",
    [
        {"eye": 10},
        {"eye": "0"},
        {"eye": True},
        {"focal_length": 0},
        {"focal_length": "280"},
        {"intrinsics": 3},
        {"intrinsics": "/nowhere/at.all"},
        {"camera": None},
        {"every_nth": 0},
        {"roi": [1]},
        {"properties": {"blur": 3}},
        {"detect3d": False},
    ],
)
def test_arguments_are_checked(args: dict[str, object]) -> None:
    with pytest.raises((PluginArgument, CameraModelError)):
        PupilDetectorPlugin(FakeContext(), args)


def test_damaged_images_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    context = FakeContext()
    plugin = PupilDetectorPlugin(context, {})
    plugin.on_message(Message("frame.eye.0", frame(0).payload, ()))
    with caplog.at_level(logging.WARNING):
        plugin.on_message(Message("frame.eye.0", frame(0).payload, (b"no picture",)))
        plugin.on_message(Message("frame.eye.0", {}, frame(0).raw))
        plugin.on_message(frame(0, width=191))
        plugin.on_message(frame(0, timestamp=float("nan")))
        plugin.on_message(frame(0, timestamp=None))
        plugin.on_message(frame(0, kind="gray", height=193))
        plugin.on_message(frame(0, kind="bgr", width=-192, height=-192))
    assert context.published == []
    assert plugin.stats()["skipped"]["unreadable"] == 8
    assert len(caplog.records) == 4  # at 1, 2, 4 and 8
    plugin.on_message(frame(0))
    assert len(context.published) == 2


@settings(max_examples=40, deadline=None)
@given(
    payload=st.dictionaries(
        st.sampled_from(["width", "height", "index", "timestamp", "format"]),
        st.none() | st.integers(-2, 9) | st.sampled_from(["jpeg", "gray", "yuv", "bgr"]) | st.lists(st.none()),
    ),
    raw=st.lists(st.binary(max_size=64), max_size=2),
)
def test_no_message_can_hurt_it(payload: dict[str, Any], raw: list[bytes]) -> None:
    plugin = PupilDetectorPlugin(FakeContext(), {"detect_3d": False})
    plugin.on_message(Message("frame.eye.0", payload, tuple(raw)))
    plugin.on_message(Message("notify.pupil_detector.set_roi", payload))
    assert plugin.stats()["detected"] + plugin.stats()["skipped"]["unreadable"] == 1
