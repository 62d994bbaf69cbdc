"""What is on the bus in a viewer: nothing invented, garbage counted, and a daemon that goes away is waited for."""

from __future__ import annotations

import errno
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

pytest.importorskip("rerun")

from hypothesis import given, settings
from hypothesis import strategies as st

from gazed.testing import wait_for
from gazed_bus.broker import Broker
from gazed_bus.client import Publisher
from gazed_bus.codec import Message
from gazed_bus.errors import PortInUse
from gazed_bus.remote import Remote
from gazed_bus.rundir import RunDir
from gazed_bus.testing import await_subscriber
from gazed_plugins.export.errors import AlreadyThere
from gazed_plugins.images import bgr_jpeg
from gazed_plugins.rerun import calls
from gazed_plugins.rerun.blueprint import blueprint_chunks, views_of
from gazed_plugins.rerun.calls import Chunk, Times, read_chunks
from gazed_plugins.rerun.live import LiveView
from gazed_plugins.rerun.live_data import LiveData
from gazed_plugins.rerun.live_file import LiveFile
from gazed_plugins.rerun.live_images import LiveImages
from gazed_plugins.rerun.program import free_port
from gazed_recorder.testing import make_jpeg
from gazed_timesync import PupilClock


def datum(topic: str, stamp: Any = 100.0, **more: Any) -> list[bytes]:
    return [topic.encode(), msgpack.packb({"topic": topic, "timestamp": stamp, **more})]


def pupil(stamp: float, eye: Any = 0, confidence: Any = 0.9, method: str = "2d") -> list[bytes]:
    ellipse = {"center": [50.0, 60.0], "axes": [20.0, 30.0], "angle": 45.0}
    fields = {"id": eye, "confidence": confidence, "diameter": 30.0, "norm_pos": [0.5, 0.5], "ellipse": ellipse}
    return datum(f"pupil.{eye}.{method}", stamp, method=f"{method} c++", **fields)


def rows(chunks: list[Chunk]) -> dict[str, list[Any]]:
    """Return time in ns and value of each row, by entity; of entities that have one value a row or none."""
    found: dict[str, list[Any]] = {}
    for chunk in chunks:
        batch = chunk.to_record_batch()
        values = [name for name in batch.schema.names if ":" in name]
        if not chunk.is_static and len(values) <= 2:
            times = batch.column("pupil_time").cast("int64").to_pylist()
            kept = next(name for name in values if not name.endswith((":level", ":media_type")))
            found.setdefault(chunk.entity_path, []).extend(zip(times, batch.column(kept).to_pylist(), strict=True))
    return found


def taken(*messages: list[bytes]) -> tuple[LiveData, dict[str, list[Any]]]:
    data = LiveData()
    for message in messages:
        data.take(message)
    return data, rows(list(data.chunks()))


def test_pupils_become_what_they_are_in_a_file() -> None:
    data, found = taken(pupil(100.25), pupil(100.5, confidence=None), pupil(100.75, confidence=0.1))
    assert found["/pupil/0/2d/confidence"] == [
        (100_250_000_000, [0.9]), (100_500_000_000, []), (100_750_000_000, [0.1]),
    ]  # fmt: skip
    assert [bool(lines) for _, lines in found["/eye0/pupil_2d"]] == [True, False, False]
    assert data.counts["pupil"] == 3
    assert list(data.chunks()) == []


def test_gaze_is_drawn_once_the_size_of_the_world_is_known() -> None:
    gaze = datum("gaze.3d.01.", 100.0, norm_pos=[0.25, 0.75], confidence=1.0, base_data=[])
    data, found = taken(gaze)
    assert set(found) == {"/gaze/confidence", "/gaze/norm_pos"}
    data.world = 640, 480
    data.take(gaze)
    assert rows(list(data.chunks()))["/world/gaze"] == [(100_000_000_000, [[160.5, 120.5]])]


def test_blinks_begin_at_the_first_onset_and_end_at_the_first_offset() -> None:
    told = [(1.0, "offset"), (2.0, "onset"), (2.1, "onset"), (2.2, "offset"), (2.3, "offset"), (5.0, "onset")]
    data, found = taken(*(datum("blinks", stamp, type=kind) for stamp, kind in told))
    assert found["/blinks"] == [(2_000_000_000, ["blink"]), (2_200_000_000, []), (5_000_000_000, ["blink"])]
    assert data.counts["blinks"] == 6


def test_a_fixation_ends_when_nothing_more_is_told_of_it() -> None:
    def fixation(number: int, stamp: float, duration: float) -> list[bytes]:
        return datum("fixations", stamp, id=number, duration=duration)

    data, found = taken(fixation(1, 1.0, 300.0), fixation(1, 1.01, 400.0), fixation(2, 2.0, 300.0))
    assert found["/fixations"] == [
        (1_000_000_000, ["fixation"]), (1_410_000_000, []), (2_000_000_000, ["fixation"]),
    ]  # fmt: skip
    data.take(fixation(2, 2.1, 400.0))
    assert rows(list(data.chunks())) == {}
    assert rows(list(data.chunks())) == {"/fixations": [(2_500_000_000, [])]}
    assert list(data.chunks()) == []


