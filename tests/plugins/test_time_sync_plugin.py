"""Time_Sync in network namespaces: it keeps the context's clock and tells what it does."""

import time
from contextlib import contextmanager

import pytest

from gazed_bus.codec import Message
from gazed_plugins.errors import PluginArgument
from gazed_plugins.testing import FakeContext, check_plugin
from gazed_plugins.time_sync import TimeSync
from gazed_timesync import PupilTime
from gazed_timesync.namespace_testing import Namespace, namespaces_refused
from gazed_timesync.sync.exchange import unpack_exchanges

REFUSED = namespaces_refused()
needs_namespace = pytest.mark.skipif(bool(REFUSED), reason=REFUSED)


@pytest.fixture
def space():
    with Namespace() as space, space.entered():
        yield space


@contextmanager
def plugin(context, **args):
    made = TimeSync(context, args)
    try:
        yield made
    finally:
        made.close()


def turn_until(done, *plugins, timeout=8.0):
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline
        for each in plugins:
            each.on_idle()
        time.sleep(0.02)


@pytest.mark.parametrize(
    "args",
    [
        {"base_bias": float("nan")},
        {"base_bias": -1.0},
        {"base_bias": "high"},
        {"node_name": 5},
        {"node_name": "n" * 101},
        {"sync_group_prefix": None},
        {"interfaces": "eth0"},
        {"interfaces": [0]},
        {"may_lead": 1},
        {"compensate_pupil_followers": "yes"},
        {"no_such": 1},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_opened(args):
    with pytest.raises(PluginArgument):
        TimeSync(FakeContext(), args)


@pytest.mark.root
@needs_namespace
@pytest.mark.usefixtures("space")
def test_the_contract_of_a_plugin():
    change = Message("notify.timesync.group_should_change", {"subject": "timesync.group_should_change", "group": "x"})
    wrong = Message("notify.timesync.group_should_change", {"subject": "timesync.group_should_change", "group": 5})
    said = check_plugin(TimeSync, {"node_name": "n"}, [change, wrong])
    assert [message.topic for message in said.published] == ["timesync.status"]
    status = said.published[0].payload
    assert (status["state"], status["leader"], status["participants"]) == ("UNSYNCED", "", [])
    assert status["bound_s"] == float("inf")


@pytest.mark.root
@needs_namespace
@pytest.mark.usefixtures("space")
def test_two_daemons_share_one_clock():
    leads, follows = FakeContext(), FakeContext()
    leads.clock.jump_to(PupilTime(1000.0))
    with plugin(leads, node_name="a", base_bias=3.0) as a, plugin(follows, node_name="b") as b:
        turn_until(lambda: (a.stats()["state"], b.stats()["state"]) == ("LEADER", "LOCKED"), a, b)
        turn_until(lambda: len([m for m in follows.published if m.topic == "timesync.status"]) >= 2, a, b)
        assert abs(follows.clock.now() - leads.clock.now()) < 1e-3
        stats = b.stats()
        assert (stats["leader"], stats["participants"], stats["stepped"]) == ("a", 1, 1)
        assert stats["asked"] >= 40
        assert a.stats()["bound_s"] == 0.0
    subjects = [each["subject"] for each in follows.notified]
    assert {"timesync.state", "timesync.first", "timesync.stepped"} <= set(subjects)
    stepped = follows.notified[subjects.index("timesync.stepped")]
    assert stepped["record"] is True
    assert stepped["leader"] == "a"
    assert abs(stepped["size_s"]) > 1.0
    logged = [m.payload for m in follows.published if m.topic == "timesync.exchanges"]
    exchanges = [each for datum in logged for each in unpack_exchanges(datum["exchanges"])]
    assert len(exchanges) >= 40
    assert all(each.sound for each in exchanges)
    assert len({datum["leader"] for datum in logged}) == 1
    statuses = [m.payload for m in follows.published if m.topic == "timesync.status"]
    assert {"state", "leader", "offset_s", "skew_ppm", "bound_s", "sigma_s"} <= set(statuses[-1])
    assert [each["name"] for each in statuses[-1]["participants"]] == ["a"]
