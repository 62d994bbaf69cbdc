from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_recorder.mp4_write import LONGEST_GAP, FragmentWriter, mjpeg_track
from gazed_recorder.records import FrameRecord
from gazed_recorder.refused import GapTooLong, NotIncreasing

WIDTH, HEIGHT = 64, 48
CODEC = mjpeg_track(WIDTH, HEIGHT)
RECORD = FrameRecord(1, float("nan"), 2, 3, 4.0, 5)


def jpeg(shade: int) -> bytes:
    return cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), shade, np.uint8))[1].tobytes()


def packets(path: Path) -> list[tuple[int, int, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        scale = int(1_000_000 * stream.time_base)
        return [(p.pts * scale, p.dts * scale, bytes(p)) for p in container.demux(stream) if p.size]


def shades(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [round(float(f.to_ndarray(format="gray").mean())) for f in container.decode(video=0)]


frames = st.lists(st.tuples(st.integers(1, 2_000_000), st.binary(min_size=1, max_size=300)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(frames=frames)
def test_times_and_packets_read_back_exactly_before_and_after_finishing(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("v") / "v.mp4"
    times = [0, *np.cumsum([gap for gap, _ in frames[1:]]).tolist()]
    expected = [(t, t, payload) for t, (_, payload) in zip(times, frames, strict=True)]
    writer = FragmentWriter(path, CODEC)
    for t, _, payload in expected:
        writer.write(payload, t, RECORD)
    assert writer.size == path.stat().st_size
    assert packets(path) == expected
    writer.finalise()
    assert packets(path) == expected


def test_the_index_of_a_long_video_is_not_kept_in_memory(tmp_path):
    path = tmp_path / "v.mp4"
    writer = FragmentWriter(path, CODEC)
    count = 3 * 4096 + 7
    gaps = np.random.default_rng(3).integers(1, 9_000, count)
    times = np.concatenate([[0], np.cumsum(gaps)[:-1]]).tolist()
    for number, time in enumerate(times):
        payload = number.to_bytes(3, "big") + bytes(number % 5)
        writer.write(b"taken back", time, RECORD, key=False)
        writer.undo()
        writer.write(payload, time, RECORD, key=number % 30 == 0)
        assert len(writer._rows) <= 4096 * 9
    writer.finalise()
    assert [name.name for name in tmp_path.iterdir()] == ["v.mp4"]
    found = packets(path)
    assert [pts for pts, _, _ in found] == times
    assert [int.from_bytes(payload[:3], "big") for _, _, payload in found] == list(range(count))


@pytest.fixture
def jittery() -> list[int]:
    rng = np.random.default_rng(5)
    return [0, *(np.arange(1, 120) * 33_333 + rng.integers(-12_000, 12_000, 119)).tolist()]


@pytest.mark.parametrize("final", [False, True])
def test_decoders_agree_on_count_and_find_frames_by_index(tmp_path, jittery, final):
    path = tmp_path / "v.mp4"
    writer = FragmentWriter(path, CODEC)
    for i, t in enumerate(jittery):
        writer.write(jpeg(2 * i), t, RECORD)
    (writer.finalise if final else writer.abandon)()
    in_order = shades(path)
    assert len(in_order) == len(jittery)
    assert in_order == sorted(set(in_order))
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(jittery)
    for index in (60, 3, 119, 0, 118, 61, 1):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        found, image = capture.read()
        assert found
        assert abs(image.mean() - 2 * index) < 1
    capture.release()
    if shutil.which("ffprobe"):
        ask = ["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"]
        done = subprocess.run(["ffprobe", *ask, str(path)], capture_output=True, text=True, check=True)
        assert (done.stdout.strip(), done.stderr) == (str(len(jittery)), "")


def top_level(path: Path) -> list[bytes]:
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        size = struct.unpack_from(">Q", data, at + 8)[0] if size == 1 else size
        names.append(name)
        at += size
    assert at == len(data)
    return names


def test_the_boxes_of_a_running_and_of_a_finished_file(tmp_path):
    path = tmp_path / "v.mp4"
    writer = FragmentWriter(path, CODEC)
    for i in range(2):
        writer.write(jpeg(i), i * 1000, RECORD)
    assert top_level(path) == [b"ftyp", b"free", b"moov", b"free", *[b"free", b"mdat", b"moof"] * 2]
    writer.finalise()
    assert top_level(path) == [b"ftyp", b"mdat", b"moov"]


def test_every_moof_lies_where_no_page_boundary_can_cut_it_badly(tmp_path):
    path = tmp_path / "v.mp4"
    writer = FragmentWriter(path, CODEC)
    for size in range(1, 40):
        writer.write(b"x" * size, size - 1, RECORD)
    writer.abandon()
    data = path.read_bytes()
    at = data.find(b"moof")
    while at >= 0:
        assert (at - 4) % 16 == 0
        at = data.find(b"moof", at + 1)


def test_buffers_of_all_kinds_are_taken(tmp_path):
    image = jpeg(99)
    kinds = [
        image,
        bytearray(image),
        memoryview(image),
        zmq.Frame(image).buffer,
        memoryview(np.frombuffer(image, np.uint8)),
    ]
    writer = FragmentWriter(tmp_path / "v.mp4", CODEC)
    for i, payload in enumerate(kinds):
        writer.write(payload, i, RECORD)
    writer.finalise()
    assert [payload for *_, payload in packets(tmp_path / "v.mp4")] == [image] * len(kinds)


@pytest.mark.parametrize(("time", "refusal"), [(10, NotIncreasing), (9, NotIncreasing), (11 + LONGEST_GAP, GapTooLong)])
def test_a_time_that_does_not_fit_is_refused_and_nothing_written(tmp_path, time, refusal):
    path = tmp_path / "v.mp4"
    writer = FragmentWriter(path, CODEC)
    writer.write(jpeg(0), 0, RECORD)
    writer.write(jpeg(1), 10, RECORD)
    before = path.read_bytes()
    with pytest.raises(refusal):
        writer.write(jpeg(2), time, RECORD)
    assert path.read_bytes() == before
    writer.write(jpeg(3), 10 + LONGEST_GAP, RECORD)
    writer.finalise()
    assert [t for t, *_ in packets(path)] == [0, 10, 10 + LONGEST_GAP]


def test_the_last_frame_can_be_taken_back(tmp_path):
    path = tmp_path / "v.mp4"
    writer = FragmentWriter(path, CODEC)
    writer.write(b"a", 0, RECORD)
    writer.write(b"b", 10, RECORD)
    writer.undo()
    assert (writer.frames, writer.last_dts) == (1, 0)
    writer.write(b"c", 7, RECORD)
    writer.finalise()
    assert packets(path) == [(0, 0, b"a"), (7, 7, b"c")]


def test_nothing_is_overwritten_and_no_file_is_left_open(tmp_path):
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / "v.mp4").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        FragmentWriter(tmp_path / "v.mp4", CODEC)
    FragmentWriter(tmp_path / "w.mp4", CODEC).finalise()
    FragmentWriter(tmp_path / "x.mp4", CODEC).abandon()
    assert (tmp_path / "v.mp4").read_bytes() == b"mine"
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