def test_annotations_and_notifications_are_texts() -> None:
    long = "x" * 20_000
    data, found = taken(
        datum("annotation", 1.0, label="stimulus", duration=0.5, trial=3),
        datum("notify.trigger.seen", 2.0, subject="trigger.seen", value=7),
        datum("notify.calibration.setup.v2", 3.0, subject="calibration.setup.v2", calib_data=long),
        datum("notify.without.time", None, subject="without.time"),
    )
    ((_, [text]),) = found["/annotations"]
    assert text.startswith("stimulus")
    assert "trial = 3" in text
    assert found["/notifications"] == [
        (2_000_000_000, ["trigger.seen\nvalue = 7"]), (3_000_000_000, ["calibration.setup.v2"]),
    ]  # fmt: skip
    assert data.counts["unreadable"] == 0


GARBAGE = [
    [b"pupil.0.2d", b"\xc1"],
    [b"pupil.0.2d", msgpack.packb([1, 2])],
    datum("pupil.0.2d", "noon"),
    datum("pupil.0.2d", 1e300),
    datum("pupil.0.2d", float("nan")),
    pupil(1.0, eye=99),
    pupil(1.0, eye="left"),
    pupil(1.0, confidence="high"),
    [b"gaze.2d.0.", b""],
    [b"blinks", b"\x93"],
    datum("blinks", float("inf")),
    datum("fixations", None),
    [b"annotation", b"\xff" * 10],
    [b"notify.\xff", b"\xc1"],
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_counted_and_costs_nothing_else(garbage: list[bytes]) -> None:
    data, found = taken(pupil(100.0), garbage, pupil(101.0))
    assert [time for time, _ in found["/pupil/0/2d/confidence"]] == [100_000_000_000, 101_000_000_000]
    assert (data.counts["pupil"], data.counts["unreadable"]) == (2, 1)


@given(st.lists(st.tuples(st.sampled_from(LiveData.topics), st.binary(max_size=60)), max_size=8))
@settings(deadline=None, max_examples=60)
def test_any_bytes_are_survived(messages: list[tuple[str, bytes]]) -> None:
    taken(*([topic.encode(), body] for topic, body in messages), pupil(100.0))


def image(stream: str = "world", stamp: Any = 1.0, **more: Any) -> Message:
    width, height = (64, 48) if stream == "world" else (32, 32)
    fields = {"width": width, "height": height, "timestamp": stamp, "format": "jpeg", **more}
    topic = "frame.world" if stream == "world" else f"frame.eye.{stream[3:]}"
    return Message(topic, fields, (make_jpeg(stream, 0),))


def test_jpegs_pass_as_they_are_and_too_many_are_thinned_out() -> None:
    images = LiveImages(10.0)
    for number in range(31):
        images.take(image(stamp=number / 30))
        images.take(image("eye0", stamp=number / 30))
    found = rows(list(images.chunks()))
    assert [round(time / 1e9, 3) for time, _ in found["/world/video"]] == [round(0.1 * n, 3) for n in range(11)]
    assert {bytes(blob[0]) for _, blob in found["/world/video"]} == {make_jpeg("world", 0)}
    assert images.counts == {"world": 11, "eye0": 11}
    assert (images.thinned, images.sizes) == (40, {"world": (64, 48), "eye0": (32, 32)})
    # Time was set back: that is no reason to wait until it has caught up.
    images.take(image(stamp=0.5))
    assert [time for time, _ in rows(list(images.chunks()))["/world/video"]] == [500_000_000]


@pytest.mark.parametrize("kind", ["gray", "bgr", "yuv"])
def test_raw_images_become_jpegs(kind: str) -> None:
    images = LiveImages(100.0)
    gray = np.full((48, 64), 90, np.uint8)
    gray[:, 32:] = 200
    bgr, colours = np.repeat(gray[..., None], 3, 2), b"\x80" * gray.size
    samples = {"gray": gray.tobytes(), "bgr": bgr.tobytes(), "yuv": gray.tobytes() + colours}[kind]
    for stamp in (1.0, 2.0):
        images.take(Message("frame.world", {**image(stamp=stamp).payload, "format": kind}, (samples,)))
    ((_, blob), _) = rows(list(images.chunks()))["/world/video"]
    images.close()
    assert np.abs(bgr_jpeg(bytes(blob[0]))[..., 1].astype(int) - gray).mean() < 4


@pytest.mark.parametrize(
    "wrong",
    [
        Message("frame.world", image().payload),
        Message("frame.world", {**image().payload, "width": "wide"}, (b"x",)),
        Message("frame.world", {**image().payload, "height": 10**9}, (b"x",)),
        Message("frame.world", {**image().payload, "format": "png"}, (b"x",)),
        Message("frame.world", {**image().payload, "format": "bgr"}, (b"too short",)),
        Message("frame.world", {**image().payload, "timestamp": None}, (b"x",)),
        Message("frame.eye.77", image().payload, (b"x",)),
        Message("frame.audio", image().payload, (b"x",)),
    ],
    ids=range(8),
)
def test_what_is_no_image_is_counted(wrong: Message) -> None:
    images = LiveImages(10.0)
    images.take(wrong)
    images.close()
    assert (list(images.chunks()), images.unreadable, images.counts) == ([], 1, {})


STATUS = {"streams": {name: {"state": "streaming"} for name in ("world", "eye0")} | {"pupil": {"state": "data"}}}


@contextmanager
def daemon(port: int) -> Iterator[Publisher]:
    """A bus that says that it has two cameras."""
    run = RunDir.create()
    with PupilClock.create(run.clock) as clock:
        broker = Broker(run, clock, port=port)
        broker.start()
        publisher = Publisher(run.pub)
        try:
            broker.show(STATUS)
            yield publisher
        finally:
            publisher.close()
            broker.close()
    run.remove()


@contextmanager
def running(view: LiveView) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=view.run, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        view.close()


def publish(publisher: Publisher, start: float, more: Callable[[], bool]) -> float:
    """Publish pupils until ``more`` is false; return the time of the last one."""
    stamp = start

    def step() -> bool:
        nonlocal stamp
        stamp += 0.01
        publisher.send_packed("pupil.0.2d", pupil(stamp)[1])
        publisher.send("gazed.status", STATUS)
        return not more()

    wait_for(step)
    return stamp


def test_a_daemon_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    said: list[str] = []
    last = 0.0
    with Remote("127.0.0.1", port, timeout=0.3) as remote, ExitStack() as stack:
        with daemon(port) as publisher:
            view = LiveView(remote, 0, save=tmp_path / "kept.rrd", every_s=0.05, say=said.append)
            stack.enter_context(running(view))
            await_subscriber(publisher, "frame.world")
            publish(publisher, 100.0, lambda: view.counts["pupil"] < 3)
            jpeg = make_jpeg("world", 0)
            publisher.send("frame.world", {**image().payload, "timestamp": 101.0, "__raw_data__": [jpeg]})
            wait_for(lambda: view.counts["images"] == {"world": 1})
        wait_for(lambda: said)
        with daemon(port) as publisher:
            wait_for(lambda: len(said) == 2)
            known = view.counts["pupil"]
            last = publish(publisher, 200.0, lambda: view.counts["pupil"] < known + 3)
    assert said == ["the daemon does not answer any more: waiting for it", "the daemon is back"]
    found = rows(read_chunks(tmp_path / "kept.rrd"))
    times = [time / 1e9 for time, _ in found["/pupil/0/2d/confidence"]]
    assert len(times) == view.counts["pupil"]
    assert (times[0] < 101, 200 < times[-1] < last + 1e-6) == (True, True)
    assert found["/world/video"] == [(101_000_000_000, [list(jpeg)])]


def photo(number: int) -> list[Chunk]:
    return [calls.chunk("/v", Times(np.array([number])), calls.images([np.random.default_rng(number).bytes(50_000)]))]


def test_a_live_file_is_whole_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "kept.rrd"
    views = list(blueprint_chunks(views_of({"/blinks"})))
    file = LiveFile(path, "some id", views)
    for number in range(100):
        file.send(photo(number))
    file.close()
    assert calls.read_ids(path) == ("gazed", "some id")
    assert [time for time, _ in rows(read_chunks(path))["/v"]] == list(range(100))
    assert read_chunks(path, blueprint=True)
    assert path.read_bytes()[-12:-4] == b"RRF2FOOT"


def test_a_live_file_says_that_it_cannot_be_written(tmp_path: Path) -> None:
    file = LiveFile(tmp_path / "kept.rrd", "some id", list(blueprint_chunks(views_of({"/blinks"}))))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, old[1]))

    def send() -> None:
        for number in range(200):
            file.send(photo(number))

    try:
        with pytest.raises(OSError, match=r"kept\.rrd") as caught:
            send()
        assert caught.value.errno == errno.EFBIG
        with pytest.raises(OSError, match=r"kept\.rrd"):
            file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_is_not_replaced_unless_asked_to(tmp_path: Path) -> None:
    port, kept = free_port(), tmp_path / "kept.rrd"
    kept.write_bytes(b"mine")
    with daemon(port), Remote("127.0.0.1", port) as remote:
        with pytest.raises(AlreadyThere):
            LiveView(remote, 0, save=kept)
        assert kept.read_bytes() == b"mine"
        with pytest.raises(FileNotFoundError):
            LiveView(remote, 0, save=tmp_path / "nowhere" / "kept.rrd")
        LiveView(remote, 0, save=kept, replace=True).close()
        assert kept.read_bytes().startswith(b"RRF2")
        with pytest.raises(PortInUse, match=str(port)):
            LiveView(remote, port)
