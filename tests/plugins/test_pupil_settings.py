"""Settings and intrinsics of pupil detection."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_plugins.errors import PluginArgument
from gazed_plugins.pupil.intrinsics import eye_camera
from gazed_plugins.pupil.settings import Properties2D, PupilSettings


def test_the_defaults_are_the_engines_own() -> None:
    engine = pytest.importorskip("pupil_detectors").Detector2D().get_properties()
    assert Properties2D().as_dict() == engine
    assert {name: type(value) for name, value in Properties2D().as_dict().items()} == {
        name: type(value) for name, value in engine.items()
    }


def test_values_take_the_type_that_the_engine_wants() -> None:
    found = PupilSettings.of(
        {"properties": {"intensity_range": 11.0, "ellipse_roundness_ratio": 1}, "roi": [1, 2, 9, 8]}
    )
    assert type(found.properties.intensity_range) is int
    assert type(found.properties.ellipse_roundness_ratio) is float
    assert found.roi == (1, 2, 9, 8)
    assert found.updated({"roi": None}).roi is None
    again = found.updated({"properties": {"blur_size": 3}})
    assert (again.properties.blur_size, again.properties.intensity_range) == (3, 11)


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"every_nht": 2}, "no argument 'every_nht'", "every_nth"),
        ({"properties": {"canny_threshold": 1}}, "no property 'canny_threshold'", "canny_treshold"),
        ({"properties": {"blur_size": 4}}, "odd", ""),
        ({"properties": {"blur_size": 101}}, "0 to 99", ""),
        ({"properties": {"canny_aperture": 4}}, "3, 5 or 7", ""),
        ({"properties": {"contour_size_min": 0}}, "1 to", ""),
        ({"properties": {"intensity_range": 1.5}}, "whole number", ""),
        ({"properties": {"intensity_range": True}}, "whole number", ""),
        ({"properties": {"intensity_range": float("nan")}}, "whole number", ""),
        ({"properties": {"ellipse_roundness_ratio": float("inf")}}, "a number", ""),
        ({"properties": {"coarse_detection": 1}}, "true or false", ""),
        ({"properties": [1]}, "map", ""),
        ({"every_nth": 0}, "1 or more", ""),
        ({"detect_2d": "yes"}, "true or false", ""),
        ({"roi": [5, 5, 5, 9]}, "roi", ""),
        ({"roi": [-1, 0, 5, 9]}, "roi", ""),
        ({"roi": [0, 0, 5]}, "roi", ""),
        ({"roi": [0, 0, 5.0, 9]}, "roi", ""),
        ({"roi": "all"}, "roi", ""),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(PluginArgument, match=message) as refusal:
        PupilSettings.of(values)
    assert hint in refusal.value.hint


def test_a_roi_ends_where_the_image_does() -> None:
    found = PupilSettings.of({"roi": [0, 0, 191, 192]})
    found.check_roi((192, 192))
    with pytest.raises(PluginArgument, match="192x191"):
        found.check_roi((192, 191))
    with pytest.raises(PluginArgument, match="191x192"):
        found.check_roi((191, 192))


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from([*PupilSettings.__slots__, "x"]), _anything, max_size=3))
def test_no_value_gets_past_the_checks(values: dict[str, object]) -> None:
    try:
        found = PupilSettings.of(values)
    except PluginArgument:
        return
    assert set(values) <= set(PupilSettings.__slots__)
    assert type(found.every_nth) is int
    assert found.every_nth >= 1


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from([*Properties2D.__slots__]), _anything, max_size=4))
def test_no_property_gets_past_the_checks(values: dict[str, object]) -> None:
    try:
        properties = Properties2D().updated(values).as_dict()
    except PluginArgument:
        return
    assert {name: type(value) for name, value in properties.items()} == {
        name: type(value) for name, value in Properties2D().as_dict().items()
    }


# ---- intrinsics


def camera_file(path: Path, entry: object) -> Path:
    path.write_bytes(msgpack.packb({"version": 1, "(192, 192)": entry}))
    return path


MODEL = {
    "camera_matrix": [[200.0, 0.0, 96.0], [0.0, 210.0, 96.0], [0.0, 0.0, 1.0]],
    "dist_coefs": [[0.0] * 5],
    "cam_type": "radial",
    "resolution": [192, 192],
}


def test_what_is_known_best_comes_first(tmp_path: Path) -> None:
    path = camera_file(tmp_path / "eye0.intrinsics", MODEL)
    other = {**MODEL, "camera_matrix": [[300.0, 0, 96], [0, 300.0, 96], [0, 0, 1]]}
    device = "Pupil Cam3 ID1"
    size = (192, 192)
    assert eye_camera(size, device=device, intrinsics=other, path=path).focal_length == 205.0
    assert eye_camera(size, device=device, intrinsics=other).focal_length == 300.0
    assert eye_camera(size, device=device).focal_length == 140.0
    assert eye_camera(size, device="Webcam").focal_length == pytest.approx(269.5, abs=0.1)
    origins = [
        eye_camera(size, device=device, intrinsics=other, path=path).origin,
        eye_camera(size, device=device, intrinsics=other).origin,
        eye_camera(size, device=device).origin,
        eye_camera(size).origin,
    ]
    assert origins == ["file", "stream", "built-in", "assumed"]


def test_intrinsics_of_another_resolution_say_nothing(tmp_path: Path) -> None:
    path = camera_file(tmp_path / "eye0.intrinsics", MODEL)
    assert eye_camera((400, 400), device="Pupil Cam2 ID0", intrinsics=MODEL, path=path).focal_length == 561.47
    assert eye_camera((200, 200), device="Pupil Cam2 ID0").origin == "assumed"


def test_a_dummy_says_nothing(tmp_path: Path) -> None:
    path = camera_file(tmp_path / "eye0.intrinsics", {**MODEL, "cam_type": "dummy"})
    assert eye_camera((192, 192), path=path).origin == "assumed"
    assert eye_camera((192, 192), intrinsics={**MODEL, "cam_type": "dummy"}).origin == "assumed"


@pytest.mark.parametrize(("number", "size"), [(1, (320, 240)), (1, (640, 480)), (2, (192, 192)), (3, (400, 400))])
def test_eye_cameras_of_pupil_core_are_known(number: int, size: tuple[int, int]) -> None:
    assert eye_camera(size, device=f"Pupil Cam{number} ID0").origin == "built-in"
