"""Camera JPEGs in, Pupil's raw frames out."""

from __future__ import annotations

import logging

import cv2
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_bus.codec import Message, encode
from gazed_plugins.errors import PluginArgument
from gazed_plugins.frame_publisher import FramePublisher
from gazed_plugins.testing import FakeContext, check_plugin

WIDTH, HEIGHT = 50, 34
IMAGE = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (15, 15), 0)


def camera(stream: str, sampling: int | None = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422, index: int = 7) -> Message:
    image, options = IMAGE, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    if sampling is None:
        image, options = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY), []
    data = cv2.imencode(".jpg", image, [*options, cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    payload = {"width": WIDTH, "height": HEIGHT, "index": index, "timestamp": 1.5, "format": "jpeg"}
    return Message(f"camera.{stream}", payload, (data,))


def test_jpeg_needs_no_work() -> None:
    context = check_plugin(FramePublisher, {"format": "jpeg"}, [camera("world")])
    assert context.published == []


def test_the_message_is_pupils() -> None:
    context = check_plugin(FramePublisher, {"format": "gray"}, [camera("eye0")])
    (message,) = context.published
    assert message.topic == "frame.eye.0"
    assert list(message.payload.items()) == [
        ("topic", "frame.eye.0"),
        ("width", WIDTH),
        ("height", HEIGHT),
        ("index", 7),
        ("timestamp", 1.5),
        ("format", "gray"),
    ]
    assert msgpack.unpackb(encode(message.topic, message.payload)[1]) == message.payload


def test_bgr_and_gray_are_the_image() -> None:
    (bgr,) = check_plugin(FramePublisher, {"format": "bgr"}, [camera("world")]).published
    (gray,) = check_plugin(FramePublisher, {"format": "gray"}, [camera("world")]).published
    image = np.frombuffer(bgr.raw[0], np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - IMAGE).mean() < 4
    wanted = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY).astype(int)
    assert np.abs(np.frombuffer(gray.raw[0], np.uint8).reshape(HEIGHT, WIDTH) - wanted).mean() < 4


@pytest.mark.parametrize(
    ("sampling", "chroma"),
    [
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422, (HEIGHT, WIDTH // 2)),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, (HEIGHT // 2, WIDTH // 2)),
        (None, (0, 0)),
    ],
)
def test_yuv_is_planar_in_the_cameras_subsampling(sampling: int | None, chroma: tuple[int, int]) -> None:
    (message,) = check_plugin(FramePublisher, {"format": "yuv"}, [camera("world", sampling)]).published
    data = np.frombuffer(message.raw[0], np.uint8)
    pixels, colours = WIDTH * HEIGHT, chroma[0] * chroma[1]
    assert data.size == pixels + 2 * colours
    luma = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY).astype(int)
    assert np.abs(data[:pixels].reshape(HEIGHT, WIDTH) - luma).mean() < 4
    if colours:
        _, red, blue = (plane.astype(float) for plane in cv2.split(cv2.cvtColor(IMAGE, cv2.COLOR_BGR2YCrCb)))
        for plane, wanted in zip(np.split(data[pixels:], 2), (blue, red), strict=True):
            small = cv2.resize(wanted, chroma[::-1], interpolation=cv2.INTER_AREA)
            assert np.abs(plane.reshape(chroma) - small).mean() < 4


def test_gray_cameras_can_be_had_in_colour() -> None:
    payload = {"width": 2, "height": 1, "index": 0, "timestamp": 0.0, "format": "gray"}
    message = Message("camera.eye1", payload, (b"\x05\x09",))
    (bgr,) = check_plugin(FramePublisher, {"format": "bgr"}, [message]).published
    assert bgr.raw[0] == b"\x05\x05\x05\x09\x09\x09"
    (yuv,) = check_plugin(FramePublisher, {"format": "yuv"}, [message]).published
    assert yuv.raw[0] == b"\x05\x09"
    (gray,) = check_plugin(FramePublisher, {"format": "gray"}, [message]).published
    assert gray.raw[0] == b"\x05\x09"


def test_nobody_listens_nothing_is_asked_for() -> None:
    context = FakeContext(listeners=["frame.eye.1"])
    plugin = FramePublisher(context, {"format": "bgr"})
    assert context.subscriptions == set()
    plugin.on_idle()
    assert context.subscriptions == {"camera.eye1"}
    plugin.on_message(camera("eye1"))
    context.listeners = set()
    plugin.on_idle()
    assert context.subscriptions == set()
    plugin.on_message(camera("eye1"))
    assert len(context.published) == 1


def test_damaged_images_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for wanted in ("bgr", "gray", "yuv"):
        caplog.clear()
        good = camera("world")
        plugin = FramePublisher(FakeContext(), {"format": wanted})
        plugin.on_idle()
        with caplog.at_level(logging.WARNING):
            for raw in (b"", b"no picture", good.raw[0][:40]):
                plugin.on_message(Message(good.topic, good.payload, (raw,)))
            plugin.on_message(Message(good.topic, {**good.payload, "format": "bgr"}, good.raw))
            plugin.on_message(Message(good.topic, {}, good.raw))
        plugin.on_message(good)
        assert plugin.stats() == {"published": 1, "unreadable": 5}
        assert len(caplog.records) == 1


@pytest.mark.parametrize("args", [{"format": "png"}, {"format": 3}, {"formt": "bgr"}])
def test_arguments_are_checked(args: dict[str, object]) -> None:
    with pytest.raises(PluginArgument):
        FramePublisher(FakeContext(), args)


@settings(max_examples=60, deadline=None)
@given(
    payload=st.dictionaries(
        st.sampled_from(["width", "height", "index", "timestamp", "format"]),
        st.none() | st.integers(-2, 70) | st.sampled_from(["jpeg", "gray"]) | st.lists(st.none()),
    ),
    raw=st.lists(st.binary(max_size=40), max_size=2),
    wanted=st.sampled_from(["bgr", "gray", "yuv"]),
)
def test_no_message_can_hurt_it(payload: dict[str, object], raw: list[bytes], wanted: str) -> None:
    plugin = FramePublisher(FakeContext(), {"format": wanted})
    plugin.on_idle()
    plugin.on_message(Message("camera.world", payload, tuple(raw)))
    assert sum(plugin.stats().values()) == 1
