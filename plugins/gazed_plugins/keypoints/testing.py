"""Tracked pupils of which the truth is known, for tests of whatever takes keypoints in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_plugins.keypoints.tracks import Points

__all__ = ["NAMES", "SIZE", "TrackedPupils", "angle_between", "on_ellipses", "save_npz"]

Floats = NDArray[np.float64]

SIZE = (192, 192)
"""Width and height of the images that the pupils are in, px."""
NAMES = tuple(f"edge{number}" for number in range(8))
"""The keypoints."""


class TrackedPupils:
    """Pupils of ``count`` frames, and eight keypoints on the edge of each; the same arguments give the same ones.

    ``noise`` is the standard deviation of the keypoints, px.
    """

    def __init__(self, count: int, noise: float = 0.0, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.center: Floats = rng.uniform(60, 130, (count, 2))
        self.minor: Floats = rng.uniform(20, 40, count)
        self.major: Floats = self.minor * rng.uniform(1.05, 1.5, count)
        self.angle: Floats = rng.uniform(0, 180, count)
        self.position = on_ellipses(self.center, self.minor, self.major, self.angle)
        """Shape (count, 2, 8)."""
        if noise:
            self.position += rng.normal(0, noise, self.position.shape)
        self.confidence: Floats = rng.uniform(0.7, 1.0, (count, len(NAMES)))

    @property
    def points(self) -> Points:
        """As they are read from a file."""
        return Points(NAMES, self.position, self.confidence, None, "test")

    def save(self, path: Path, **more: Any) -> Path:
        """Write an ``.npz`` with the arrays that gazed reads, and ``more``; return its path."""
        names = {"keypoints": np.array(NAMES), "individuals": np.array(["mouse"])}
        return save_npz(path, position=self.position, confidence=self.confidence, **names, **more)


def on_ellipses(center: ArrayLike, minor: ArrayLike, major: ArrayLike, angle: ArrayLike, points: int = 8) -> Floats:
    """Return points around ellipses, shape (n, 2, points): centres (n, 2), lengths of the axes in px, angles in deg."""
    around, turn = np.linspace(0, 2 * np.pi, points, endpoint=False), np.radians(np.asarray(angle, float))[:, None]
    u, v = (
        np.asarray(axis, float)[:, None] / 2 * part for axis, part in ((minor, np.cos(around)), (major, np.sin(around)))
    )
    x, y = u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)
    return np.asarray(np.asarray(center, float)[:, :, None] + np.stack([x, y], axis=1), float)


def angle_between(found: ArrayLike, wanted: ArrayLike) -> Floats:
    """Return how far two directions of an axis are apart, deg."""
    off = np.abs(np.asarray(found, float) - np.asarray(wanted, float)) % 180
    return np.asarray(np.minimum(off, 180 - off), float)


def save_npz(path: Path, **arrays: Any) -> Path:
    """Write an ``.npz`` and return its path."""
    np.savez(path, **arrays)
    return path
