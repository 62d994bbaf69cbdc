"""Participants in Pupil Time Sync in network namespaces: who leads, who follows, what happens when one goes."""

import struct
import threading
import time
from contextlib import ExitStack

import pytest

from gazed_timesync import HostNs, Leader, LocalClock, PupilTime, SyncState, host_now
from gazed_timesync.errors import ZreMalformed
from gazed_timesync.namespace_testing import Cable, Namespace, namespaces_refused
from gazed_timesync.sync.election import group_name
from gazed_timesync.sync.node import TimeSyncNode
from gazed_timesync.zre.node import ZreNode

REFUSED = namespaces_refused()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(REFUSED), reason=REFUSED)]
LEADER, LOCKED, HOLDOVER, UNSYNCED = SyncState.LEADER, SyncState.LOCKED, SyncState.HOLDOVER, SyncState.UNSYNCED


class Member:
    """A node with a clock of its own that begins at some time."""

    def __init__(self, space, name, start_s, **options):
        self.name, self.clock = name, LocalClock()
        self.clock.jump_to(PupilTime(start_s))
        self.events, self._news = [], threading.Condition()
        with space.entered():
            self.node = TimeSyncNode(self.clock, name=name, on_events=self._take, **options)
            self.node.start()

    def _take(self, events):
        with self._news:
            self.events += events
            self._news.notify_all()

    @property
    def state(self):
        return self.node.status().state

    def wait(self, state, timeout=10.0, leader=None):
        """Wait for a state; return how long it took."""
        began = time.monotonic()

        def there():
            status = self.node.status()
            return status.state is state and leader in (None, status.leader)

        with self._news:
            while not there():
                left = began + timeout - time.monotonic()
                assert left > 0, f"{self.name}: {self.node.status()}"
                self._news.wait(min(left, 0.02))
        return time.monotonic() - began

    def kill(self):
        """End without a goodbye, as a process that is killed does."""
        self.node._zre._links.send = lambda _: None
        self.node.close()


def apart(a, b):
    """How far one clock is ahead of another at the same instant, in seconds."""
    now = HostNs(host_now() + 1)
    return a.clock.to_pupil(now) - b.clock.to_pupil(now)


def agree(leader, *followers):
    for follower in followers:
        before = follower.node.status().bound_s
        off = abs(apart(leader, follower))
        assert off <= max(before, follower.node.status().bound_s) + 1e-6


@pytest.fixture
def space():
    with Namespace() as space:
        yield space


@pytest.fixture
def lan():
    with Namespace() as near, Namespace() as far:
        yield near, far, Cable(near, "10.7.0.1/24", far, "10.7.0.2/24")


@pytest.fixture
def member():
    with ExitStack() as made:

        def make(*args, **options):
            member = Member(*args, **options)
            made.callback(member.node.close)
            return member

        yield make


def test_one_leads_and_the_others_follow(lan, member):
    near, far, _ = lan
    a, b, c = member(near, "a", 1000.0, bias=3.0), member(far, "b", 2000.0), member(far, "c", 3000.0)
    assert b.wait(LOCKED, leader="a") < 2
    c.wait(LOCKED, leader="a")
    a.wait(LEADER)
    assert 1000 < a.clock.now() < 1010
    agree(a, b, c)
    assert b.node.status().bound_s < 0.01
    assert {each.name: each.ours for each in a.node.participants} == {"b": True, "c": True}
    assert [each.name for each in b.node.participants if each.leads] == ["a"]


def test_alone_it_leads_and_who_may_not_lead_stays_unsynced(space, member):
    a = member(space, "a", 1000.0, may_lead=False)
    b = member(space, "b", 2000.0, group="other")
    assert 2 < b.wait(LEADER) < 4
    assert a.state is UNSYNCED
    assert a.events == []


def test_a_leader_that_says_goodbye_is_followed_by_another(space, member):
    a, b = member(space, "a", 1000.0, bias=3.0), member(space, "b", 2000.0)
    b.wait(LOCKED)
    a.wait(LEADER)
    a.node.close()
    assert b.wait(LEADER) < 3
    assert abs(apart(a, b)) < 1e-3


def test_a_leader_that_is_killed_is_replaced_within_six_seconds(lan, member):
    near, far, _ = lan
    a, b, c = member(near, "a", 1000.0, bias=5.0), member(far, "b", 2000.0, bias=3.0), member(far, "c", 3000.0)
    b.wait(LOCKED), c.wait(LOCKED, leader="a"), a.wait(LEADER)
    steps = c.clock.steps, b.clock.steps
    a.kill()
    killed = time.monotonic()
    b.wait(LEADER)
    c.wait(LOCKED, leader="b")
    assert time.monotonic() - killed < 6
    assert [event.state for event in b.events if event.kind == "state"][-2:] == [HOLDOVER, LEADER]
    agree(b, c)
    assert abs(apart(a, b)) < 1e-3
    assert (c.clock.steps, b.clock.steps) == steps


def test_a_cable_pulled_for_three_seconds(lan, member):
    near, far, cable = lan
    a, b = member(near, "a", 1000.0, bias=3.0), member(far, "b", 2000.0)
    b.wait(LOCKED), a.wait(LEADER)
    steps = b.clock.steps
    cable.unplug()
    threading.Event().wait(3)
    cable.plug()
    assert b.wait(LOCKED) < 3
    agree(a, b)
    assert b.clock.steps == steps


def test_a_leader_that_answers_early_for_pupil_is_followed_by_datagrams(space, member):
    a, b = member(space, "a", 1000.0, bias=3.0, compensate=True), member(space, "b", 2000.0)
    b.wait(LOCKED)
    agree(a, b)
    assert a.node._leader.connections == 0
    assert a.node._leader.answered >= 8


