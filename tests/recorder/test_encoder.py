from __future__ import annotations

import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from gazed_recorder.encoder import EncodedPart, Encoder
from gazed_recorder.mp4_scan import scan
from gazed_recorder.part import repair_part
from gazed_recorder.records import FrameRecord
from gazed_recorder.refused import EncoderBehind, NotAnImage, NotIncreasing

WIDTH, HEIGHT, FPS = 320, 240, 30
RNG = np.random.default_rng(3)
TIMES = (500 + np.arange(75) / FPS + RNG.uniform(-0.01, 0.01, 75)).tolist()


def jpeg(i: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Return a picture whose brightness tells its number."""
    image = np.full((height, width, 3), 20 + 2 * i, np.uint8)
    cv2.rectangle(image, (4 * (i % 60), 50), (4 * (i % 60) + 30, 90), (0, 0, 255), -1)
    return cv2.imencode(".jpg", image)[1].tobytes()


JPEGS = [jpeg(i) for i in range(75)]


def record(i: int) -> FrameRecord:
    return FrameRecord(i, float("nan"), 100 * i + 7, 100 * i, TIMES[i], 0)


def feed(part: EncodedPart, jpegs: list[bytes]) -> None:
    for i, image in enumerate(jpegs):
        while part.backlog > 50:
            time.sleep(0.001)
        part.write(record(i), memoryview(image))


def decoded(path: Path) -> list[tuple[int, float]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        scale = int(stream.time_base * 1_000_000)
        return [(f.pts * scale, float(f.to_ndarray(format="bgr24")[150:].mean())) for f in container.decode(stream)]


@pytest.mark.parametrize("mode", ["h264", "mpeg4"])
def test_every_frame_is_encoded_in_order_with_its_own_time(tmp_path, mode):
    part = EncodedPart(tmp_path, "world", mode, WIDTH, HEIGHT, FPS)
    feed(part, JPEGS)
    part.close()
    part.close()
    assert (part.frames, part.dropped, part.backlog) == (75, {}, 0)
    assert (part.first, part.last, part.last_captured_ns) == (TIMES[0], TIMES[-1], 7400)
    video = tmp_path / "world.mp4"
    shown = decoded(video)
    assert [pts for pts, _ in shown] == [round((t - TIMES[0]) * 1e6) for t in TIMES]
    for i, (_, brightness) in enumerate(shown):
        assert abs(brightness - (20 + 2 * i)) < 4
    found = scan(video)
    assert (found.track.name, found.track.width, found.track.height, found.final) == (mode, WIDTH, HEIGHT, True)
    assert found.keys[0]
    assert 3 <= found.keys.sum() < 20
    assert video.stat().st_size < sum(map(len, JPEGS)) / 2
    rows = np.load(tmp_path / "world_frames.npy")
    assert rows["sequence"].tolist() == list(range(75))
    assert np.array_equal(np.load(tmp_path / "world_timestamps.npy"), rows["timestamp"])


@pytest.mark.parametrize("mode", ["h264", "mpeg4"])
def test_seeking_by_index_finds_the_frame(tmp_path, mode):
    part = EncodedPart(tmp_path, "world", mode, WIDTH, HEIGHT, FPS)
    feed(part, JPEGS)
    part.close()
    capture = cv2.VideoCapture(str(tmp_path / "world.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 75
    in_order = [capture.read()[1] for _ in range(75)]
    for index in (40, 3, 74, 0, 73, 31, 30, 29):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        found, image = capture.read()
        assert found
        assert np.array_equal(image, in_order[index])
    capture.release()


@pytest.mark.parametrize("mode", ["h264", "mpeg4"])
def test_what_is_on_disk_is_readable_while_recording_and_after_a_cut(tmp_path, mode):
    part = EncodedPart(tmp_path, "world", mode, WIDTH, HEIGHT, FPS)
    feed(part, JPEGS[:40])
    deadline = time.monotonic() + 10
    while part.frames < 40:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    part.sync()
    video = tmp_path / "world.mp4"
    assert len(decoded(video)) == 40
    torn = video.read_bytes()[:-30]
    part.close()
    video.write_bytes(torn)
    result = repair_part(tmp_path, "world")
    assert (len(result.records), result.lost) == (39, 1)
    assert len(decoded(video)) == len(np.load(tmp_path / "world_timestamps.npy")) == 39


@pytest.mark.parametrize(
    "bad", [b"", b"\xff\xd8\xff\xd9", bytes(1000), JPEGS[0][:100], jpeg(1, 160, 120), b"\xff\xd8" + bytes(300)]
)
def test_a_corrupt_frame_is_counted_and_the_stream_goes_on(tmp_path, bad):
    part = EncodedPart(tmp_path, "world", "h264", WIDTH, HEIGHT, FPS)
    feed(part, [*JPEGS[:5], bad, *JPEGS[6:10], bad])
    part.close()
    assert (part.frames, part.dropped) == (9, {"corrupt": 2})
    assert part.last_captured_ns == 1000
    rows = np.load(tmp_path / "world_frames.npy")
    assert rows["sequence"].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert len(decoded(tmp_path / "world.mp4")) == 9


def test_a_time_that_does_not_grow_is_refused_at_once(tmp_path):
    part = EncodedPart(tmp_path, "world", "h264", WIDTH, HEIGHT, FPS)
    part.write(record(1), JPEGS[1])
    for refused in (record(1), record(0), record(2)._replace(timestamp=float("nan"))):
        with pytest.raises(NotIncreasing):
            part.write(refused, JPEGS[0])
    part.write(record(2), JPEGS[2])
    part.close()
    assert part.frames == 2


def test_a_full_queue_refuses_and_what_was_taken_is_written(tmp_path):
    part = EncodedPart(tmp_path, "world", "h264", 1280, 720, FPS)
    image = jpeg(5, 1280, 720)
    frames = (record(0)._replace(timestamp=float(i)) for i in range(10_000))
    taken = []
    with pytest.raises(EncoderBehind, match="frames wait"):
        taken.extend(frame for frame in frames if part.write(frame, image) is None)
    assert len(taken) >= 64
    part.close()
    assert (part.frames, part.dropped) == (len(taken), {})


def test_closing_ends_the_thread(tmp_path):
    before = threading.active_count()
    part = EncodedPart(tmp_path, "eye0", "mpeg4", WIDTH, HEIGHT, 200)
    assert threading.active_count() == before + 1
    part.close()
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_files_that_exist_are_left_alone_and_no_thread_is_started(tmp_path):
    (tmp_path / "eye0_timestamps.npy").write_bytes(b"mine")
    before = threading.active_count()
    with pytest.raises(FileExistsError):
        EncodedPart(tmp_path, "eye0", "h264", WIDTH, HEIGHT, FPS)
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["eye0_timestamps.npy"]


@pytest.mark.parametrize("size", [(192, 192), (400, 400), (1280, 720), (66, 50)])
@pytest.mark.parametrize("mode", ["h264", "mpeg4"])
def test_each_image_gives_one_packet_and_the_first_is_a_key_frame(mode, size):
    encoder = Encoder(mode, *size, FPS)
    results = [encoder.encode(jpeg(i, *size)) for i in range(3)]
    assert results[0][1]
    assert all(packet.nbytes for packet, _ in results)
    with pytest.raises(NotAnImage, match=f"{size[0]}x{size[1]}"):
        encoder.encode(b"no image")
    encoder.close()
