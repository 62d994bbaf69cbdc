"""The registry of plugins, and the contract that every plugin is held against."""

from __future__ import annotations

import pytest

from gazed_bus.codec import Message
from gazed_bus.errors import MessageError
from gazed_plugins.errors import PluginArgument, UnknownPlugin
from gazed_plugins.plugin import find_plugin, plugin_names
from gazed_plugins.testing import FakeContext, check_plugin


def test_installed_plugins_are_found() -> None:
    assert "Frame_Publisher" in plugin_names()
    assert find_plugin("Frame_Publisher").__name__ == "FramePublisher"


def test_an_unknown_plugin_is_refused_with_what_is_installed() -> None:
    with pytest.raises(UnknownPlugin, match=r"'Frame_Publsher'.*Frame_Publisher") as refusal:
        find_plugin("Frame_Publsher")
    assert refusal.value.hint == "did you mean Frame_Publisher?"


class Echo:
    """Says again what it hears."""

    topics = ("pupil.",)
    gather_s = 0.0

    def __init__(self, context, args):
        if set(args) - {"gain"}:
            raise PluginArgument(f"Echo has no argument {min(set(args) - {'gain'})!r}")
        self._context = context

    def on_message(self, message):
        self._context.publish("echo", message.payload)

    def on_idle(self):
        self._context.notify({"subject": "echo.idle"})

    def stats(self):
        return {}

    def close(self):
        pass


def test_a_good_plugin_passes_and_what_it_said_comes_back() -> None:
    context = check_plugin(Echo, {"gain": 1}, [Message("pupil.0", {"x": 1}), Message("gaze", {"x": 2})])
    assert [message.payload for message in context.published] == [{"x": 1, "topic": "echo"}]
    assert len(context.notified) == 2


class NoDoc(Echo):
    __doc__ = ""


class TakesAll(Echo):
    """x"""

    def __init__(self, context, _):
        super().__init__(context, {})


class NamesNothing(Echo):
    """x"""

    def __init__(self, _, args):
        if args:
            raise PluginArgument("wrong")


class KeepsOn(Echo):
    """x"""

    def on_idle(self):
        self._context.subscribe("gaze")


class TopicList(Echo):
    """x"""

    topics = ["pupil."]  # noqa: RUF012


class Dawdler(Echo):
    """x"""

    gather_s = 0.2


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (NoDoc, "docstring"),
        (TakesAll, "refused"),
        (NamesNothing, "name it"),
        (KeepsOn, "left subscriptions"),
        (TopicList, "tuple"),
        (Dawdler, "gather_s"),
    ],
)
def test_the_contract_catches_a_plugin_that_breaks_it(kind, text: str) -> None:
    if kind is NoDoc:
        kind = type("NoDoc", (), {**vars(Echo), "__doc__": None})
    with pytest.raises(AssertionError, match=text):
        check_plugin(kind, {}, [])


def test_the_fake_context_packs_as_the_bus_does() -> None:
    context = FakeContext(listeners=["frame."])
    assert context.has_subscribers("frame.world")
    assert not context.has_subscribers("gaze")
    with pytest.raises(MessageError):
        context.publish("x", {"y": object()})
    with pytest.raises(MessageError):
        context.notify({"no": "subject"})
