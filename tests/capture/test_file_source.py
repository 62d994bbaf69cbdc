"""The file source over real videos: pacing, parts, loops, folders in step, and everything broken."""

from __future__ import annotations

import logging
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazed_bus.frame import Frame
from gazed_capture.errors import EndOfStream, SourceError, SourceNotFound, SourceOptionError
from gazed_capture.file import FileSource
from gazed_capture.source import find_source
from gazed_timesync import host_now

WIDTH, HEIGHT = 64, 48


def picture(level: int) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), level % 256, np.uint8)
    image[10:20, 10:30] = (255, 0, 0)
    return image


def jpeg(level: int) -> bytes:
    return cv2.imencode(".jpg", picture(level))[1].tobytes()


def write_mjpeg(path: Path, count: int, *, fps: float = 100, payloads: dict[int, bytes] | None = None) -> list[bytes]:
    frames = [(payloads or {}).get(index, jpeg(index * 5)) for index in range(count)]
    options = {"movflags": "empty_moov+default_base_moof+frag_every_frame"}
    with av.open(str(path), "w", options=options if path.suffix == ".mp4" else {}) as container:
        stream = container.add_mux_stream("mjpeg", rate=round(fps), width=WIDTH, height=HEIGHT)
        stream.time_base = Fraction(1, 10**6)
        container.start_encoding()
        for index, data in enumerate(frames):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 10**6)
            packet.pts = packet.dts = round(index * 1e6 / fps)
            packet.is_keyframe = True
            container.mux_one(packet)
    return frames


def write_encoded(path: Path, count: int, codec: str, *, fps: int = 100) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index * 5), format="bgr24")))
        container.mux(stream.encode())


def write_stamps(video: Path, stamps: object) -> None:
    np.save(video.with_name(f"{video.stem}_timestamps.npy"), np.asarray(stamps, np.float64))


def play(source: FileSource, limit: int = 10**6) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < limit:
        try:
            frame = source.read(0.1)
        except EndOfStream:
            break
        if frame is not None:
            frames.append(frame)
    return frames


def play_file(path: Path, limit: int = 10**6, **options: object) -> tuple[list[Frame], FileSource]:
    source = FileSource(path.stem[:5].rstrip("_") if path.is_file() else "world", {"path": str(path), **options})
    source.open()
    frames = play(source, limit)
    source.close()
    return frames, source


def test_it_is_registered() -> None:
    assert find_source("file") is FileSource
    assert FileSource.devices() == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "path"),
        ({"path": ""}, "path"),
        ({"path": 3}, "path"),
        ({"path": "x", "lop": True}, "lop"),
        ({"path": "x", "loop": "yes"}, "loop"),
        ({"path": "x", "pace": "fast"}, "pace"),
    ],
)
def test_options_are_checked(options: dict[str, object], text: str) -> None:
    with pytest.raises(SourceOptionError, match=text):
        FileSource("world", options)


def test_the_nearest_option_is_named() -> None:
    with pytest.raises(SourceOptionError) as caught:
        FileSource("world", {"path": "x", "lop": True})
    assert "'loop'" in caught.value.hint


def test_jpegs_pass_untouched_and_on_time(tmp_path: Path) -> None:
    video = tmp_path / "world.mp4"
    wanted = write_mjpeg(video, 6)
    stamps = 1000 + np.array([0, 0.01, 0.025, 0.03, 0.05, 0.06])
    write_stamps(video, stamps)
    frames, source = play_file(video)
    assert [bytes(frame.payload) for frame in frames] == wanted
    assert [frame.device_time for frame in frames] == list(stamps)
    captured = np.array([frame.captured_ns for frame in frames])
    assert np.allclose(np.diff(captured), np.diff(stamps) * 1e9, atol=500)
    assert all(frame.host_ns >= frame.captured_ns for frame in frames)
    assert source.stats().delivered == 6
    assert source.stats().missed == source.stats().corrupt == 0


