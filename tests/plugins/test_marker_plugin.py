"""The plugin ``Circle_Detector``."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from gazed_bus.codec import Message
from gazed_plugins.errors import PluginArgument
from gazed_plugins.marker.plugin import CirclePlugin
from gazed_plugins.testing import FakeContext, check_plugin

WIDTH, HEIGHT = 640, 480


def scene(*, marker: bool = True) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH), 220, np.uint8)
    if marker:
        for radius, level in ((60, 10), (38, 240), (19, 10)):
            cv2.circle(image, (200, 120), radius, level, -1, cv2.LINE_AA)
    return image


def frame(t: float, image: np.ndarray, **fields: Any) -> Message:
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    body = {"width": WIDTH, "height": HEIGHT, "format": "jpeg", "timestamp": t, "index": 0, **fields}
    return Message("frame.world", {"topic": "frame.world", **body}, (jpeg,))


def test_it_says_what_it_found_in_each_image() -> None:
    context = check_plugin(CirclePlugin, {}, [frame(1.5, scene()), frame(2.5, scene(marker=False))])
    found, nothing = context.published
    assert found.topic == "marker.circle"
    assert list(found.payload) == ["topic", "timestamp", "markers", "width", "height"]
    assert (found.payload["timestamp"], found.payload["width"], found.payload["height"]) == (1.5, WIDTH, HEIGHT)
    (marker,) = found.payload["markers"]
    assert marker["kind"] == "Ref"
    assert marker["screen_pos"] == pytest.approx([200, 120], abs=0.2)
    assert marker["norm_pos"] == pytest.approx([200 / WIDTH, 1 - 120 / HEIGHT], abs=1e-3)
    assert marker["size_px"] == pytest.approx(120, abs=3)
    assert nothing.payload["markers"] == []


def test_while_nobody_listens_it_asks_for_no_image() -> None:
    assert check_plugin(CirclePlugin, {}, [frame(1.0, scene())], listeners=()).published == []
    context = FakeContext(listeners=())
    plugin = CirclePlugin(context, {})
    plugin.on_idle()
    assert context.subscriptions == set()
    context.listeners.add("marker")
    plugin.on_idle()
    assert context.subscriptions == {"frame.world"}
    context.listeners.clear()
    plugin.on_idle()
    assert context.subscriptions == set()


def test_it_looks_at_the_world_only_and_counts_what_it_cannot_read() -> None:
    context = FakeContext()
    plugin = CirclePlugin(context, {})
    plugin.on_idle()
    good = frame(1.0, scene())
    plugin.on_message(Message("frame.world2", good.payload, good.raw))
    for bad in (
        frame(1.0, scene(), format="png"),
        frame(float("nan"), scene()),
        Message("frame.world", {"topic": "x"}),
    ):
        plugin.on_message(bad)
    assert context.published == []
    assert plugin.stats() == {"frames": 3, "unreadable": 3, "found": 0, "ms_p50": 0}
    plugin.on_message(good)
    assert plugin.stats()["found"] == 1


def test_it_takes_no_arguments() -> None:
    with pytest.raises(PluginArgument, match="scale"):
        CirclePlugin(FakeContext(), {"scale": 2})
