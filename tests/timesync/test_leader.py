"""A leader's clock service over real sockets, and those who misuse it."""

import socket
import struct
import threading
import time
from pathlib import Path
from random import Random

import pytest

from gazed_timesync import ClockError, HostNs, Leader, LocalClock, PupilTime
from gazed_timesync.sync.probe import PROBE_BYTES, Answer, Question


@pytest.fixture
def clock():
    made = LocalClock()
    made.jump_to(PupilTime(1000.0))
    return made


@pytest.fixture
def leader(clock):
    with Leader(clock) as made:
        yield made


@pytest.fixture
def connect(leader):
    made = []

    def connected():
        made.append(socket.create_connection(("127.0.0.1", leader.port), 5))
        return made[-1]

    yield connected
    for each in made:
        each.close()


def answers(connected, count=1):
    found = b""
    while len(found) < 8 * count:
        part = connected.recv(8 * count - len(found))
        if not part:
            raise ConnectionError
        found += part
    return struct.unpack(f"<{count}d", found)


def closed(connected):
    try:
        return connected.recv(1) == b""
    except ConnectionError:
        return True


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_sync_is_answered_with_pupil_time_as_often_as_one_likes(clock, connect):
    connected = connect()
    for _ in range(3):
        before = clock.now()
        connected.sendall(b"sync")
        (time_s,) = answers(connected)
        assert before <= time_s <= clock.now()


def test_requests_may_come_split_and_several_at_once(connect):
    connected = connect()
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for part in (b"s", b"yn", b"csyncsy", b"nc"):
        connected.sendall(part)
    times = answers(connected, 3)
    assert list(times) == sorted(times)
    connected.sendall(b"sync" * 500)
    assert len(answers(connected, 500)) == 500


@pytest.mark.parametrize("wrong", [b"GET / HTTP/1.1\r\n\r\n", b"synk", b"\0\0\0\0", b"syncs!"])
def test_who_sends_anything_else_is_disconnected(leader, connect, wrong):
    connected = connect()
    connected.sendall(wrong)
    until(lambda: leader.refused == 1)
    until(lambda: leader.connections == 0)
    connect().sendall(b"sync")


def test_ten_thousand_random_streams_do_no_harm(leader, connect):
    random, good, address = Random(1), connect(), ("127.0.0.1", leader.port)
    for _ in range(10_000 // 25):
        batch = [socket.create_connection(address, 5) for _ in range(25)]
        for each in batch:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.sendall(b"sync"[: random.randrange(5)] + random.randbytes(random.randrange(64)))
            each.close()
        good.sendall(b"sync")
        answers(good)
    until(lambda: leader.connections == 1)


def test_ten_thousand_random_datagrams_do_no_harm(leader):
    random = Random(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", leader.udp_port))
        sender.settimeout(5)
        for turn in range(10_000):
            sender.send((b"PTX1" if turn % 3 else b"") + random.randbytes(random.randrange(100)))
            if turn % 100 == 0:
                question = Question(turn, HostNs(7))
                sender.send(question.pack())
                while (answer := Answer.unpack(sender.recv(100))) is None or answer.question != question:
                    pass
    assert leader.refused > 5000


def test_datagrams_are_answered_by_as_many_bytes_and_carry_two_times_and_the_jumps(clock, leader):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.1", leader.udp_port))
        asking.settimeout(5)
        for steps in (1, 2):
            question = Question(2**32 - steps, HostNs(2**62))
            before = clock.now()
            assert asking.send(question.pack()) == PROBE_BYTES == 48
            answer = Answer.unpack(asking.recv(100))
            assert answer.question == question
            assert before <= answer.received <= answer.replied <= clock.now()
            assert answer.steps == steps
            clock.jump_to(PupilTime(0.0))


def test_connections_are_bounded_and_the_idlest_goes_first(leader, connect):
    first, *others = [connect()]
    for count in range(2, 140):
        others.append(connect())
        until(lambda count=count: leader.connections == min(count, 128))
    assert closed(first)
    newest = others[-1]
    newest.sendall(b"sync")
    answers(newest)


def test_who_does_not_take_its_answers_is_disconnected_and_delays_nobody(leader, connect):
    greedy, other = connect(), connect()
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def flood():
        try:
            while True:
                greedy.sendall(b"sync" * 4096)
        except OSError:
            return

    flooding = threading.Thread(target=flood)
    flooding.start()
    while flooding.is_alive():
        other.sendall(b"sync")
        answers(other)
    flooding.join()
    assert leader.refused == 1


def test_nothing_is_left_behind(clock):
    descriptors, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    leader = Leader(clock)
    connected = socket.create_connection(("127.0.0.1", leader.port), 5)
    connected.sendall(b"sync")
    answers(connected)
    leader.close()
    leader.close()
    connected.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert threading.active_count() == threads


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("a..b", 0)])
def test_an_address_that_is_none_is_refused(host, port):
    with pytest.raises(ClockError, match=str(port)):
        Leader(LocalClock(), host, port)


def test_an_address_that_is_not_ours_is_told(clock):
    with pytest.raises(ClockError, match=r"192\.0\.2\.1") as refused:
        Leader(clock, "192.0.2.1")
    assert refused.value.hint


def test_a_leader_that_compensates_is_early_by_a_round_trip(clock):
    with Leader(clock, compensate=True) as leader, socket.create_connection(("127.0.0.1", leader.port), 5) as asking:
        early = []
        for _ in range(20):
            asking.sendall(b"sync")
            (time_s,) = answers(asking)
            early.append(clock.now() - time_s)
            time.sleep(0.01)  # a follower that is 10 ms away, as the leader sees it
        assert min(early[8:]) > 0.009  # the leader may note late that it has answered
        assert max(early[8:]) < 0.1
