"""The exporter ``video``, and the videos of the exporter ``csv``: each frame at its time, whoever reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import ExportError, NothingToExport
from gazed_plugins.export.exporter import find_exporter
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import check_exporter
from gazed_plugins.export.video.exporter import VideoExporter
from gazed_plugins.export.video.file import copy_packets, pieces, stamps_us, write_mp4
from gazed_plugins.export.video.sound import sound_packets
from gazed_recorder.errors import DamagedFile
from gazed_recorder.mp4_boxes import mjpeg_track
from gazed_recorder.part import TrackPart
from gazed_recorder.reader import Recording
from gazed_recorder.reading.sound import RecordedSound
from gazed_recorder.records import FrameRecord
from gazed_recorder.testing import SIZE, make_jpeg, make_recording
from gazed_recorder.testing_classic import make_classic_recording
from gazed_recorder.testing_rich import make_rich_recording

JITTER = [100.0, 100.0333333, 100.0333341, 100.07, 100.5, 161.25, 161.2500007]


def export(folder: Path, output: Path, to: str = "video", **args: Any) -> Path:
    return Path(export_recording(folder, to, output, args=args).path)


def record(folder: Path, stem: str, times: list[float], stream: str = "world") -> None:
    """Add a part to a recording."""
    part = TrackPart(folder, stem, mjpeg_track(*SIZE[stream]))
    for index, time in enumerate(times):
        part.write(FrameRecord(index, time, 0, 0, time, 0), make_jpeg(stream, index))
    part.close()


def recording_of(root: Path, **parts: list[float]) -> Path:
    """Make a recording of videos alone, each part with frames at these times, s."""
    folder = make_recording(root, frames=1, datums=0, streams=())
    for stem, times in parts.items():
        record(folder, stem, times, stem.partition("_")[0])
    return folder


def packets(path: Path) -> list[tuple[int, bytes]]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.time_base == Fraction(1, 1_000_000)
        return [(packet.pts, bytes(packet)) for packet in container.demux(stream) if packet.size]


def decoded(path: Path) -> list[int]:
    with av.open(path) as container:
        return [frame.pts for frame in container.decode(video=0)]


def opencv_frames(path: Path) -> tuple[int, list[NDArray[Any]]]:
    """Return how many frames OpenCV says there are, and those it reads."""
    video = cv2.VideoCapture(str(path))
    count, images = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), []
    while True:
        good, image = video.read()
        if not good:
            break
        images.append(image)
    video.release()
    return count, images


@pytest.mark.parametrize("args", [{}, {"codec": "copy"}, {"crf": 0, "preset": "ultrafast", "overlay": True}])
def test_every_reader_finds_each_frame_at_its_time(tmp_path: Path, args: dict[str, Any]) -> None:
    folder = recording_of(tmp_path, world=JITTER)
    output = export(folder, tmp_path / "out", **args)
    stamps = np.load(output / "world_timestamps.npy")
    assert stamps.tolist() == JITTER
    us = [0, 33333, 33334, 70000, 500000, 61250000, 61250001]
    assert [pts for pts, _ in packets(output / "world.mp4")] == us
    assert decoded(output / "world.mp4") == us
    count, images = opencv_frames(output / "world.mp4")
    assert count == len(images) == len(JITTER)
    text = (output / "world_timestamps.csv").read_text()
    assert text.splitlines()[:3] == ["# timestamps [seconds],pts", "100.000000,0", "100.033333,33333"]
    assert len(text.splitlines()) == len(JITTER) + 1


def test_images_are_the_recorded_ones(tmp_path: Path) -> None:
    folder = recording_of(tmp_path, world=JITTER)
    images = [frame.gray for frame in Recording(folder).world]
    copied = packets(export(folder, tmp_path / "copy", codec="copy") / "world.mp4")
    assert [payload for _, payload in copied] == [make_jpeg("world", index) for index in range(len(JITTER))]
    encoded = opencv_frames(export(folder, tmp_path / "h264", crf=0) / "world.mp4")[1]
    for image, wanted in zip(encoded, images, strict=True):
        # Flat gray; in H.264 with a smaller range of numbers.
        assert np.abs(image[..., 0].astype(int) - int(wanted[24, 32])).max() <= 2


def test_parts_become_one_video(tmp_path: Path) -> None:
    parts = {"world": [100.0, 100.1], "world_001": [130.0, 130.05], "world_002": [140.0]}
    folder = recording_of(tmp_path, **parts)
    for codec in ("h264", "copy"):
        output = export(folder, tmp_path / codec, codec=codec)
        assert sorted(path.name for path in output.glob("*.mp4")) == ["world.mp4"]
        assert decoded(output / "world.mp4") == [0, 100_000, 30_000_000, 30_050_000, 40_000_000]
        assert np.load(output / "world_timestamps.npy").tolist() == [100.0, 100.1, 130.0, 130.05, 140.0]


def test_other_sizes_and_long_gaps_begin_a_new_file(tmp_path: Path) -> None:
    folder = recording_of(tmp_path, world=[100.0, 100.1], world_001=[2300.0, 2300.1])
    record(folder, "world_002", [2301.0], "eye0")
    output = export(folder, tmp_path / "out")
    found = {path.stem: decoded(path) for path in output.glob("*.mp4")}
    assert found == {"world": [0, 100_000], "world_001": [0, 100_000], "world_002": [0]}
    assert np.load(output / "world_001_timestamps.npy").tolist() == [2300.0, 2300.1]
    assert decoded(export(folder, tmp_path / "csv", "csv") / "world_001.mp4") == [0, 100_000]


def test_in_csv_all_videos_begin_at_the_earliest_frame(tmp_path: Path) -> None:
    folder = recording_of(tmp_path, world=[100.0123456, 100.1], eye0=[100.0, 100.5], eye1=[99.75, 100.0])
    output = export(folder, tmp_path / "out", "csv")
    assert {path.stem: decoded(path) for path in output.glob("*.mp4")} == {
        "world": [262_346, 350_000], "eye0": [250_000, 750_000], "eye1": [0, 250_000],
    }  # fmt: skip
    assert opencv_frames(output / "world.mp4")[0] == 2
    assert (output / "eye0_timestamps.csv").read_text() == (
        "# timestamps [seconds],pts\n100.000000,250000\n100.500000,750000\n"
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.floats(0.0, 0.1) | st.floats(0.0, 120.0), min_size=0, max_size=12), codec=st.booleans())
def test_any_times_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, steps: list[float], *, codec: bool
) -> None:
    root = tmp_path_factory.mktemp("times")
    times = [57_123.456789]
    for step in steps:
        times.append(math.nextafter(times[-1] + step, math.inf))
    folder = recording_of(root, world=times)
    output = export(folder, root / "out", **({"codec": "copy"} if codec else {"preset": "ultrafast"}))
    exact = [round((time - times[0]) * 1e6) for time in times]
    found = decoded(output / "world.mp4")
    assert len(found) == len(times)
    assert all(before < after for before, after in pairwise(found))
    assert np.load(output / "world_timestamps.npy").tolist() == times
    if all(before < after for before, after in pairwise(exact)):
        assert found == exact


def test_a_copy_of_h264_is_copied_again(tmp_path: Path) -> None:
    folder = recording_of(tmp_path, world=JITTER)
    encoded = export(folder, tmp_path / "h264") / "world.mp4"
    (folder / "world.mp4").write_bytes(encoded.read_bytes())
    again = export(folder, tmp_path / "copy", codec="copy") / "world.mp4"
    assert packets(again) == packets(encoded)
    assert packets(export(folder, tmp_path / "csv", "csv") / "world.mp4") == packets(encoded)


def test_frames_stored_in_another_order_are_encoded_or_refused(tmp_path: Path) -> None:
    times = [100.0 + 0.04 * number for number in range(30)]
    folder = recording_of(tmp_path, world=times)
    with av.open(tmp_path / "b.mp4", "w") as container:
        stream = container.add_stream("libx264", 25, options={"bf": "3", "b-adapt": "0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE["world"], "yuv420p"
        for number in range(30):
            gray = np.full((48, 64, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode(None))
    (folder / "world.mp4").write_bytes((tmp_path / "b.mp4").read_bytes())
    with pytest.raises(ExportError, match="cannot be copied") as refused:
        export(folder, tmp_path / "copy", codec="copy")
    assert "codec=h264" in refused.value.hint
    output = export(folder, tmp_path / "csv", "csv")
    assert decoded(output / "world.mp4") == [40_000 * number for number in range(30)]
    levels = [int(image[24, 32, 0]) for image in opencv_frames(output / "world.mp4")[1]]
    assert levels == sorted(levels)


def clicks(start: float, count: int, drift: float, times: NDArray[np.float64]) -> Iterator[RecordedSound]:
    """Yield blocks of a sound card that runs fast by ``drift``; there is a click at each of these times."""
    rate = 48_000 * (1 + drift)
    for number in range(count):
        first = start + number * 1024 / rate
        samples = np.zeros((1024, 2), np.int16)
        places = np.rint((times - first) * rate).astype(int)
        samples[places[(places >= 0) & (places < 1022)]] = 20_000
        yield RecordedSound(first, samples, 48_000)


@pytest.mark.parametrize("start", [99.0, 100.4])
def test_sound_stays_with_the_images_while_the_clocks_drift(tmp_path: Path, start: float) -> None:
    """The sound begins before, or after, the video; a click is heard at its time to a fraction of a millisecond."""
    frames = [100.0 + number for number in range(31)]
    video = Recording(recording_of(tmp_path, world=frames)).world
    [piece] = pieces(video, copied=True)
    us, heard_at = stamps_us(piece.timestamps, 100.0), 100.7 + np.arange(29)
    sound = sound_packets(clicks(start, 1600, 500e-6, heard_at), 100.0, frames[-1])
    write_mp4(tmp_path / "sound.mp4", us, copy_packets(piece, us), [sound], lambda _frames: None)
    assert decoded(tmp_path / "sound.mp4") == us.tolist()
    levels, times = [], []
    with av.open(tmp_path / "sound.mp4") as container:
        for block in container.decode(audio=0):
            levels.append(np.abs(block.to_ndarray()).max(axis=0))
            times.append(float(block.pts * block.time_base) + np.arange(block.samples) / block.sample_rate)
    loud = np.concatenate(times)[np.concatenate(levels) > 0.2]
    onsets = loud[np.diff(loud, prepend=-1.0) > 0.1] + 100.0
    assert len(onsets) == len(heard_at)
    assert np.abs(onsets - heard_at).max() < 0.5e-3


def test_the_sound_of_a_recording_goes_along_with_its_first_video(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=("world", "eye0", "audio"), frames=30)
    tracks = {}
    for name, to, args in (("video", "video", {}), ("quiet", "video", {"sound": False}), ("csv", "csv", {})):
        output = export(folder, tmp_path / name, to, **args)
        for path in output.glob("*.mp4"):
            with av.open(path) as container:
                tracks[name, path.stem] = [stream.codec_context.name for stream in container.streams]
    assert tracks == {
        ("video", "world"): ["h264", "aac"], ("video", "eye0"): ["h264"], ("quiet", "world"): ["h264"],
        ("quiet", "eye0"): ["h264"], ("csv", "world"): ["mjpeg", "aac"], ("csv", "eye0"): ["mjpeg"],
    }  # fmt: skip


def test_the_overlay_is_where_the_wearer_looks(tmp_path: Path) -> None:
    folder = make_rich_recording(tmp_path, seconds=0.5)
    recording = Recording(folder)
    plain, drawn = (export(folder, tmp_path / str(mode), overlay=mode, crf=0) for mode in (False, True))
    gaze = recording.gaze
    where = recording.correlate(gaze)
    before, after = (opencv_frames(output / "world.mp4")[1] for output in (plain, drawn))
    for index in (3, 7, 11):
        rows = np.flatnonzero((where == index) & (gaze["confidence"] >= 0.6))
        changed = np.argwhere(np.abs(before[index].astype(int) - after[index]).max(axis=2) > 60)
        center = np.array([(1 - gaze["norm_pos_y"][rows]).mean() * 240, gaze["norm_pos_x"][rows].mean() * 320])
        assert len(changed) > 20
        assert np.abs(changed.mean(axis=0) - center).max() < 2.5
        assert np.linalg.norm(changed - center, axis=1).max() < 16
    eyes = [opencv_frames(output / "eye0.mp4")[1][10].astype(int) for output in (plain, drawn)]
    pupils = recording.pupil
    [row] = np.flatnonzero(
        (pupils["timestamp"] == recording.eyes[0].timestamps[10])
        & (pupils["eye_id"] == 0)
        & (pupils["method"] == "2d c++")
    )
    changed = np.argwhere(np.abs(eyes[0] - eyes[1]).max(axis=2) > 40)
    center = np.array([pupils["ellipse_center_y"][row], pupils["ellipse_center_x"][row]])
    assert np.abs(changed.mean(axis=0) - center).max() < 2.0


def test_only_the_streams_that_are_wanted(tmp_path: Path) -> None:
    folder = recording_of(tmp_path, world=[100.0], eye0=[100.0], eye1=[100.0])
    output = export(folder, tmp_path / "out", streams=["eye1", "world", "eye7"])
    assert sorted(path.name for path in output.glob("*.mp4")) == ["eye1.mp4", "world.mp4"]
    with pytest.raises(NothingToExport, match="eye7, found world, eye0, eye1"):
        export(folder, tmp_path / "none", streams=["eye7"])


@pytest.mark.parametrize("stem", ["world", "eye0"])
def test_a_video_that_ends_early_is_told_and_nothing_appears(tmp_path: Path, stem: str) -> None:
    folder = recording_of(tmp_path, world=[100.0, 100.1, 100.2], eye0=[100.0, 100.1, 100.2])
    np.save(folder / f"{stem}_timestamps.npy", np.array([100.0, 100.1, 100.2, 100.3]))
    for codec in ("h264", "copy"):
        with pytest.raises(DamagedFile, match=f"{stem}.mp4: ends after 3 frames, there are 4 timestamps"):
            export(folder, tmp_path / "out", codec=codec)
    assert not list((tmp_path / "out").glob("[!.]*"))


@pytest.mark.parametrize("codec", ["h264", "copy"])
def test_a_video_of_pupil_captures_ends_with_its_last_frame(
    tmp_path: Path, codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_classic_recording(tmp_path, "3.5", parts=2)
    stamps = np.load(folder / "world_timestamps.npy")
    np.save(folder / "world_timestamps.npy", np.append(stamps, stamps[-1] + [0.01, 0.02]))
    whole = Recording(folder).world.timestamps
    output = export(folder, tmp_path / "out", codec=codec)
    left = [np.load(output / f"{stem}_timestamps.npy") for stem in ("world", "world_001")]
    assert np.concatenate(left).tolist() == [*stamps, *whole[len(stamps) + 2 :]]
    assert [len(decoded(output / f"{stem}.mp4")) for stem in ("world", "world_001")] == [len(each) for each in left]
    assert f"has {len(stamps)} frames and {len(stamps) + 2} timestamps" in caplog.text


@pytest.mark.parametrize(
    "args",
    [
        {"codec": "av1"}, {"crf": 52}, {"preset": "placebo"}, {"streams": "world"}, {"overlay": "gaze"}, {"sound": 1},
        {"codec": "copy", "overlay": True}, {"codec": "copy", "crf": 20}, {"bitrate": 1},
    ],
)  # fmt: skip
def test_arguments_are_checked(args: dict[str, Any]) -> None:
    with pytest.raises(PluginArgument, match="video"):
        VideoExporter(args)


@pytest.mark.parametrize("args", [{"overlay": True}, {"codec": "copy"}])
def test_it_keeps_the_contract_of_exporters(tmp_path: Path, args: dict[str, Any]) -> None:
    assert find_exporter("video") is VideoExporter
    folder = make_rich_recording(tmp_path / "recording", seconds=0.4)
    check_exporter(VideoExporter, args, folder, tmp_path / "work")
