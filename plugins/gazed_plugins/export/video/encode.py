"""Frames of a recorded video encoded anew as H.264, each at its own time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice

import av
import av.container
from av.video.frame import PictureType

from gazed_plugins.export.video.file import TIME_BASE, Begin, Ints, Packets, Piece
from gazed_recorder.reading.video import RecordedFrame, Video

__all__ = ["Draw", "Encoding", "encode_packets"]

Draw = Callable[[RecordedFrame], av.VideoFrame]
"""Returns the image that is encoded in the place of a frame."""

# The number is part of the result: x264 makes other bytes with other numbers, but always the same with one.
_THREADS = 2
_USUAL_FPS = 30


@dataclass(frozen=True, slots=True)
class Encoding:
    """How it is encoded: x264's constant rate factor (0 is lossless, 51 worst), and its preset."""

    crf: int = 23
    preset: str = "veryfast"


def encode_packets(video: Video, piece: Piece, us: Ints, encoding: Encoding, draw: Draw | None = None) -> Begin:
    """Return what encodes the frames of a piece of a video; ``us`` (n,) are their times."""

    def begin(container: av.container.OutputContainer) -> Packets:
        count = len(us)
        frames = islice(video.frames(piece.start), count)
        first = next(frames)
        size = first.image.width, first.image.height
        rate = round((count - 1) * 1e6 / int(us[-1] - us[0])) if count > 1 else _USUAL_FPS
        options = {"crf": str(encoding.crf), "preset": encoding.preset, "g": str(max(1, 2 * rate))}
        stream = container.add_stream("libx264", max(1, rate), options=options)
        encoder = stream.codec_context
        encoder.width, encoder.height = size
        # Colour at half the resolution, as everything plays it; an image of odd size has no half.
        encoder.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        encoder.time_base = stream.time_base = TIME_BASE
        # Frames are stored in the order in which they are shown: any reader counts them right.
        encoder.max_b_frames = 0
        encoder.thread_count = _THREADS

        def packets() -> Packets:
            for number, frame in enumerate(chain([first], frames)):
                image = draw(frame) if draw else frame.image
                image = image.reformat(*size, format=encoder.pix_fmt, dst_color_range="MPEG")
                # A decoded JPEG is marked as an I picture: x264 would make every frame a key frame.
                image.pict_type = PictureType.NONE
                image.time_base, image.pts = TIME_BASE, int(us[number])
                yield from stream.encode(image)
            yield from stream.encode(None)

        return packets()

    return begin
