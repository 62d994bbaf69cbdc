"""``via``: the boxes around pupils, as the VGG Image Annotator writes tracked regions."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from gazed_plugins.export.poses.files import ROWS, PoseFiles
from gazed_plugins.export.poses.streams import Poses
from gazed_plugins.export.steps import Steps

__all__ = ["ViaExporter", "boxes"]

_HEADER = (
    *("filename", "file_size", "file_attributes", "region_count"),
    *("region_id", "region_shape_attributes", "region_attributes"),
)


class ViaExporter(PoseFiles):
    """VIA-tracks csv files: ``eye0.csv`` and ``eye1.csv``, the box around the pupil in each frame that shows one.

    Frame numbers are those of the eye's video, also in the names of images that VIA asks for (``eye0_000017.jpg``).
    Of each frame the datum nearest in time is taken; frames without a pupil have no row, and ``movement`` must be told
    ``use_frame_numbers_from_file=True``. The track is the number of the eye. The format keeps no times: they are in
    ``eye0.timestamps.csv``.

    Argument: ``method``, ``2d`` or ``3d`` pupils (``3d`` where there are any).
    """

    format = "via"
    with_gaze = False

    def write_poses(self, poses: Poses, folder: Path, steps: Steps) -> None:
        """Write ``<stream>.csv``."""
        eye = int(poses.individual[3:])
        # Readers find the number by the zero that it begins with.
        digits = max(6, len(str(len(poses))) + 1)
        with (folder / f"{poses.stream}.csv").open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_HEADER)
            for first in range(0, len(poses), ROWS):
                part = poses[np.arange(first, min(first + ROWS, len(poses)))]
                rows = zip(boxes(part).tolist(), part.confidence.tolist(), strict=True)
                for frame, ((x, y, width, height), confidence) in enumerate(rows, first):
                    if width != width:
                        continue
                    shape = f'{{"name": "rect", "x": {x!r}, "y": {y!r}, "width": {width!r}, "height": {height!r}}}'
                    region = f'{{"track": {eye}, "confidence": {confidence!r}}}'
                    image = f"{poses.stream}_{frame:0{digits}d}.jpg"
                    writer.writerow((image, 0, f'{{"frame": {frame}}}', 1, 0, shape, region))
                steps.advance(len(part))


def boxes(poses: Poses) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return left, top, width and height in px of the smallest box around each ellipse, shape (n, 4)."""
    center, major, minor = (poses.position[:, :, point] for point in (0, 1, 3))
    # Along each axis of the image, an ellipse reaches as far as its half axes do together.
    half = np.hypot(major - center, minor - center)
    return np.concatenate([center - half, 2 * half], axis=1)
