"""The rules of ZRE in simulated time: nodes that talk through lists."""

import random
import tracemalloc
from uuid import UUID

import pytest

from gazed_timesync.errors import ZreMalformed
from gazed_timesync.zre.codec import Hello, Join, Ping, Shout, Whisper, encode_beacon, encode_message
from gazed_timesync.zre.session import ZreSession

OWN, SEVEN = UUID(int=1), UUID(int=7)


class Wire:
    """Keeps what a session sends."""

    def __init__(self, host="10.0.0.1", port=1000):
        self.host, self.port = host, port
        self.open, self.sent, self.closed, self.full = {}, [], [], set()

    def connect(self, uuid, host, port):
        assert uuid not in self.open
        self.open[uuid] = (host, port)

    def endpoint_for(self, _host):
        return f"tcp://{self.host}:{self.port}"

    def send(self, uuid, frames):
        assert uuid in self.open
        if uuid in self.full:
            return False
        self.sent.append((uuid, frames))
        return True

    def disconnect(self, uuid):
        del self.open[uuid]
        self.closed.append(uuid)


class Net:
    """Sessions whose messages arrive at once, in order."""

    def __init__(self):
        self.nodes, self.now = [], 0.0

    def add(self, name, groups=()):
        index = len(self.nodes) + 1
        wire = Wire(f"10.0.{index // 250}.{index % 250 + 1}")
        node = ZreSession(UUID(int=index), name, wire, groups)
        node.wire = wire
        self.nodes.append(node)
        return node

    def beacons(self, *nodes):
        for node in nodes or self.nodes:
            for other in self.nodes:
                other.on_beacon(encode_beacon(node.uuid, node.wire.port), node.wire.host, self.now)
        self.deliver()

    def deliver(self):
        by_uuid = {node.uuid: node for node in self.nodes}
        busy = True
        while busy:
            busy = False
            for node in self.nodes:
                sent, node.wire.sent = node.wire.sent, []
                for uuid, frames in sent:
                    busy = True
                    if uuid in by_uuid:
                        by_uuid[uuid].on_message(b"\x01" + node.uuid.bytes, frames, node.wire.host, self.now)


def taken(node):
    events, node.events = node.events, []
    return [(event.kind, event.peer.name, event.group, event.content) for event in events]


def pair():
    net = Net()
    a, b = net.add("a", ["g"]), net.add("b", ["g", "h"])
    net.beacons()
    taken(a), taken(b)
    return net, a, b


def peer_says(session, message, sequence, uuid=SEVEN, host="10.0.0.7", now=0.0):
    session.on_message(b"\x01" + uuid.bytes, encode_message(message, sequence), host, now)


def one(groups=()):
    session = ZreSession(OWN, "own", Wire(), groups)
    peer_says(session, Hello("tcp://10.0.0.7:77", ("g",), 1, "seven", {"k": "v"}), 1)
    return session


def test_two_nodes_find_each_other_and_talk():
    net = Net()
    a, b = net.add("a", ["g"]), net.add("b", ["g", "h"])
    net.beacons(a)
    assert taken(a) == [("enter", "b", "", ()), ("join", "b", "g", ()), ("join", "b", "h", ())]
    assert taken(b) == [("enter", "a", "", ()), ("join", "a", "g", ())]
    assert a.shout("g", [b"1", b"2"]) == 1
    assert a.shout("h", [b"3"]) == 1
    assert a.shout("nobody", [b"4"]) == 0
    assert b.whisper(a.uuid, [b"5"])
    assert not b.whisper(UUID(int=99), [b"6"])
    b.leave("h")
    b.join("k")
    b.join("k")
    net.deliver()
    assert taken(b) == [("shout", "a", "g", (b"1", b"2")), ("shout", "a", "h", (b"3",))]
    assert taken(a) == [("whisper", "b", "", (b"5",)), ("leave", "b", "h", ()), ("join", "b", "k", ())]
    assert a.peers()[0].groups == {"g", "k"}
    assert not a.refused
    assert not b.refused


