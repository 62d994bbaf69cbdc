"""What the file source and the frame publisher cost: CPU milliseconds per frame, and how punctual playback is.

Run: python tests/bench/bench_sources.py [--json] [--seconds 3]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from gazed_bus.codec import Message
from gazed_capture.errors import EndOfStream
from gazed_capture.file import FileSource
from gazed_plugins.frame_publisher import FramePublisher
from gazed_plugins.testing import FakeContext

WIDTH, HEIGHT, COUNT = 1280, 720, 150


def picture(index: int) -> np.ndarray:
    noise = np.random.default_rng(index).integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    return cv2.GaussianBlur(cv2.resize(noise, (WIDTH, HEIGHT)), (7, 7), 0)


def jpeg(image: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422]
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def write_videos(folder: Path) -> None:
    images = [picture(index) for index in range(10)]
    with av.open(str(folder / "mjpeg.mp4"), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=30, width=WIDTH, height=HEIGHT)
        stream.time_base = Fraction(1, 10**6)
        container.start_encoding()
        for index in range(COUNT):
            packet = av.Packet(jpeg(images[index % 10]))
            packet.stream, packet.time_base = stream, Fraction(1, 10**6)
            packet.pts = packet.dts = index * 33_333
            container.mux_one(packet)
    with av.open(str(folder / "h264.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(images[index % 10], format="bgr24")))
        container.mux(stream.encode())


def cost_of_playing(video: Path) -> dict[str, float]:
    source = FileSource("world", {"path": str(video), "pace": "free"})
    source.open()
    start, wall, size, frames = time.process_time(), time.perf_counter(), 0, 0
    while True:
        try:
            frame = source.read(1.0)
        except EndOfStream:
            break
        if frame is not None:
            size += len(frame.payload)
            frames += 1
    cpu, wall = time.process_time() - start, time.perf_counter() - wall
    source.close()
    return {"cpu_ms": 1e3 * cpu / frames, "frames_per_s": frames / wall, "kB": size / frames / 1e3}


def lateness(video: Path, seconds: float, fps: float) -> dict[str, float]:
    np.save(video.with_name(f"{video.stem}_timestamps.npy"), np.arange(COUNT) / fps)
    source = FileSource("world", {"path": str(video), "loop": True})
    source.open()
    late, start = [], time.process_time()
    while len(late) < seconds * fps:
        frame = source.read(0.1)
        if frame is not None:
            late.append((frame.host_ns - frame.captured_ns) / 1e6)
    cpu = time.process_time() - start
    source.close()
    p50, p99 = np.percentile(late, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99), "cpu_percent": 100 * cpu / seconds}


def cost_of_publishing(wanted: str) -> dict[str, float]:
    payload = {"width": WIDTH, "height": HEIGHT, "index": 0, "timestamp": 0.0, "format": "jpeg"}
    message = Message("camera.world", payload, (jpeg(picture(0)),))
    plugin = FramePublisher(FakeContext(), {"format": wanted})
    plugin.on_idle()
    start = time.process_time()
    for _ in range(COUNT):
        plugin.on_message(message)
    return {"cpu_ms": 1e3 * (time.process_time() - start) / COUNT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_videos(folder)
        results = {f"play {codec} 1280x720": cost_of_playing(folder / f"{codec}.mp4") for codec in ("mjpeg", "h264")}
        results["pace 120 Hz"] = lateness(folder / "mjpeg.mp4", options.seconds, 120)
    results |= {f"publish {wanted} 1280x720": cost_of_publishing(wanted) for wanted in ("gray", "bgr", "yuv")}
    if options.json:
        print(json.dumps(results))
        return
    for title, figures in results.items():
        print(f"{title:24}", "  ".join(f"{key} {value:.3f}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
