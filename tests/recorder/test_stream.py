"""The accounts of one stream, and of the datums beside it."""

from __future__ import annotations

import os
from pathlib import Path

import msgpack
import psutil
import pytest

from gazed_bus.codec import add_sequence
from gazed_bus.frame import StreamInfo
from gazed_bus.gaps import GapCounter
from gazed_bus.lane import Ended, FrameHeader
from gazed_recorder.datums import DatumWriter
from gazed_recorder.manifest import StreamReport
from gazed_recorder.stream import StreamWriter
from gazed_timesync import PupilTime

INFO = StreamInfo("world", "test", "camera", "1", 64, 48, 100.0, "jpeg", "arrival")
JPEG = b"\xff\xd8 a frame"
NOISE = b"no image"


def header(number: int, *, dropped: int = 0, missed: int = 0, size: tuple[int, int] = (64, 48)) -> FrameHeader:
    at = 1_000_000_000 + number * 10_000_000
    return FrameHeader(1, 2, number, 0.0, at, at, at / 1e9, number + 1, dropped, missed, *size, 0)


def exact(report: StreamReport) -> bool:
    return report.received == report.written + sum(report.dropped.values()) + report.lost


@pytest.mark.parametrize("mode", ["jpeg", "mpeg4"])
def test_refused_frames_are_settled(tmp_path: Path, mode) -> None:
    """The lane lets 256 frames travel unconfirmed: a longer row of broken ones must not stop it for good."""
    report = StreamReport(kind="video")
    writer = StreamWriter(tmp_path, "world", mode, report)
    for number in range(300):
        writer.take(b"a", header(number), NOISE, INFO)
        if mode == "mpeg4":
            while writer.confirmed_ns < header(number).captured_ns:
                pass
    assert writer.confirmed_ns == header(299).captured_ns
    writer.close()
    assert report.dropped == {"corrupt": 300}
    assert exact(report)


def test_what_a_full_disk_refuses_is_settled(tmp_path: Path) -> None:
    report = StreamReport(kind="video")
    writer = StreamWriter(tmp_path, "world", "jpeg", report)
    writer.take(b"a", header(0), JPEG, INFO)
    writer.refuse(b"a", header(1), "disk")
    assert writer.confirmed_ns == header(1).captured_ns
    writer.close()
    assert (report.written, report.dropped, exact(report)) == (1, {"disk": 1}, True)


def test_a_new_size_makes_a_new_part_and_costs_nothing(tmp_path: Path) -> None:
    report = StreamReport(kind="video")
    writer = StreamWriter(tmp_path, "world", "jpeg", report)
    for number, size in enumerate([(64, 48), (64, 48), (32, 24), (64, 48)]):
        writer.take(b"a", header(number, size=size), JPEG, INFO)
        assert writer.confirmed_ns == header(number).captured_ns
    writer.close()
    assert [(part.file, part.frames) for part in report.parts] == [
        ("world.mp4", 2), ("world_001.mp4", 1), ("world_002.mp4", 1),
    ]  # fmt: skip
    assert (report.received, report.written, report.dropped, report.lost) == (4, 4, {}, 0)


def test_a_writer_that_goes_on_counts_each_gap_once(tmp_path: Path) -> None:
    report = StreamReport(kind="video")
    first = StreamWriter(tmp_path, "world", "jpeg", report)
    first.take(b"a", header(0), JPEG, INFO)
    first.take(b"a", header(5, dropped=3, missed=1), JPEG, INFO)
    assert [(gap.frames, gap.reason) for gap in report.gaps] == [(4, "queue-full")]
    first.close()
    second = StreamWriter(tmp_path, "world", "jpeg", report, last_captured_ns=header(5).captured_ns)
    second.take(b"a", header(6, dropped=3, missed=1), JPEG, INFO)
    assert report.gap_count == 1
    second.take(b"a", header(16, dropped=3, missed=1), JPEG, INFO)
    second.take(b"b", header(26), JPEG, INFO)
    assert [(gap.frames, gap.reason) for gap in report.gaps[1:]] == [(9, "silence"), (9, "camera-restarted")]
    second.end(Ended(b"b", 1, 2, 1, 0))
    second.close()
    assert report.dropped == {"queue-full": 4}


def datum(topic: str) -> bytes:
    return msgpack.packb({"topic": topic, "timestamp": 1.0, "label": topic})


def test_made_up_topics_share_one_log(tmp_path: Path) -> None:
    reports: dict[str, StreamReport] = {}
    before = psutil.Process().num_fds()
    datums = DatumWriter(tmp_path, reports)
    for number in range(500):
        datums.take(f"annotation{number}", datum(f"annotation{number}"), PupilTime(1.0))
        datums.note_losses({f"blinks{n}": 1 for n in range(number)})
    assert psutil.Process().num_fds() - before <= 70
    datums.close()
    assert len(reports) <= 33
    assert sum(report.written for report in reports.values()) == 500
    assert sum(report.dropped.get("bus", 0) for report in reports.values()) == 499
    assert all(exact(report) for report in reports.values())


def test_an_annotation_that_the_disk_refused_is_not_confirmed_later(tmp_path: Path) -> None:
    datums = DatumWriter(tmp_path, {})
    datums.take("annotation", datum("annotation"), PupilTime(1.0))
    with Path("/dev/full").open("wb") as full:
        file = next(open_.fd for open_ in psutil.Process().open_files() if open_.path.endswith("annotation.pldata"))
        good = os.dup(file)
        os.dup2(full.fileno(), file)
        with pytest.raises(OSError, match=r"\[Errno"):
            datums.flush()
        os.dup2(good, file)
        os.close(good)
    assert datums.flush() == []
    datums.close()


def test_losses_of_made_up_topics_are_counted_together() -> None:
    gaps = GapCounter()
    for number in range(3000):
        for counter in (0, 2):
            gaps.see(b"topic%d" % number, add_sequence(b"\x80", 5, counter))
    assert len(gaps.lost) == 1025
    assert sum(gaps.lost.values()) == 3000
