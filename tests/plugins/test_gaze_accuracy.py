"""Accuracy, precision, the calibrated area, and what leaving a target out shows."""

from __future__ import annotations

import math

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_plugins.gaze.accuracy import CalibratedArea, Score, group_targets, measure
from gazed_plugins.gaze.camera import default_camera
from gazed_plugins.gaze.cross import leave_one_target_out
from gazed_plugins.gaze.errors import CalibrationFailed

WORLD = default_camera("plain", 1280, 720)
TARGETS = [(0.3, 0.3), (0.7, 0.3), (0.5, 0.7)]


def _norm(x_deg: float, y_deg: float) -> list[float]:
    """Return the norm position of a direction right and above the optical axis, on a great circle through it."""
    ray = [math.tan(math.radians(x_deg)), -math.tan(math.radians(y_deg)), 1.0]
    return WORLD.to_norm(WORLD.project([ray]))[0].tolist()


def _look(x_deg: float, y_deg: float, timestamp: float) -> dict:
    return {"norm_pos": _norm(x_deg, y_deg), "timestamp": timestamp}


def test_accuracy_is_the_angle_to_the_nearest_reference_in_time():
    refs = [_look(0, 0, 1.0), _look(10, 0, 2.0)]
    gaze = [_look(1, 0, 1.01), _look(11, 0, 1.99), _look(0, 0, 2.5), _look(-20, 0, 1.02)]
    found = measure(gaze, refs, WORLD)
    assert found.accuracy.degrees == pytest.approx(1.0, abs=1e-6)
    assert (found.accuracy.used, found.accuracy.total) == (2, 3)
    assert [target.accuracy.used for target in found.targets] == [1, 1]
    assert found.targets[0].accuracy.total == 2
    np.testing.assert_allclose(found.targets[1].norm_pos, _norm(10, 0))


def test_accuracy_is_the_angle_of_the_mean_cosine():
    refs = [_look(0, 0, k / 10) for k in range(2)]
    found = measure([_look(1, 0, 0.0), _look(3, 0, 0.1)], refs, WORLD)
    mean = (math.cos(math.radians(1)) + math.cos(math.radians(3))) / 2
    assert found.accuracy.degrees == pytest.approx(math.degrees(math.acos(mean)))


def test_precision_is_the_rms_of_small_steps_at_one_target():
    refs = [_look(0, 0, k / 100) for k in range(10)] + [_look(10, 0, 0.2 + k / 100) for k in range(10)]
    gaze = [_look(0.3 * (k % 2), 0, ref["timestamp"]) for k, ref in enumerate(refs)]
    found = measure(gaze, refs, WORLD)
    assert found.precision.degrees == pytest.approx(0.3, abs=1e-6)
    assert (found.precision.used, found.precision.total) == (18, 19)
    jump = measure([_look(0, 0, 0.0), _look(2, 0, 0.01)], refs, WORLD)
    assert jump.precision == Score(None, 0, 1)


def test_nothing_measured_is_not_zero_degrees():
    for gaze, refs in (([], [_look(0, 0, 1.0)]), ([_look(0, 0, 1.0)], []), ([], [])):
        found = measure(gaze, refs, WORLD)
        assert found.accuracy == found.precision == Score(None, 0, 0)
        assert len(found.targets) == len(refs)


def test_accuracy_travels():
    found = measure([_look(1, 0, 1.0)], [_look(0, 0, 1.0)], WORLD).as_dict()
    assert set(found) == {"accuracy", "precision", "targets"}
    assert set(found["accuracy"]) == {"degrees", "used", "total"}
    assert set(found["targets"][0]) == {"norm_pos", "accuracy"}
    assert msgpack.unpackb(msgpack.packb(found)) == found


def test_references_within_two_degrees_are_one_target():
    refs = [_look(x, 0, float(x)) for x in (0, 0.5, 1.9, 10, 0.2, 12.5, 9.5)]
    assert group_targets(refs, WORLD) == [0, 0, 0, 1, 0, 2, 1]
    assert group_targets([], WORLD) == []


def test_calibrated_area():
    area = CalibratedArea([*TARGETS, (0.5, 0.4)])
    assert not area.is_extrapolating([0.5, 0.45])
    assert not area.is_extrapolating([0.31, 0.29])
    assert area.is_extrapolating([0.3, 0.6])
    assert area.is_extrapolating([100.0, -100.0])


def test_an_area_without_extent_holds_nothing_else():
    assert CalibratedArea([]).is_extrapolating([0.5, 0.5])
    point = CalibratedArea([[0.5, 0.5]])
    assert not point.is_extrapolating([0.5, 0.51])
    assert point.is_extrapolating([0.6, 0.5])
    line = CalibratedArea([[0.2, 0.2], [0.5, 0.5], [0.8, 0.8]])
    assert not line.is_extrapolating([0.4, 0.4])
    assert line.is_extrapolating([0.4, 0.6])


points = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20)


@given(points, st.lists(st.floats(0.001, 1), min_size=20, max_size=20))
def test_what_lies_between_references_is_inside(corners, weights):
    area = CalibratedArea(corners)
    inside = np.average(corners, axis=0, weights=weights[: len(corners)])
    assert not area.is_extrapolating(inside.tolist())


def _session(count: int) -> dict:
    refs, pupils = [], []
    for k in range(count * 10):
        x, y = 0.2 + 0.15 * (k // 10 % 4), 0.2 + 0.15 * (k // 40)
        refs.append({"norm_pos": [x, y], "timestamp": k / 10})
        pupil = {"id": 0, "method": "2d c++", "confidence": 1.0, "timestamp": k / 10}
        pupils.append({**pupil, "norm_pos": [0.3 + 0.4 * x, 0.6 - 0.3 * y]})
    return {"ref_list": refs, "pupil_list": pupils}


def test_a_target_that_was_left_out_is_measured_by_the_others():
    session = _session(16)
    found = leave_one_target_out("Gazer2D", session, WORLD)
    assert len(found.targets) == 16
    assert found.accuracy.total == len(session["pupil_list"])
    assert found.accuracy.degrees is not None
    assert found.accuracy.degrees < 0.05
    with_a_lie = {**session, "ref_list": [dict(ref) for ref in session["ref_list"]]}
    for ref in with_a_lie["ref_list"][50:60]:
        ref["norm_pos"] = [ref["norm_pos"][0] + 0.04, ref["norm_pos"][1]]
    worst = max(
        leave_one_target_out("Gazer2D", with_a_lie, WORLD).targets, key=lambda target: target.accuracy.degrees or 0
    )
    np.testing.assert_allclose(worst.norm_pos, with_a_lie["ref_list"][55]["norm_pos"])


def test_one_target_cannot_be_left_out():
    with pytest.raises(CalibrationFailed, match="reference data"):
        leave_one_target_out("Gazer2D", _session(1), WORLD)
