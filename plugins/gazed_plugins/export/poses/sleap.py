"""``sleap``: pupils and gaze as SLEAP exports what it has tracked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gazed_plugins.export.hdf5 import writing_hdf5
from gazed_plugins.export.poses.files import PoseFiles
from gazed_plugins.export.poses.streams import Poses
from gazed_plugins.export.steps import Steps

__all__ = ["SleapExporter"]


class SleapExporter(PoseFiles):
    """SLEAP analysis files: ``eye0.analysis.h5``, ``eye1.analysis.h5`` and ``gaze.analysis.h5``.

    A row a frame of the eye's video (gaze: of the world's), so that frame numbers are those of the video. Of each frame
    the datum nearest in time is taken; where there is none, positions are missing and scores are 0. A pupil is its
    ellipse: ``center`` and the ends of its axes. The format keeps no times: they are in ``eye0.timestamps.csv``. The
    files hold float64; ``movement`` reads them as float32, which is up to 0.00002 px off.

    Argument: ``method``, ``2d`` or ``3d`` pupils (``3d`` where there are any).
    """

    format = "sleap"

    def write_poses(self, poses: Poses, folder: Path, steps: Steps) -> None:
        """Write ``<stream>.analysis.h5``; its arrays have one track, their last axis is the frames."""
        import h5py

        points = poses.kind.keypoints
        scores = np.tile(poses.confidence, (1, len(points), 1))
        edges = np.array([(0, number) for number in range(1, len(points))], np.int64).reshape(-1, 2)
        arrays = {
            "tracks": poses.position.transpose(1, 2, 0)[np.newaxis],
            "point_scores": scores,
            "instance_scores": poses.confidence[np.newaxis],
            "tracking_scores": np.full((1, len(poses)), np.nan),
            "track_occupancy": poses.found[:, np.newaxis].astype(np.uint8),
        }
        texts = {
            "track_names": [poses.individual],
            "node_names": list(points),
            "edge_names": [(points[start], points[end]) for start, end in edges.tolist()],
        }
        path = folder / f"{poses.stream}.analysis.h5"
        with writing_hdf5(path, lambda: steps.advance(0)) as raw, h5py.File(raw, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, compression="gzip", compression_opts=1, shuffle=True)
            for name, text in texts.items():
                file.create_dataset(name, data=np.array(text, np.bytes_))
            file.create_dataset("edge_inds", data=edges)
            file.create_dataset("video_ind", data=0)
            file.create_dataset("video_path", data=f"{poses.video}.mp4" if poses.video else "")
            file.create_dataset("labels_path", data="")
            file.create_dataset("provenance", data="{}")
        steps.advance(len(poses))