def test_who_says_goodbye_is_gone():
    _, a, b = pair()
    a.on_beacon(encode_beacon(b.uuid, 0), "10.9.9.9", 1.0)
    assert taken(a) == []
    a.on_beacon(encode_beacon(b.uuid, 0), b.wire.host, 1.0)
    assert taken(a) == [("exit", "b", "", ())]
    assert a.peers() == ()


def test_the_silent_are_asked_after_10_s_and_given_up_after_30():
    session = one()
    session.tick(9.9)
    assert len(session._transport.sent) == 1
    session.tick(10.0)
    session.tick(11.0)
    assert session._transport.sent[1:] == [(SEVEN, encode_message(Ping(), sequence)) for sequence in (2, 3)]
    session.tick(29.9)
    taken(session)
    session.tick(30.0)
    assert taken(session) == [("exit", "seven", "", ())]
    assert session._transport.open == {}


def test_who_is_heard_again_is_back():
    session = one()
    taken(session)
    for now in (1.0, 2.0, 5.0, 9.0):
        session.on_beacon(encode_beacon(SEVEN, 77), "10.0.0.7", now)
        assert [event[0] for event in taken(session)] == (["back"] if now == 9.0 else [])


def test_who_never_says_hello_is_given_up():
    session = ZreSession(OWN, "own", Wire())
    for now in range(40):
        session.on_beacon(encode_beacon(SEVEN, 77), "10.0.0.7", float(now))
        session.tick(float(now))
    assert session._transport.closed == [SEVEN]
    assert len(session._transport.open) == 1
    assert taken(session) == []


def test_a_gap_drops_the_peer_and_the_next_beacon_brings_it_back():
    net, a, b = pair()
    b.whisper(a.uuid, [b"lost"])
    b.wire.sent.clear()
    b.whisper(a.uuid, [b"after"])
    net.deliver()
    assert taken(a) == [("exit", "b", "", ())]
    assert a.refused == {"gap": 1}
    net.beacons(b)
    assert [event[0] for event in taken(a)] == ["enter", "join", "join"]
    assert [event[0] for event in taken(b)] == ["exit", "enter", "join"]
    b.whisper(a.uuid, [b"heard"])
    net.deliver()
    assert taken(a) == [("whisper", "b", "", (b"heard",))]


def test_numbers_begin_anew_after_65534():
    net, a, b = pair()
    for _ in range(65535 + 10):
        b.whisper(a.uuid, [])
        net.deliver()
        assert [event[0] for event in taken(a)] == ["whisper"]
    assert not a.refused


def test_a_second_hello_is_a_peer_that_has_begun_anew():
    session = one()
    taken(session)
    peer_says(session, Hello("tcp://10.0.0.7:77", (), 0, "again"), 1)
    assert taken(session) == [("exit", "seven", "", ()), ("enter", "again", "", ())]
    assert [frames[0][2] for _, frames in session._transport.sent] == [1, 1]


def test_a_new_node_at_the_same_endpoint_takes_the_place_of_the_old():
    session = one()
    taken(session)
    peer_says(session, Hello("tcp://10.0.0.7:77", (), 0, "heir"), 1, uuid=UUID(int=8))
    assert [event[:2] for event in taken(session)] == [("exit", "seven"), ("enter", "heir")]


def test_a_full_queue_drops_the_peer():
    session = one(["g"])
    session._transport.full.add(SEVEN)
    assert session.shout("g", [b"x"]) == 0
    assert [event[0] for event in taken(session)] == ["enter", "join", "exit"]
    assert session.refused == {"full": 1}


