"""Monocular 3-D gaze has the values of one eye without saying which: its pupil does."""

from __future__ import annotations

import numpy as np

from gazed_recorder.reading.table import Table

__all__ = ["by_eye"]

_PARTS = {"eye_center_3d": "eye_center{}_3d", "gaze_normal_3d": "gaze_normal{}"}


def by_eye(gaze: Table) -> Table:
    """Put the values of ``eye_center_3d`` and ``gaze_normal_3d`` to the columns of the eye that they belong to.

    That is the eye of the first pupil it rests on, as in Pupil Player since version 1.22.
    """
    columns = {name: gaze[name] for name in gaze.columns}
    right = columns["base0_id"] != 1
    for part, target in _PARTS.items():
        for axis in "xyz":
            values = columns.pop(f"{part}_{axis}")
            alone = ~np.isnan(values)
            for eye, here in ((0, alone & right), (1, alone & ~right)):
                columns[f"{target.format(eye)}_{axis}"][here] = values[here]
    return Table(columns)
