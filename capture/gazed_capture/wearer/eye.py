"""Renders what an eye camera sees: a gray near-infrared image of one eye."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_capture.wearer.lids import LidLayer, LidPainter
from gazed_capture.wearer.optics import project
from gazed_capture.wearer.rig import EYEBALL_RADIUS_MM, EyeRig
from gazed_capture.wearer.texture import Image, clouds, noise, ramp

__all__ = ["EyePainter"]

_PUPIL_GRAY, _SCLERA_GRAY, _IRIS_GRAY, _GLINT_GRAY = 24.0, 158.0, 104.0, 246.0
_IRIS_TURNS, _IRIS_DEPTH = 1024, 96  # texels of the iris: around, and from pupil to limbus
_PUPIL_EDGE_PX = 1.6
_LID_STEP_MM = 0.1
_LID_FOLLOWS_UPPER, _LID_FOLLOWS_LOWER = 0.75, 0.4


class EyePainter:
    """Paints one eye; the same arguments give the same images.

    ``camera`` is the pinhole matrix (3, 3) in px and ``size`` (width, height). Ellipses and points are in pixels of the
    camera's image; a camera that is mounted upside down is painted upright and turned.
    """

    def __init__(self, rig: EyeRig, camera: NDArray[np.float64], size: tuple[int, int], seed: int) -> None:
        self._rig = rig
        self._width, self._height = size
        rng = np.random.default_rng([seed, rig.temple + 1])
        ahead = rig.eyeball_mm + EYEBALL_RADIUS_MM * rig.rotation @ np.array([0.0, 0.0, 1.0])
        self._rest = self._upright(project(ahead, camera))
        self._scale = float(camera[0, 0] / ahead[2])
        self._lids = LidPainter(rng, size, (float(self._rest[0]), float(self._rest[1])), self._scale, rig.temple)
        self._layer_key: tuple[float, float, float] | None = None
        self._layer: LidLayer
        self._iris = self._paint_iris(rng)
        self._slack = round(8 * self._scale)
        self._sclera = self._paint_sclera(rng)

    def paint(
        self, pupil: np.void, limbus: np.void, glints: NDArray[np.float64], lid_opening: float
    ) -> tuple[Image, float]:
        """Return the image (height, width) without noise, and how much of the pupil (0..1) it shows."""
        middle = self._upright(np.array([limbus["cx"], limbus["cy"]]))
        layer = self._lid_layer(lid_opening, float(middle[1] - self._rest[1]) / self._scale)
        image = self._eyeball(middle)
        visible = 0.0
        left, top, right, bottom = self._box(middle, float(limbus["major"]) / 2 + 8)
        if lid_opening > 0 and right > left and bottom > top:
            window = np.s_[top:bottom, left:right]
            x = np.arange(left, right, dtype=np.float32)[None, :]
            y = np.arange(top, bottom, dtype=np.float32)[:, None]
            covered = self._draw_iris(image[window], x, y, pupil, limbus)
            area = np.pi / 4 * float(pupil["minor"]) * float(pupil["major"])
            visible = min(1.0, float(np.vdot(covered, layer.aperture[window])) / area)
            for glint in glints:
                self._draw_glint(image, self._upright(glint))
        image *= layer.gain
        image += layer.front
        return (image[::-1, ::-1] if self._rig.upside_down else image), visible

    def _upright(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self._rig.upside_down:
            return point
        return np.array([self._width - 1, self._height - 1]) - point

    def _box(self, middle: NDArray[np.float64], reach: float) -> tuple[int, int, int, int]:
        left, top = (max(0, int(value - reach)) for value in middle)
        right, bottom = int(middle[0] + reach) + 2, int(middle[1] + reach) + 2
        return left, top, min(self._width, right), min(self._height, bottom)

    def _lid_layer(self, opening: float, down_mm: float) -> LidLayer:
        upper, lower = (
            round(down_mm * part / _LID_STEP_MM) * _LID_STEP_MM for part in (_LID_FOLLOWS_UPPER, _LID_FOLLOWS_LOWER)
        )
        key = (opening, upper, lower)
        if key != self._layer_key:
            self._layer_key, self._layer = key, self._lids.paint(opening, upper, lower)
        return self._layer

    def _eyeball(self, middle: NDArray[np.float64]) -> Image:
        """Return the white of the eye; its veins turn with it."""
        shift = np.clip(np.round(self._slack - (middle - self._rest)), 0, 2 * self._slack).astype(int)
        return self._sclera[shift[1] : shift[1] + self._height, shift[0] : shift[0] + self._width].copy()

    def _draw_iris(self, window: Image, x: Image, y: Image, pupil: np.void, limbus: np.void) -> Image:
        """Draw iris and pupil into ``window``; return how much of each pixel the pupil covers.

        Depth in the iris runs from 0 at the pupil to 1 at the limbus, so that the fibres stretch with the pupil.
        """
        outer_x, outer_y = self._normalise(x, y, limbus)
        outer, turn = cv2.cartToPolar(outer_x, outer_y)
        inner_x, inner_y = self._normalise(x, y, pupil)
        inner = cv2.magnitude(inner_x, inner_y)
        beyond = np.maximum(inner - 1, 0)
        depth = beyond / (beyond + np.maximum(1 - outer, 0) + np.float32(1e-6))
        texture = cv2.remap(
            self._iris, turn * np.float32(_IRIS_TURNS / (2 * np.pi)), depth * (_IRIS_DEPTH - 1), cv2.INTER_LINEAR
        )
        radius = float(limbus["major"]) / 2
        window += ramp((1 - outer) * np.float32(radius), 0.35 * self._scale) * (texture - window)
        # First-order distance to the ellipse: rho (rho - 1) / |S u|, where u = S d and rho = |u|.
        a, b, c = self._root(pupil)
        slope = cv2.magnitude(a * inner_x + b * inner_y, b * inner_x + c * inner_y) + np.float32(1e-6)
        covered = ramp((1 - inner) * inner / slope, _PUPIL_EDGE_PX)
        covered[inner < 0.5] = 1
        window += covered * (np.float32(_PUPIL_GRAY) - window)
        return covered

    def _root(self, ellipse: np.void) -> tuple[np.float32, np.float32, np.float32]:
        """Return the symmetric matrix S = [[a, b], [b, c]] that turns offsets from the centre into a unit disc."""
        angle = np.radians(ellipse["angle_deg"])
        cosine, sine = np.cos(angle), np.sin(angle)
        small, large = 2 / ellipse["minor"], 2 / ellipse["major"]
        return (
            np.float32(small * cosine**2 + large * sine**2),
            np.float32((small - large) * cosine * sine),
            np.float32(small * sine**2 + large * cosine**2),
        )

    def _normalise(self, x: Image, y: Image, ellipse: np.void) -> tuple[Image, Image]:
        center = self._upright(np.array([ellipse["cx"], ellipse["cy"]])).astype(np.float32)
        a, b, c = self._root(ellipse)
        dx, dy = x - center[0], y - center[1]
        return a * dx + b * dy, b * dx + c * dy

    def _draw_glint(self, image: Image, point: NDArray[np.float64]) -> None:
        sigma = 0.10 * self._scale
        left, top, right, bottom = self._box(point, 4 * sigma + 2)
        if right <= left or bottom <= top:
            return
        x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(point[0])
        y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(point[1])
        spot = np.minimum(1.6 * np.exp(-(x * x + y * y) / np.float32(2 * sigma**2)), np.float32(1))
        window = image[top:bottom, left:right]
        window += spot * (np.float32(_GLINT_GRAY) - window)

    def _paint_iris(self, rng: np.random.Generator) -> Image:
        """Return (depth, turn) gray levels: fibres, collarette, crypts, and the dark ring at the limbus."""
        depth = np.linspace(0, 1, _IRIS_DEPTH, dtype=np.float32)[:, None]
        fibres = clouds(rng, _IRIS_DEPTH, _IRIS_TURNS, [(3, 90, 9.0), (4, 200, 8.0), (6, 420, 6.0), (3, 7, 4.0)])
        collarette = 16 * np.exp(-(((depth - 0.28) / 0.07) ** 2))
        crypts = -14 * np.clip(clouds(rng, _IRIS_DEPTH, _IRIS_TURNS, [(5, 28, 1.0)]) - 0.9, 0, 1.2)
        rings = collarette - 26 * np.clip((depth - 0.82) / 0.18, 0, 1) ** 1.5 - 6 * np.exp(-depth / 0.04)
        iris = _IRIS_GRAY + fibres + crypts + rings
        # The seam at a full turn: the end fades into the beginning, and one more column is the beginning.
        fade = np.linspace(0, 1, 24, dtype=np.float32)
        iris[:, -24:] = iris[:, -24:] * (1 - fade) + iris[:, :1] * fade
        return np.asarray(np.clip(np.hstack([iris, iris[:, :1]]), 55, 160), np.float32)

    def _paint_sclera(self, rng: np.random.Generator) -> Image:
        height, width = self._height + 2 * self._slack, self._width + 2 * self._slack
        veins = np.zeros((height, width), np.uint8)
        for _ in range(34):
            steps = np.cumsum(rng.normal(0, 1, (14, 2)) + rng.normal(0, 1.6, 2), axis=0) * self._scale * 0.35
            line = np.round((steps + rng.uniform(0, [width, height])) * 16).astype(np.int32)
            cv2.polylines(veins, [line[:, None, :]], False, int(rng.integers(60, 160)), 1, cv2.LINE_AA, shift=4)
        soft = cv2.GaussianBlur(veins, (0, 0), self._scale / 16).astype(np.float32)
        middle = self._rest + self._slack
        x = (np.arange(width, dtype=np.float32)[None, :] - middle[0]) / self._scale
        y = (np.arange(height, dtype=np.float32)[:, None] - middle[1]) / self._scale
        ball = 1.04 - 0.0020 * (x * x + 0.6 * y * y)  # a sphere turns away from the light
        tissue = clouds(rng, height, width, [(5, 5, 4.0), (40, 40, 2.0)])
        return np.asarray(np.clip((_SCLERA_GRAY + tissue - 0.12 * soft) * ball, 60, 255), np.float32)

    @staticmethod
    def sensor_noise(seed: int, size: tuple[int, int], sigma: float) -> Image:
        """Return a field of sensor noise, larger than an image so that windows of it differ."""
        return noise(np.random.default_rng([seed, 7]), size[1] + 64, size[0] + 64, sigma)
