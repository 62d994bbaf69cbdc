"""Gazers find again the geometry that made their data, and speak in Pupil's shapes."""

from __future__ import annotations

import copy
import math
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest

from gazed_plugins.gaze.bundle import Adjustment, SphericalCamera, fit_rotation
from gazed_plugins.gaze.camera import Camera, default_camera
from gazed_plugins.gaze.errors import CalibrationFailed, UnknownGazer
from gazed_plugins.gaze.registry import GAZERS, load_gazer, make_gazer

WORLD = default_camera("Pupil Cam1 ID2", 1280, 720)
PLACES = {0: np.array([20.0, 15.0, -20.0]), 1: np.array([-40.0, 15.0, -20.0])}
TURNS = {0: np.array([0.1, 2.9, 0.2]), 1: np.array([0.2, -2.6, 0.3])}
CENTERS = {0: [1.0, 2.0, 42.0], 1: [-1.5, 3.0, 38.0]}
GRID = [(x, y) for x in (0.25, 0.5, 0.75) for y in (0.3, 0.5, 0.7)]
SHAPE = {"left_model": 1, "right_model": 1, "binocular_model": 2}


def _eye(eye: int, target: np.ndarray, timestamp: float, place: np.ndarray | None = None, noise: Any = 0.0) -> dict:
    """Return a 3D datum of an eye that looks at a target (3,), mm in the world camera's frame."""
    away = target - (PLACES[eye] if place is None else place)
    normal = cv2.Rodrigues(TURNS[eye])[0].T @ (away / np.linalg.norm(away)) + noise
    return {
        "id": eye,
        "topic": f"pupil.{eye}.3d",
        "method": "pye3d 0.3.2 real-time",
        "timestamp": timestamp,
        "confidence": 0.9 + 0.1 * eye,
        "norm_pos": [0.5, 0.5],
        "sphere": {"center": CENTERS[eye], "radius": 10.392304845413264},
        "circle_3d": {"center": [0, 0, 30], "normal": (normal / np.linalg.norm(normal)).tolist(), "radius": 2.0},
    }


def _ref(target: np.ndarray, timestamp: float) -> dict:
    pixel = WORLD.project(target)[0]
    return {"screen_pos": pixel.tolist(), "norm_pos": WORLD.to_norm(pixel).tolist(), "timestamp": timestamp}


def _targets(norm: list[tuple[float, float]], depth: float = 500.0) -> np.ndarray:
    return WORLD.rays_of_norm(norm) * depth


def _session(depth: float = 500.0, eyes: tuple[int, ...] = (0, 1), sigma: float = 0.0, each: int = 5) -> dict:
    rng = np.random.default_rng(1)
    refs, pupils = [], []
    for k, target in enumerate(np.repeat(_targets(GRID, depth), each, axis=0)):
        refs.append(_ref(target, k / 30))
        pupils += [_eye(eye, target, k / 30 + 0.002 * eye, noise=sigma * rng.normal(size=3)) for eye in eyes]
    return {"ref_list": refs, "pupil_list": pupils}


def _angle(norm_pos: list[float], target: np.ndarray) -> float:
    ray = WORLD.rays_of_norm(norm_pos)[0]
    return float(np.degrees(np.arccos(np.clip(ray @ target / np.linalg.norm(target), -1, 1))))


def _polynomial_session(rng: np.random.Generator, count: int) -> dict:
    """Return a world in which gaze is a polynomial of the pupils, and both eyes tell something of their own."""
    refs, pupils = [], []
    for k in range(count):
        right, left = rng.uniform(0.2, 0.8, 2), rng.uniform(0.2, 0.8, 2)
        x, y = right
        u, v = left
        place = [0.3 * x - 0.1 * x * y + 0.1 * u + 0.2 * u * u + 0.2, 0.5 * y + 0.1 * x * x * y * y - 0.2 * v * v + 0.3]
        refs.append({"norm_pos": place, "timestamp": float(k)})
        for eye, norm in enumerate((right, left)):
            datum = {
                "id": eye,
                "method": "2d c++",
                "confidence": 1.0,
                "timestamp": float(k),
                "topic": f"pupil.{eye}.2d",
            }
            pupils.append({**datum, "norm_pos": norm.tolist()})
    return {"ref_list": refs, "pupil_list": pupils}


