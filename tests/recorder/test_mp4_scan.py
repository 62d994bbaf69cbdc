from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gazed_recorder.errors import DamagedFile
from gazed_recorder.mp4_fragment import MAGIC, fragment_head, fragment_tail
from gazed_recorder.mp4_scan import last_frame, repair_mp4, scan
from gazed_recorder.mp4_write import FragmentWriter, mjpeg_track
from gazed_recorder.records import FRAME_DTYPE, FrameRecord

CODEC = mjpeg_track(64, 48)


def payload(number: int, size: int) -> bytes:
    return np.random.default_rng(number).bytes(size)


def video(path: Path, sizes: list[int], *, final: bool) -> list[FrameRecord]:
    records = [FrameRecord(7 * i, i / 3, i, -i, i / 30, i) for i in range(len(sizes))]
    writer = FragmentWriter(path, CODEC)
    for i, (record, size) in enumerate(zip(records, sizes, strict=True)):
        writer.write(payload(i, size), 1000 * i, record)
    (writer.finalise if final else writer.abandon)()
    return records


def demuxed(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(video=0) if p.size]


SIZES = [700, 1, 33, 5000, 64, 9]


@pytest.mark.parametrize("final", [False, True])
def test_a_scan_finds_every_frame_and_its_record(tmp_path, final):
    path = tmp_path / "v.mp4"
    records = video(path, SIZES, final=final)
    found = scan(path)
    assert (found.track, found.final, found.torn, found.cut_frames) == (CODEC, final, 0, 0)
    assert found.sizes.tolist() == SIZES
    assert found.dts.tolist() == [0, 1000, 2000, 3000, 4000, 5000]
    assert found.keys.tolist() == [True] * 6
    assert found.records.dtype == FRAME_DTYPE
    assert [FrameRecord(*row) for row in found.records.tolist()] == records
    data = path.read_bytes()
    for i, (offset, size) in enumerate(zip(found.offsets.tolist(), SIZES, strict=True)):
        assert data[offset : offset + size] == payload(i, size)


def test_a_video_without_frames_is_scanned(tmp_path):
    path = tmp_path / "v.mp4"
    video(path, [], final=False)
    assert len(scan(path).dts) == 0
    repair_mp4(path)
    assert scan(path).final


@settings(max_examples=150, deadline=None)
@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=8), where=st.floats(0, 1), final=st.booleans())
def test_a_file_cut_anywhere_keeps_its_whole_frames(tmp_path_factory, sizes, where, final):
    path = tmp_path_factory.mktemp("v") / "v.mp4"
    records = video(path, sizes, final=final)
    whole = scan(path)
    start = int(whole.offsets[0]) - 72 - -sizes[0] % 16
    ends = whole.offsets + whole.sizes + 104
    length = path.stat().st_size
    cut = start + round((length - 1 - start) * where)
    with path.open("r+b") as file:
        file.truncate(cut)
    kept = int((ends <= cut).sum())
    expected = [payload(i, size) for i, size in enumerate(sizes[:kept])]
    # The eight bytes of a moof that libav wants whole; no page boundary lies in them.
    blind = kept < len(sizes) and 40 <= cut - int(ends[kept] - 104) < 48
    if kept and not final and not blind:
        assert demuxed(path) == expected
    assert last_frame(path) == ((kept, records[kept - 1]) if kept else None)
    found = repair_mp4(path)
    assert len(found.dts) == kept
    assert found.end + found.torn == cut
    assert [FrameRecord(*row) for row in found.records.tolist()] == records[:kept]
    again = scan(path)
    assert (again.final, again.torn, len(again.dts)) == (True, 0, kept)
    if kept:
        assert demuxed(path) == expected


def test_a_picture_that_looks_like_a_frame_is_not_taken_for_the_last_one(tmp_path):
    path = tmp_path / "v.mp4"
    writer = FragmentWriter(path, CODEC)
    record = FrameRecord(1, 0.5, 2, 3, 4.0, 5)
    inside = fragment_head(record, 4) + b"1234" + fragment_tail(9, 72, 4, 8, 1, key=True)
    writer.write(MAGIC + inside + MAGIC, 0, record)
    writer.abandon()
    assert last_frame(path) == (1, record)
    (tmp_path / "empty").touch()
    assert last_frame(tmp_path / "empty") is None


