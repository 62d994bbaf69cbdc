"""``dlc``: pupils and gaze as DeepLabCut writes what it has tracked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gazed_plugins.export.hdf5 import writing_hdf5
from gazed_plugins.export.poses.files import PoseFiles, blocks, write_tracking_csv
from gazed_plugins.export.poses.layout import read_choice
from gazed_plugins.export.poses.streams import Poses
from gazed_plugins.export.steps import Steps

__all__ = ["SCORER", "DeepLabCutExporter"]

SCORER = "gazed"
_COORDS = ("x", "y", "likelihood")
_File = Literal["h5", "csv"]


class DeepLabCutExporter(PoseFiles):
    """DeepLabCut files: ``eye0.h5``, ``eye1.h5`` and ``gaze.h5``, which ``movement`` and pandas read.

    A row a frame of the eye's video (gaze: of the world's), so that frame numbers are those of the video. Of each frame
    the datum nearest in time is taken; where there is none, positions are missing and the likelihood is 0. A pupil is
    its ellipse: ``center`` and the ends of its axes. The format keeps no times: they are in ``eye0.timestamps.csv``.

    Arguments: ``method``, ``2d`` or ``3d`` pupils (``3d`` where there are any); ``file``, ``h5`` or ``csv``.
    """

    format = "dlc"

    def __init__(self, args: Mapping[str, Any]) -> None:
        super().__init__(args, "file")
        self._file: _File = read_choice("dlc", args, "file", _File) or "h5"

    def write_poses(self, poses: Poses, folder: Path, steps: Steps) -> None:
        """Write ``<stream>.h5`` or ``<stream>.csv``, in the form for several animals, which names the individual."""
        path = folder / f"{poses.stream}.{self._file}"
        levels = {
            "scorer": [SCORER],
            "individuals": [poses.individual],
            "bodyparts": list(poses.kind.keypoints),
            "coords": list(_COORDS),
        }
        if self._file == "h5":
            _write_h5(path, poses, levels, steps)
            return
        points = [(point, coord) for point in levels["bodyparts"] for coord in _COORDS]
        header = [
            ["scorer", *[SCORER] * len(points)],
            ["individuals", *[poses.individual] * len(points)],
            ["bodyparts", *[point for point, _ in points]],
            ["coords", *[coord for _, coord in points]],
        ]
        write_tracking_csv(path, poses, header, steps)


def _write_h5(path: Path, poses: Poses, levels: Mapping[str, list[str]], steps: Steps) -> None:
    """Write the data frame that DeepLabCut does, in pandas' layout ``fixed``.

    By pandas itself, each file would hold the time of its making.
    """
    import h5py

    names = list(levels.values())
    codes = np.indices([len(each) for each in names]).reshape(len(names), -1).astype(np.int8)
    with writing_hdf5(path) as raw, h5py.File(raw, "w") as file:
        frame = file.create_group("df_with_missing")
        _describe(frame, pandas_type="frame", encoding="UTF-8", errors="strict", ndim=2, nblocks=1)
        _describe(frame, axis1_variety="regular")
        _describe(frame.create_dataset("axis1", data=np.arange(len(poses))), kind="integer", transposed=1)
        for axis in ("axis0", "block0_items"):
            _describe(frame, **{f"{axis}_variety": "multi"}, **{f"{axis}_nlevels": len(names)})
            for number, (level, texts) in enumerate(levels.items()):
                labels = frame.create_dataset(f"{axis}_level{number}", data=np.array(texts, np.bytes_))
                _describe(labels, kind="string", name=level, transposed=1, **{f"{axis}_name{level}": level})
                _describe(frame.create_dataset(f"{axis}_label{number}", data=codes[number]), transposed=1)
        values = frame.create_dataset("block0_values", (len(poses), codes.shape[1]), np.float64)
        _describe(values, transposed=1)
        for first, block in blocks(poses):
            values[first : first + len(block)] = block
            steps.advance(len(block))


def _describe(node: Any, **attributes: str | int) -> None:
    """Set attributes as PyTables does: it takes texts for such only if they are UTF-8 of a fixed length."""
    import h5py

    for name, value in attributes.items():
        if isinstance(value, str):
            node.attrs.create(name, value.encode(), dtype=h5py.string_dtype("utf-8", len(value.encode())))
        else:
            node.attrs[name] = value
