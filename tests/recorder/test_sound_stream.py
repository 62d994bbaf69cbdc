"""The stream of a microphone: where its parts end, what its gaps are, and what is refused."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from gazed_bus.frame import AUDIO, PayloadFormat, StreamInfo
from gazed_bus.lane import FrameHeader
from gazed_recorder.manifest import StreamReport
from gazed_recorder.stream import StreamWriter

RATE, BLOCK = 48_000, 1024
BLOCK_S = BLOCK / RATE
INFO = StreamInfo(AUDIO, "test", "card", "1", BLOCK, 2, 1 / BLOCK_S, "pcm", "arrival", sample_rate=RATE)


def demuxed(path: Path) -> list[tuple[int, int]]:
    with av.open(path) as container:
        return [(packet.pts, packet.duration) for packet in container.demux(audio=0) if packet.size]


def header(
    number: int, at: float, *, missed: int = 0, size: tuple[int, int] = (BLOCK, 2), form: PayloadFormat = "pcm"
) -> FrameHeader:
    ns = round(at * 1e9)
    kind = {"jpeg": 0, "pcm": 4}[form]
    return FrameHeader(1, 2, number, float("nan"), ns, ns, at, number + 1, 0, missed, *size, kind)


def recorded(folder: Path, headers: list[FrameHeader], info: StreamInfo = INFO) -> StreamReport:
    report = StreamReport(kind="audio")
    writer = StreamWriter(folder, AUDIO, "h264", report)
    for count, each in enumerate(headers, 1):
        writer.take(b"a", each._replace(received=count), bytes(2 * each.width * each.height), info)
        assert writer.confirmed_ns == each.captured_ns
    writer.close()
    assert report.received == report.written + sum(report.dropped.values())
    return report


def parts(report: StreamReport) -> list[tuple[str, int]]:
    assert all(part.codec == "flac" for part in report.parts)
    return [(part.file, part.frames) for part in report.parts]


def test_clocks_that_drift_apart_end_no_part(tmp_path):
    report = recorded(tmp_path, [header(n, 10 + n * (BLOCK_S + 0.02)) for n in range(40)])
    assert (parts(report), report.gap_count) == ([("sound.mp4", 40)], 0)


@pytest.mark.parametrize(
    ("step", "number", "count"), [(0.099, 5, 1), (0.101, 5, 2), (-0.01, 5, 1), (0.0, 6, 2), (0.0, 0, 2)]
)
def test_a_part_ends_where_sound_does_not_go_on(tmp_path, step, number, count):
    before = [header(n, 10 + n * BLOCK_S) for n in range(5)]
    after = [header(number + n, 10 + (5 + n) * BLOCK_S + step) for n in range(5)]
    found = parts(recorded(tmp_path, before + after))
    assert found == ([("sound.mp4", 10)] if count == 1 else [("sound.mp4", 5), ("sound_001.mp4", 5)])
    for stem in (file.removesuffix(".mp4") for file, _ in found):
        assert [pts for pts, _ in demuxed(tmp_path / f"{stem}.mp4")] == [
            BLOCK * n for n in range(len(np.load(tmp_path / f"{stem}_timestamps.npy")))
        ]


@pytest.mark.parametrize("size", [(BLOCK, 1), (480, 2)])
def test_another_shape_begins_a_part(tmp_path, size):
    report = recorded(tmp_path, [header(0, 10.0), header(1, 10 + BLOCK_S, size=size)])
    assert parts(report) == [("sound.mp4", 1), ("sound_001.mp4", 1)]


def test_what_no_block_could_be_written_to_is_no_part(tmp_path):
    report = StreamReport(kind="audio")
    writer = StreamWriter(tmp_path, AUDIO, "jpeg", report)
    for number, size in enumerate([7, 7, 4096, 4096]):
        writer.take(b"a", header(number, 10 + number * BLOCK_S), bytes(size), INFO)
    writer.take(b"a", header(4, 10 + 4 * BLOCK_S, size=(480, 2)), b"", INFO)
    writer.close()
    assert (report.dropped, report.written, parts(report)) == ({"corrupt": 3}, 2, [("sound.mp4", 2)])
    assert not (tmp_path / "sound_001.mp4").exists()


def test_a_refused_block_leaves_no_hole_in_a_part(tmp_path):
    report = StreamReport(kind="audio")
    writer = StreamWriter(tmp_path, AUDIO, "jpeg", report)
    for number, size in enumerate([4096, 4096, 4095, 4096, 4096]):
        writer.take(b"a", header(number, 10 + number * BLOCK_S), bytes(size), INFO)
    writer.take(b"a", header(5, 10.0), bytes(4096), INFO)
    writer.take(b"a", header(6, 11.0, form="jpeg"), b"\xff\xd8", INFO)
    writer.close()
    assert (report.dropped, report.written, report.lost) == ({"corrupt": 2, "not-increasing": 1}, 4, 0)
    assert [(part.file, part.frames) for part in report.parts] == [("sound.mp4", 2), ("sound_001.mp4", 2)]


def test_sound_on_a_camera_is_refused(tmp_path):
    report = StreamReport(kind="video")
    writer = StreamWriter(tmp_path, "world", "jpeg", report)
    writer.take(b"a", header(0, 10.0), bytes(4096), INFO)
    writer.close()
    assert (report.dropped, report.parts) == ({"corrupt": 1}, [])


def test_a_silence_is_one_gap_however_many_blocks_it_has(tmp_path):
    missed = [0, 0, 0, 1, 2, 3, 3, 3, 4, 4]
    report = recorded(tmp_path, [header(n, 10 + n, missed=m) for n, m in enumerate(missed)])
    assert (report.written, report.missed) == (10, 4)
    device = [(gap.after, gap.before, gap.frames) for gap in report.gaps if gap.reason == "device"]
    assert device == [(12.0, 15.0, 3), (17.0, 18.0, 1)]


def test_blocks_between_two_that_were_dropped_are_in_no_gap(tmp_path):
    report = StreamReport(kind="audio")
    writer = StreamWriter(tmp_path, AUDIO, "jpeg", report)
    for number, dropped in ((0, 0), (2, 1), (4, 2)):
        block = header(number, 10 + number * BLOCK_S)
        writer.take(b"a", block._replace(dropped=dropped), bytes(4096), INFO)
    writer.close()
    stamps = [10 + number * BLOCK_S for number in (0, 2, 4)]
    found = [(gap.after, gap.before, gap.frames, gap.reason) for gap in report.gaps]
    assert found == [(*stamps[:2], 1, "queue-full"), (*stamps[1:], 1, "queue-full")]


def test_why_a_block_is_refused_is_told_once(tmp_path, caplog):
    writer = StreamWriter(tmp_path, AUDIO, "jpeg", StreamReport(kind="audio"))
    for number in range(5):
        writer.take(b"a", header(number, 10 + number * BLOCK_S), bytes(7), INFO)
    writer.close()
    [record] = caplog.records
    assert "audio: sound: a block of 7 bytes, wanted 1024 samples of 2 channels" in record.getMessage()
