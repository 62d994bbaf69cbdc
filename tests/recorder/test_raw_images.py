"""Images that come as samples: stored as what players read, and like what came."""

from __future__ import annotations

import time
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from gazed_bus.frame import FrameFormat, StreamInfo
from gazed_bus.lane import FrameHeader
from gazed_recorder.encoder import Encoder
from gazed_recorder.manifest import Mode, StreamReport
from gazed_recorder.part import repair_part
from gazed_recorder.refused import NotAnImage
from gazed_recorder.stream import StreamWriter

SIZE = (96, 64)
FORMATS: tuple[FrameFormat, ...] = ("jpeg", "gray", "bgr", "yuv")
MODES: tuple[Mode, ...] = ("jpeg", "h264", "mpeg4")


def picture(number: int, width: int = SIZE[0], height: int = SIZE[1]) -> npt.NDArray[np.uint8]:
    """Return a smooth picture in colour, darker or lighter by its number: BGR of shape (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack((40 + 8 * number + x % width, 60 + y + 0 * x, 200 - x - y // 2), axis=-1)
    return np.clip(image, 0, 255).astype(np.uint8)


def payload(form: FrameFormat, bgr: npt.NDArray[np.uint8]) -> bytes:
    if form == "jpeg":
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    if form == "gray":
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).tobytes()
    if form == "bgr":
        return bgr.tobytes()
    frame = av.VideoFrame.from_ndarray(bgr, "bgr24").reformat(format="yuvj422p")
    rows = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]
    return b"".join(row[:, : plane.width].tobytes() for row, plane in zip(rows, frame.planes, strict=True))


def shown(form: FrameFormat, bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return what a player should show of it."""
    return cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) if form == "gray" else bgr


def header(number: int, form: FrameFormat, size: tuple[int, int] = SIZE) -> FrameHeader:
    at = 1_000_000_000 + number * 10_000_000
    return FrameHeader(1, 2, number, 0.0, at, at, at / 1e9, number + 1, 0, 0, *size, FORMATS.index(form))


class Recorded:
    """What a stream of frames made."""

    def __init__(self, folder: Path, mode: Mode, frames: list[tuple[FrameFormat, tuple[int, int], bytes]]) -> None:
        self.folder = folder
        self.report = StreamReport(kind="video")
        writer = StreamWriter(folder, "world", mode, self.report)
        for number, (form, size, data) in enumerate(frames):
            info = StreamInfo("world", "test", "camera", "1", *size, 100.0, form, "arrival")
            writer.take(b"a", header(number, form, size), memoryview(data), info)
            deadline = time.monotonic() + 10
            while writer.confirmed_ns < header(number, form).captured_ns:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        writer.close()
        assert self.report.received == self.report.written + sum(self.report.dropped.values()) + self.report.lost

    @property
    def parts(self) -> list[tuple[str, int, str]]:
        return [(part.file, part.frames, part.codec) for part in self.report.parts if part.frames]

    def images(self, file: str = "world.mp4") -> list[npt.NDArray[np.uint8]]:
        capture = cv2.VideoCapture(str(self.folder / file))
        count = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        images = [capture.read()[1] for _ in range(count)]
        assert not capture.read()[0]
        capture.release()
        return images


@pytest.mark.parametrize("size", [SIZE, (66, 50), (640, 480)])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_shown_is_what_came(tmp_path, mode, form, size):
    pictures = [picture(number, *size) for number in range(4)]
    recorded = Recorded(tmp_path, mode, [(form, size, payload(form, image)) for image in pictures])
    assert recorded.parts == [("world.mp4", 4, "mjpeg" if mode == "jpeg" else mode)]
    assert recorded.report.dropped == {}
    assert not repair_part(tmp_path, "world").changed
    for found, image in zip(recorded.images(), pictures, strict=True):
        assert cv2.PSNR(found, shown(form, image)) > 30
        assert abs(found.mean() - shown(form, image).mean()) < 2


