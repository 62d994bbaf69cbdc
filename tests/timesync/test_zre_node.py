"""ZRE nodes over real sockets, in network namespaces: among themselves, with pyre, and against garbage."""

import json
import queue
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import zmq

from gazed_timesync import Leader, LocalClock, PupilTime, SyncState, TimeSyncNode
from gazed_timesync.errors import ZreError
from gazed_timesync.namespace_testing import Cable, Namespace, namespaces_refused
from gazed_timesync.sync.election import group_name
from gazed_timesync.zre.codec import Hello, encode_beacon, encode_message
from gazed_timesync.zre.interfaces import read_interfaces
from gazed_timesync.zre.node import ZreNode

REFUSED = namespaces_refused()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(REFUSED), reason=REFUSED)]


class Talker:
    """A node whose events can be waited for."""

    def __init__(self, space, name, groups=("g",), headers=None, **more):
        self.events, self.passed = queue.Queue(), []
        with space.entered():
            self.node = ZreNode(name, self.events.put, groups=groups, headers=headers, **more)
            self.node.start()

    def wait(self, kind, name=None, timeout=8.0, group=None):
        """Return the first event of a kind that was not returned before."""
        deadline = time.monotonic() + timeout
        looked = 0
        while True:
            for event in self.passed[looked:]:
                if event.kind == kind and name in (None, event.peer.name) and group in (None, event.group):
                    self.passed.remove(event)
                    return event
            looked = len(self.passed)
            self.passed.append(self.events.get(timeout=max(0.0, deadline - time.monotonic())))


@contextmanager
def talkers(*spaces_and_names, **more):
    made = []
    try:
        for space, name in spaces_and_names:
            made.append(Talker(space, name, **more))
        yield made
    finally:
        for talker in made:
            talker.node.close()


@pytest.fixture
def lan():
    with Namespace() as near, Namespace() as far:
        yield near, far, Cable(near, "10.7.0.1/24", far, "10.7.0.2/24")


@pytest.fixture
def alone():
    with Namespace() as space:
        yield space


def test_nodes_find_each_other_and_talk(lan):
    near, far, _ = lan
    with talkers((near, "a"), (far, "b"), headers={"X-Key": "välue"}) as (a, b):
        seen = a.wait("enter", "b").peer
        assert (seen.host, seen.headers, seen.uuid) == ("10.7.0.2", {"X-Key": "välue"}, b.node.uuid)
        assert a.wait("join").group == "g"
        b.wait("join", "a", group="g")
        assert [peer.name for peer in a.node.peers] == ["b"]
        a.node.shout("g", b"one", b"two")
        assert b.wait("shout").content == (b"one", b"two")
        b.node.whisper(a.node.uuid, b"three")
        assert a.wait("whisper").content == (b"three",)
        b.node.leave("g")
        b.node.join("h")
        assert a.wait("leave").group == "g"
        assert a.wait("join").group == "h"
        a.node.shout("g", b"to nobody")
        a.node.shout("h", b"four")
        assert b.wait("shout").content == (b"four",)
        b.node.check()
        b.node.close()
        with pytest.raises(ZreError, match="ended"):
            b.node.check()
        a.wait("exit", "b", timeout=1)
        assert a.node.peers == ()
        assert a.node.refused == {}


def test_a_cable_pulled_for_three_seconds(lan):
    near, far, cable = lan
    with talkers((near, "a"), (far, "b")) as (a, b):
        a.wait("join", "b"), b.wait("join", "a")
        cable.unplug()
        silent = threading.Event()
        silent.wait(4)
        cable.plug()
        plugged = time.monotonic()
        a.wait("back", "b", timeout=3)
        b.wait("back", "a", timeout=3)
        assert time.monotonic() - plugged < 3
        a.node.shout("g", b"still there")
        assert b.wait("shout").content == (b"still there",)


def test_a_node_is_found_on_an_interface_that_comes_later(alone):
    with Namespace() as far:
        with talkers((alone, "a"), (far, "b")) as (a, b):
            Cable(alone, "10.8.0.1/24", far, "10.8.0.2/24")
            assert a.wait("enter", "b", timeout=5).peer.host == "10.8.0.2"
            b.wait("enter", "a")


