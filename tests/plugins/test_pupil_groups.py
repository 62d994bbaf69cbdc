"""Pupil_Groups in a network namespace: notifications between members, and what is none."""

import time
from contextlib import ExitStack

import msgpack
import pytest

from gazed_bus.codec import Message
from gazed_plugins.errors import PluginArgument
from gazed_plugins.pupil_groups import PupilGroups
from gazed_plugins.testing import FakeContext, check_plugin
from gazed_timesync import PupilTime
from gazed_timesync.namespace_testing import Namespace, namespaces_refused
from gazed_timesync.zre.node import ZreNode

REFUSED = namespaces_refused()
needs_namespace = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)


class Member:
    def __init__(self, name, **args):
        self.context = FakeContext()
        self.context.time = PupilTime(12.5)
        self.plugin = PupilGroups(self.context, {"name": name, **args})

    def told(self, subject):
        return [each for each in self.context.notified if each["subject"] == subject]

    def notify(self, notification):
        topic = f"remote_notify.{notification['subject']}" if "remote_notify" in notification else None
        topic = topic or f"notify.{notification['subject']}"
        self.plugin.on_message(Message(topic, {**notification, "topic": topic}))

    @property
    def uuid(self):
        return self.plugin._node.uuid


@pytest.fixture
def group():
    with Namespace() as space, space.entered(), ExitStack() as made:

        def join(*names, **args):
            members = [Member(name, **args) for name in names]
            for member in members:
                made.callback(member.plugin.close)
            return members

        yield join


def until(done, *members, timeout=8.0):
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline
        for member in members:
            member.plugin.on_idle()
        time.sleep(0.01)


@pytest.mark.parametrize(
    "args",
    [{"name": ""}, {"name": 5}, {"name": "\u00e9" * 60}, {"active_group": "g" * 101}, {"interfaces": "x"}, {"no": 1}],
)
def test_wrong_arguments_are_refused(args):
    with pytest.raises(PluginArgument):
        PupilGroups(FakeContext(), args)


@pytest.mark.root
@needs_namespace
class TestGroup:
    @pytest.mark.usefixtures("group")
    def test_the_contract_of_a_plugin(self):
        check_plugin(
            PupilGroups,
            {},
            [
                Message("remote_notify.x", {"subject": "x", "remote_notify": "all"}),
                Message("remote_notify.x", {"subject": "x", "remote_notify": b"short"}),
                Message("remote_notify.x", {"subject": "x", "remote_notify": 7, "big": bytes(300_000)}),
                Message("notify.groups.name_should_change", {"subject": "groups.name_should_change"}),
                Message("notify.groups.ping", {"subject": "groups.ping", "t1": 1.0, "groups.peer": {}}),
            ],
        )

    def test_to_all_and_to_one(self, group):
        a, b, c = members = group("a", "b", "c")
        until(lambda: all(len(each.plugin.stats()["members"]) == 2 for each in members), *members)
        assert {each["name"] for each in a.told("groups.member_joined")} == {"b", "c"}
        a.notify({"subject": "recording.should_start", "remote_notify": "all", "session_name": "s"})
        until(lambda: b.told("recording.should_start") and c.told("recording.should_start"), *members)
        (started,) = b.told("recording.should_start")
        assert started["session_name"] == "s"
        assert "remote_notify" not in started
        assert started["groups.peer"] == {
            "uuid_bytes": a.uuid.bytes,
            "name": "a",
            "arrival_timestamp": 12.5,
            "type": "SHOUT",
        }
        assert a.told("recording.should_start") == []
        a.notify({"subject": "only", "remote_notify": c.uuid.bytes})
        a.notify({"subject": "also", "remote_notify": str(c.uuid)})
        until(lambda: c.told("also"), *members)
        assert c.told("only")[0]["groups.peer"]["type"] == "WHISPER"
        assert b.told("only") == []
        b.plugin.close()
        until(lambda: a.told("groups.member_left"), a, c)
        assert a.told("groups.member_left")[0]["uuid_bytes"] == b.uuid.bytes

    def test_a_ping_is_answered(self, group):
        a, b = members = group("a", "b")
        until(lambda: all(each.plugin.stats()["members"] for each in members), *members)
        b.context.woken.clear()
        a.notify({"subject": "groups.ping", "t1": 3.25, "remote_notify": "all"})
        assert b.context.woken.wait(5)
        until(lambda: b.told("groups.ping"), *members)
        b.notify(b.told("groups.ping")[0])
        until(lambda: a.told("groups.pong"), *members)
        pong = a.told("groups.pong")[0]
        assert (pong["t1"], pong["t2"], pong["groups.peer"]["name"]) == (3.25, 12.5, "b")

    def test_name_and_group_change(self, group):
        a, b = members = group("a", "b")
        until(lambda: all(each.plugin.stats()["members"] for each in members), *members)
        b.notify({"subject": "groups.name_should_change", "name": "bee"})
        until(lambda: a.plugin.stats()["members"] == ["bee"], *members)
        b.notify({"subject": "groups.active_group_should_change", "name": "elsewhere"})
        until(lambda: a.plugin.stats()["members"] == [], *members)
        a.notify({"subject": "x", "remote_notify": "all"})
        a.notify({"subject": "groups.active_group_should_change", "name": "elsewhere"})
        until(lambda: b.plugin.stats()["members"] == ["a"], *members)
        assert b.told("x") == []
        assert b.context.remembered() == {"name": "bee", "active_group": "elsewhere"}

    def test_garbage_is_counted_and_does_nothing(self, group):
        (a,) = group("a")
        deep = b"\x91" * 5000 + b"\xc0"
        nested = msgpack.packb({"subject": "x", "deep": 0})[:-1] + deep
        wrong = [b"", b"\xc1", b"text", msgpack.packb([1]), msgpack.packb({"no": "subject"}), nested]
        wrong += [msgpack.packb({"subject": 5}), msgpack.packb({5: 6, "subject": "x"}), msgpack.packb({"subject": ""})]
        with ZreNode("mad", lambda _: None, groups=["pupil-groups"]) as mad:
            until(lambda: a.plugin.stats()["members"] == ["mad"] and mad.peers, a)
            mad.shout("pupil-groups", *wrong)
            mad.whisper(a.uuid, *wrong)
            mad.whisper(a.uuid, msgpack.packb({"subject": "fine", "remote_notify": "all"}))
            until(lambda: a.told("fine"), a)
            assert a.plugin.stats()["refused"] == 2 * len(wrong)
            assert "remote_notify" not in a.told("fine")[0]
        until(lambda: a.told("groups.member_left"), a)
        assert {each["subject"] for each in a.context.notified} == {
            "groups.member_joined",
            "groups.member_left",
            "fine",
        }
