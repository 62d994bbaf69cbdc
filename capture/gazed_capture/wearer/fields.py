"""The fields of the ground truth: what a frame of the simulated wearer shows, exactly."""

from __future__ import annotations

import numpy as np

__all__ = ["EYE_TRUTH", "WORLD_TRUTH"]

EYE_TRUTH = np.dtype(
    [
        ("loop_s", "f8"),
        ("cx", "f8"),
        ("cy", "f8"),
        ("minor", "f8"),
        ("major", "f8"),
        ("angle_deg", "f8"),
        ("gaze", "f8", (3,)),
        ("eyeball_mm", "f8", (3,)),
        ("pupil_mm", "f8"),
        ("lid_opening", "f8"),
        ("pupil_visible", "f8"),
        ("target_mm", "f8", (3,)),
    ]
)
"""One frame of an eye camera.

- ``loop_s``: seconds since the loop began
- ``cx cy minor major angle_deg``: the pupil's ellipse in px as the image shows it (through the cornea, so it is a
  little larger than the pupil and a little beside it); pixel centres have whole coordinates, ``minor`` and ``major``
  are full axes, the angle is that of the minor axis, from +x towards +y, in [-90, 90): Pupil's ``ellipse``
- ``gaze``: unit vector from the eyeball's centre to the target, in the eye camera's frame (x right, y down, z forward)
- ``eyeball_mm``: the eyeball's centre in the eye camera's frame
- ``pupil_mm``: the anatomical diameter of the pupil
- ``lid_opening``: 0 closed .. 1 open
- ``pupil_visible``: how much of the pupil's area the lids and the image's edges leave, 0..1
- ``target_mm``: the target in the world camera's frame
"""

WORLD_TRUTH = np.dtype(
    [
        ("loop_s", "f8"),
        ("target_px", "f8", (2,)),
        ("target_radius_px", "f8"),
        ("target_mm", "f8", (3,)),
        ("lamp", "f8"),
    ]
)
"""One frame of the world camera.

- ``loop_s``: seconds since the loop began
- ``target_px``: centre of the marker, x and y from the centre of the image's top left pixel
- ``target_radius_px``: radius of the marker's black disc
- ``target_mm``: the same centre in the world camera's frame (x right, y down, z forward)
- ``lamp``: 1 while the desk lamp is on, else 0; the pupils answer to it
"""
