"""Images that carry a number: every frame differs from every other, and a misread number is noticed.

The number stands in the first cells of 16x8 px, in reading order: each of its 24 bits as a black or white cell,
followed by the opposite. A cell is one MCU of a 4:2:2 JPEG, and the JPEG has a restart marker after each MCU, so
that a new image is spliced from pieces encoded once (ISO/IEC 10918-1, B.2.4.4, E.1.4): microseconds for any size.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["BITS", "counter_gray", "counter_jpeg", "read_counter"]

BITS = 24
_CELLS = 2 * BITS
_CELL_W, _CELL_H = 16, 8
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
_JPEG += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422]

Gray = npt.NDArray[np.uint8]


def _cell(index: int, width: int) -> tuple[slice, slice]:
    row, column = divmod(index, width // _CELL_W)
    return slice(row * _CELL_H, (row + 1) * _CELL_H), slice(column * _CELL_W, (column + 1) * _CELL_W)


def _cells(number: int) -> list[bool]:
    if not 0 <= number < 1 << BITS:
        raise ValueError(f"{number} does not fit into {BITS} bits")
    return [bool(number >> bit & 1) != inverse for bit in range(BITS) for inverse in (False, True)]


def _background(width: int, height: int) -> Gray:
    if width % _CELL_W or height % _CELL_H or width // _CELL_W * (height // _CELL_H) < _CELLS:
        raise ValueError(f"{width}x{height} has no room for {_CELLS} cells of {_CELL_W}x{_CELL_H}")
    ramp = np.add.outer(np.arange(height), np.arange(width))
    return (ramp % 200 + 28).astype(np.uint8)


def counter_gray(width: int, height: int) -> Callable[[int], bytes]:
    """Return a maker of 8-bit gray images: number -> ``width * height`` bytes."""
    image = _background(width, height)

    def make(number: int) -> bytes:
        for index, white in enumerate(_cells(number)):
            image[_cell(index, width)] = 255 if white else 0
        return image.tobytes()

    return make


def counter_jpeg(width: int, height: int) -> Callable[[int], bytes]:
    """Return a maker of JPEGs (baseline, 4:2:2): number -> bytes."""

    def encode(fill: int) -> list[bytes]:
        image = _background(width, height)
        for index in range(_CELLS):
            image[_cell(index, width)] = fill
        jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), _JPEG)[1].tobytes()
        return re.split(rb"(?<=\xff[\xd0-\xd7])", jpeg)

    black, white = encode(0), encode(255)
    scan = black[0].index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(black[0][scan + 2 : scan + 4], "big")
    header, tail = black[0][:start], b"".join(black[_CELLS:])
    black[0], white[0] = black[0][start:], white[0][start:]

    def make(number: int) -> bytes:
        return header + b"".join((white if on else black)[i] for i, on in enumerate(_cells(number))) + tail

    return make


def read_counter(gray: Gray) -> int:
    """Read the number of an image, shape (height, width).

    Raises:
        ValueError: a bit and its opposite agree: this is none of our images, or it is damaged.
    """
    inside = [cell[2:-2, 3:-3] for cell in (gray[_cell(index, gray.shape[1])] for index in range(_CELLS))]
    bits = [bool(cell.mean() > 128) for cell in inside]
    wrong = [bit for bit in range(BITS) if bits[2 * bit] == bits[2 * bit + 1]]
    if wrong:
        raise ValueError(f"the image carries no number: bits {wrong} and their opposites agree")
    return sum(1 << bit for bit in range(BITS) if bits[2 * bit])
