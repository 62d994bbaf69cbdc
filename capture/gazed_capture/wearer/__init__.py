"""The wearer: a rendered head whose eyes look at a rendered target, with the truth of every frame.

``script`` says what happens, ``rig`` where everything is, ``optics`` what a camera sees of an eye; ``eye`` and
``world`` paint it, ``bank`` keeps the pictures, ``truth`` answers what a frame shows. ``gazed_capture.simulated``
replays it.
"""

from gazed_capture.wearer.options import WearerOptions, read_options
from gazed_capture.wearer.rig import EyeRig, camera_matrix, eye_rig
from gazed_capture.wearer.truth import EYE_TRUTH, WORLD_TRUTH, Truth, load_truth, write_truth

__all__ = [
    "EYE_TRUTH",
    "WORLD_TRUTH",
    "EyeRig",
    "Truth",
    "WearerOptions",
    "camera_matrix",
    "eye_rig",
    "load_truth",
    "read_options",
    "write_truth",
]