@pytest.mark.slow
def test_a_cable_pulled_for_longer_brings_two_leaders_and_then_the_old_one(lan, member):
    near, far, cable = lan
    a, b = member(near, "a", 1000.0, bias=3.0), member(far, "b", 2000.0)
    b.wait(LOCKED), a.wait(LEADER)
    cable.unplug()
    assert b.wait(LEADER) < 7
    assert a.state is LEADER
    cable.plug()
    assert b.wait(LOCKED, leader="a") < 3
    assert a.state is LEADER
    assert not b.node._election.has_led


def test_to_another_group_and_back(space, member):
    a, b, c = member(space, "a", 1000.0, bias=3.0), member(space, "b", 2000.0), member(space, "c", 9.0, group="x")
    b.wait(LOCKED), a.wait(LEADER), c.wait(LEADER)
    b.node.change_group("x")
    b.node.change_group("x")
    assert b.wait(LOCKED, leader="c") < 2
    agree(c, b)
    b.node.change_group("default")
    assert b.wait(LOCKED, leader="a") < 2
    agree(a, b)


def test_a_leader_that_was_silent_but_is_well_is_asked_again(space, member, monkeypatch):
    monkeypatch.setattr("gazed_timesync.sync.node._ASK_AGAIN_S", 0.5)
    a, b = member(space, "a", 1000.0, bias=3.0), member(space, "b", 2000.0)
    b.wait(LOCKED), a.wait(LEADER)
    b.node._answered_s -= 60.0
    b.wait(LEADER)
    assert b.wait(LOCKED, leader="a") < 3
    agree(a, b)


def test_who_never_leads_has_no_port_open_and_a_wrong_group_changes_nothing(space, member):
    member(space, "a", 1000.0, bias=3.0)
    b = member(space, "b", 2000.0, may_lead=False)
    b.wait(LOCKED, leader="a")
    assert b.node._leader is None
    with pytest.raises(ZreMalformed):
        b.node.change_group("\u00e9" * 130)
    with pytest.raises(ZreMalformed), space.entered():
        TimeSyncNode(LocalClock(), group="g" * 250)
    assert b.state is LOCKED


def test_of_equal_ranks_all_choose_the_same(space, member, monkeypatch):
    monkeypatch.setattr("gazed_timesync.sync.election.random.random", lambda: 0.5)
    members = [member(space, name, start) for name, start in (("a", 1000.0), ("b", 2000.0), ("c", 3000.0))]
    highest = max(members, key=lambda each: each.node._zre.uuid.int)
    for each in members:
        if each is not highest:
            each.wait(LOCKED, leader=highest.name)
    highest.wait(LEADER)
    agree(highest, *members)


def test_a_held_clock_does_not_jump_for_a_leader_that_lies_by_hours(space, member):
    honest, b = member(space, "honest", 1000.0, bias=2.0), member(space, "b", 1000.0)
    b.wait(LOCKED)
    b.clock.hold(), honest.clock.hold()
    before = b.clock.steps
    liar = member(space, "liar", 1000.0 + 7200, bias=9.0)
    b.wait(SyncState.ACQUIRING, leader="liar")
    with b._news:
        assert b._news.wait_for(lambda: any(event.kind == "refused" for event in b.events), 5)
    reads = [b.clock.now() for _ in range(2000)]
    assert reads == sorted(reads)
    assert b.clock.steps == before
    assert abs(b.clock.rate) < 1e-3
    assert b.node.status().bound_s > 7000
    liar.node.close()
    b.wait(LOCKED, leader="honest")
    b.clock.release()
    agree(honest, b)


def test_garbage_in_the_group_changes_nothing(space, member):
    a, b = member(space, "a", 1000.0, bias=3.0), member(space, "b", 2000.0)
    b.wait(LOCKED)
    with space.entered():
        node = ZreNode("mad", lambda _: None, groups=[group_name("default")])
        with node:
            deadline = time.monotonic() + 5
            while len(node.peers) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            wrong = [b"nan", b"inf", b"-1e999", b"", b"\xff", b"1e300000", b"9" * 5000, struct.pack("<d", 9.9)]
            for rank in wrong:
                for port in (*wrong, b"0", b"-1", b"65536", b"1e4"):
                    node.shout(group_name("default"), rank, port)
                    node.shout(group_name("default"), b"1e6", port)
            node.shout(group_name("default"), b"1e6")
            node.shout(group_name("default"), b"1e6", b"1", b"2")
            said = len(wrong) * (2 * len(wrong) + 8) + 2
            deadline = time.monotonic() + 5
            while b.node.refused < said and time.monotonic() < deadline:
                time.sleep(0.01)
            # One that is well formed, of somebody whose port is closed: nobody answers there.
            node.shout(group_name("default"), b"1000.0", b"1")
    assert b.wait(LOCKED, leader="a") < 5
    agree(a, b)
    assert b.node.refused == said


def test_a_leader_of_pupils_kind_is_followed_over_tcp(lan, member):
    near, far, _ = lan
    a = member(near, "a", 1000.0)
    with far.entered():
        clock = LocalClock()
        clock.jump_to(PupilTime(5000.0))
        with Leader(clock, "") as service:
            with ZreNode("capture", lambda _: None, groups=[group_name("default")]) as node:
                deadline = time.monotonic() + 5
                while not node.peers and time.monotonic() < deadline:
                    time.sleep(0.01)
                node.shout(group_name("default"), b"6.5", repr(service.port).encode())
                a.wait(LOCKED, leader="capture")
                assert abs(a.clock.now() - clock.now()) < 0.01
                assert service.connections == 1
                assert [each.ours for each in a.node.participants] == [False]