def test_a_node_between_two_networks_is_reached_from_both():
    with Namespace() as left, Namespace() as middle, Namespace() as right:
        Cable(left, "10.1.0.1/24", middle, "10.1.0.9/24", "le")
        Cable(right, "10.2.0.1/24", middle, "10.2.0.9/24", "ri")
        with talkers((left, "left"), (middle, "middle"), (right, "right")) as (a, b, c):
            b.wait("join", "left")
            b.wait("join", "right")
            assert a.wait("enter", "middle").peer.host == "10.1.0.9"
            assert c.wait("enter", "middle").peer.host == "10.2.0.9"
            assert {peer.name for peer in a.node.peers} == {"middle"}
            b.node.shout("g", b"both")
            assert a.wait("shout").content == c.wait("shout").content == (b"both",)


def test_only_the_interfaces_that_were_named():
    with Namespace() as left, Namespace() as middle, Namespace() as right:
        Cable(left, "10.1.0.1/24", middle, "10.1.0.9/24", "le")
        Cable(right, "10.2.0.1/24", middle, "10.2.0.9/24", "ri")
        a, c = Talker(left, "left", groups=()), Talker(right, "right", groups=())
        b = Talker(middle, "middle", interfaces=["le1"])
        try:
            assert a.wait("enter").peer.name == "middle"
            with pytest.raises(queue.Empty):
                c.wait("enter", timeout=1.5)
        finally:
            for talker in (a, b, c):
                talker.node.close()


def test_nodes_on_a_machine_without_a_network(alone):
    with talkers((alone, "a"), (alone, "b")) as (a, b):
        assert a.wait("enter", "b").peer.host == "127.0.0.1"
        b.wait("enter", "a")


def test_interfaces(lan):
    near, _, cable = lan
    with near.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        near.run("ip", "addr", "add", "10.7.1.1/16", "dev", "net0")
        near.run("ip", "addr", "add", "10.6.1.1/32", "dev", "net0")
        found = {each.address: each for each in read_interfaces(probe)}
        assert found["127.0.0.1"].loopback
        assert [found[address].broadcast for address in ("10.7.0.1", "10.7.1.1", "10.6.1.1", "127.0.0.1")] == [
            "10.7.0.255",
            "10.7.255.255",
            "",
            "",
        ]
        assert found["10.7.0.1"].up
        cable.unplug()
        assert not {each.address: each for each in read_interfaces(probe)}["10.7.0.1"].up


def test_what_cannot_be_had_is_told(alone):
    with alone.entered():
        with pytest.raises(ZreError):
            ZreNode("n" * 300, print)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("", 5670))
            with pytest.raises(ZreError, match="5670"):
                ZreNode("n", print)


def test_a_callback_that_fails_costs_one_event(alone, caplog):
    heard = queue.Queue()

    def fail_once(event):
        heard.put(event.kind)
        if event.kind == "enter":
            raise RuntimeError("on purpose")

    with alone.entered():
        with ZreNode("a", fail_once, groups=["g"]), ZreNode("b", lambda _: None, groups=["g"]):
            assert heard.get(timeout=5) == "enter"
            assert heard.get(timeout=5) == "join"
    assert "on purpose" in caplog.text


# --- with pyre --------------------------------------------------------------------------------------------------------


PYRE = """
import json, sys, uuid, pyre, zmq
node = pyre.Pyre("pyre", ctx=zmq.Context())
node.set_header("app_type", "test")
node.join("g")
node.start()
poller = zmq.Poller()
poller.register(node.socket(), zmq.POLLIN)
poller.register(0, zmq.POLLIN)
while True:
    ready = dict(poller.poll())
    if 0 in ready:
        command, *words = (sys.stdin.readline() or "stop").split()
        if command == "stop":
            break
        if command == "whisper":
            node.whisper(uuid.UUID(words[0]), words[1].encode())
        elif command == "shout":
            node.shout(words[0], [word.encode() for word in words[1:]])
        else:
            getattr(node, command)(*words)
    if node.socket() in ready:
        kind, peer, *rest = node.recv()
        print(json.dumps([kind.decode(), peer.hex(), *(part.decode() for part in rest)]), flush=True)
node.stop()
"""


