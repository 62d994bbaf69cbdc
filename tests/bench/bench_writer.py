"""How fast one part is written: JPEG pass-through beside a bare write and a plain mp4 by libav, and sound.

    python tests/bench/bench_writer.py [--json] [--dir DIR] [--frames N] [--rounds N]

Every round writes the same packets (1280x720, 144 kB) in each of the three ways, then as many blocks
of sound (1024 samples of two channels, noise: what packs worst); the medians are printed. The disk is not waited for:
this is the price of a frame, and the page cache takes it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from gazed_recorder.mp4_write import mjpeg_track
from gazed_recorder.part import TrackPart
from gazed_recorder.records import FrameRecord
from gazed_recorder.sound import SoundPart

_BYTES = 144_000
_US = 33_333


def make_jpegs(count: int) -> list[bytes]:
    """Return JPEGs of 1280x720, padded behind their end to 144 kB."""
    rng = np.random.default_rng(7)
    images = (cv2.GaussianBlur(rng.integers(0, 255, (720, 1280, 3), np.uint8), (5, 5), 0) for _ in range(count))
    jpegs = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes() for image in images]
    return [jpeg.ljust(_BYTES, b"\0") for jpeg in jpegs]


def write_part(folder: Path, jpegs: list[bytes], frames: int) -> None:
    """Write as gazed does: every frame whole on return, checksummed, with its two arrays."""
    part = TrackPart(folder, "world", mjpeg_track(1280, 720))
    for i in range(frames):
        ns = i * _US * 1000
        part.write(FrameRecord(i, ns / 1e9, ns, ns, ns / 1e9, 0), jpegs[i % len(jpegs)])
    part._file.abandon()  # the waiting for the disk at close is measured by nobody


def write_raw(folder: Path, jpegs: list[bytes], frames: int) -> None:
    """Write the packets one behind the other and nothing else."""
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
    for i in range(frames):
        os.write(fd, jpegs[i % len(jpegs)])
    os.close(fd)


def write_libav(folder: Path, jpegs: list[bytes], frames: int) -> None:
    """Mux as Pupil Capture does: a plain mp4, unreadable until it is closed."""
    with av.open(str(folder / "plain.mp4"), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=30, width=1280, height=720)
        stream.time_base = Fraction(1, 1_000_000)
        container.start_encoding()
        for i in range(frames):
            packet = av.Packet(jpegs[i % len(jpegs)])
            packet.stream, packet.time_base = stream, stream.time_base
            packet.pts = packet.dts = i * _US
            packet.duration, packet.is_keyframe = _US, True
            container.mux_one(packet)


def write_sound(folder: Path, jpegs: list[bytes], frames: int) -> None:
    """Write a block of sound for each frame, encoded and whole on return."""
    part = SoundPart(folder, "audio", 48_000, 1024, 2)
    blocks = [np.random.default_rng(number).bytes(4096) for number in range(len(jpegs))]
    for i in range(frames):
        part.write(FrameRecord(i, 0.0, i, i, i * 1024 / 48_000, 0), blocks[i % len(blocks)])
    part._file.abandon()


def measure(way: Callable[[Path, list[bytes], int], None], root: Path, jpegs: list[bytes], frames: int) -> list[float]:
    """Return wall and CPU milliseconds a frame."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        os.sync()
        wall, cpu = time.perf_counter(), time.process_time()
        way(Path(folder), jpegs, frames)
        return [(time.perf_counter() - wall) / frames * 1e3, (time.process_time() - cpu) / frames * 1e3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dir", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--frames", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    jpegs = make_jpegs(16)
    ways = {"gazed": write_part, "raw": write_raw, "libav_plain": write_libav, "sound": write_sound}
    taken: dict[str, list[list[float]]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            taken[name].append(measure(way, args.dir or Path(tempfile.gettempdir()), jpegs, args.frames))
    result: dict[str, object] = {"frames": args.frames, "rounds": args.rounds, "packet_bytes": _BYTES}
    for name, rounds in taken.items():
        wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
        result[name] = {"frames_per_s": round(1e3 / wall), "wall_ms": round(wall, 4), "cpu_ms": round(cpu, 4)}
    print(json.dumps(result) if args.json else "\n".join(f"{name}: {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