def test_every_cut_in_the_index_leaves_a_readable_file_that_repair_completes(tmp_path):
    path = tmp_path / "v.mp4"
    video(path, SIZES, final=False)
    running = path.read_bytes()
    repair_mp4(path)
    finished = path.read_bytes()
    expected = [payload(i, size) for i, size in enumerate(SIZES)]
    for cut in [*range(8, len(finished) - len(running), 37), len(finished) - len(running)]:
        path.write_bytes(running + finished[len(running) : len(running) + cut])
        assert demuxed(path) == expected
        assert (scan(path).torn, scan(path).cut_frames) == (cut, 0)
        repair_mp4(path)
        assert path.read_bytes() == finished


def test_repairing_a_finished_file_changes_nothing(tmp_path):
    path = tmp_path / "v.mp4"
    video(path, SIZES, final=True)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert repair_mp4(path).final
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_zeros_behind_the_last_frame_are_a_torn_end(tmp_path):
    path = tmp_path / "v.mp4"
    video(path, SIZES, final=False)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(100_000))
    found = repair_mp4(path)
    assert (len(found.dts), found.end, found.torn) == (6, whole, 100_000)
    assert len(demuxed(path)) == 6


@pytest.mark.parametrize("final", [False, True])
def test_damage_before_whole_frames_is_named_and_never_cut_away(tmp_path, final):
    path = tmp_path / "v.mp4"
    video(path, SIZES, final=final)
    at = int(scan(path).offsets[2]) - 20
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    end_of_second = int(scan(path).offsets[1]) + SIZES[1] + 104
    path.write_bytes(data)
    for act in (scan, repair_mp4):
        with pytest.raises(DamagedFile, match=f"v.mp4: damaged at byte {end_of_second}, after 2 whole frames"):
            act(path)
    assert path.read_bytes() == bytes(data)


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4), final=st.booleans())
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path_factory, flips, final):
    path = tmp_path_factory.mktemp("v") / "v.mp4"
    video(path, [20, 1, 300], final=final)
    data = bytearray(path.read_bytes())
    for where, change in flips:
        data[round(where * (len(data) - 1))] ^= change
    path.write_bytes(data)
    try:
        found = scan(path)
    except DamagedFile as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - either outcome will do
    else:
        assert len(found.dts) <= 3
        assert found.end + found.torn <= len(data)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), keep=st.integers(0, 80))
def test_a_file_of_another_kind_is_refused_in_words(tmp_path_factory, data, keep):
    path = tmp_path_factory.mktemp("v") / "v.mp4"
    video(path, [5], final=False)
    good = path.read_bytes()
    assume(not good.startswith(good[:keep] + data))
    path.write_bytes(good[:keep] + data)
    with pytest.raises(DamagedFile, match=r"v\.mp4"):
        scan(path)


@pytest.mark.parametrize("dts", [0, 2_000_000_000, 2**31 + 1000, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("size", [0, 5])
def test_times_that_no_writer_of_ours_makes_end_the_video(tmp_path, dts, size):
    path = tmp_path / "v.mp4"
    video(path, SIZES[:2], final=False)
    head = fragment_head(FrameRecord(0, 0.0, 0, 0, 0.0, 0), size)
    tail = fragment_tail(3, path.stat().st_size + len(head), size, dts, (dts - 1000) % 2**32, key=False)
    with path.open("ab") as file:
        file.write(head + bytes(size) + tail)
    good = dts == 2_000_000_000
    assert len(scan(path).dts) == (3 if good else 2)
    repair_mp4(path)
    assert len(scan(path).dts) == (3 if good else 2)


@pytest.mark.parametrize("box", [0, 1, 7, 2**32 - 1])
def test_sizes_that_cannot_be_end_the_video(tmp_path, box):
    path = tmp_path / "v.mp4"
    video(path, SIZES[:2], final=False)
    free = 64 + (8 - box) % 16
    with path.open("ab") as file:
        file.write(struct.pack(">I4s8s", free, b"free", MAGIC) + bytes(free - 16) + struct.pack(">I4s", box, b"mdat"))
        file.write(bytes(300))
    assert len(scan(path).dts) == 2


def test_a_plain_mp4_of_another_writer_is_refused(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=30, width=64, height=48)
        container.start_encoding()
        packet = av.Packet(b"\xff\xd8\xff\xd9")
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        container.mux_one(packet)
    with pytest.raises(DamagedFile, match="does not begin like a video made by gazed"):
        scan(path)