def test_2d_finds_a_polynomial_again():
    session = _polynomial_session(np.random.default_rng(3), 400)
    gazer = make_gazer("Gazer2D", WORLD)
    gazer.fit(session)
    pairs = zip(session["pupil_list"][::2], session["pupil_list"][1::2], session["ref_list"], strict=True)
    # Ridge regression takes its part: 0.0006 of the image is 0.04 degrees.
    errors = [np.abs(np.subtract(gazer.map([a, b])[0]["norm_pos"], ref["norm_pos"])).max() for a, b, ref in pairs]
    assert max(errors) < 6e-4
    np.testing.assert_allclose(gazer.params["binocular_model"]["coef_"][0][7:9], [0, -0.1], atol=0.01)


def test_2d_leaves_out_what_lies_far_off():
    session = _polynomial_session(np.random.default_rng(3), 400)
    clean = make_gazer("Gazer2D", WORLD)
    clean.fit(session)
    spoilt = copy.deepcopy(session)
    for ref in spoilt["ref_list"][::50]:
        ref["norm_pos"] = [ref["norm_pos"][0] + 0.4, ref["norm_pos"][1]]
    gazer = make_gazer("Gazer2D", WORLD)
    gazer.fit(spoilt)
    datums = session["pupil_list"][2:4]
    np.testing.assert_allclose(gazer.map(datums)[0]["norm_pos"], clean.map(datums)[0]["norm_pos"], atol=2e-4)


def test_2d_with_one_target_maps_to_it():
    session = _polynomial_session(np.random.default_rng(3), 1)
    gazer = make_gazer("Gazer2D", WORLD)
    gazer.fit(session)
    (gaze,) = gazer.map(session["pupil_list"])
    np.testing.assert_allclose(gaze["norm_pos"], session["ref_list"][0]["norm_pos"])


def test_2d_with_nothing_but_outliers_is_no_calibration():
    session = _polynomial_session(np.random.default_rng(3), 2)
    for index, pupil in enumerate(session["pupil_list"]):
        pupil["norm_pos"] = [0.5, 0.5]
        session["ref_list"][index // 2]["norm_pos"] = [float(index // 2), 0.5]
    with pytest.raises(CalibrationFailed) as failed:
        make_gazer("Gazer2D", WORLD).fit(session)
    assert failed.value.reason == "Not sufficient data available."


@pytest.mark.parametrize("depth", [400.0, 500.0, 1500.0])
def test_3d_both_eyes_find_the_cameras_and_the_targets_again(depth):
    gazer = make_gazer("Gazer3D", WORLD)
    params = gazer.fit(_session(depth))["binocular_model"]
    for eye in (0, 1):
        pose = np.array(params[f"eye_camera_to_world_matrix{eye}"])
        rotation = cv2.Rodrigues(TURNS[eye])[0]
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=1e-3)
        np.testing.assert_allclose(pose[:3, 3], PLACES[eye] - rotation @ CENTERS[eye], atol=0.05)
    for away in (350.0, 900.0):
        for target in _targets([(0.35, 0.4), (0.6, 0.65)], away):
            (gaze,) = gazer.map([_eye(eye, target, 9.0) for eye in (0, 1)])
            assert _angle(gaze["norm_pos"], target) < 0.02
            np.testing.assert_allclose(gaze["gaze_point_3d"], target, rtol=0.01, atol=2)


