"""Renders one loop of a stream: its truth, and the few hundred different JPEGs that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_capture.wearer import optics
from gazed_capture.wearer.eye import EyePainter
from gazed_capture.wearer.fields import EYE_TRUTH, WORLD_TRUTH
from gazed_capture.wearer.options import BankSpec
from gazed_capture.wearer.rig import camera_matrix, eye_rig
from gazed_capture.wearer.script import Moment, Script
from gazed_capture.wearer.world import MARKER_RADIUS_MM, WorldPainter

__all__ = ["Loop", "render"]

_VARIANTS = 3  # a picture that stays is shown with this many fields of noise in turn
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    80,
    # What UVC cameras send, and what the video's header declares.
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
]


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """One loop: for each frame its truth and which of the images it shows."""

    truth: NDArray[np.void]
    image_of_row: NDArray[np.uint32]
    images: list[bytes]


def render(spec: BankSpec) -> Loop:
    """Render the loop; takes about a second of CPU for a default stream."""
    t = np.arange(spec.rows, dtype=np.float64) * (spec.seconds / spec.rows)
    moment = Script(spec.seed, spec.seconds, pupil_mm=spec.pupil_mm, closed_s=spec.closed_s, droop=spec.droop).at(t)
    return _render_world(spec, t, moment) if spec.stream == "world" else _render_eye(spec, t, moment)


def _render_eye(spec: BankSpec, t: NDArray[np.float64], moment: Moment) -> Loop:
    rig, camera = eye_rig(spec.stream), camera_matrix(spec.stream, spec.width, spec.height)
    size = (spec.width, spec.height)
    truth = np.zeros(spec.rows, EYE_TRUTH)
    truth["loop_s"] = t
    truth["target_mm"] = moment.target_mm
    truth["gaze"] = gaze = rig.gaze(moment.target_mm)
    truth["eyeball_mm"] = rig.eyeball_mm
    truth["pupil_mm"] = moment.pupil_mm
    truth["lid_opening"] = moment.lid_opening
    pupils = optics.pupil_ellipses(gaze, moment.pupil_mm, rig.eyeball_mm, camera)
    for name in optics.ELLIPSE.names or ():
        truth[name] = pupils[name]
    limbi = optics.limbus_ellipses(gaze, rig.eyeball_mm, camera)
    glints = optics.glints(gaze, rig.eyeball_mm, camera, upside_down=rig.upside_down, count=spec.lights)
    painter = EyePainter(rig, camera, size, spec.seed)
    grain = EyePainter.sensor_noise(spec.seed, size, spec.noise)
    offsets = np.random.default_rng([spec.seed, 17]).integers(0, 64, (spec.rows, 2))

    def expose(rows: NDArray[np.intp]) -> list[bytes]:
        row = rows[0]
        clean, visible = painter.paint(pupils[row], limbi[row], glints[row], float(moment.lid_opening[row]))
        truth["pupil_visible"][rows] = visible
        shots = []
        for down, right in offsets[rows[:_VARIANTS]]:
            field = grain[down : down + spec.height, right : right + spec.width]
            gray = cv2.add(clean, field, dtype=cv2.CV_8U)
            shots.append(_jpeg(np.asarray(cv2.merge([gray, gray, gray]), np.uint8)))
        return shots

    state = np.column_stack([moment.target_mm, moment.pupil_mm, moment.lid_opening])
    return _collect(truth, state, expose)


def _render_world(spec: BankSpec, t: NDArray[np.float64], moment: Moment) -> Loop:
    camera = camera_matrix(spec.stream, spec.width, spec.height)
    truth = np.zeros(spec.rows, WORLD_TRUTH)
    truth["loop_s"] = t
    truth["target_mm"] = moment.target_mm
    truth["target_px"] = optics.project(moment.target_mm, camera)
    truth["target_radius_px"] = camera[0, 0] * MARKER_RADIUS_MM / moment.target_mm[:, 2]
    truth["lamp"] = moment.light
    painter = WorldPainter((spec.width, spec.height), spec.seed)

    def expose(rows: NDArray[np.intp]) -> list[bytes]:
        target, radius = truth["target_px"][rows[0]], float(truth["target_radius_px"][rows[0]])
        lamp = bool(truth["lamp"][rows[0]])
        return [_jpeg(painter.paint(target, radius, lamp=lamp, variant=int(row))) for row in rows[:_VARIANTS]]

    return _collect(truth, np.column_stack([moment.target_mm, moment.light]), expose)


def _collect(
    truth: NDArray[np.void], state: NDArray[np.float64], expose: Callable[[NDArray[np.intp]], list[bytes]]
) -> Loop:
    """Expose each different state (a row of ``state``) once, in the order of the script."""
    _, first, kind = np.unique(state, axis=0, return_index=True, return_inverse=True)
    image_of_row, images = np.zeros(len(state), np.uint32), list[bytes]()
    for number in np.argsort(first):
        rows = np.flatnonzero(kind == number)
        shots = expose(rows)
        image_of_row[rows] = len(images) + np.arange(len(rows)) % len(shots)
        images += shots
    return Loop(truth, image_of_row, images)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", image, _JPEG)[1].data)
