from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.codec import Message
from gazed_bus.delayed import DelayedNotifications
from gazed_bus.errors import MessageError


def message(subject: object, delay: object, raw: tuple[bytes, ...] = (), **fields: Any) -> Message:
    payload = {"subject": subject, "delay": delay, **fields}
    return Message(f"delayed_notify.{subject}", {**payload, "topic": f"delayed_notify.{subject}"}, raw)


def test_a_notification_waits_for_its_time_and_loses_its_delay() -> None:
    delayed = DelayedNotifications()
    delayed.add(message("a", 2, n=1), now=10.0)
    assert delayed.next_due() == 12.0
    assert delayed.take_due(11.999) == []
    assert [(item["subject"], item["n"], "delay" in item) for item in delayed.take_due(12.0)] == [("a", 1, False)]
    assert delayed.next_due() is None
    assert len(delayed) == 0


def test_a_new_one_of_the_same_subject_replaces_the_old_one() -> None:
    delayed = DelayedNotifications()
    delayed.add(message("a", 1, n=1), now=0.0)
    delayed.add(message("a", 1, n=2), now=0.9)
    assert delayed.take_due(1.5) == []
    assert [item["n"] for item in delayed.take_due(1.9)] == [2]


def test_raw_frames_come_along() -> None:
    delayed = DelayedNotifications()
    delayed.add(message("a", 0, raw=(b"x",)), now=0.0)
    assert delayed.take_due(0.0)[0]["__raw_data__"] == (b"x",)


@pytest.mark.parametrize("delay", ["1", None, True, float("nan"), float("inf"), -0.1, 1e9, [1]])
def test_a_delay_that_makes_no_sense_is_refused(delay: object) -> None:
    delayed = DelayedNotifications()
    with pytest.raises(MessageError, match="delay"):
        delayed.add(message("a", delay), now=0.0)
    assert len(delayed) == 0


@pytest.mark.parametrize("subject", [None, "", 5, b"a"])
def test_a_subject_is_needed(subject: object) -> None:
    with pytest.raises(MessageError, match="subject"):
        DelayedNotifications().add(message(subject, 1), now=0.0)


def test_the_table_is_bounded() -> None:
    delayed = DelayedNotifications()
    for number in range(1000):
        delayed.add(message(str(number), 1), now=0.0)
    with pytest.raises(MessageError, match="1000"):
        delayed.add(message("one more", 1), now=0.0)
    delayed.add(message("5", 2), now=0.0)
    assert len(delayed) == 1000


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 100)), max_size=30))
def test_everything_falls_due_once_and_in_order(notifications: list[tuple[str, float]]) -> None:
    delayed = DelayedNotifications()
    for subject, delay in notifications:
        delayed.add(message(subject, delay), now=0.0)
    wanted = sorted(dict(notifications).items(), key=lambda item: item[1])
    seen = []
    while (due := delayed.next_due()) is not None:
        seen += [(item["subject"], due) for item in delayed.take_due(due)]
    assert [due for _, due in seen] == [due for _, due in wanted]
    assert {subject for subject, _ in seen} == {subject for subject, _ in wanted}
