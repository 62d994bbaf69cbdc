"""``Time_Sync``: the daemon's clock is shared with others on the network."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any
from uuid import UUID

from gazed_bus.codec import Message
from gazed_plugins.arguments import read_names, read_numbers, read_text, shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.plugin import PluginContext
from gazed_timesync.sync.discipline import SyncEvent
from gazed_timesync.sync.exchange import Exchange, pack_exchanges
from gazed_timesync.sync.node import TimeSyncNode

__all__ = ["TimeSync"]

_CHANGE_GROUP = "notify.timesync.group_should_change"
_STATUS, _EXCHANGES = "timesync.status", "timesync.exchanges"
_STATUS_S = 1.0
_MOST_WAITING = 10_000
_SWITCHES = {"may_lead": True, "compensate_pupil_followers": False}
_SAID = {
    "state": "%(state)s, leader: %(leader)s",
    "first": "the clock of %(leader)s is %(size)+.6f s from this one",
    "stepped": "the clock jumped by %(size)+.6f s, to that of %(leader)s",
    "leader-stepped": "the clock of %(leader)s jumped",
    "rate-bent": "the clock of %(leader)s, or this machine's, runs at another rate",
    "refused": "the clock of %(leader)s is %(size)+.6f s from this one, which will not jump while a recording runs",
}
_log = logging.getLogger(__name__)


class TimeSync:
    """Shares the daemon's clock with other programs on the network, by Pupil Time Sync.

    The participant with the highest rank leads, and the clocks of the others are kept to its clock. Arguments:
    ``node_name`` (the host's name, if not given), ``sync_group_prefix`` ("default"), ``base_bias`` (1.0; the highest
    leads), ``may_lead`` (true), ``interfaces`` (names of network interfaces; all, if empty),
    ``compensate_pupil_followers`` (false; true sets followers that are Pupil Capture right, which are a round trip
    ahead otherwise, and others wrong).

    Publishes each second ``timesync.status``: ``state`` (UNSYNCED, ACQUIRING, LOCKED, HOLDOVER, LEADER), ``leader``,
    ``offset_s`` (still to be made good), ``skew_ppm``, ``bound_s`` (the clock is not off by more), ``sigma_s`` and the
    ``participants``; and ``timesync.exchanges``, every question to the leader with its answer, for the recording.

    Notifies, to be recorded, what happens to the clock: ``timesync.stepped`` (by ``size_s``), ``timesync.refused`` (it
    ought to step, but a recording runs), ``timesync.state``, ``timesync.first``, ``timesync.leader_stepped``,
    ``timesync.rate_bent``. Obeys ``timesync.group_should_change`` (``group``).
    """

    topics: tuple[str, ...] = (_CHANGE_GROUP,)
    gather_s = 0.0

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        others = ("node_name", "sync_group_prefix", "interfaces", *_SWITCHES)
        bias = read_numbers("Time_Sync", args, {"base_bias": (1.0, 0.0, 1e6)}, *others)["base_bias"]
        may_lead, compensate = (args.get(name, default) for name, default in _SWITCHES.items())
        for name in _SWITCHES:
            if not isinstance(args.get(name, False), bool):
                raise PluginArgument(f"Time_Sync: {name} is true or false, got {shown(args[name])}")
        self._context = context
        self._events: deque[SyncEvent] = deque(maxlen=_MOST_WAITING)
        self._exchanges: deque[tuple[UUID, Sequence[Exchange]]] = deque(maxlen=_MOST_WAITING)
        self._stepped = self._asked = 0
        self._status_at = 0.0
        self._make_node = partial(
            TimeSyncNode,
            context.clock,
            group=context.remembered().get("group") or read_text("Time_Sync", args, "sync_group_prefix", "default"),
            name=read_text("Time_Sync", args, "node_name", ""),
            bias=bias,
            may_lead=may_lead,
            compensate=compensate,
            interfaces=read_names("Time_Sync", args, "interfaces"),
            on_events=self._events.extend,
            on_exchanges=lambda leader, exchanges: self._exchanges.append((leader, exchanges)),
        )

    @cached_property
    def _node(self) -> TimeSyncNode:
        """The participant, who begins when it is first needed."""
        node = self._make_node()
        node.start()
        return node

    def on_message(self, message: Message) -> None:
        """Go over to another group."""
        try:
            group = read_text("Time_Sync", message.payload, "group", "default")
        except PluginArgument as error:
            _log.warning("%s: %s", message.topic, error.message)
            return
        self._context.remember({"group": group})
        self._node.change_group(group)

    def on_idle(self) -> None:
        """Tell what has happened since."""
        self._node.check()
        while self._events:
            self._tell(self._events.popleft())
        while self._exchanges:
            leader, exchanges = self._exchanges.popleft()
            self._asked += len(exchanges)
            datum = {"leader": str(leader), "exchanges": pack_exchanges(exchanges)}
            self._context.publish(_EXCHANGES, {"timestamp": self._context.now(), **datum})
        now = time.monotonic()
        if now >= self._status_at:
            self._status_at = now + _STATUS_S
            others = [asdict(participant) for participant in self._node.participants]
            self._context.publish(_STATUS, {"timestamp": self._context.now(), **self._status(), "participants": others})

    def _tell(self, event: SyncEvent) -> None:
        self._stepped += event.kind == "stepped"
        leader = self._node.status().leader
        level = logging.WARNING if event.kind == "refused" else logging.INFO
        said = {"state": event.state.value, "leader": leader or "none", "size": event.size_s}
        _log.log(level, _SAID[event.kind], said)
        fields = {"state": event.state.value, "size_s": event.size_s, "host_ns": event.host}
        subject = f"timesync.{event.kind.replace('-', '_')}"
        self._context.notify({"subject": subject, "leader": leader, "record": True, **fields})

    def _status(self) -> dict[str, Any]:
        status = self._node.status()
        return {**asdict(status), "state": status.state.value}

    def stats(self) -> dict[str, Any]:
        """Return how the clock stands to the leader's, and how many questions were asked and jumps made."""
        # JSON, by which stats travel, has no infinity.
        known = {name: value for name, value in self._status().items() if value != math.inf}
        participants = len(self._node.participants)
        return {**known, "participants": participants, "asked": self._asked, "stepped": self._stepped}

    def close(self) -> None:
        """Leave the group."""
        if "_node" in vars(self):
            self._node.close()