class PyrePeer:
    """A pyre node in a process of its own: it leaves sockets open."""

    def __init__(self, space):
        with space.entered():
            command = [sys.executable, "-W", "ignore", "-u", "-c", PYRE]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def wait(self, kind, timeout=8.0):
        deadline = time.monotonic() + timeout
        while True:
            parts = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            if parts[0] == kind:
                return parts

    def do(self, *words):
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(5)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            self._process.stdout.close()


@contextmanager
def pyre_peer(space):
    pytest.importorskip("pyre", reason="needs zeromq-pyre")
    peer = PyrePeer(space)
    try:
        yield peer
    finally:
        peer.close()


def test_with_pyre_in_both_directions(lan):
    near, far, _ = lan
    with talkers((near, "ours"), headers={"X-PTX": "1"}) as (ours,), pyre_peer(far) as theirs:
        entered = ours.wait("enter", "pyre").peer
        assert (entered.host, entered.headers) == ("10.7.0.2", {"app_type": "test"})
        ours.wait("join", "pyre", group="g")
        _, uuid, name, headers, endpoint = theirs.wait("ENTER")
        assert (uuid, name, json.loads(headers)) == (ours.node.uuid.hex, "ours", {"X-PTX": "1"})
        assert endpoint.startswith("tcp://10.7.0.1:")
        theirs.wait("JOIN")
        ours.node.shout("g", b"a", b"b")
        assert theirs.wait("SHOUT")[3:] == ["g", "a", "b"]
        ours.node.whisper(entered.uuid, b"c")
        assert theirs.wait("WHISPER")[3:] == ["c"]
        theirs.do("shout", "g", "d")
        assert ours.wait("shout").content == (b"d",)
        theirs.do("whisper", str(ours.node.uuid), "e")
        assert ours.wait("whisper").content == (b"e",)


def test_groups_with_pyre_change(lan):
    near, far, _ = lan
    with talkers((near, "ours")) as (ours,), pyre_peer(far) as theirs:
        ours.wait("join", "pyre"), theirs.wait("JOIN")
        # pyre's node ends if the number that goes with a change is not the one it expects.
        for _ in range(3):
            ours.node.join("h")
            assert theirs.wait("JOIN")[3] == "h"
            ours.node.leave("h")
            assert theirs.wait("LEAVE")[3] == "h"
            theirs.do("join", "k")
            assert ours.wait("join").group == "k"
            theirs.do("leave", "k")
            assert ours.wait("leave").group == "k"
        ours.node.shout("g", b"still there")
        assert theirs.wait("SHOUT")[4] == "still there"


def test_goodbyes_with_pyre(lan):
    near, far, _ = lan
    with pyre_peer(far) as theirs:
        with talkers((near, "ours")) as (ours,):
            ours.wait("join", "pyre")
            theirs.wait("JOIN")
        theirs.wait("EXIT", timeout=2)
    with talkers((near, "ours")) as (ours,):
        with pyre_peer(far):
            ours.wait("join", "pyre")
        ours.wait("exit", "pyre", timeout=2)


def test_time_sync_with_pyre(lan):
    """A leader and follower of Pupil's kind, as far as they speak by ZRE: they announce, and are asked over TCP."""
    near, far, _ = lan
    group, clock, service = group_name("default"), LocalClock(), LocalClock()
    service.jump_to(PupilTime(5000.0))
    with far.entered():
        leader = Leader(service, "")
    with pyre_peer(far) as theirs, near.entered(), TimeSyncNode(clock, name="ours") as ours, leader:
        theirs.wait("ENTER")
        theirs.do("join", group)
        said = theirs.wait("SHOUT")
        assert said[3] == group
        assert 4 <= float(said[4]) < 5
        with far.entered(), socket.create_connection(("10.7.0.1", int(said[5])), 5) as asking:
            asking.sendall(b"sync")
            assert abs(struct.unpack("<d", asking.recv(8))[0] - clock.now()) < 0.1
        theirs.do("shout", group, "1000.5", str(leader.port))
        deadline = time.monotonic() + 5
        while ours.status().state is not SyncState.LOCKED:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ours.status().leader == "pyre"
        assert abs(clock.now() - service.now()) < 1e-3
        theirs.do("leave", group)
        while ours.status().state is not SyncState.LEADER:
            assert time.monotonic() < deadline
            time.sleep(0.01)


