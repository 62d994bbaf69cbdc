"""Fixations in a recording: from each start as long as gaze stays together, up to a longest duration.

Source: Pupil Player's fixation detector. It looks for the end by bisection; here one pass over the gaze finds the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gazed_plugins.events.fixation import Method, fixation_datum, is_gaze
from gazed_plugins.events.window import DirectionWindow, dispersion_deg
from gazed_plugins.gaze.camera import Camera, Floats

__all__ = ["find_fixations"]


def find_fixations(
    gaze: Sequence[Mapping[str, Any]],
    camera: Camera,
    world_timestamps: ArrayLike,
    *,
    max_dispersion: float = 1.5,
    min_duration: float = 80.0,
    max_duration: float = 220.0,
    min_confidence: float = 0.6,
) -> list[dict[str, Any]]:
    """Return the fixations in gaze datums that are sorted by time; no two overlap, and ids count from 0.

    They are the datums of ``Fixation_Detector`` with ``start_frame_index``, ``mid_frame_index`` and ``end_frame_index``
    of the world video besides. Gaze that is not above ``min_confidence``, or that has no direction, is passed over.

    Args:
        gaze: gaze datums; where all have a ``gaze_point_3d``, that is used.
        camera: the world camera, for 2D gaze.
        world_timestamps: (N,) Pupil time of the world frames in s, sorted, not empty.
        max_dispersion: degrees.
        min_duration: ms.
        max_duration: ms.
        min_confidence: 0..1.
    """
    used = [datum for datum in gaze if is_gaze(datum) and datum["confidence"] > min_confidence]
    solid = all("gaze_point_3d" in datum for datum in used)
    method: Method = "3d gaze" if solid else "2d gaze"
    if solid:
        directions = np.array([datum["gaze_point_3d"] for datum in used], np.float64).reshape(-1, 3)
    else:
        used = [datum for datum in used if "norm_pos" in datum]
        directions = camera.rays_of_norm([datum["norm_pos"] for datum in used])
    times = [datum["timestamp"] for datum in used]
    frames = np.asarray(world_timestamps, np.float64)
    fixations: list[dict[str, Any]] = []
    for start, end in _spans(times, directions, max_dispersion, min_duration / 1000, max_duration / 1000):
        datum = fixation_datum(len(fixations), method, dispersion_deg(directions[start:end]), used[start:end])
        first, last = np.searchsorted(frames, [times[start], times[end - 1]]).tolist()
        last = min(last, len(frames) - 1)
        indices = {"start_frame_index": first, "mid_frame_index": (first + last) // 2, "end_frame_index": last}
        fixations.append({**datum, **indices})
    return fixations


def _spans(
    times: Sequence[float], directions: Floats, limit_deg: float, shortest_s: float, longest_s: float
) -> Iterator[tuple[int, int]]:
    """Yield start and end (not included) of each fixation."""
    window = DirectionWindow(limit_deg)
    start, found = 0, False
    for index, direction in enumerate(directions):
        window.append(direction)
        if found and (not window.is_close or times[index] - times[start] > longest_s):
            yield start, index
            window.clear()
            window.append(direction)
            start, found = index, False
        # Nor is it one that no sample witnesses for longer than the longest may last.
        while not window.is_close or times[index] - times[start] > longest_s:
            window.pop_first()
            start += 1
        found = times[index] - times[start] >= shortest_s
    if found:
        yield start, len(times)
