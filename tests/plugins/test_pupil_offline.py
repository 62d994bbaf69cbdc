"""Detection in recordings, in processes of its own, with results that Pupil Player reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgpack
import numpy as np
import pytest

pytest.importorskip("pye3d.detector_3d")
pytest.importorskip("pupil_detectors")

from gazed_capture.wearer.bank import open_bank
from gazed_capture.wearer.options import read_options
from gazed_plugins.errors import PluginError
from gazed_plugins.images import gray_jpeg
from gazed_plugins.offline_data import locked_folder, write_log
from gazed_plugins.pupil.detector import PupilDetector
from gazed_plugins.pupil.eye_video import detect_eye
from gazed_plugins.pupil.intrinsics import EyeCamera
from gazed_plugins.pupil.offline import detect_recording
from gazed_plugins.pupil.settings import PupilSettings
from gazed_recorder.datalog import PldataReader
from gazed_recorder.errors import DiskFull, NotARecording, RecordingRefused
from gazed_recorder.folder import FolderLock
from gazed_recorder.manifest import Manifest, StreamReport
from gazed_recorder.mp4_boxes import mjpeg_track
from gazed_recorder.part import TrackPart
from gazed_recorder.reader import Recording
from gazed_recorder.records import FrameRecord
from gazed_recorder.testing import make_recording
from gazed_recorder.verify import verify

SIZE, FPS, COUNT = 192, 100.0, 40
CAM3 = EyeCamera(140.0, (SIZE, SIZE), "built-in")


@cache
def jpegs(stream: str) -> list[bytes]:
    options = {"width": SIZE, "height": SIZE, "fps": FPS, "seed": 1, "seconds": 0.5}
    bank = open_bank(read_options(stream, options).bank)
    images = [bank.jpeg(row) for row in range(COUNT)]
    bank.close()
    return images


def add_eye(folder: Path, stream: str, images: list[bytes]) -> None:
    part = TrackPart(folder, stream, mjpeg_track(SIZE, SIZE))
    for index, jpeg in enumerate(images):
        stamp = 100.0 + index / FPS + 0.003 * int(stream[3])
        part.write(FrameRecord(index, float("nan"), 0, 0, stamp, 0), jpeg)
    part.close()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    folder = make_recording(tmp_path, streams=("world",), frames=3, datums=2)
    manifest = Manifest.load(folder)
    for stream in ("eye0", "eye1"):
        add_eye(folder, stream, jpegs(stream))
        manifest.streams[stream] = StreamReport(kind="video", info={"device": "Pupil Cam3 ID0"})
    manifest.save(folder)
    return folder


def test_every_frame_as_live_and_nothing_recorded_is_touched(recording: Path) -> None:
    before = {path.name: path.read_bytes() for path in recording.iterdir()}
    told: list[tuple[int, int]] = []
    result = detect_recording(recording, workers=2, progress=lambda done, total: told.append((done, total)))
    assert {name: (recording / name).read_bytes() for name in before} == before
    assert told[-1] == (2 * COUNT, 2 * COUNT)
    eye = result.eyes["eye1"]
    assert (eye.frames, eye.detected, eye.skipped, eye.unreadable) == (COUNT, COUNT, 0, 0)
    assert (eye.focal_length, eye.camera) == (140.0, "built-in")
    assert eye.confident > COUNT / 2

    offline = recording / "offline_data"
    assert sorted(path.name for path in offline.iterdir()) == [
        "offline_pupil.meta",
        "offline_pupil.pldata",
        "offline_pupil_timestamps.npy",
    ]
    meta = msgpack.unpackb((offline / "offline_pupil.meta").read_bytes())
    assert meta["version"] == 4
    assert meta["detection_status"] == ["complete", "complete"]
    records = [
        (topic.decode(), msgpack.unpackb(data)) for topic, data in PldataReader(offline / "offline_pupil.pldata")
    ]
    stamps = np.load(offline / "offline_pupil_timestamps.npy")
    assert [datum["timestamp"] for _, datum in records] == stamps.tolist() == sorted(stamps)
    assert all(topic == datum["topic"] for topic, datum in records)
    for stream in ("eye0", "eye1"):
        detector = PupilDetector(int(stream[3]), CAM3, mode="post-hoc")
        wanted = [
            datum
            for frame in Recording(recording).frames(stream)
            for datum in detector.detect(gray_jpeg(frame.jpeg), frame.timestamp)
        ]
        assert [datum for _, datum in records if datum["id"] == int(stream[3])] == wanted


def test_results_are_kept_unless_told_otherwise(recording: Path) -> None:
    settings = PupilSettings(detect_3d=False, every_nth=4)
    first = detect_recording(recording, workers=1, settings=settings)
    assert first.eyes["eye0"].detected == COUNT / 4
    assert first.eyes["eye0"].skipped == 3 * COUNT / 4
    kept = detect_recording(recording)
    assert kept.kept
    assert kept.eyes == first.eyes
    assert kept.settings["every_nth"] == 4
    # What Pupil Player itself has detected is kept in the same way.
    meta = recording / "offline_data" / "offline_pupil.meta"
    meta.write_bytes(msgpack.packb({"version": 4, "detection_status": ["complete", "No eye video found."]}))
    assert detect_recording(recording).kept
    again = detect_recording(recording, redetect=True, workers=1, settings=PupilSettings(detect_3d=False, every_nth=8))
    assert not again.kept
    assert again.eyes["eye0"].detected == COUNT / 8


def test_a_run_that_was_killed_goes_on(recording: Path) -> None:
    """Killed at an unlucky moment: no results, what one eye had is kept, and no process stays behind."""
    code = (
        "import sys; from gazed_plugins.pupil.offline import detect_recording\n"
        "def told(done, total):\n"
        "    if done > 64: print('now', flush=True)\n"
        f"detect_recording({str(recording)!r}, workers=1, progress=told)\n"
    )
    add_long = [image for _ in range(8) for image in jpegs("eye1")]
    for path in recording.glob("eye1*"):
        path.unlink()
    add_eye(recording, "eye1", add_long)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"now\n"
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in children):
        assert time.monotonic() < end
        time.sleep(0.02)
    offline = recording / "offline_data"
    assert not (offline / "offline_pupil.meta").exists()
    (work,) = offline.glob(".detect-*")
    done = {path: path.stat().st_mtime_ns for path in work.glob("eye0*")}
    assert done
    result = detect_recording(recording, workers=1, settings=PupilSettings())
    assert result.eyes["eye1"].frames == len(add_long)
    assert not work.exists()
    assert (offline / "offline_pupil.meta").exists()


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_an_eye_that_is_done_is_not_done_again(recording: Path) -> None:
    work = recording / "work"
    work.mkdir()
    counts: list[int] = []
    first = detect_eye(recording, "eye0", work, PupilSettings(detect_3d=False), None, counts.append)
    written = (work / "eye0.pldata").stat().st_mtime_ns
    assert detect_eye(recording, "eye0", work, PupilSettings(detect_3d=False), None, counts.append) == first
    assert (work / "eye0.pldata").stat().st_mtime_ns == written
    (work / "eye0.json").unlink()
    detect_eye(recording, "eye0", work, PupilSettings(detect_3d=False), None, counts.append)
    assert (work / "eye0.pldata").stat().st_mtime_ns > written
    assert counts[-1] == COUNT


def test_damaged_images_are_counted(recording: Path) -> None:
    for path in recording.glob("eye0*"):
        path.unlink()
    images = jpegs("eye0")[:10]
    add_eye(recording, "eye0", [*images[:4], b"\xff\xd8 no picture", *images[5:]])
    work = recording / "work"
    work.mkdir()
    result = detect_eye(recording, "eye0", work, PupilSettings(detect_3d=False), None, lambda _: None)
    assert (result.frames, result.detected, result.unreadable) == (10, 9, 1)


def test_an_unknown_camera_takes_the_length_that_is_given(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=("eye0",), frames=3)
    for given, origin in ((None, "assumed"), (77.0, "argument")):
        work = folder / f"work {given}"
        work.mkdir()
        result = detect_eye(folder, "eye0", work, PupilSettings(), given, lambda _: None)
        assert result.camera == origin
    assert result.focal_length == 77.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_is_called_by_its_name_and_costs_nothing(small_disk: Path, recording: Path) -> None:
    folder = Path(shutil.copytree(recording, small_disk / "recording"))
    (folder / "offline_data").mkdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    filler = small_disk / "somebody else's"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - 40_000)
    with pytest.raises(DiskFull, match=r"offline_data.* is full"):
        detect_recording(folder)
    filler.unlink()
    assert set(detect_recording(folder).eyes) == {"eye0", "eye1"}
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free)
    with pytest.raises(DiskFull), locked_folder(Recording(folder)) as offline:
        write_log(offline, "gaze", (("gaze", float(number), bytes(1000)) for number in range(100)))


def test_what_cannot_be_detected_says_why(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(NotARecording):
        detect_recording(tmp_path / "nowhere")
    with pytest.raises(PluginError, match="no eye video, found world"):
        detect_recording(make_recording(tmp_path, streams=("world",), frames=2))
    with pytest.raises(PluginError, match="not closed"):
        detect_recording(make_recording(tmp_path, streams=("eye0",), frames=2, closed=False))
    offline = recording / "offline_data"
    offline.mkdir()
    with FolderLock(offline), pytest.raises(RecordingRefused) as refusal:
        detect_recording(recording)
    assert "gazed detect" in refusal.value.hint
    stamps = recording / "eye1_timestamps.npy"
    np.save(stamps, np.append(np.load(stamps), 1000.0))
    with pytest.raises(PluginError, match=r"eye1\.mp4: ends after 40 frames"):
        detect_recording(recording, workers=1, settings=PupilSettings(detect_2d=False, detect_3d=False))
    assert not (offline / "offline_pupil.meta").exists()


def test_verify_does_not_mind_the_results(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=("world", "eye0"), frames=3)
    before = verify(folder)
    detect_recording(folder, workers=1)
    assert verify(folder) == before
