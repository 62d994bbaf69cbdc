"""The one protocol that every plugin follows, and the registry of plugins.

A plugin is one file with one class, registered under the entry point group ``gazed.plugins`` and run by
``gazed_plugins.host`` in a process of its own. ``gazed_plugins.testing.check_plugin`` is the contract as a test.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from gazed_bus.codec import Message
from gazed_plugins.errors import UnknownPlugin
from gazed_timesync import PupilTime

if TYPE_CHECKING:
    from gazed_timesync.sync.node import SyncClock

__all__ = ["Plugin", "PluginContext", "find_plugin", "plugin_names"]


class PluginContext(Protocol):
    """What a plugin may ask of its process; kept by the plugin, used from its own methods only."""

    @property
    def clock(self) -> SyncClock:
        """The daemon's Pupil clock, for a plugin that keeps it to another one; any thread may use it."""

    def now(self) -> PupilTime:
        """Return the Pupil time of this instant, in seconds."""

    def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Publish a map; ``__raw_data__`` in it (a list of bytes) travels as extra frames.

        Raises:
            MessageError: the payload cannot be packed.
        """

    def notify(self, notification: Mapping[str, Any]) -> None:
        """Send a notification, which arrives for certain; it has a ``subject``.

        Raises:
            MessageError: ``subject`` is missing, or the notification cannot be packed.
        """

    def has_subscribers(self, topic: str) -> bool:
        """Tell whether anybody listens to a topic: what nobody hears need not be computed."""

    def subscribe(self, topic: str, newest: int = 0) -> None:
        """Also receive messages whose topic begins with ``topic``.

        A plugin that falls behind gets, of what waits, only so many of the ``newest`` messages of each of these topics;
        how many it was spared stands under ``behind`` in its status. 0 means all.
        """

    def unsubscribe(self, topic: str) -> None:
        """Undo ``subscribe``."""

    def wake(self) -> None:
        """Let ``on_idle`` be called at once; for a thread of the plugin's own, which is all that it may call here."""

    def remember(self, state: Mapping[str, Any]) -> None:
        """Keep what was set while it runs, in place of what was kept before; it lives as long as the daemon.

        Whoever dies is started again with the arguments that it had at first.
        """

    def remembered(self) -> dict[str, Any]:
        """Return what a process with the same plugin and arguments has kept; empty if there is nothing."""


class Plugin(Protocol):
    """Something optional that listens to the bus and speaks on it.

    Its docstring is what users read about it (``meta.should_doc``). All methods are called by one thread. An error in
    ``on_message`` or ``on_idle`` is logged and counted, and the plugin goes on; ten with no message handled in
    between end its process, and so does one in the very first ``on_idle``: it cannot begin.
    """

    topics: tuple[str, ...]
    """What it receives from the start: messages whose topic begins with one of these."""
    gather_s: float
    """How long messages may gather before it gets them, at most 0.1 s; 0 hands each over at once. What can wait
    should: it leaves the processors to what cannot."""

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        """Take the arguments of ``start_plugin`` or of the configuration.

        Opens no connection of its own yet: arguments are also tried while no daemon runs, with a context that keeps
        what is said.

        Raises:
            PluginArgument: an argument is unknown or out of range.
            GazedError: what an argument names cannot be used.
        """

    def on_message(self, message: Message) -> None:
        """Take one message."""

    def on_idle(self) -> None:
        """Do what is due without a message; called after ``wake``, and about ten times a second however many come."""

    def stats(self) -> dict[str, Any]:
        """Return counts for ``gazed status``."""

    def close(self) -> None:
        """Give everything back; called once, at the end."""


def plugin_names() -> list[str]:
    """Return the names of all installed plugins, sorted."""
    return sorted(entry.name for entry in entry_points(group="gazed.plugins"))


def find_plugin(name: str) -> type[Plugin]:
    """Return the class of a plugin by its registered name.

    Raises:
        UnknownPlugin: no plugin of that name is installed, or an optional package it needs is not.
    """
    for entry in entry_points(group="gazed.plugins"):
        if entry.name == name:
            try:
                loaded: type[Plugin] = entry.load()
            except ImportError as error:
                # The packages of ours are those of one extra; what those of others are called, only they know.
                ours = entry.value.startswith("gazed_plugins.")
                raise UnknownPlugin(
                    f"plugin {name!r} cannot be loaded: {error}",
                    hint="pip install 'gazed[detect]'" if ours else f"install what {entry.value} needs",
                ) from error
            return loaded
    near = difflib.get_close_matches(name[:100], plugin_names(), 1)
    raise UnknownPlugin(
        f"no plugin named {name!r:.100}: installed are {', '.join(plugin_names())}",
        hint=f"did you mean {near[0]}?" if near else "plugins are installed as Python packages",
    )
