"""What the columns of the CSV tables mean, in words: the text file that goes along with them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["GAZE_LEGEND", "PUPIL_LEGEND", "legend_text"]

_EYE_CAMERA = "in the space of the eye's camera, mm: x right, y down, z away from the camera"
_WORLD_CAMERA = "in the space of the world camera, mm: x right, y down, z away from the camera"

PUPIL_LEGEND = {
    "pupil_timestamp": "Pupil time of the eye image, s",
    "world_index": "number of the frame of the world video that belongs to it, from 0",
    "eye_id": "0 is the wearer's right eye, 1 the left one",
    "confidence": "how sure the detector is, 0 to 1; at 0 it has found nothing and the other values mean nothing",
    "norm_pos_x": "the pupil's centre in the eye image, 0 at the left, 1 at the right",
    "norm_pos_y": "the same upwards: 0 at the bottom, 1 at the top",
    "diameter": "length of the pupil in the eye image, px; the farther away, the smaller",
    "method": "the detector",
    "ellipse_center_x": "the pupil as an ellipse in the eye image: its centre, px from the left",
    "ellipse_center_y": "px from the top",
    "ellipse_axis_a": "its shorter diameter, px",
    "ellipse_axis_b": "its longer diameter, px",
    "ellipse_angle": "the direction of the shorter diameter, degrees",
    "diameter_3d": "diameter of the pupil, mm",
    "model_confidence": "how sure the detector is of its model of the eye, 0 to 1",
    "model_id": "number of that model, if it has one; a new one begins a new model",
    "sphere_center_x": f"centre of the eyeball {_EYE_CAMERA}",
    "sphere_center_y": "",
    "sphere_center_z": "",
    "sphere_radius": "radius of the eyeball, mm; assumed, the same for everybody",
    "circle_3d_center_x": f"centre of the pupil {_EYE_CAMERA}",
    "circle_3d_center_y": "",
    "circle_3d_center_z": "",
    "circle_3d_normal_x": "where the pupil points to, a vector of length 1 in the same space",
    "circle_3d_normal_y": "",
    "circle_3d_normal_z": "",
    "circle_3d_radius": "radius of the pupil, mm",
    "theta": "that direction as angles, rad: away from the camera's y axis",
    "phi": "around it, from x towards z",
    "projected_sphere_center_x": "the eyeball in the eye image, an ellipse: its centre, px from the left",
    "projected_sphere_center_y": "px from the top",
    "projected_sphere_axis_a": "its diameters, px",
    "projected_sphere_axis_b": "",
    "projected_sphere_angle": "its direction, degrees",
}
"""By the names of Pupil Player 3, in order; one that is empty goes on with the one above."""
GAZE_LEGEND = {
    "gaze_timestamp": "Pupil time, s: the mean of those of its pupils",
    "world_index": "number of the frame of the world video that belongs to it, from 0",
    "confidence": "the mean of those of its pupils, 0 to 1",
    "norm_pos_x": "where the wearer looks in the world image, 0 at the left, 1 at the right",
    "norm_pos_y": "the same upwards: 0 at the bottom, 1 at the top",
    "base_data": "the pupils it was computed from: their timestamp and eye, joined by -, with spaces between them",
    "gaze_point_3d_x": f"the point looked at {_WORLD_CAMERA}",
    "gaze_point_3d_y": "",
    "gaze_point_3d_z": "",
    "eye_center0_3d_x": f"centre of eyeball 0 {_WORLD_CAMERA}",
    "eye_center0_3d_y": "",
    "eye_center0_3d_z": "",
    "gaze_normal0_x": "where eye 0 looks, a vector of length 1 in the same space",
    "gaze_normal0_y": "",
    "gaze_normal0_z": "",
    "eye_center1_3d_x": "the same of eye 1",
    "eye_center1_3d_y": "",
    "eye_center1_3d_z": "",
    "gaze_normal1_x": "",
    "gaze_normal1_y": "",
    "gaze_normal1_z": "",
}
"""As ``PUPIL_LEGEND``."""


def legend_text(pupil: Sequence[str], gaze: Sequence[str], notes: Sequence[str]) -> str:
    """Return the text file; ``pupil`` and ``gaze`` are what the columns of Pupil Player 3 are called this time."""
    lines = ["What the columns of these tables mean. Written by gazed.", ""]
    for name, header, legend in (("pupil", pupil, PUPIL_LEGEND), ("gaze", gaze, GAZE_LEGEND)):
        lines.append(f"{name}_positions.csv")
        lines += [f"  {column:<27}{text}".rstrip() for column, text in zip(header, legend.values(), strict=True)]
        lines.append("")
    return "\n".join([*lines, *notes, ""])