@pytest.mark.parametrize("size", [(33, 17), (1, 1), (96, 63)])
@pytest.mark.parametrize("form", ["gray", "bgr", "yuv"])
def test_odd_sizes_become_jpegs(tmp_path, form, size):
    data = payload(form, picture(0, *size))
    recorded = Recorded(tmp_path, "jpeg", [(form, size, data)])
    assert recorded.parts == [("world.mp4", 1, "mjpeg")]
    [image] = recorded.images()
    assert image.shape[:2] == size[::-1]


def test_the_brightness_of_gray_and_yuv_images_is_kept(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    half = bytes([128]) * (128 * 16)
    for form, data in (("gray", ramp.tobytes()), ("yuv", ramp.tobytes() + half + half)):
        encoder = Encoder("jpeg", 256, 16, 30, form)
        jpeg, key = encoder.encode(data)
        encoder.close()
        [image] = av.VideoCodecContext.create("mjpeg", "r").decode(av.Packet(bytes(jpeg)))
        assert (key, image.format.name) == (True, "yuvj420p" if form == "gray" else "yuvj422p")
        luma = np.frombuffer(memoryview(image.planes[0]), np.uint8).reshape(-1, image.planes[0].line_size)[:16, :256]
        assert np.abs(luma.astype(int) - ramp).max() <= 2
        assert all(np.abs(np.frombuffer(memoryview(plane), np.uint8)[:100].astype(int) - 128).max() <= 1
                   for plane in image.planes[1:])  # fmt: skip


def test_another_format_begins_a_part(tmp_path):
    forms: list[FrameFormat] = ["jpeg", "jpeg", "gray", "bgr", "bgr", "bgr", "jpeg"]
    data = [payload(form, picture(number)) for number, form in enumerate(forms)]
    recorded = Recorded(tmp_path, "jpeg", [(form, SIZE, each) for form, each in zip(forms, data, strict=True)])
    assert [(file, count) for file, count, _ in recorded.parts] == [
        ("world.mp4", 2), ("world_001.mp4", 1), ("world_002.mp4", 3), ("world_003.mp4", 1),
    ]  # fmt: skip
    with av.open(tmp_path / "world_003.mp4") as container:
        assert [bytes(packet) for packet in container.demux(video=0) if packet.size] == [data[6]]
    times = [np.load(tmp_path / f"{file.removesuffix('.mp4')}_timestamps.npy") for file, _, _ in recorded.parts]
    assert np.concatenate(times).tolist() == [header(number, "jpeg").timestamp for number in range(7)]


@pytest.mark.parametrize("mode", ["jpeg", "h264"])
@pytest.mark.parametrize("form", ["gray", "bgr", "yuv"])
def test_samples_of_another_number_are_refused_and_counted(tmp_path, form, mode):
    good = payload(form, picture(1))
    frames = [good, good[:-1], b"", good + b"\0", good, b"\xff\xd8\xff\xd9"]
    recorded = Recorded(tmp_path, mode, [(form, SIZE, data) for data in frames])
    assert recorded.report.dropped == {"corrupt": 4}
    assert recorded.parts == [("world.mp4", 2, "mjpeg" if mode == "jpeg" else mode)]
    assert np.load(tmp_path / "world_frames.npy")["sequence"].tolist() == [0, 4]


@pytest.mark.parametrize(("mode", "size"), [("h264", (33, 17)), ("jpeg", (0, 0)), ("mpeg4", (0, 5)), ("h264", (0, 0))])
def test_a_size_that_no_encoder_takes_is_refused_in_words(tmp_path, mode, size):
    with pytest.raises(NotAnImage, match=f"images of {size[0]}x{size[1]}: .* takes none of this size"):
        Encoder(mode, *size, 30, "gray")
    frames = [("gray", size, bytes(size[0] * size[1])), ("gray", SIZE, payload("gray", picture(0)))]
    recorded = Recorded(tmp_path, mode, frames)
    assert (recorded.report.dropped, recorded.report.written) == ({"corrupt": 1}, 1)


def test_a_jpeg_stays_the_camera_s_own(tmp_path):
    data = [payload("jpeg", picture(number)) + b"padding" for number in range(3)]
    Recorded(tmp_path, "jpeg", [("jpeg", SIZE, each) for each in data])
    with av.open(tmp_path / "world.mp4") as container:
        assert [bytes(packet) for packet in container.demux(video=0) if packet.size] == data