def test_what_is_wrong_is_counted_and_changes_nothing():
    session = one()
    taken(session)
    before = session.peers()
    for data in (b"", b"ZRE\x02" + bytes(18), encode_beacon(OWN, 5), encode_beacon(UUID(int=3), 0)):
        session.on_beacon(data, "10.0.0.9", 0.0)
    for endpoint in ("", "ipc:///tmp/x", "tcp://10.0.0.9:0", "tcp://10.0.0.9:70000", "tcp://10.0.0.9:²", "tcp://a b:1"):
        peer_says(session, Hello(endpoint), 1, uuid=UUID(int=9))
    peer_says(session, Hello("tcp://10.0.0.9:5"), 2, uuid=UUID(int=9))
    peer_says(session, Hello("tcp://10.0.0.9:5"), 1, uuid=OWN)
    peer_says(session, Hello("tcp://10.0.0.9:5"), 1, uuid=UUID(int=9), host="")
    peer_says(session, Shout("g", (b"x",)), 1, uuid=UUID(int=9))
    session.on_message(b"\x02" + bytes(16), [b""], "10.0.0.9", 0.0)
    session.on_message(b"", [], "10.0.0.9", 0.0)
    assert taken(session) == []
    assert session.peers() == before
    assert session.refused == {"beacon": 2, "message": 10, "peer": 1, "stranger": 1}


def test_two_hundred_nodes_join():
    net = Net()
    nodes = [net.add(f"n{number}", ["g"]) for number in range(200)]
    last = nodes[-1]
    net.nodes = nodes[:1]
    for node in nodes[1:]:
        node.on_beacon(encode_beacon(nodes[0].uuid, 1000), nodes[0].wire.host, 0.0)
    net.nodes = nodes
    net.deliver()
    assert len(nodes[0].peers()) == 199
    assert len(last.peers()) == 1
    assert nodes[0].shout("g", [b"x"]) == 199


def test_forged_peers_fill_no_memory_and_keep_nobody_out():
    session = one()
    chance = random.Random(4)
    tracemalloc.start()
    for number in range(10_000):
        session.on_beacon(encode_beacon(UUID(bytes=chance.randbytes(16)), 1 + chance.randrange(65535)), "10.0.0.9", 1.0)
        session._transport.sent.clear()
        session._transport.closed.clear()
        if number == 2000:
            low = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - low
    tracemalloc.stop()
    assert len(session._transport.open) <= 65
    assert grown < 100_000
    assert [peer.name for peer in session.peers()] == ["seven"]
    peer_says(session, Hello("tcp://10.0.0.8:5", (), 0, "honest"), 1, uuid=UUID(int=8), host="10.0.0.8")
    assert [peer.name for peer in session.peers()] == ["seven", "honest"]


def test_no_more_peers_and_groups_than_there_is_room_for():
    session = ZreSession(OWN, "own", Wire())
    for number in range(400):
        peer_says(session, Hello(f"tcp://10.0.0.7:{number + 1}"), 1, uuid=UUID(int=number + 10))
    assert len(session.peers()) == 256
    assert session.refused["peer"] == 144
    session = one()
    with pytest.raises(ZreMalformed):
        session.shout("g", [bytes((1 << 18) + 1)])
    for number in range(300):
        peer_says(session, Join(f"group {number}", 0), number + 2)
    assert len(session.peers()[0].groups) == 64


def test_random_streams_change_nothing():
    session = one()
    chance = random.Random(3)
    taken(session)
    good = encode_message(Whisper((b"x",)), 2)[0]
    for _ in range(10_000):
        frames = [chance.randbytes(chance.randrange(60)) for _ in range(chance.randrange(4))]
        if frames and chance.random() < 0.5:
            frames[0] = good[: chance.randrange(6)] + frames[0]
        uuid = SEVEN if chance.random() < 0.1 else UUID(bytes=chance.randbytes(16))
        session.on_message(b"\x01" + uuid.bytes, frames, "10.0.0.9", 0.0)
    assert {event[0] for event in taken(session)} <= {"exit"}
    assert len(session._transport.open) <= 1
