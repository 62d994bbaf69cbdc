"""Fixations in a recording: from each start as long as gaze stays together, up to a longest duration.

Source: Pupil Player's fixation detector. It looks for the end by bisection; here one pass over the gaze finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_plugins.events.fixation import Method, fixation_datum, is_gaze
from gazed_plugins.events.window import dispersion_deg

if TYPE_CHECKING:
    from gazed_plugins.gaze.camera import Camera

__all__ = [
    "MAX_DISPERSION_DEG",
    "MAX_DURATION_MS",
    "MIN_CONFIDENCE",
    "MIN_DURATION_MS",
    "find_fixations",
    "fixation_frames",
    "fixation_spans",
]

Floats = NDArray[np.float64]

MAX_DISPERSION_DEG, MIN_DURATION_MS, MAX_DURATION_MS, MIN_CONFIDENCE = 1.5, 80.0, 220.0, 0.6


def find_fixations(
    gaze: Sequence[Mapping[str, Any]],
    camera: Camera,
    world_timestamps: ArrayLike,
    *,
    max_dispersion: float = MAX_DISPERSION_DEG,
    min_duration: float = MIN_DURATION_MS,
    max_duration: float = MAX_DURATION_MS,
    min_confidence: float = MIN_CONFIDENCE,
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
    limits = {"max_dispersion": max_dispersion, "min_duration": min_duration, "max_duration": max_duration}
    for start, end in fixation_spans(times, directions, **limits):
        datum = fixation_datum(len(fixations), method, dispersion_deg(directions[start:end]), used[start:end])
        first, last = fixation_frames(frames, times[start], times[end - 1])
        indices = {"start_frame_index": first, "mid_frame_index": (first + last) // 2, "end_frame_index": last}
        fixations.append({**datum, **indices})
    return fixations


def fixation_frames(world_timestamps: Floats, start: float, end: float) -> tuple[int, int]:
    """Return the first and the last world frame, of Pupil times (N,) in s, of a fixation from ``start`` to ``end``."""
    first, last = np.minimum(np.searchsorted(world_timestamps, [start, end]), len(world_timestamps) - 1).tolist()
    return first, last


def fixation_spans(
    times: ArrayLike,
    directions: ArrayLike,
    *,
    max_dispersion: float = MAX_DISPERSION_DEG,
    min_duration: float = MIN_DURATION_MS,
    max_duration: float = MAX_DURATION_MS,
) -> Iterator[tuple[int, int]]:
    """Yield start and end (not included) of each fixation in directions (N, 3) at sorted Pupil times (N,) in s."""
    stamps = np.asarray(times, np.float64)
    shortest, longest = min_duration / 1000, max_duration / 1000
    good_from = _good_from(stamps, np.asarray(directions, np.float64).reshape(-1, 3), max_dispersion, longest)
    seconds = stamps.tolist()
    start, found = 0, False
    for index, (now, good) in enumerate(zip(seconds, good_from.tolist(), strict=True)):
        if found and (good > start or now - seconds[start] > longest):
            yield start, index
            start, found = index, False
        start = max(start, good)
        # Nor is it one that no sample witnesses for longer than the longest may last.
        while now - seconds[start] > longest:
            start += 1
        found = now - seconds[start] >= shortest
    if found:
        yield start, len(seconds)


def _good_from(times: Floats, directions: Floats, limit_deg: float, longest_s: float) -> NDArray[np.int64]:
    """Return for each sample (N,) the first one from which on all, up to it, are close together in pairs.

    Pairs that are further apart in time than ``longest_s`` do not count.
    """
    count = len(times)
    units = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    limit = math.cos(math.radians(limit_deg))
    most = int((np.searchsorted(times, times + longest_s, side="right") - np.arange(count)).max(initial=0))
    first = np.zeros(count, np.int64)
    for apart in range(1, most):
        # Not above the limit, rather than below it, so that what is no number is far from everything.
        far = ~(np.einsum("ij,ij->i", units[apart:], units[:-apart]) > limit)
        later = np.flatnonzero(far & (times[apart:] - times[:-apart] <= longest_s)) + apart
        first[later] = np.maximum(first[later], later - apart + 1)
    return np.maximum.accumulate(first)
