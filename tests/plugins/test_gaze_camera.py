"""The world camera's rays and pixels."""

from __future__ import annotations

import math

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.errors import CameraModelError
from gazed_plugins.gaze.camera import Camera, default_camera, read_camera, read_camera_file

CAMERAS = [
    ("Pupil Cam1 ID2", 640, 480),
    ("Pupil Cam1 ID2", 1280, 720),
    ("Pupil Cam1 ID2", 1920, 1080),
    ("Logitech Webcam C930e", 640, 480),
    ("Logitech Webcam C930e", 1280, 720),
    ("Logitech Webcam C930e", 1920, 1080),
    ("never heard of", 800, 600),
]
PINHOLE = {"camera_matrix": [[800, 0, 640], [0, 800, 360], [0, 0, 1]], "dist_coefs": [[0.0] * 5], "cam_type": "radial"}


@pytest.mark.parametrize("name", CAMERAS)
@given(norm=st.tuples(st.floats(0.15, 0.85), st.floats(0.15, 0.85)))
def test_rays_lead_back_to_their_pixels(name, norm):
    camera = default_camera(*name)
    pixels = camera.to_pixels([norm])
    (ray,) = camera.unproject(pixels)
    assert math.isclose(np.linalg.norm(ray), 1)
    np.testing.assert_allclose(camera.project([ray * 700]), pixels, atol=1e-6)
    np.testing.assert_allclose(camera.to_norm(pixels), [norm], atol=1e-12)


def test_pinhole_is_what_it_says():
    camera = read_camera(PINHOLE, 1280, 720)
    np.testing.assert_allclose(camera.project([[100, 50, 400]]), [[840, 460]])
    np.testing.assert_allclose(camera.unproject([[640, 360]]), [[0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(camera.to_norm([[0, 0], [1280, 720]]), [[0, 1], [1, 0]])
    np.testing.assert_allclose(camera.rays_of_norm([0.5, 0.5]), [[0, 0, 1]], atol=1e-12)


def test_nothing_projects_to_nothing():
    for name in CAMERAS:
        camera = default_camera(*name)
        assert camera.project(np.empty((0, 3))).shape == (0, 2)
        assert camera.unproject(np.empty((0, 2))).shape == (0, 3)


def test_unknown_camera_is_a_dummy():
    camera = default_camera("USB camera", 640, 480)
    assert camera.kind == "dummy"
    np.testing.assert_array_equal(camera.matrix, [[1000, 0, 320], [0, 1000, 240], [0, 0, 1]])
    assert default_camera("Pupil Cam1 ID2", 1920, 1080).kind == "fisheye"


def test_fisheye_coefficients_may_stand_in_a_column():
    entry = {**PINHOLE, "cam_type": "fisheye", "dist_coefs": [[-0.1], [0.0], [0.0], [0.0]]}
    assert read_camera(entry, 1280, 720).distortion.shape == (4,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cam_type": "magic"}, "magic"),
        ({"cam_type": "fisheye"}, r"wanted|need"),
        ({"dist_coefs": [0.1]}, r"need"),
        ({"camera_matrix": [[1, 0], [0, 1]]}, r"need"),
        ({"camera_matrix": [[math.nan, 0, 0], [0, 1, 0], [0, 0, 1]]}, r"need"),
        ({"camera_matrix": [[0, 0, 0], [0, 1, 0], [0, 0, 1]]}, r"need"),
        ({"camera_matrix": "x"}, "not well formed"),
        ({"resolution": [640, 480]}, "640"),
        ({"dist_coefs": None}, "not well formed|need"),
    ],
)
def test_intrinsics_that_are_none_are_refused(change, message):
    with pytest.raises(CameraModelError, match=message):
        read_camera({**PINHOLE, **change}, 1280, 720)
    with pytest.raises(CameraModelError, match="camera_matrix"):
        read_camera({"cam_type": "radial"}, 1280, 720)


def test_intrinsics_file(tmp_path):
    path = tmp_path / "world.intrinsics"
    path.write_bytes(msgpack.packb({"version": 1, "(1280, 720)": {**PINHOLE, "resolution": [1280, 720]}}))
    camera = read_camera_file(path, 1280, 720)
    assert isinstance(camera, Camera)
    assert camera.matrix[0, 0] == 800
    with pytest.raises(CameraModelError, match="no intrinsics for 640x480"):
        read_camera_file(path, 640, 480)
    path.write_bytes(b"\xc1garbage")
    with pytest.raises(CameraModelError, match="no intrinsics file"):
        read_camera_file(path, 1280, 720)
    with pytest.raises(CameraModelError, match="no intrinsics file"):
        read_camera_file(tmp_path / "missing", 1280, 720)
