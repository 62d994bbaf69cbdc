from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gazed_recorder.mp4_scan import scan
from gazed_recorder.mp4_write import LONGEST_GAP, mjpeg_track
from gazed_recorder.part import TrackPart, next_stem, part_files, repair_part
from gazed_recorder.records import FRAME_DTYPE, FrameRecord
from gazed_recorder.refused import GapTooLong, NotAnImage, NotIncreasing

CODEC = mjpeg_track(64, 48)


def jpeg(shade: int = 128) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), shade, np.uint8))[1].tobytes()


def record(i: int, timestamp: float) -> FrameRecord:
    return FrameRecord(i, float(i), 10 * i, 10 * i - 1, timestamp, 0)


def pts(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [int(frame.pts * stream.time_base * 1_000_000) for frame in container.decode(stream)]


def assert_agree(folder: Path, stem: str = "world") -> int:
    """Check that the three files tell the same of every frame; return how many there are."""
    video, timestamps, frames = part_files(folder, stem)
    found, times, rows = scan(video), np.load(timestamps), np.load(frames)
    assert np.array_equal(times, rows["timestamp"])
    assert np.array_equal(found.records, rows)
    assert len(pts(video)) == len(times)
    data = video.read_bytes()
    for offset, size, row in zip(found.offsets.tolist(), found.sizes.tolist(), rows, strict=True):
        assert xxhash.xxh3_64_intdigest(data[offset : offset + size]) == row["checksum"]
    return len(times)


times = st.lists(st.floats(1e-7, 3.0), min_size=1, max_size=30).map(lambda gaps: (1000 + np.cumsum(gaps)).tolist())


@settings(max_examples=30, deadline=None)
@given(times=times)
def test_the_three_files_agree_while_recording_and_afterwards(tmp_path_factory, times):
    folder = tmp_path_factory.mktemp("r")
    part = TrackPart(folder, "world", CODEC)
    for i, t in enumerate(times):
        part.write(record(i, t), memoryview(jpeg(i)))
    assert assert_agree(folder) == part.frames == len(times)
    part.close()
    part.close()
    assert assert_agree(folder) == len(times)
    assert (part.first, part.last, part.last_captured_ns) == (times[0], times[-1], 10 * (len(times) - 1) - 1)
    assert np.load(folder / "world_timestamps.npy").tolist() == times
    shown = pts(folder / "world.mp4")
    # Frames less than a microsecond apart are shown one microsecond apart.
    close = sum(round((b - a) * 1e6) < 1 for a, b in itertools.pairwise(times))
    exact = [round((t - times[0]) * 1e6) for t in times]
    assert all(0 <= seen - meant <= close + 1 for seen, meant in zip(shown, exact, strict=True))
    assert not repair_part(folder, "world").changed


@pytest.mark.parametrize(
    ("timestamp", "payload", "refusal"),
    [
        (5.0, jpeg(), NotIncreasing),
        (4.0, jpeg(), NotIncreasing),
        (float("nan"), jpeg(), NotIncreasing),
        (float("inf"), jpeg(), NotIncreasing),
        (6.0 + LONGEST_GAP / 1e6, jpeg(), GapTooLong),
        (6.0, b"", NotAnImage),
        (6.0, b"\xff", NotAnImage),
        (6.0, bytes(500), NotAnImage),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_and_leaves_no_trace(tmp_path, timestamp, payload, refusal):
    part = TrackPart(tmp_path, "world", CODEC)
    part.write(record(0, 5.0), jpeg())
    before = [path.read_bytes() for path in part_files(tmp_path, "world")]
    with pytest.raises(refusal, match=r"world\.mp4"):
        part.write(record(1, timestamp), payload)
    assert [path.read_bytes() for path in part_files(tmp_path, "world")] == before
    part.write(record(1, 6.0), jpeg())
    part.close()
    assert assert_agree(tmp_path) == 2


def test_parts_are_counted_and_nothing_is_overwritten(tmp_path):
    assert next_stem(tmp_path, "eye0") == "eye0"
    stems = []
    for _ in range(3):
        stems.append(next_stem(tmp_path, "eye0"))
        part = TrackPart(tmp_path, stems[-1], CODEC)
        part.write(record(0, 1.0), jpeg())
        part.close()
    assert stems == ["eye0", "eye0_001", "eye0_002"]
    (tmp_path / "eye0_003_frames.npy").touch()
    assert next_stem(tmp_path, "eye0") == "eye0_004"
    with pytest.raises(FileExistsError):
        TrackPart(tmp_path, "eye0_003", CODEC)
    assert sorted(path.name for path in tmp_path.glob("eye0_003*")) == ["eye0_003_frames.npy"]


def test_a_part_without_frames_leaves_no_file(tmp_path):
    part = TrackPart(tmp_path, "world", CODEC)
    part.sync()
    part.close()
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@example(where=0.001953125, rows=(0, 0), tail=b"")
@given(where=st.floats(0, 1), rows=st.tuples(st.integers(0, 9), st.integers(0, 9)), tail=st.binary(max_size=7))
def test_a_torn_part_is_made_whole_from_its_video(tmp_path_factory, where, rows, tail):
    folder = tmp_path_factory.mktemp("r")
    part = TrackPart(folder, "world", CODEC)
    for i in range(9):
        part.write(record(i, 50 + i / 30), jpeg(i))
    part._file.abandon()
    part._timestamps.truncate(rows[0])
    part._frames.truncate(rows[1])
    part._timestamps.close()
    part._frames.close()
    video, timestamps, frames = part_files(folder, "world")
    with timestamps.open("ab") as file:
        file.write(tail)
    before = scan(video)
    ends = (before.offsets + before.sizes + 104).tolist()
    start = int(before.offsets[0] - 72 - -before.sizes[0] % 16)
    cut = start + round((ends[-1] - start) * where)
    with video.open("r+b") as file:
        file.truncate(cut)
    whole = sum(end <= cut for end in ends)
    result = repair_part(folder, "world")
    assert result.changed
    assert len(result.records) == whole
    torn = cut not in (start, *ends)
    if whole == 0:
        assert not any(path.exists() for path in (video, timestamps, frames))
        # What is shorter than a box and its mark may also be of what stands in front of the first frame.
        assert result.lost == (torn and cut >= start + 16)
        return
    assert result.lost == max(torn, rows[0] - whole)
    assert np.load(timestamps).tolist() == [50 + i / 30 for i in range(whole)]
    assert assert_agree(folder) == whole
    assert not repair_part(folder, "world").changed


def test_what_a_kill_before_the_first_byte_leaves_is_removed(tmp_path):
    (tmp_path / "world.mp4").touch()
    result = repair_part(tmp_path, "world")
    assert (len(result.records), result.lost, result.changed) == (0, 0, True)
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from gazed_recorder.mp4_write import mjpeg_track
from gazed_recorder.records import FrameRecord
from gazed_recorder.part import TrackPart
image = Path(sys.argv[2]).read_bytes()
part = TrackPart(Path(sys.argv[1]), "world", mjpeg_track(64, 48))
for i in range(10_000_000):
    part.write(FrameRecord(i, 0.0, i, i, 7 + i / 200, 0), image + bytes(i % 9000))
    sys.stdout.write(f"{i}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_loses_nothing_it_had_written(tmp_path, seed):
    folder, image = tmp_path / "r", tmp_path / "image.jpg"
    folder.mkdir()
    image.write_bytes(jpeg())
    after = random.Random(seed).randrange(5, 1500)
    # The writer tells of each frame; it is killed somewhere in the middle of a later one.
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(image)], stdout=subprocess.PIPE, text=True
    ) as child:
        told = next(int(line) for line in child.stdout if int(line) >= after)
        child.kill()
        told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
    live = pts(folder / "world.mp4")
    stamps = np.load(folder / "world_timestamps.npy")
    assert len(live) >= told + 1
    assert 0 <= len(live) - len(stamps) <= 1
    assert 0 <= len(stamps) - len(np.load(folder / "world_frames.npy")) <= 1
    result = repair_part(folder, "world")
    assert len(result.records) == len(live)
    assert result.lost <= 1
    assert assert_agree(folder) == len(live)
    assert pts(folder / "world.mp4") == live


LIMITED = """
import resource, sys, time
from pathlib import Path
from gazed_recorder.encoder import EncodedPart
from gazed_recorder.mp4_write import mjpeg_track
from gazed_recorder.records import FrameRecord
from gazed_recorder.part import TrackPart
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder, image = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
if sys.argv[3] == "h264":
    part = EncodedPart(folder, "world", "h264", 64, 48, 30)
else:
    part = TrackPart(folder, "world", mjpeg_track(64, 48))
taken = 0
try:
    for i in range(100_000):
        part.write(FrameRecord(i, 0.0, i, i, i / 30, 0), image)
        taken += 1
        while getattr(part, "backlog", 0) > 30:
            time.sleep(0.001)
except OSError as error:
    print(type(error).__name__, flush=True)
try:
    part.close()
except OSError as error:
    print("close", type(error).__name__)
print(taken, part.frames, sum(part.dropped.values()))
"""


@pytest.mark.parametrize("mode", ["mjpeg", "h264"])
def test_a_full_disk_ends_a_part_with_all_files_agreeing(tmp_path, mode):
    folder, image = tmp_path / "r", tmp_path / "image.jpg"
    folder.mkdir()
    image.write_bytes(jpeg())
    command = [sys.executable, "-c", LIMITED, str(folder), str(image), mode]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:2] == ["OSError", "close OSError"]
    taken, written, dropped = map(int, lines[2].split())
    assert taken == written + dropped
    assert written > 0
    assert assert_agree(folder) == written
    result = repair_part(folder, "world")
    assert (len(result.records), result.lost) == (written, 0)
    assert assert_agree(folder) == written


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_whichever_file_the_disk_refuses_the_three_agree(small_disk):
    part = TrackPart(small_disk, "world", CODEC)
    with (small_disk / "ballast").open("wb", buffering=0) as ballast:
        ballast.write(bytes(400_000))
        t, refused, grown = 0, 0, 400_000
        while grown > 30_000:
            try:
                part.write(record(t, float(t)), jpeg()[:400])
                t += 1
            except OSError:
                refused += 1
                assert part.frames == t == len(np.load(small_disk / "world_timestamps.npy"))
                assert len(np.load(small_disk / "world_frames.npy")) == t == len(scan(small_disk / "world.mp4").dts)
                grown -= 4096
                ballast.truncate(grown)
    assert refused > 50
    (small_disk / "ballast").unlink()
    part.close()
    assert not repair_part(small_disk, "world").changed


def test_sync_from_another_thread_does_not_disturb_writing(tmp_path):
    part = TrackPart(tmp_path, "world", CODEC)
    done = threading.Event()

    def keep_syncing() -> None:
        while not done.is_set():
            part.sync()

    thread = threading.Thread(target=keep_syncing)
    thread.start()
    for i in range(200):
        part.write(record(i, i / 200), jpeg())
    done.set()
    thread.join()
    part.close()
    assert assert_agree(tmp_path) == 200


def test_rows_are_the_records_that_were_given(tmp_path):
    part = TrackPart(tmp_path, "world", CODEC)
    given = [record(i, 3 + i / 7) for i in range(5)]
    for i, row in enumerate(given):
        part.write(row, jpeg(i))
    part.close()
    rows = np.load(tmp_path / "world_frames.npy")
    assert rows.dtype == FRAME_DTYPE
    checksums = [xxhash.xxh3_64_intdigest(jpeg(i)) for i in range(5)]
    expected = [row._replace(checksum=checksum) for row, checksum in zip(given, checksums, strict=True)]
    assert [FrameRecord(*row) for row in rows.tolist()] == expected
