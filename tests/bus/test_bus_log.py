import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gazed_bus.client import Publisher, Subscriber
from gazed_bus.codec import Message
from gazed_bus.log import BusHandler, log_to_bus
from gazed_bus.testing import Bus, await_subscriber, running_bus

FIELDS = {
    *("name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text"),
    *("stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread", "threadName"),
    *("processName", "process", "topic"),
}


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.fixture
def bus() -> Iterator[Bus]:
    with running_bus() as bus:
        yield bus


@pytest.fixture
def subscriber(bus: Bus) -> Iterator[Subscriber]:
    with Subscriber(bus.run.sub, ["logging."]) as subscriber, Publisher(bus.run.pub) as publisher:
        await_subscriber(publisher, "logging.info")
        yield subscriber


@pytest.fixture
def logger(bus: Bus) -> Iterator[logging.Logger]:
    handler = BusHandler(bus.run.push)
    logger = logging.Logger("a.logger", logging.DEBUG)
    logger.addHandler(handler)
    yield logger
    handler.close()


def receive(subscriber: Subscriber) -> Message:
    message = subscriber.receive(5)
    assert message is not None
    return message


def test_a_record_arrives_with_pupils_fields(logger: logging.Logger, subscriber: Subscriber) -> None:
    logger.warning("%s has %d", "world", 3)
    message = receive(subscriber)
    assert message.topic == "logging.warning"
    assert set(message.payload) == FIELDS
    assert (message.payload["msg"], message.payload["args"]) == ("%s has %d", ["world", 3])
    record = logging.makeLogRecord({**message.payload, "args": tuple(message.payload["args"])})
    assert record.getMessage() == "world has 3"
    assert record.filename == Path(__file__).name


def test_a_traceback_travels_as_text(logger: logging.Logger, subscriber: Subscriber) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("it failed")
    payload = receive(subscriber).payload
    assert payload["exc_info"] is None
    assert payload["exc_text"].endswith("ValueError: broken")


@pytest.mark.parametrize(
    ("message", "arguments", "text"),
    [
        (ValueError("an error as message"), (), "an error as message"),
        ("%s", (Path("/x"),), "/x"),
        ("%(a)s", ({"a": 1},), "1"),
        ("100 %", (), "100 %"),
        ("%s", ([1, 2],), "[1, 2]"),
        ("x" * 100_000, (), "x" * 32_768),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_cannot_be_packed_is_text(
    logger: logging.Logger, subscriber: Subscriber, message: object, arguments: tuple[Any, ...], text: str
) -> None:
    logger.info(message, *arguments)
    payload = receive(subscriber).payload
    assert (payload["msg"], payload["args"]) == (text, [])


def test_nothing_is_ever_raised_into_the_caller(logger: logging.Logger, subscriber: Subscriber) -> None:
    (handler,) = logger.handlers
    assert isinstance(handler, BusHandler)
    logger.info("%s", Unspeakable())
    logger.info("%d", "no number", "one too many", object())  # noqa: PLE1205
    logger.info("\ud800")
    assert handler.dropped == 3
    logger.info("fine")
    assert receive(subscriber).payload["msg"] == "fine"
    handler.close()
    logger.info("after the end")
    assert handler.dropped == 4


def test_without_a_broker_records_wait_and_are_then_dropped(tmp_path: Path) -> None:
    handler = BusHandler(f"ipc://{tmp_path}/nobody", hwm=5)
    logger = logging.Logger("x")
    logger.addHandler(handler)
    for number in range(8):
        logger.info("%d", number)
    assert handler.dropped == 3
    handler.close()


def test_a_process_logs_to_the_bus_and_to_standard_error(
    bus: Bus, subscriber: Subscriber, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    for handler in before:
        root.removeHandler(handler)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    try:
        log_to_bus("eye0", bus.run)
        logging.getLogger("camera").info("hello")
        logging.getLogger("camera").debug("not this")
        assert receive(subscriber).payload["msg"] == "hello"
        assert "eye0 INFO hello" in capsys.readouterr().err
    finally:
        for handler in list(root.handlers):
            root.removeHandler(handler)
            handler.close()
        for handler in before:
            root.addHandler(handler)
        root.setLevel(level)
