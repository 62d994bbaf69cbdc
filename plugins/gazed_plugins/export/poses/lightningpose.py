"""``lightningpose``: pupils and gaze as Lightning Pose writes what it has tracked."""

from __future__ import annotations

from pathlib import Path

from gazed_plugins.export.poses.deeplabcut import SCORER
from gazed_plugins.export.poses.files import PoseFiles, write_tracking_csv
from gazed_plugins.export.poses.streams import Poses
from gazed_plugins.export.steps import Steps

__all__ = ["LightningPoseExporter"]


class LightningPoseExporter(PoseFiles):
    """Lightning Pose files: ``eye0.csv``, ``eye1.csv`` and ``gaze.csv``, DeepLabCut's csv for one animal.

    A row a frame of the eye's video (gaze: of the world's), so that frame numbers are those of the video. Of each frame
    the datum nearest in time is taken; where there is none, positions are missing and the likelihood is 0. A pupil is
    its ellipse: ``center`` and the ends of its axes. The format keeps neither times, which are in
    ``eye0.timestamps.csv``, nor the name of the individual, which is that of the file.

    Argument: ``method``, ``2d`` or ``3d`` pupils (``3d`` where there are any).
    """

    format = "lightningpose"

    def write_poses(self, poses: Poses, folder: Path, steps: Steps) -> None:
        """Write ``<stream>.csv``."""
        points = [(point, coord) for point in poses.kind.keypoints for coord in ("x", "y", "likelihood")]
        header = [
            ["scorer", *[SCORER] * len(points)],
            ["bodyparts", *[point for point, _ in points]],
            ["coords", *[coord for _, coord in points]],
        ]
        write_tracking_csv(folder / f"{poses.stream}.csv", poses, header, steps)