def test_stream_info(tmp_path: Path) -> None:
    video = tmp_path / "eye0.mp4"
    write_mjpeg(video, 4)
    write_stamps(video, [0, 0.005, 0.010, 0.1])
    camera = {
        "camera_matrix": [[1, 0, 2], [0, 1, 2], [0, 0, 1]],
        "dist_coefs": [[0.0] * 5],
        "resolution": [WIDTH, HEIGHT],
        "cam_type": "radial",
    }
    (tmp_path / "eye0.intrinsics").write_bytes(msgpack.packb({"version": 1, f"({WIDTH}, {HEIGHT})": camera}))
    source = FileSource("eye0", {"path": str(tmp_path)})
    info = source.open()
    source.close()
    assert (info.width, info.height, info.format, info.clock) == (WIDTH, HEIGHT, "jpeg", "file")
    assert info.fps == pytest.approx(200)
    assert info.serial == str(video)
    assert info.intrinsics == camera


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "ffv1"])
def test_other_codecs_become_good_jpegs(tmp_path: Path, codec: str) -> None:
    video = tmp_path / ("world.mkv" if codec == "ffv1" else "world.mp4")
    write_encoded(video, 12, codec)
    frames, _ = play_file(video, pace="free")
    assert len(frames) == 12
    for index, frame in enumerate(frames):
        image = cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert abs(float(image[30:, 40:].mean()) - index * 5) < 6


def test_container_times_are_used_without_stamps(tmp_path: Path) -> None:
    write_mjpeg(tmp_path / "clip.mkv", 5, fps=50)
    frames, _ = play_file(tmp_path / "clip.mkv")
    assert np.diff([frame.captured_ns for frame in frames]) == pytest.approx(2e7, abs=2e6)


def test_a_bare_stream_plays_at_its_nominal_rate(tmp_path: Path) -> None:
    (tmp_path / "clip.mjpeg").write_bytes(b"".join(jpeg(index) for index in range(5)))
    frames, source = play_file(tmp_path / "clip.mjpeg", limit=3)
    assert len(frames) == 3
    assert np.diff([frame.captured_ns for frame in frames]) == pytest.approx(4e7, abs=1000)
    assert source.stats().corrupt == 0


def test_a_loop_goes_on_in_sequence_and_time(tmp_path: Path) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 3)
    write_stamps(video, [5.0, 5.01, 5.02])
    frames, _ = play_file(video, limit=10, loop=True)
    assert [frame.sequence for frame in frames] == list(range(10))
    assert np.diff([frame.captured_ns for frame in frames]) == pytest.approx(1e7, abs=1000)


def test_a_loop_without_stamps(tmp_path: Path) -> None:
    write_mjpeg(tmp_path / "clip.mp4", 3)
    frames, _ = play_file(tmp_path / "clip.mp4", limit=8, loop=True)
    assert np.diff([frame.captured_ns for frame in frames]) == pytest.approx(1e7, abs=1000)


def test_a_late_reader_loses_nothing(tmp_path: Path) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 8)
    source = FileSource("world", {"path": str(video)})
    source.open()
    first = source.read(1.0)
    assert first is not None
    while host_now() < first.captured_ns + 50_000_000:
        assert source.read is not None
    frames = [first, *play(source)]
    source.close()
    assert [frame.sequence for frame in frames] == list(range(8))
    assert np.diff([frame.captured_ns for frame in frames]) == pytest.approx(1e7, abs=1000)
    assert frames[3].host_ns - frames[3].captured_ns > 10_000_000


def test_read_keeps_its_timeout(tmp_path: Path) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 2)
    write_stamps(video, [0, 3600])
    source = FileSource("world", {"path": str(video)})
    source.open()
    assert source.read(1.0) is not None
    start = host_now()
    assert source.read(0.02) is None
    assert source.read(0.0) is None
    assert 15_000_000 < host_now() - start < 1_000_000_000
    source.close()


@pytest.mark.parametrize("stamps", [[1, 1.01, 1.005, 1.02], [1, 1.01, np.nan, 1.02], [1, 1.01, np.inf, 1.02]])
def test_a_stamp_that_does_not_rise_is_played_at_once_and_counted(tmp_path: Path, stamps: list[float]) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 4)
    write_stamps(video, stamps)
    frames, source = play_file(video)
    captured = [frame.captured_ns for frame in frames]
    assert [captured[2] - captured[1], captured[3] - captured[1]] == [1, pytest.approx(1e7, abs=1000)]
    assert source.stats().corrupt == 1
    assert source.stats().missed == 0


@pytest.mark.parametrize(("stamps", "played", "missed"), [(3, 3, 2), (7, 5, 2), (0, 0, 5)])
def test_frames_and_stamps_that_do_not_match(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stamps: int, played: int, missed: int
) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 5)
    write_stamps(video, np.arange(stamps) * 0.001)
    with caplog.at_level(logging.WARNING):
        frames, source = play_file(video)
    assert len(frames) == played
    assert source.stats().missed == missed
    assert "timestamps" in caplog.text


