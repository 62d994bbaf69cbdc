"""Random textures for skin, sclera, iris, walls and wood."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Image", "clouds", "noise", "ramp"]

Image = NDArray[np.float32]
"""(height, width), in gray levels 0..255 or as a factor."""


def clouds(rng: np.random.Generator, height: int, width: int, cells: list[tuple[int, int, float]]) -> Image:
    """Add up smooth random fields: for each (rows, columns, amplitude) a grid of normal values, scaled up."""
    total = np.zeros((height, width), np.float32)
    for rows, columns, amplitude in cells:
        grid = rng.standard_normal((rows, columns), np.float32) * np.float32(amplitude)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return total


def noise(rng: np.random.Generator, height: int, width: int, sigma: float) -> Image:
    """Return white noise, as a sensor adds it."""
    return rng.standard_normal((height, width), np.float32) * np.float32(sigma)


def ramp(distance: Image, width: float) -> Image:
    """Return 0 outside, 1 inside an edge at distance 0 (positive is inside), rising over ``width``."""
    rising = distance * np.float32(1 / width) + np.float32(0.5)
    return np.asarray(np.clip(rising, np.float32(0), np.float32(1)), np.float32)