def test_3d_with_noisy_normals():
    sigma = np.radians(0.5)
    gazer = make_gazer("Gazer3D", WORLD)
    gazer.fit(_session(sigma=sigma, each=40))
    rng = np.random.default_rng(2)
    errors = []
    for target in _targets([(0.35, 0.4), (0.6, 0.65), (0.3, 0.6)] * 30):
        (gaze,) = gazer.map([_eye(eye, target, 9.0, noise=sigma * rng.normal(size=3)) for eye in (0, 1)])
        errors.append(_angle(gaze["norm_pos"], target))
    assert np.median(errors) < 0.6


@pytest.mark.parametrize("eye", [0, 1])
def test_3d_one_eye_finds_its_targets_again(eye):
    gazer = make_gazer("Gazer3D", WORLD)
    params = gazer.fit(_session(eyes=(eye,)))
    assert [name for name, model in params.items() if model] == [["right_model", "left_model"][eye]]
    assert not gazer.accepts(_eye(1 - eye, np.array([0.0, 0, 500]), 0.0))
    for target in _targets([(0.35, 0.4), (0.6, 0.65)]):
        (gaze,) = gazer.map([_eye(eye, target, 9.0)])
        assert _angle(gaze["norm_pos"], target) < 0.1
        assert gaze["topic"] == f"gaze.3d.{eye}."


def test_one_eye_looks_as_far_as_both_did_last():
    gazer = make_gazer("Gazer3D", WORLD)
    gazer = load_gazer("Gazer3D", gazer.fit(_session()), WORLD)
    target = np.array([50.0, 20.0, 1200.0])
    both = [_eye(eye, target, 1.0) for eye in (0, 1)]
    assert np.linalg.norm(gazer.map(both[:1])[0]["gaze_point_3d"]) < 600
    gazer.map(both)
    np.testing.assert_allclose(gazer.map(both[:1])[0]["gaze_point_3d"], target, rtol=0.05, atol=5)


def test_one_eye_of_two_is_right_at_every_depth():
    """What was fitted to both eyes maps each alone; one fitted by itself to two depths is off by many degrees."""
    near, far = _session(450.0), _session(2000.0)
    later = [{**datum, "timestamp": datum["timestamp"] + 100} for datum in far["ref_list"]]
    pupils = [{**datum, "timestamp": datum["timestamp"] + 100} for datum in far["pupil_list"]]
    gazer = make_gazer("Gazer3D", WORLD)
    gazer.fit({"ref_list": near["ref_list"] + later, "pupil_list": near["pupil_list"] + pupils})
    for target in _targets([(0.35, 0.4), (0.6, 0.65)], 450.0) + _targets([(0.35, 0.4), (0.6, 0.65)], 2000.0):
        both = [_eye(eye, target, 1.0) for eye in (0, 1)]
        gazer.map(both)
        for eye in (0, 1):
            assert _angle(gazer.map(both[eye : eye + 1])[0]["norm_pos"], target) < 0.1


def test_an_eye_that_pupil_fitted_alone_keeps_its_own_distance():
    gazer = make_gazer("Gazer3D", WORLD)
    params = gazer.fit(_session())
    alone = make_gazer("Gazer3D", WORLD).fit(_session(eyes=(0,)))["right_model"]
    gazer = load_gazer("Gazer3D", {**params, "right_model": alone}, WORLD)
    both = [_eye(eye, np.array([50.0, 20.0, 1200.0]), 1.0) for eye in (0, 1)]
    gazer.map(both)
    right, left = (gazer.map([datum])[0] for datum in both)
    assert math.dist(right["gaze_point_3d"], right["eye_center_3d"]) == pytest.approx(500)
    assert math.dist(left["gaze_point_3d"], left["eye_center_3d"]) > 1000