def test_a_mismatch_shows_as_a_gap_in_the_next_lap(tmp_path: Path) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 3)
    write_stamps(video, np.arange(5) * 0.001)
    frames, source = play_file(video, limit=6, loop=True)
    assert [frame.sequence for frame in frames] == [0, 1, 2, 5, 6, 7]
    assert source.stats().missed == 2


def test_a_damaged_image_is_left_out_and_counted(tmp_path: Path) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 5, payloads={0: b"junk", 3: b"more junk"})
    frames, source = play_file(video)
    assert [frame.sequence for frame in frames] == [1, 2, 4]
    assert (source.stats().missed, source.stats().corrupt) == (2, 2)


def test_a_loop_over_nothing_ends(tmp_path: Path) -> None:
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 3, payloads=dict.fromkeys(range(3), b"junk"))
    frames, source = play_file(video, loop=True)
    assert frames == []
    assert source.stats().missed == 3


def test_the_end_stays_the_end(tmp_path: Path) -> None:
    write_mjpeg(tmp_path / "clip.mp4", 1)
    source = FileSource("world", {"path": tmp_path / "clip.mp4"})
    source.open()
    play(source)
    for _ in range(2):
        with pytest.raises(EndOfStream):
            source.read(0.0)
    source.close()


def test_missing_files_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"nowhere\.mp4") as caught:
        FileSource("world", {"path": str(tmp_path / "nowhere.mp4")}).open()
    assert caught.value.hint
    with pytest.raises(SourceNotFound, match="'eye1'"):
        FileSource("eye1", {"path": str(tmp_path)}).open()
    write_mjpeg(tmp_path / "eye1.mp4", 1)
    with pytest.raises(SourceNotFound, match=r"eye1_timestamps\.npy"):
        FileSource("eye1", {"path": str(tmp_path)}).open()


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x18ftypmp42" + bytes(40)])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(SourceError, match=r"clip\.mp4") as caught:
        FileSource("world", {"path": str(tmp_path / "clip.mp4")}).open()
    assert "repair" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"junk", b"\x93NUMPY\x01\x00"])
def test_stamps_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes) -> None:
    write_mjpeg(tmp_path / "world.mp4", 1)
    (tmp_path / "world_timestamps.npy").write_bytes(content)
    with pytest.raises(SourceError, match=r"world_timestamps\.npy"):
        FileSource("world", {"path": str(tmp_path / "world.mp4")}).open()


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    write_mjpeg(tmp_path / "world.mp4", 1)
    np.save(tmp_path / "world_timestamps.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(SourceError):
        FileSource("world", {"path": str(tmp_path / "world.mp4")}).open()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1))
def test_a_torn_video_plays_as_far_as_it_goes(tmp_path: Path, part: float) -> None:
    whole = tmp_path / "whole.mp4"
    if not whole.exists():
        write_mjpeg(whole, 10)
    data = whole.read_bytes()
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(data[: int(len(data) * part)])
    begun = torn.read_bytes().count(b"moof")
    source = FileSource("world", {"path": str(torn), "pace": "free"})
    try:
        source.open()
    except SourceError:
        assert begun < 2
        return
    frames = play(source)
    source.close()
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert begun - 2 <= len(frames) <= begun
    assert source.stats().corrupt <= 1
    for frame in frames:
        assert cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (HEIGHT, WIDTH)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), codec=st.sampled_from(["mjpeg", "libx264"]))
def test_a_damaged_video_ends_or_is_refused(tmp_path: Path, data: st.DataObject, codec: str) -> None:
    whole = tmp_path / f"{codec}.mp4"
    if not whole.exists():
        write_mjpeg(whole, 6) if codec == "mjpeg" else write_encoded(whole, 6, codec)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    hurt = tmp_path / "hurt.mp4"
    hurt.write_bytes(content)
    source = FileSource("world", {"path": str(hurt), "pace": "free"})
    try:
        source.open()
        frames = play(source, 1000)
    except SourceError:
        return
    finally:
        source.close()
    assert len(frames) <= 20


