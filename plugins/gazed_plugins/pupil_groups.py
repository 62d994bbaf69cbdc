"""``Pupil_Groups``: notifications to and from other Pupil programs on the network."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from uuid import UUID

import msgpack

from gazed_bus.codec import Message
from gazed_bus.errors import MessageError
from gazed_plugins.arguments import is_number, read_names, read_text, refuse_unknown, shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.plugin import PluginContext
from gazed_timesync.errors import ZreMalformed
from gazed_timesync.zre.codec import MAX_FRAME
from gazed_timesync.zre.node import ZreNode
from gazed_timesync.zre.session import ZreEvent, ZrePeer

__all__ = ["PupilGroups"]

_REMOTE = "remote_notify."
_NAME, _GROUP, _PING = (
    "notify.groups.name_should_change",
    "notify.groups.active_group_should_change",
    "notify.groups.ping",
)
_MOST_WAITING, _EVENT_BYTES = 1 << 24, 1000
_log = logging.getLogger(__name__)


class PupilGroups:
    """Passes notifications between the programs of a Pupil Group: Pupil Capture, Pupil Service, other gazed daemons.

    A notification with ``remote_notify`` = "all" goes to the whole group, one with the uuid (16 bytes, or text) of a
    member to that member; it does not act here. What others send acts here like any notification, with
    ``groups.peer`` telling from whom it is: whoever is in the network can so start and stop recordings.

    Arguments: ``name`` ("Unnamed Group Member"), ``active_group`` ("pupil-groups"), ``interfaces`` (names of network
    interfaces; all, if empty). Notifies ``groups.member_joined`` and ``groups.member_left`` (``name``,
    ``uuid_bytes``). Obeys ``groups.name_should_change`` (``name``), ``groups.active_group_should_change`` (``name``)
    and answers ``groups.ping`` with ``groups.pong``.
    """

    topics: tuple[str, ...] = (_REMOTE, _NAME, _GROUP, _PING)
    gather_s = 0.0

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        refuse_unknown("Pupil_Groups", "argument", args, ("name", "active_group", "interfaces"))
        self._context = context
        now = {**args, **context.remembered()}
        self._name = read_text("Pupil_Groups", now, "name", "Unnamed Group Member", least=1)
        self._group = read_text("Pupil_Groups", now, "active_group", "pupil-groups", least=1)
        self._interfaces = read_names("Pupil_Groups", args, "interfaces")
        self._sent = self._received = self._refused = self._overrun = 0
        self._members: dict[UUID, ZrePeer] = {}
        self._events: deque[ZreEvent] = deque()
        self._came = self._done = 0

    @cached_property
    def _node(self) -> ZreNode:
        """This member, who joins when it is first needed."""
        node = ZreNode(
            self._name,
            self._hear,
            groups=[self._group],
            headers={"app_type": "gazed"},
            interfaces=self._interfaces,
        )
        node.start()
        return node

    def _hear(self, event: ZreEvent) -> None:
        """Take what a peer did, in the thread of the node."""
        size = _EVENT_BYTES + sum(map(len, event.content))
        if event.content and self._came + size - self._done > _MOST_WAITING:
            self._overrun += 1
        else:
            self._came += size
            self._events.append(event)
            self._context.wake()

    def on_message(self, message: Message) -> None:
        """Pass a notification on to the group, or change what this member is called or where it is."""
        try:
            if message.topic.startswith(_REMOTE):
                self._send(message.payload)
            elif message.topic == _PING:
                self._answer_ping(message.payload)
            else:
                self._change(message.topic, read_text("Pupil_Groups", message.payload, "name", "", least=1))
        except (PluginArgument, MessageError, ZreMalformed) as error:
            _log.warning("%s: %s", message.topic, error.message)
            self._refused += 1

    def _change(self, topic: str, name: str) -> None:
        self._leave()
        if topic == _NAME:
            self._name = name
        else:
            self._group = name
        self._context.remember({"name": self._name, "active_group": self._group})

    def _send(self, payload: Mapping[str, Any]) -> None:
        target = payload.get("remote_notify")
        packed = msgpack.packb({key: value for key, value in payload.items() if key != "remote_notify"})
        if len(packed) > MAX_FRAME:
            raise MessageError(f"{shown(payload.get('subject'))}: {len(packed)} bytes are too much for a group")
        if target == "all":
            self._node.shout(self._group, packed)
        else:
            self._node.whisper(_uuid(target), packed)
        self._sent += 1

    def _answer_ping(self, payload: Mapping[str, Any]) -> None:
        peer = payload.get("groups.peer")
        if isinstance(peer, Mapping) and is_number(payload.get("t1")):
            pong = {"subject": "groups.pong", "t1": payload["t1"], "t2": self._context.now()}
            self._send({**pong, "topic": "notify.groups.pong", "remote_notify": peer.get("uuid_bytes")})

    def on_idle(self) -> None:
        """Do what the group says."""
        self._node.check()
        for _ in range(len(self._events)):
            event = self._events.popleft()
            self._done += _EVENT_BYTES + sum(map(len, event.content))
            uuid = event.peer.uuid
            if event.kind == "join" and event.group == self._group:
                self._members[uuid] = event.peer
                self._tell("member_joined", event.peer)
            elif event.kind == "exit" or (event.kind == "leave" and event.group == self._group):
                if self._members.pop(uuid, None):
                    self._tell("member_left", event.peer)
            elif event.kind == "whisper" or (event.kind == "shout" and event.group == self._group):
                for frame in event.content:
                    self._act(frame, event)

    def _tell(self, what: str, peer: ZrePeer) -> None:
        self._context.notify({"subject": f"groups.{what}", "name": peer.name, "uuid_bytes": peer.uuid.bytes})

    def _act(self, frame: bytes, event: ZreEvent) -> None:
        peer = {
            "uuid_bytes": event.peer.uuid.bytes,
            "name": event.peer.name,
            "arrival_timestamp": self._context.now(),
            "type": event.kind.upper(),
        }
        try:
            notification = msgpack.unpackb(frame)
            if not isinstance(notification, dict):
                raise MessageError("a notification is a map")
            # Sent on by each, it would go round for ever.
            notification.pop("remote_notify", None)
            self._context.notify({**notification, "groups.peer": peer})
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException, MessageError):
            self._refused += 1
        else:
            self._received += 1

    def stats(self) -> dict[str, Any]:
        """Return who is there, and how many notifications went out, came in, were none, or came too fast."""
        members = sorted(peer.name for peer in self._members.values())
        counts = {"sent": self._sent, "received": self._received, "refused": self._refused, "overrun": self._overrun}
        return {"members": members, **counts}

    def _leave(self) -> None:
        self.close()
        vars(self).pop("_node", None)
        for peer in self._members.values():
            self._tell("member_left", peer)
        self._members.clear()
        self._events.clear()
        self._came = self._done = 0

    def close(self) -> None:
        """Leave the group."""
        if "_node" in vars(self):
            self._node.close()


def _uuid(target: object) -> UUID:
    try:
        if isinstance(target, bytes):
            return UUID(bytes=target)
        if isinstance(target, str):
            return UUID(target)
    except ValueError:
        pass
    raise ZreMalformed(f'remote_notify is "all", or the uuid of a member, got {shown(target)}')
