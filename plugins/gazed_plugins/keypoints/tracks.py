"""``Tracks``: keypoints over time, as a file has them, and those of one individual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import shown
from gazed_plugins.keypoints.errors import NotKeypoints

__all__ = ["AXIS_ENDS", "Points", "Tracks"]

Floats = NDArray[np.float64]

AXIS_ENDS = ("major_a", "major_b", "minor_a", "minor_b")
"""The keypoints of gazed's own exports from which an ellipse is made again exactly."""


@dataclass(frozen=True)
class Points:
    """The keypoints of one individual."""

    names: tuple[str, ...]
    position: Floats
    """Shape (frames, 2 or 3 axes, keypoints): px of the image, or mm."""
    confidence: Floats
    """Shape (frames, keypoints)."""
    times: Floats | None
    """Seconds of each frame, shape (frames,), if the file has them."""
    source: str
    """The program that has tracked them."""

    def __len__(self) -> int:
        return len(self.position)

    def at(self, rows: NDArray[np.int64]) -> Points:
        """Return these rows."""
        times = None if self.times is None else self.times[rows]
        return replace(self, position=self.position[rows], confidence=self.confidence[rows], times=times)

    @property
    def spatial(self) -> bool:
        """Whether they are points in space."""
        return bool(self.position.shape[1] == 3)


@dataclass(frozen=True)
class Tracks:
    """What is in a file.

    Raises:
        NotKeypoints: shapes and names do not fit together.
    """

    position: Floats
    """Shape (frames, axes, keypoints, individuals), as in ``movement``."""
    confidence: Floats
    """Shape (frames, keypoints, individuals)."""
    keypoints: tuple[str, ...]
    individuals: tuple[str, ...]
    source: str
    times: Floats | None = None
    """Seconds, shape (frames,)."""

    def __post_init__(self) -> None:
        shape = self.position.shape
        if len(shape) != 4 or shape[1] not in (2, 3):
            raise NotKeypoints(
                f"positions have the shape {shape}, wanted (frames, 2 or 3 axes, keypoints, individuals)",
                hint="arrays are those of movement: load_poses.from_numpy, or position.to_numpy()",
            )
        wanted = (shape[0], *shape[2:])
        if self.confidence.shape != wanted:
            raise NotKeypoints(f"confidences have the shape {self.confidence.shape}, wanted {wanted}")
        for what, names, count in (
            ("keypoints", self.keypoints, shape[2]),
            ("individuals", self.individuals, shape[3]),
        ):
            if len(names) != count or len(set(names)) != count:
                raise NotKeypoints(f"{count} {what} have the names {shown(list(names))}")
        if self.times is not None and (self.times.shape != shape[:1] or not np.isfinite(self.times).all()):
            raise NotKeypoints(f"{shape[0]} frames have times of the shape {self.times.shape}, or some are no numbers")

    def of(self, individual: str | None, preferred: str, keypoints: Sequence[str] | None) -> Points:
        """Return the keypoints of one individual.

        Args:
            individual: which one; if not given, the only one, or that of the name ``preferred``.
            preferred: such a name.
            keypoints: which; if not given, all whose names do not tell of a centre. Of gazed's own exports those are
                the ends of the axes.

        Raises:
            NotKeypoints: there is no such individual or keypoint, or several may be meant.
        """
        if individual is None and len(self.individuals) > 1 and preferred not in self.individuals:
            raise NotKeypoints(
                f"the file has the individuals {', '.join(self.individuals)}", hint="say which: --individual NAME"
            )
        name = individual or (preferred if preferred in self.individuals else self.individuals[0])
        if name not in self.individuals:
            raise NotKeypoints(f"the file has no individual {shown(name)}, found {', '.join(self.individuals)}")
        chosen = tuple(keypoints or (each for each in self.keypoints if "cent" not in each.lower()))
        lacking = [each for each in chosen if each not in self.keypoints]
        if lacking:
            raise NotKeypoints(f"the file has no keypoint {shown(lacking[0])}, found {', '.join(self.keypoints)}")
        if len(chosen) < 5 and set(chosen) != set(AXIS_ENDS):
            raise NotKeypoints(
                f"an ellipse needs 5 keypoints on the edge of the pupil, found {len(chosen)}: {', '.join(chosen)}",
                hint="name them: --keypoints edge0,edge1,…",
            )
        columns, row = [self.keypoints.index(each) for each in chosen], self.individuals.index(name)
        confidence = self.confidence[:, columns, row]
        if np.isnan(confidence).all():
            # What no program was unsure of, somebody has drawn, or looked through.
            confidence = np.ones_like(confidence)
        return Points(
            chosen, self.position[:, :, columns, row], np.nan_to_num(confidence, nan=0.0), self.times, self.source
        )