def make_folder(folder: Path) -> None:
    for stream, count, first, interval in [
        ("world", 4, 100.02, 0.02),
        ("eye0", 12, 100.0, 0.01),
        ("eye1", 10, 100.005, 0.01),
    ]:
        write_mjpeg(folder / f"{stream}.mp4", count)
        write_stamps(folder / f"{stream}.mp4", first + np.arange(count) * interval)


def test_parts_play_in_order(tmp_path: Path) -> None:
    for part, first in [("world", 10.0), ("world_001", 10.05), ("world_002", 10.1)]:
        write_mjpeg(tmp_path / f"{part}.mp4", 2)
        write_stamps(tmp_path / f"{part}.mp4", [first, first + 0.01])
    write_mjpeg(tmp_path / "world_viz.mp4", 2)
    (tmp_path / "world_001.mp4").write_bytes(b"torn beyond use")
    frames, source = play_file(tmp_path)
    assert [frame.device_time for frame in frames] == [10.0, 10.01, 10.1, 10.11]
    assert [frame.sequence for frame in frames] == [0, 1, 4, 5]
    assert source.stats().missed == 2


def test_streams_of_a_folder_keep_their_relative_times(tmp_path: Path) -> None:
    make_folder(tmp_path)
    sources = [FileSource(stream, {"path": str(tmp_path), "loop": True}) for stream in ("world", "eye0", "eye1")]
    for source in sources:
        source.open()
    played = [play(source, 14) for source in sources]
    for source in sources:
        source.close()
    # The folder lasts from 100.0 to 100.11; one interval of the slowest stream (world, 20 ms) follows.
    offsets = {frame.captured_ns - round(frame.device_time * 1e9) for frames in played for frame in frames}
    laps = sorted({round((offset - min(offsets)) / 1e6) for offset in offsets})
    assert laps == [130 * lap for lap in range(len(laps))]
    assert len(laps) >= 3


_PLAYER = """
import sys
from gazed_capture.file import FileSource
source = FileSource(sys.argv[2], {"path": sys.argv[1], "loop": True})
source.open()
while (frame := source.read(1.0)) is None:
    pass
print(frame.captured_ns - round(frame.device_time * 1e9), flush=True)
sys.stdin.read()
"""


def test_processes_that_play_one_folder_agree(tmp_path: Path) -> None:
    make_folder(tmp_path)
    players = [
        subprocess.Popen(
            [sys.executable, "-c", _PLAYER, str(tmp_path), stream], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for stream in ("world", "eye0", "eye1")
    ]
    offsets = [int(player.stdout.readline()) for player in players]
    late = FileSource("eye0", {"path": str(tmp_path), "loop": True})
    late.open()
    frame = play(late, 1)[0]
    late.close()
    for player in players:
        player.communicate()
    offsets.append(frame.captured_ns - round(frame.device_time * 1e9))
    remainders = [(offset - offsets[0]) % 130_000_000 for offset in offsets]
    assert all(min(rest, 130_000_000 - rest) < 1000 for rest in remainders)


def test_a_late_one_joins_what_is_going_on(tmp_path: Path) -> None:
    make_folder(tmp_path)
    first = FileSource("world", {"path": str(tmp_path)})
    first.open()
    assert len(play(first)) == 4
    late = FileSource("eye0", {"path": str(tmp_path)})
    opened = host_now()
    late.open()
    frames = play(late)
    assert all(frame.captured_ns >= opened for frame in frames)
    assert len(frames) < 12
    assert late.stats().missed == 0
    late.close()
    first.close()


def test_a_folder_plays_without_its_intrinsics_if_they_are_garbage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(tmp_path)
    (tmp_path / "world.intrinsics").write_bytes(b"\x80\x04junk")
    source = FileSource("world", {"path": str(tmp_path)})
    with caplog.at_level(logging.WARNING):
        assert source.open().intrinsics is None
    source.close()
    assert "world.intrinsics" in caplog.text


def test_memory_stays_flat(tmp_path: Path) -> None:
    big = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8))[1].tobytes()
    video = tmp_path / "world.mp4"
    write_mjpeg(video, 300, payloads=dict.fromkeys(range(300), big))
    source = FileSource("world", {"path": str(video), "pace": "free", "loop": True})
    source.open()

    def resident() -> int:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0])

    for _ in range(300):
        source.read(1.0)
    before = resident()
    for _ in range(600):
        source.read(1.0)
    source.close()
    assert resident() - before < 20_000
