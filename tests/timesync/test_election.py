"""Who leads: announcements, ranks, the board."""

import random
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_timesync.errors import ZreMalformed
from gazed_timesync.sync.election import Announcement, Election, group_name, parse_announcement

OWN, OTHER, THIRD = UUID(int=5), UUID(int=9), UUID(int=2)


def election(**more):
    return Election(OWN, 1234, tie_breaker=0.5, **more)


def test_bytes_as_pupil_capture_sends_them():
    said = parse_announcement([b"4.658336297824551", b"51699"])
    assert said == Announcement(4.658336297824551, 51699)
    assert said.encode() == (b"4.658336297824551", b"51699")
    assert group_name("default") == "default-time_sync-v1"


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 65535))
def test_an_announcement_comes_back_as_it_was(rank, port):
    said = Announcement(rank, port)
    assert parse_announcement(said.encode()) == said


@pytest.mark.parametrize(
    "content",
    [
        [],
        [b"4.5"],
        [b"4.5", b"1", b"2"],
        [b"nan", b"5000"],
        [b"inf", b"5000"],
        [b"-inf", b"5000"],
        [b"1e999", b"5000"],
        [b"4.5", b"0"],
        [b"4.5", b"-1"],
        [b"4.5", b"65536"],
        [b"4.5", b"9" * 5000],
        [b"9" * 5000, b"5000"],
        [b"4.5", b"5e3"],
        [b"", b""],
        [b"\xff", b"\xff"],
    ],
)
def test_what_is_no_announcement_is_refused(content):
    with pytest.raises(ZreMalformed):
        parse_announcement(content)


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_random_content_is_refused_or_a_finite_rank(content):
    try:
        said = parse_announcement(content)
    except ZreMalformed:
        return
    assert abs(said.rank) < float("inf")
    assert 0 < said.port < 65536


def test_ranks():
    own = election()
    assert own.own == Announcement(4.5, 1234)
    own.has_synced = True
    assert own.own.rank == 5.5
    own.has_led = True
    assert own.own.rank == 7.5
    assert 0 <= Election(OWN, 1).own.rank - 4 < 1
    assert election(bias=3.0).own.rank == 12.5
    assert election(bias=0.0).own.rank == 0.5


def test_the_highest_rank_leads():
    own = election()
    assert own.leader == OWN
    own.hear(OTHER, Announcement(4.4, 1))
    assert own.leader == OWN
    own.hear(THIRD, Announcement(4.6, 77))
    assert own.leader == THIRD
    assert own.others[THIRD].port == 77
    own.hear(THIRD, Announcement(4.3, 77))
    assert own.leader == OWN
    own.hear(OTHER, Announcement(1000.0, 1))
    assert own.leader == OTHER
    own.forget(OTHER)
    own.forget(OTHER)
    assert own.leader == OWN


def test_of_two_equal_ranks_everybody_chooses_the_same():
    ranks = {OWN: 4.5, OTHER: 4.5, THIRD: 4.5}
    chosen = set()
    for me in ranks:
        for order in permutations(ranks):
            board = Election(me, 1, tie_breaker=0.5)
            for uuid in order:
                if uuid != me:
                    board.hear(uuid, Announcement(4.5, 1))
            chosen.add(board.leader)
    assert chosen == {OTHER}


@given(st.randoms(use_true_random=False))
def test_all_boards_agree_whatever_the_order(chance: random.Random):
    nodes = {
        UUID(int=number): Election(UUID(int=number), number, bias=chance.choice([1, 1, 2])) for number in range(1, 7)
    }
    for _ in range(30):
        speaker = chance.choice(list(nodes))
        nodes[speaker].has_led |= chance.random() < 0.2
        nodes[speaker].has_synced |= chance.random() < 0.2
    for uuid in chance.sample(list(nodes), 6):
        for other, board in nodes.items():
            if other != uuid:
                board.hear(uuid, nodes[uuid].own)
    assert len({node.leader for node in nodes.values()}) == 1


def test_a_silent_leader_is_passed_over_until_it_is_heard():
    own = election()
    own.hear(OTHER, Announcement(6.5, 1))
    own.doubt(OTHER)
    assert (own.leader, own.doubts, len(own.others)) == (OWN, True, 1)
    own.trust(OTHER)
    assert own.leader == OTHER
    own.doubt(OTHER)
    own.hear(OTHER, Announcement(6.6, 1))
    assert own.leader == OTHER
    own.clear()
    assert (own.leader, own.doubts, len(own.others)) == (OWN, False, 0)


def test_the_board_has_an_end():
    own = election()
    for number in range(1000):
        own.hear(UUID(int=number + 100), Announcement(1.0, 1))
    assert len(own.others) == 256


def test_who_may_not_lead_leaves_it_to_others():
    own = election(candidate=False)
    assert own.leader is None
    own.hear(OTHER, Announcement(-1.0, 1))
    assert own.leader == OTHER
