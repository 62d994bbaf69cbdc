"""A follower and a leader over real sockets."""

import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest

from gazed_timesync import ClockError, Discipline, Follower, Leader, LocalClock, PupilTime, SyncState, host_now


def ahead(seconds):
    clock = LocalClock()
    clock.jump_to(PupilTime(seconds))
    return clock


def until(condition, timeout_s=5.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def difference(clock, other):
    host = host_now()
    return abs(clock.to_pupil(host) - other.to_pupil(host))


@pytest.mark.parametrize("datagrams", [False, True])
def test_a_clock_comes_to_its_leader_within_the_bound_stated(datagrams):
    leads, clock, exchanges, events = ahead(5000.0), LocalClock(), [], []
    with (
        Leader(leads) as leader,
        Follower(
            Discipline(clock),
            "127.0.0.1",
            leader.port,
            udp_port=leader.udp_port if datagrams else None,
            name="a leader",
            on_exchanges=exchanges.extend,
            on_events=events.extend,
        ) as follower,
    ):
        assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
        until(lambda: len(exchanges) >= 40)
        status = follower.status()
        assert (status.state, status.leader) == (SyncState.LOCKED, "a leader")
        assert difference(clock, leads) <= status.bound_s < 0.05
        assert status.sigma_s < status.bound_s
        assert leader.connections == (0 if datagrams else 1)
    assert [event.kind for event in events[:3]] == ["state", "first", "stepped"]
    assert all(exchange.sound for exchange in exchanges)
    assert follower.status().state is SyncState.HOLDOVER


@pytest.mark.parametrize("datagrams", [False, True])
def test_a_leader_that_jumps_is_followed(datagrams):
    leads, clock = ahead(5000.0), LocalClock()
    with Leader(leads) as leader:
        port = leader.udp_port if datagrams else None
        with Follower(Discipline(clock), "127.0.0.1", leader.port, udp_port=port) as follower:
            assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
            leads.jump_to(PupilTime(100.0))
            until(lambda: difference(clock, leads) < 0.05)
            assert clock.steps == 2


def test_where_datagrams_do_not_come_through_it_asks_over_tcp():
    clock = LocalClock()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with (
            Leader(ahead(70.0)) as leader,
            Follower(Discipline(clock), "127.0.0.1", leader.port, udp_port=silent.getsockname()[1]) as follower,
        ):
            assert follower.wait_for(SyncState.LOCKED, timeout_s=5)


def test_a_leader_that_compensates_is_asked_by_datagrams_only():
    leads, clock = ahead(70.0), LocalClock()
    with (
        Leader(leads, compensate=True) as leader,
        Follower(Discipline(clock), "127.0.0.1", None, udp_port=leader.udp_port) as follower,
    ):
        assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
        assert difference(clock, leads) <= follower.status().bound_s
        assert leader.connections == 0
    with pytest.raises(ClockError, match="no port"):
        Follower(Discipline(clock), "127.0.0.1", None)


def test_a_leader_that_comes_late_and_comes_back_is_found():
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    leads, clock = ahead(5000.0), LocalClock()
    with Follower(Discipline(clock), "127.0.0.1", port) as follower:
        assert follower.status().bound_s == float("inf")
        with Leader(leads, port=port):
            assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
        assert follower.wait_for(SyncState.HOLDOVER, timeout_s=6)
        assert difference(clock, leads) <= follower.status().bound_s
        with Leader(leads, port=port):
            assert follower.wait_for(SyncState.LOCKED, timeout_s=6)
        assert clock.steps == 1


@pytest.mark.parametrize("ports", [(70000, None), (0, None), (None, -1)])
def test_what_is_no_port_is_refused(ports):
    with pytest.raises(ClockError, match="no port"):
        Follower(Discipline(LocalClock()), "127.0.0.1", ports[0], udp_port=ports[1])


def test_a_name_that_is_none_is_as_a_leader_that_does_not_answer():
    with Follower(Discipline(LocalClock()), "a..b", 5) as follower:
        assert not follower.wait_for(SyncState.LOCKED, timeout_s=0.15)
        follower.check()
    with pytest.raises(ClockError, match="ended"):
        follower.check()


def test_a_time_set_while_following_holds_until_the_next_answers():
    leads, clock = ahead(5000.0), LocalClock()
    with Leader(leads) as leader, Follower(Discipline(clock), "127.0.0.1", leader.port) as follower:
        assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
        clock.jump_to(PupilTime(77.0))
        until(lambda: clock.steps == 3)
        assert difference(clock, leads) < 0.05


class Strange:
    """A leader that answers each request with what it was given, or not at all, and closes after some."""

    def __init__(self, answer, closes_after=None):
        self._answer, self._closes_after = answer, closes_after
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.02)
        self.port = self._server.getsockname()[1]
        self.requests = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._done.is_set():
            try:
                connected, _ = self._server.accept()
            except TimeoutError:
                continue
            with connected:
                connected.settimeout(0.02)
                self._answer_all(connected)

    def _answer_all(self, connected):
        answered = 0
        while not self._done.is_set() and answered != self._closes_after:
            try:
                if not connected.recv(4):
                    return
                self.requests += 1
                for part in self._answer():
                    connected.sendall(part)
                answered += 1
            except TimeoutError:
                continue
            except OSError:
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()
        self._server.close()


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), 1e300])
def test_a_leader_of_nonsense_moves_nothing(nonsense):
    clock = LocalClock()
    with (
        Strange(lambda: [struct.pack("<d", nonsense)]) as strange,
        Follower(Discipline(clock), "127.0.0.1", strange.port) as follower,
    ):
        until(lambda: strange.requests >= 60)
        assert follower.status().state is SyncState.ACQUIRING
        assert (clock.steps, clock.rate) == (0, 0.0)


def test_a_leader_of_random_times_is_not_asked_without_a_pause():
    events = []
    random = Random(1)
    with (
        Strange(lambda: [struct.pack("<d", time.monotonic() + random.uniform(-1, 1))]) as strange,
        Follower(Discipline(LocalClock()), "127.0.0.1", strange.port, on_events=events.extend),
    ):
        until(lambda: strange.requests >= 72)
        assert strange.requests < 200
        assert len(events) < 40


def test_answers_in_pieces_and_connections_that_end_are_borne():
    leads, clock = ahead(300.0), LocalClock()

    def split():
        packed = struct.pack("<d", leads.now())
        return [packed[:3], packed[3:]]

    with Strange(split, closes_after=9) as strange, Follower(Discipline(clock), "127.0.0.1", strange.port) as follower:
        assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
        until(lambda: strange.requests >= 40)
        assert difference(clock, leads) <= follower.status().bound_s


def test_a_leader_that_says_nothing_does_not_keep_it_from_closing():
    with Strange(list) as strange, Follower(Discipline(LocalClock()), "127.0.0.1", strange.port) as follower:
        until(lambda: strange.requests == 1)
        begun = time.monotonic()
        follower.close()
        assert time.monotonic() - begun < 0.5


def test_nothing_is_left_behind():
    with Leader(ahead(1.0)) as leader:
        descriptors, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
        with Follower(Discipline(LocalClock()), "127.0.0.1", leader.port) as follower:
            assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
        follower.close()
        until(lambda: leader.connections == 0)
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
        assert threading.active_count() == threads


def test_importing_the_package_computes_nothing():
    script = "import sys, gazed_timesync, gazed_timesync.sync.leader; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
