"""Renders what the world camera sees: the room, and in it the target on its card."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_capture.wearer.room import Picture, paint_room
from gazed_capture.wearer.texture import noise, ramp

__all__ = ["MARKER_RADIUS_MM", "WorldPainter"]

MARKER_RADIUS_MM = 35.0
"""The target is Pupil's circle marker: a black disc of this radius, in it a white one, in that a black one."""

_RINGS = ((1.0, 14.0), (38 / 60, 238.0), (19 / 60, 14.0), (3 / 60, 238.0))  # part of the radius, gray level
_CARD, _CARD_GRAY = 1.4, 236.0
_VARIANTS = 3
_NOISE_SIGMA = 1.3


class WorldPainter:
    """Paints the scene at ``size`` (width, height); the same arguments give the same images."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        self._width, self._height = size
        rng = np.random.default_rng([seed, 13])
        grain = noise(rng, self._height, self._width + _VARIANTS, _NOISE_SIGMA)
        self._noise = [grain[:, shift : shift + self._width] for shift in range(_VARIANTS)]
        self._rooms: dict[tuple[bool, int], Picture] = {}
        for lamp in (False, True):
            room = paint_room(seed, *size, lamp=lamp)
            for index, field in enumerate(self._noise):
                self._rooms[lamp, index] = _noisy(room, field)

    def paint(self, target: NDArray[np.float64], radius: float, *, lamp: bool, variant: int) -> Picture:
        """Return the scene (height, width, 3), BGR, with sensor noise.

        ``target`` (2,) is the centre of the marker and ``radius`` its size, in px; ``variant`` chooses the noise.
        """
        variant %= _VARIANTS
        image = self._rooms[lamp, variant].copy()
        reach = radius * _CARD + 8
        left, top = (max(0, int(value - reach)) for value in target)
        right = min(self._width, int(target[0] + reach) + 2)
        bottom = min(self._height, int(target[1] + reach) + 2)
        if right <= left or bottom <= top:
            return image
        x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(target[0])
        y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(target[1])
        window = image[top:bottom, left:right].astype(np.float32)
        half = np.float32(radius * _CARD)
        square = half - np.maximum(np.abs(x), np.abs(y))
        shade = ramp(half + 3 - np.maximum(np.abs(x - 3), np.abs(y - 4)), 5)
        window *= (1 - 0.35 * shade)[:, :, None]
        bright = 1.0 if lamp else 0.8
        away = cv2.magnitude(*np.broadcast_arrays(x, y))
        card = np.full(away.shape, _CARD_GRAY, np.float32)
        for part, gray in _RINGS:
            card += ramp(np.float32(radius * part) - away, 1.2) * (np.float32(gray) - card)
        card = card * np.float32(bright) + self._noise[variant][top:bottom, left:right]
        window += ramp(square, 1.2)[:, :, None] * (card[:, :, None] - window)
        image[top:bottom, left:right] = np.clip(window + 0.5, 0, 255)
        return image


def _noisy(room: Picture, field: NDArray[np.float32]) -> Picture:
    return np.asarray(cv2.add(room, cv2.merge([field, field, field]), dtype=cv2.CV_8U), np.uint8)