def test_eyes_that_look_apart_or_straight_ahead_still_have_gaze():
    gazer = make_gazer("Gazer3D", WORLD)
    gazer.fit(_session())
    for target in (np.array([0.0, 0.0, -4000.0]), np.array([0.0, 0.0, 1e15])):
        pair = []
        for eye in (0, 1):
            datum = _eye(eye, target, 1.0)
            if target[2] < 0:
                datum["circle_3d"]["normal"] = [-value for value in datum["circle_3d"]["normal"]]
            pair.append(datum)
        (gaze,) = gazer.map(pair)
        assert np.isfinite(gaze["gaze_point_3d"]).all()
        assert gaze["gaze_point_3d"][2] > 0
        np.testing.assert_allclose(gaze["norm_pos"], WORLD.to_norm(WORLD.project([[0, 0, 1]]))[0], atol=0.05)


def test_a_datum_without_an_eyeball_is_not_taken():
    gazer = make_gazer("Gazer3D", WORLD)
    datum = _eye(0, np.array([0.0, 0, 500]), 1.0)
    assert gazer.accepts(datum)
    assert not gazer.accepts({key: value for key, value in datum.items() if key not in ("sphere", "circle_3d")})
    assert not gazer.accepts({**datum, "circle_3d": {"normal": [float("nan")] * 3}})
    assert not gazer.accepts({**datum, "method": "2d c++"})
    assert not gazer.accepts({**datum, "id": 2})


