"""The lids: skin with margins and a crease, lashes, the shadow on the eye, and what of the eye stays visible."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_capture.wearer.texture import Image, clouds, noise, ramp

__all__ = ["LidLayer", "LidPainter"]

_HALF_WIDTH_MM = 15.0
_UPPER_MM, _LOWER_MM = 4.7, 5.1
_CLOSED_RISE_MM = 1.2
_SPAN_MM = 40.0  # the tables reach this far to both sides of a margin
_PER_PX = 4  # entries of a table for each pixel
_LASH_GRAY = 52.0


@dataclass(frozen=True, slots=True, eq=False)
class LidLayer:
    """Lids in one position; an image of the eye becomes ``eye * gain + front``."""

    gain: Image
    front: Image
    aperture: Image
    """How much of each pixel the lids leave free, 0..1; lashes do not count."""


class LidPainter:
    """Draws lids around ``center`` (x, y in px), the middle of the open eye, at ``scale`` px per mm.

    ``temple`` is +1 where the temple is on the right of the image, -1 on the left.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        center: tuple[float, float],
        scale: float,
        temple: int,
    ) -> None:
        self._width, self._height = size
        self._center = center
        self._scale = scale
        self._mm = (np.arange(self._width, dtype=np.float32) - center[0]) / scale * temple
        self._rows = np.arange(self._height, dtype=np.float32)[:, None]
        self._margin = round(12 * scale)
        self._skin = self._paint_skin(rng)
        self._light = self._paint_light(temple)
        self._tables()
        roots = np.sort(rng.uniform(-_HALF_WIDTH_MM, _HALF_WIDTH_MM, 70))
        self._upper_lashes = np.stack([roots, rng.uniform(3.5, 7.0, 70), rng.normal(0, 0.22, 70)], axis=1)
        roots = rng.uniform(-_HALF_WIDTH_MM, _HALF_WIDTH_MM, 40)
        self._lower_lashes = np.stack([roots, rng.uniform(1.5, 3.0, 40), rng.normal(0, 0.3, 40)], axis=1)

    def paint(self, opening: float, upper_mm: float, lower_mm: float) -> LidLayer:
        """Draw the lids ``opening`` (0..1) open, and moved down with the gaze by ``upper_mm`` and ``lower_mm``."""
        bend = np.clip(1 - (self._mm / np.float32(_HALF_WIDTH_MM)) ** 2, 0, None)
        slope = 0.03 * self._mm  # the outer corner sits lower than the inner one
        low = _LOWER_MM * bend**0.9 + slope + lower_mm
        high = -_UPPER_MM * bend**0.75 + slope + upper_mm
        low = low - _CLOSED_RISE_MM * (1 - opening) * bend
        high = low + (high - low) * opening
        upper_px, lower_px = (self._center[1] + edge * self._scale for edge in (high, low))
        upper, lower = self._index(self._rows - upper_px), self._index(lower_px - self._rows)
        over, under = self._free[upper], self._free[lower]
        aperture = over * under
        gain = self._upper_gain[upper] * self._lower_gain[lower] * self._light
        top = round((upper_mm + (1 - opening) * 6) * self._scale / 2)
        skin = self._skin[self._margin - top :][: self._height]
        front = skin * (self._upper_skin[upper] + over * self._lower_skin[lower]) * self._light
        lashes = self._paint_lashes(upper_px, lower_px, opening)
        gain *= 1 - lashes
        front += lashes * (np.float32(_LASH_GRAY) - front)
        return LidLayer(np.asarray(gain, np.float32), np.asarray(front, np.float32), np.asarray(aperture, np.float32))

    def _index(self, distance: Image) -> NDArray[np.intp]:
        middle = len(self._free) // 2
        return np.clip(distance * _PER_PX + middle, 0, len(self._free) - 1).astype(np.intp)

    def _tables(self) -> None:
        """Tabulate over the distance from a margin, positive towards the eye."""
        count = round(_SPAN_MM * self._scale * _PER_PX)
        px = np.asarray(np.arange(-count, count + 1) / _PER_PX, np.float32)
        out, eye = np.maximum(-px, 0) / self._scale, np.maximum(px, 0) / self._scale
        free = ramp(px, 1.8)
        rim = _bump(out, 0.13, 0.5, 0.4) * _bump(out, -0.16, 1.3, 0.35)
        crease = _bump(out, -0.30, 5.0, 0.45) * _bump(out, 0.08, 3.2, 1.2)
        bag = _bump(out, -0.12, 4.0, 1.0)
        self._free = free
        self._upper_gain: Image = np.asarray(free * _bump(eye, -0.42, 0.0, 1.1), np.float32)
        self._lower_gain: Image = np.asarray(free * _bump(eye, -0.15, 0.0, 0.6), np.float32)
        self._upper_skin: Image = np.asarray(rim * crease * (1 - free), np.float32)
        self._lower_skin: Image = np.asarray(1.04 * rim * bag * (1 - free), np.float32)

    def _paint_skin(self, rng: np.random.Generator) -> Image:
        height, width = self._height + 2 * self._margin, self._width
        pores = cv2.GaussianBlur(noise(rng, height, width, 9.0), (0, 0), self._scale / 16)
        folds = clouds(rng, height, width, [(3, 3, 7.0), (30, 6, 2.5), (60, 40, 2.0), (140, 90, 1.6)])
        return np.asarray(150 + folds + pores, np.float32)

    def _paint_light(self, temple: int) -> Image:
        """Return the fall-off of the infrared light towards the corners; the nose shades its side a little."""
        half = max(self._width, self._height) / 2
        x = (np.arange(self._width, dtype=np.float32) - self._width / 2) / half
        y = (self._rows - self._height / 2) / half
        return np.asarray(1.06 - 0.20 * (x * x + y * y) + 0.05 * temple * x, np.float32)

    def _paint_lashes(self, upper_px: Image, lower_px: Image, opening: float) -> Image:
        """Draw the lashes: the upper ones sweep up from an open lid and down from a closed one."""
        mask = np.zeros((self._height, self._width), np.uint8)
        rise = -1.15 + 1.9 * (1 - opening)
        upper = self._strokes(self._upper_lashes, upper_px, rise, curl=-0.35)
        lower = self._strokes(self._lower_lashes, lower_px, 1.0, curl=0.25)
        for part, thickness, dark in ((6, 1, 120), (5, 1, 150), (3, max(1, round(self._scale / 9)), 165)):
            cv2.polylines(mask, list(upper[:, :part]), False, dark, thickness, cv2.LINE_AA, shift=4)
        cv2.polylines(mask, list(lower), False, 80, 1, cv2.LINE_AA, shift=4)
        return cv2.GaussianBlur(mask, (0, 0), max(0.5, self._scale / 26)).astype(np.float32) * np.float32(1 / 255)

    def _strokes(self, lashes: NDArray[np.float64], edge_px: Image, rise: float, curl: float) -> NDArray[np.int32]:
        """Return lashes (root, length, lean) as (N, 6, 1, 2) lines in 1/16 px."""
        root, length, lean = lashes.T
        order = np.argsort(self._mm)
        column = np.interp(root, self._mm[order], np.arange(self._width)[order].astype(np.float64))
        row = np.interp(root, self._mm[order], edge_px[order].astype(np.float64))
        # Roots outside the image keep their own column, so that they stay outside.
        outward = np.sign(self._mm[-1] - self._mm[0])
        column = np.where(np.abs(root - np.clip(root, *np.sort(self._mm)[[0, -1]])) > 0, -99.0, column)
        angle = 0.06 * root * outward + lean
        along = np.linspace(0, 1, 6)[None, :] * (length * self._scale)[:, None]
        bent = np.linspace(0, 1, 6)[None, :] ** 2 * (length * self._scale * curl)[:, None]
        x = column[:, None] + np.sin(angle)[:, None] * along
        y = row[:, None] + rise * np.cos(angle)[:, None] * along + bent
        return np.round(np.stack([x, y], axis=-1)[:, :, None, :] * 16).astype(np.int32)


def _bump(mm: NDArray[np.floating], height: float, middle: float, width: float) -> NDArray[np.floating]:
    """Return a factor that is 1 but around ``middle``, where it rises or sinks by ``height``."""
    return np.asarray(1 + height * np.exp(-(((mm - middle) / width) ** 2)))
