from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.codec import add_sequence
from gazed_bus.gaps import GapCounter


def packed(publisher: int, counter: int) -> bytes:
    return add_sequence(b"\x80", publisher, counter)


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(1, 3), st.booleans()), max_size=200),
    st.integers(0, 2**32 - 1),
)
def test_counts_exactly_what_is_missing_between_messages(messages: list[tuple[bytes, int, bool]], start: int) -> None:
    gaps = GapCounter()
    counters: dict[tuple[bytes, int], int] = {}
    pending: dict[tuple[bytes, int], int] = {}
    wanted: dict[str, int] = {}
    for topic, publisher, arrives in messages:
        series = (topic, publisher)
        counter = counters.get(series, start)
        counters[series] = (counter + 1) % 2**32
        if not arrives:
            # What went missing before the first message of a series cannot be known.
            if series in pending:
                pending[series] += 1
            continue
        missing = pending.get(series, 0)
        pending[series] = 0
        assert gaps.see(topic, packed(publisher, counter)) == missing
        if missing:
            wanted[topic.decode()] = wanted.get(topic.decode(), 0) + missing
    assert gaps.lost == wanted


def test_messages_without_seq_and_repeated_ones_are_no_losses() -> None:
    gaps = GapCounter()
    for counter in (5, 6, 6, 4, 7):
        gaps.see(b"a", packed(1, counter))
        gaps.see(b"a", b"\x80")
    assert gaps.lost == {}
    assert gaps.see(b"a", packed(1, 9)) == 1


def test_a_restarted_publisher_begins_a_series_of_its_own() -> None:
    gaps = GapCounter()
    gaps.see(b"a", packed(1, 1000))
    assert gaps.see(b"a", packed(2, 0)) == 0
    assert gaps.see(b"a", packed(2, 2)) == 1


def test_forgotten_topics_begin_anew() -> None:
    gaps = GapCounter()
    gaps.see(b"a.1", packed(1, 0))
    gaps.see(b"b.1", packed(1, 0))
    gaps.forget(lambda topic: topic.startswith(b"a"))
    gaps.see(b"a.1", packed(1, 10))
    gaps.see(b"b.1", packed(1, 10))
    assert gaps.lost == {"b.1": 9}


def test_memory_is_bounded() -> None:
    gaps = GapCounter()
    for number in range(20_000):
        gaps.see(str(number).encode(), packed(1, 0))
    assert len(gaps._expected) <= 8192