@pytest.mark.parametrize("factor", [0.7, 3.025, 7.675])
def test_hmd_finds_the_eyes_and_the_scale_of_depth_again(factor):
    places = [[33.0, 0.0, 0.0], [-33.0, 0.0, 0.0]]
    refs, pupils = [], []
    for k in range(27):
        position = np.array([80.0 * (k % 3 - 1), 60.0 * (k // 3 % 3 - 1), 300.0 + 150 * (k // 9)])
        target = position * [1, -1, factor]
        refs.append({"mm_pos": position.tolist(), "timestamp": k / 30})
        pupils += [_eye(eye, target, k / 30, np.array(places[eye])) for eye in (0, 1)]
    gazer = make_gazer("GazerHMD3D", None, eye_translations=places)
    params = gazer.fit({"ref_list": refs, "pupil_list": pupils})
    for eye in (0, 1):
        pose = np.array(params["binocular_model"][f"eye_camera_to_world_matrix{eye}"])
        np.testing.assert_allclose(pose[:3, :3], cv2.Rodrigues(TURNS[eye])[0], atol=1e-4)
        single = params[["right_model", "left_model"][eye]]
        assert single == {"eye_camera_to_world_matrix": pose.tolist(), "gaze_distance": 500.0}
    (gaze,) = gazer.map(pupils[:2])
    assert "norm_pos" not in gaze
    np.testing.assert_allclose(gaze["gaze_point_3d"], np.array(refs[0]["mm_pos"]) * [1, -1, factor], rtol=1e-3)


def test_hmd_says_what_it_lacks():
    with pytest.raises(CalibrationFailed, match="translation_eye0"):
        make_gazer("GazerHMD3D", None).fit(
            {"ref_list": [{"mm_pos": [0, 0, 1], "timestamp": 0.0}], "pupil_list": _session()["pupil_list"][:2]}
        )
    with pytest.raises(CalibrationFailed, match="Not sufficient data"):
        make_gazer("GazerHMD3D", None, [[1, 0, 0], [-1, 0, 0]]).fit(
            {"ref_list": [{"mm_pos": [0, 0, 1], "timestamp": 0.0}], "pupil_list": _session()["pupil_list"][:1]}
        )


MAPPED = {
    "2d": {"topic", "norm_pos", "confidence", "timestamp", "base_data"},
    "3d mono": {"eye_center_3d", "gaze_normal_3d", "gaze_point_3d"},
    "3d both": {"eye_centers_3d", "gaze_normals_3d", "gaze_point_3d"},
}


def _fitted(name: str) -> tuple[Any, list[dict]]:
    session = _session() if name == "Gazer3D" else _polynomial_session(np.random.default_rng(1), 40)
    gazer = make_gazer(name, WORLD)
    gazer.fit(session)
    return gazer, session["pupil_list"]


@pytest.mark.parametrize("name", ["Gazer2D", "Gazer3D"])
def test_gaze_has_pupils_shape(name):
    gazer, pupils = _fitted(name)
    right, left = pupils[:2]
    kind = gazer.method
    for match, eyes in (([right], "0"), ([left], "1"), ([right, left], "01")):
        (gaze,) = gazer.map(match)
        special = set() if kind == "2d" else MAPPED["3d both" if len(match) == 2 else "3d mono"]
        assert set(gaze) == MAPPED["2d"] | special
        assert gaze["topic"] == f"gaze.{kind}.{eyes}."
        assert gaze["base_data"] == match
        assert gaze["confidence"] == sum(datum["confidence"] for datum in match) / len(match)
        assert gaze["timestamp"] == sum(datum["timestamp"] for datum in match) / len(match)
        assert msgpack.unpackb(msgpack.packb(gaze)) == gaze
    if kind == "3d":
        assert set(gaze["eye_centers_3d"]) == set(gaze["gaze_normals_3d"]) == {"0", "1"}


@pytest.mark.parametrize("name", ["Gazer2D", "Gazer3D"])
def test_parameters_travel_and_map_alike(name):
    gazer, pupils = _fitted(name)
    params = msgpack.unpackb(msgpack.packb(gazer.params))
    assert set(params) == set(SHAPE)
    for model, eyes in SHAPE.items():
        if name == "Gazer2D":
            assert set(params[model]) == {"coef_", "intercept_"}
            assert np.shape(params[model]["coef_"]) == (2, 6 * eyes)
            assert np.shape(params[model]["intercept_"]) == (2,)
        elif eyes == 1:
            assert set(params[model]) == {"eye_camera_to_world_matrix", "gaze_distance"}
        else:
            assert set(params[model]) == {"eye_camera_to_world_matrix0", "eye_camera_to_world_matrix1"}
    again = load_gazer(name, params, WORLD)
    assert again.params == gazer.params
    assert list(again.map_all(pupils)) == list(load_gazer(name, params, WORLD).map_all(pupils))
    assert again.map(pupils[:2]) == gazer.map(pupils[:2])


def test_all_datums_of_a_recording_are_mapped_in_order():
    gazer, pupils = _fitted("Gazer3D")
    gaze = list(gazer.map_all([{"method": "2d c++", "id": 0, "timestamp": 0.0}, *reversed(pupils)]))
    assert len(gaze) == len(pupils)
    stamps = [datum["timestamp"] for datum in gaze]
    assert stamps == sorted(stamps)


def test_wild_extrapolation_is_clamped():
    gazer, pupils = _fitted("Gazer2D")
    (gaze,) = gazer.map([{**pupils[0], "norm_pos": [1e6, -1e6]}])
    assert max(map(abs, gaze["norm_pos"])) == 100.0


@pytest.mark.parametrize("name", ["Gazer2D", "Gazer3D"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pupil_list": []}, "Not sufficient pupil data available."),
        ({"ref_list": []}, "Not sufficient reference data available."),
        (
            {"ref_list": [{"timestamp": 1e6, "norm_pos": [0, 0], "screen_pos": [0, 0]}]},
            "Not sufficient data available.",
        ),
    ],
)
def test_reasons_of_failure_are_pupils(name, change, reason):
    session = _session() if name == "Gazer3D" else _polynomial_session(np.random.default_rng(1), 40)
    with pytest.raises(CalibrationFailed) as failed:
        make_gazer(name, WORLD).fit({**session, **change})
    assert failed.value.reason == failed.value.as_dict()["reason"] == reason
    assert failed.value.hint
    with pytest.raises(CalibrationFailed) as failed:
        make_gazer(name, WORLD).fit(session, min_confidence=1.1)
    assert failed.value.reason == "Not sufficient pupil data available."


def test_malformed_data_is_a_failed_calibration_that_names_the_key():
    session = _session()
    with pytest.raises(CalibrationFailed, match="screen_pos"):
        make_gazer("Gazer3D", WORLD).fit({**session, "ref_list": [{"timestamp": 0.0}]})
    with pytest.raises(CalibrationFailed, match="pupil_list"):
        make_gazer("Gazer3D", WORLD).fit({"ref_list": []})
    broken = _session()
    broken["ref_list"][0]["screen_pos"] = [float("nan"), 1.0]
    with pytest.raises(CalibrationFailed):
        make_gazer("Gazer3D", WORLD).fit(broken)


def test_unknown_gazers_and_parameters_are_refused():
    assert sorted(GAZERS) == ["Gazer2D", "Gazer3D", "GazerHMD3D"]
    with pytest.raises(UnknownGazer, match="Gazer4D"):
        make_gazer("Gazer4D", WORLD)
    with pytest.raises(UnknownGazer, match="needs a world camera"):
        make_gazer("Gazer2D", None)
    for name in GAZERS:
        with pytest.raises(UnknownGazer, match="no model"):
            load_gazer(name, {"left_model": {}}, WORLD)
        with pytest.raises(UnknownGazer, match="well formed"):
            load_gazer(name, {"left_model": {"eye_camera_to_world_matrix": [[1]], "coef_": [1]}}, WORLD)
    with pytest.raises(UnknownGazer, match="wanted"):
        load_gazer("Gazer2D", {"left_model": {"coef_": [[0] * 12] * 2, "intercept_": [0, 0]}}, WORLD)


@pytest.mark.parametrize("free", [True, False])
def test_the_analytic_jacobian_is_the_numeric_one(free):
    rng = np.random.default_rng(5)
    targets = rng.normal(size=(4, 3)) * 50 + [0, 0, 500]
    rays = rng.normal(size=(4, 3, 3))
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    cameras = [
        SphericalCamera(rays[:, 0], np.eye(3), np.zeros(3), turns=False, moves=False),
        SphericalCamera(rays[:, 1], cv2.Rodrigues(TURNS[0])[0], PLACES[0], turns=True, moves=False),
        SphericalCamera(rays[:, 2], cv2.Rodrigues(TURNS[1])[0], PLACES[1], turns=True, moves=True),
    ]
    problem = Adjustment(cameras, targets, targets_free=free)
    for x in (problem.start, problem.start + rng.normal(size=len(problem.start)) * 0.3):
        analytic = problem.jacobian(x).toarray()
        assert analytic.shape == (3 * 3 * 4, 9 + 12 * free)
        step = 1e-6
        numeric = np.stack(
            [
                (problem.residuals(x + step * unit) - problem.residuals(x - step * unit)) / (2 * step)
                for unit in np.eye(len(x))
            ],
            axis=1,
        )
        np.testing.assert_allclose(analytic, numeric, atol=1e-8)


def test_a_rotation_is_found_from_points():
    points = np.random.default_rng(1).normal(size=(10, 3))
    turn = cv2.Rodrigues(np.array([0.3, -2.0, 1.0]))[0]
    np.testing.assert_allclose(fit_rotation(points, points @ turn.T + [1, 2, 3]), turn, atol=1e-12)


def test_camera_of_the_gazer_decides_the_norm_position():
    gazer = make_gazer("Gazer3D", WORLD)
    params = gazer.fit(_session())
    narrow = Camera(WORLD.matrix * [[2], [2], [1]], WORLD.distortion, 2560, 1440, "radial")
    pair = [_eye(eye, np.array([30.0, 40.0, 700.0]), 1.0) for eye in (0, 1)]
    here, there = gazer.map(pair)[0], load_gazer("Gazer3D", params, narrow).map(pair)[0]
    np.testing.assert_allclose(here["norm_pos"], there["norm_pos"], atol=1e-9)
