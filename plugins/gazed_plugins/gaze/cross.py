"""Leave one target out: the accuracy that a calibration has where it was not calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gazed_plugins.gaze.accuracy import MAX_APART_S, Accuracy, group_targets, measure
from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.matching import MIN_CALIBRATION_CONFIDENCE, Datum, nearest
from gazed_plugins.gaze.registry import make_gazer

__all__ = ["leave_one_target_out"]


def leave_one_target_out(
    name: str,
    calib_data: Mapping[str, Any],
    camera: Camera,
    min_confidence: float = MIN_CALIBRATION_CONFIDENCE,
) -> Accuracy:
    """Fit the gazer ``name`` once without each target, and measure at all targets the gaze that did not know them.

    Raises:
        CalibrationFailed: without one of the targets nothing can be fitted.
        UnknownGazer: there is no gazer of this name.
    """
    refs, pupils = list(calib_data["ref_list"]), list(calib_data["pupil_list"])
    groups = group_targets(refs, camera)
    gaze: list[Datum] = []
    for target in sorted(set(groups)):
        shown = [ref for ref, group in zip(refs, groups, strict=True) if group == target]
        others = [ref for ref, group in zip(refs, groups, strict=True) if group != target]
        gazer = make_gazer(name, camera)
        gazer.fit({"ref_list": others, "pupil_list": pupils}, min_confidence)
        stamps = sorted(float(ref["timestamp"]) for ref in shown)
        gaze += [
            datum
            for datum in gazer.map_all(pupils)
            if abs(stamps[nearest(stamps, datum["timestamp"])] - datum["timestamp"]) < MAX_APART_S
        ]
    return measure(gaze, refs, camera)
