"""The columns of the two tables under the names that the documentation of Pupil Player 0.7 gives them.

They have the values of today's columns, with two differences: monocular gaze stands in the columns of eye 0, whichever
eye it is of, and the world frame of a datum is found by the ``correlate_data`` of that time (``midpoint``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.csv_text import Column
from gazed_plugins.export.player.columns import GAZE_HEADER, PUPIL_HEADER, gaze_columns
from gazed_recorder.reading.table import Table

__all__ = ["CLASSIC_GAZE_HEADER", "CLASSIC_PUPIL_HEADER", "classic_gaze_columns"]

_EARLIER = {"pupil_timestamp": "timestamp", "gaze_timestamp": "timestamp", "world_index": "index", "eye_id": "id"}


def _earlier(name: str) -> str:
    return f"2d_{name}" if name.startswith("ellipse_") else _EARLIER.get(name, name)


CLASSIC_PUPIL_HEADER = tuple(map(_earlier, PUPIL_HEADER))
CLASSIC_GAZE_HEADER = tuple(map(_earlier, GAZE_HEADER))


def classic_gaze_columns(gaze: Table, index: NDArray[np.int64]) -> list[Column]:
    """Return the columns of rows of ``Recording.gaze``; ``index`` (n,) are their world frames, -1 is none."""
    columns = {name: gaze[name] for name in gaze.columns}
    pairs = [
        (f"{name.format(0)}_{axis}", f"{name.format(1)}_{axis}")
        for name in ("eye_center{}_3d", "gaze_normal{}")
        for axis in "xyz"
    ]
    alone = np.logical_and.reduce([np.isnan(columns[first]) for first, _ in pairs])
    if alone.any():
        for first, second in pairs:
            columns[first] = np.where(alone, columns[second], columns[first])
            columns[second] = np.where(alone, np.nan, columns[second])
    return gaze_columns(Table(columns), index)