# --- against garbage --------------------------------------------------------------------------------------------------


def _memory():
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize("streams", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_datagrams_and_streams(lan, streams):
    near, far, _ = lan
    chance = random.Random(5)
    with talkers((near, "a"), (far, "b")) as (a, b):
        b.wait("join", "a")
        port = a.node._port
        with far.entered():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as beacons:
                for number in range(10_000):
                    data = b"ZRE\x01"[: chance.randrange(5)] + chance.randbytes(chance.randrange(40))
                    beacons.sendto(data, ("10.7.0.1", 5670))
                    if not number % 100:
                        time.sleep(0.002)
            before = _memory()
            for _ in range(streams):
                with socket.create_connection(("10.7.0.1", port), 5) as stream:
                    with suppress(OSError):
                        stream.sendall(_greeting(chance) + chance.randbytes(chance.randrange(200)))
        assert _memory() - before < 30_000_000
        a.node.shout("g", b"alive")
        assert b.wait("shout").content == (b"alive",)
        assert {peer.name for peer in a.node.peers} == {"b"}
        assert a.node.refused["beacon"] > 5_000
        a.node.check()


def _greeting(chance):
    # Half of them get past the handshake of ZMTP 3.0 (NULL), to say garbage as a DEALER.
    whole = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    whole += b"\x04" + bytes((len(ready),)) + ready
    return whole if chance.random() < 0.5 else whole[: chance.randrange(len(whole))]


def test_messages_of_random_dealers(alone):
    chance = random.Random(6)
    with talkers((alone, "a"), (alone, "b")) as (a, b):
        b.wait("join", "a")
        with alone.entered():
            context = zmq.Context()
            try:
                for _ in range(50):
                    dealer = context.socket(zmq.DEALER)
                    dealer.identity = b"\x01" + chance.randbytes(16)
                    dealer.linger = 2000
                    dealer.connect(f"tcp://127.0.0.1:{a.node._port}")
                    for _ in range(200):
                        head = b"\xaa\xa1" + chance.randbytes(1) + b"\x02" + chance.randbytes(chance.randrange(50))
                        dealer.send_multipart([head, *[chance.randbytes(20)] * chance.randrange(70)])
                    dealer.send(bytes((1 << 18) + 1))
                    dealer.close()
            finally:
                context.term()
        a.node.shout("g", b"alive")
        assert b.wait("shout").content == (b"alive",)
        assert {peer.name for peer in a.node.peers} == {"b"}


def test_two_hundred_nodes_of_one_machine(alone):
    """Their beacons and HELLOs are made here; each of them has a mailbox that is really connected to."""
    with talkers((alone, "a")) as (a,), alone.entered():
        context, dealers, joined = zmq.Context(), [], set()
        try:
            mailbox = context.socket(zmq.ROUTER)
            port = mailbox.bind_to_random_port("tcp://127.0.0.1")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as beacons:
                before = _memory()
                for number in range(200):
                    uuid = UUID(int=number + 1000)
                    dealers.append(dealer := context.socket(zmq.DEALER))
                    dealer.identity, dealer.linger = b"\x01" + uuid.bytes, 2000
                    dealer.connect(f"tcp://127.0.0.1:{a.node._port}")
                    beacons.sendto(encode_beacon(uuid, port), ("127.0.0.1", 5670))
                    hello = Hello(f"tcp://127.0.0.1:{20000 + number}", ("g",), 1, f"n{number}")
                    dealer.send_multipart(encode_message(hello, 1))
                    joined.add(a.wait("join").peer.name)
            assert len(joined) == len(a.node.peers) == 200
            assert _memory() - before < 60_000_000
        finally:
            context.destroy(0)


def test_the_node_needs_no_numpy():
    code = "import sys, gazed_timesync.zre.node, gazed_timesync.sync.election; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20, cwd=Path("/"))
