"""The pictures of the simulated wearer show what its truth says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_capture.errors import SourceOptionError
from gazed_capture.wearer.bank import Bank, open_bank
from gazed_capture.wearer.optics import ELLIPSE, fit_ellipses, limbus_ellipses, project, pupil_ellipses
from gazed_capture.wearer.options import read_options
from gazed_capture.wearer.render import render
from gazed_capture.wearer.rig import camera_matrix, eye_rig
from gazed_capture.wearer.script import Script
from gazed_capture.wearer.truth import load_truth, write_truth

EYE = {"width": 192, "height": 192, "fps": 60, "seconds": 4.0}
WORLD = {"width": 640, "height": 360, "fps": 30, "seconds": 4.0}


@pytest.fixture(scope="module", params=["eye0", "eye1"])
def eye(request: pytest.FixtureRequest) -> Iterator[tuple[str, Bank]]:
    bank = open_bank(read_options(request.param, EYE).bank)
    yield request.param, bank
    bank.close()


@pytest.fixture(scope="module")
def world() -> Iterator[Bank]:
    bank = open_bank(read_options("world", WORLD).bank)
    yield bank
    bank.close()


def _gray(bank: Bank, row: int) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(bank.jpeg(row), np.uint8), cv2.IMREAD_GRAYSCALE)


def _find_pupil(image: np.ndarray) -> tuple[float, float, float, float, float]:
    """Return centre, axes and angle of the pupil's edge: a dark region, then its half level along rays."""
    mask = (cv2.GaussianBlur(image, (0, 0), 1.0) < 62).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (x, y), (across, along), angle = cv2.fitEllipse(max(outlines, key=cv2.contourArea))
    edge = []
    for turn in np.linspace(0, 2 * np.pi, 120, endpoint=False):
        u, v = across / 2 * np.cos(turn), along / 2 * np.sin(turn)
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        step = np.array([cosine * u - sine * v, sine * u + cosine * v])
        length = np.hypot(*step)
        far = np.linspace(length - 5, length + 5, 101)
        path = np.array([[x], [y]]) + far * (step / length)[:, None]
        level = cv2.remap(image, *path.astype(np.float32)[:, None, :], cv2.INTER_LINEAR)[0].astype(float)
        if level[:30].max() < 62:  # a glint on the edge hides it
            half = (level[:30].mean() + level[70:].mean()) / 2
            edge.append(path[:, np.argmax(level > half)])
    (x, y), (across, along), angle = cv2.fitEllipse(np.array(edge, np.float32))
    return x, y, across, along, angle


@pytest.mark.parametrize("stream", ["world", "eye0"])
def test_a_seed_always_makes_the_same_bytes(stream: str) -> None:
    def images(seed: int) -> list[bytes]:
        options = {"width": 96, "height": 96, "fps": 20, "seconds": 1, "seed": seed}
        return render(read_options(stream, options).bank).images

    assert images(1) == images(1)
    assert images(1)[0] != images(2)[0]


def test_pupil_is_where_the_truth_has_it(eye: tuple[str, Bank]) -> None:
    _, bank = eye
    opened = np.flatnonzero((bank.truth["lid_opening"] == 1) & (bank.truth["pupil_visible"] > 0.995))[::5]
    assert len(opened) > 20
    errors, turns = [], []
    for row in opened:
        truth = bank.truth[row]
        x, y, minor, major, angle = _find_pupil(_gray(bank, row))
        errors.append([x - truth["cx"], y - truth["cy"], minor - truth["minor"], major - truth["major"]])
        if truth["minor"] < 0.9 * truth["major"]:
            turns.append((angle - truth["angle_deg"] + 90) % 180 - 90)
    center, axes = np.abs(errors)[:, :2], np.abs(errors)[:, 2:]
    assert np.median(center, axis=0).max() < 0.1
    assert center.max() < 0.3
    assert np.median(axes, axis=0).max() < 0.6
    assert len(turns) > 5
    assert np.abs(turns).max() < 3


def test_gaze_rays_of_both_eyes_meet_at_the_target() -> None:
    right, left = (load_truth(stream, EYE).rows for stream in ("eye0", "eye1"))
    np.testing.assert_array_equal(right["target_mm"], left["target_mm"])
    for stream, rows in (("eye0", right), ("eye1", left)):
        rig = eye_rig(stream)
        origin = rig.camera_mm + rows["eyeball_mm"] @ rig.rotation
        np.testing.assert_allclose(origin, np.broadcast_to(rig.center_mm, origin.shape), atol=1e-9)
        ray = rows["gaze"] @ rig.rotation
        np.testing.assert_allclose(np.linalg.norm(ray, axis=1), 1)
        assert np.abs(np.cross(rows["target_mm"] - origin, ray)).max() < 1e-6
    depth = right["target_mm"][:, 2]
    assert depth.min() < 600 < 1100 < depth.max()


def test_world_shows_the_target_where_it_projects(world: Bank) -> None:
    camera = camera_matrix("world", 640, 360)
    projected = world.truth["target_mm"] @ camera.T
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], world.truth["target_px"])
    for row in range(0, len(world.truth), 7):
        (x, y), radius = world.truth["target_px"][row], world.truth["target_radius_px"][row]
        image = _gray(world, row).astype(float)
        across, down = np.meshgrid(np.arange(640) - x, np.arange(360) - y)
        away = np.hypot(across, down) / radius
        white, black = image[np.abs(away - 0.47) < 0.08].mean(), image[np.abs(away - 0.82) < 0.08].mean()
        assert white - black > 90
        inside = away < 1.2
        dark = np.clip((white - image[inside]) / (white - black), 0, 1)
        center = np.average(np.stack([across[inside], down[inside]]), axis=1, weights=dark)
        assert np.hypot(*center) < 0.35


def test_blinks_close_the_eye_wholly_for_a_short_time(eye: tuple[str, Bank]) -> None:
    _, bank = eye
    opening = bank.truth["lid_opening"]
    blinking = np.flatnonzero(opening < 1)
    runs = np.split(blinking, np.flatnonzero(np.diff(blinking) > 1) + 1)
    assert runs
    for run in runs:
        assert 0.12 < len(run) / 60 < 0.25
        assert opening[run].min() == 0
    closed = int(np.argmin(opening))
    assert bank.truth["pupil_visible"][closed] == 0
    assert np.percentile(_gray(bank, closed), 0.1) > 40
    half = bank.truth["pupil_visible"]
    assert ((half > 0.05) & (half < 0.95)).any()


def _eye(**options: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, 96, 96) and the truth of half a second."""
    short = {"width": 96, "height": 96, "fps": 20, "seconds": 0.5, **options}
    loop = render(read_options("eye1", short).bank)
    shown = [loop.images[image] for image in loop.image_of_row]
    return np.stack([cv2.imdecode(np.frombuffer(jpeg, np.uint8), 0) for jpeg in shown]), loop.truth


def test_lids_may_droop_and_stay_closed_for_longer() -> None:
    _, usual = _eye(seconds=3, fps=60)
    _, drooping = _eye(seconds=3, fps=60, droop=0.4)
    _, long = _eye(seconds=3, fps=60, closed_s=0.5)
    assert drooping["lid_opening"].max() == pytest.approx(0.6, abs=1 / 64)
    assert np.median(drooping["pupil_visible"]) < 0.9 < 0.99 < np.median(usual["pupil_visible"])
    closed = [(rows["lid_opening"] == 0).mean() * 3 for rows in (usual, drooping, long)]
    assert closed == pytest.approx([0.05, 0.05, 0.5], abs=0.05)
    with pytest.raises(SourceOptionError, match=r"closed_s .* less than the loop's 0.5 s"):
        read_options("eye0", {"seconds": 0.5, "closed_s": 0.4})


def test_eyes_differ_in_pupils_lights_and_noise() -> None:
    _, truth = _eye(pupil_mm=6.5)
    assert truth["pupil_mm"].max() > 6 > 5 > _eye()[1]["pupil_mm"].max()
    glints = [int((_eye(lights=count, noise=0)[0][0] > 225).sum()) for count in (0, 2, 6)]
    assert glints == sorted(set(glints))
    assert glints[0] == 0
    smooth, grainy = (float(np.diff(_eye(noise=sigma)[0][0, :10].astype(float)).std()) for sigma in (0, 20))
    assert grainy > smooth + 10


def test_loop_has_no_seam() -> None:
    target = Script(3, 5.0).at(np.arange(0, 5, 1 / 1000)).target_mm
    np.testing.assert_allclose(target[0], target[-1], atol=0.5)


def test_pupils_answer_the_lamp(world: Bank) -> None:
    rows = load_truth("eye0", EYE).rows
    assert rows["pupil_mm"].min() >= 2
    assert rows["pupil_mm"].max() <= 6
    lit = rows["loop_s"][np.argmin(rows["pupil_mm"])]
    assert world.truth["lamp"][world.row_at(int(lit * 1e9))] == 1
    assert np.ptp(rows["pupil_mm"]) > 0.8


def test_truth_is_found_by_capture_time(tmp_path: Path) -> None:
    truth = load_truth("eye0", EYE)
    captured = np.array([0, 1_000_000_000 // 60, 3 * 10**9, 7 * 10**9 + 4_000_000, 10**15])
    found = truth.at(captured)
    np.testing.assert_allclose(found["loop_s"], [0, 1 / 60, 3, 3, 0], atol=1e-9)
    path = write_truth(tmp_path / "truth", "eye0", EYE, captured, captured / 1e9)
    written = np.load(path)
    assert path.name == "eye0_truth.npy"
    np.testing.assert_array_equal(written["captured_ns"], captured)
    np.testing.assert_array_equal(written["timestamp"], captured / 1e9)
    np.testing.assert_array_equal(written["gaze"], found["gaze"])
    with pytest.raises(ValueError, match="5 capture times, but 1 timestamps"):
        write_truth(tmp_path, "eye0", EYE, captured, [0.0])


def test_images_are_what_a_uvc_camera_sends(eye: tuple[str, Bank], world: Bank) -> None:
    for bank in (eye[1], world):
        decoder = av.CodecContext.create("mjpeg", "r")
        (frame,) = decoder.decode(av.Packet(bank.jpeg(0)))
        assert frame.format.name == "yuvj422p"


ellipses = st.tuples(
    st.floats(-50, 450), st.floats(-50, 450), st.floats(4, 120), st.floats(1.05, 3), st.floats(-89.9, 89.9)
)


@settings(max_examples=60, deadline=None)
@given(ellipses)
def test_an_ellipse_is_found_from_its_points(wanted: tuple[float, float, float, float, float]) -> None:
    cx, cy, minor, ratio, angle = wanted
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    x, y = minor / 2 * np.cos(turn), minor * ratio / 2 * np.sin(turn)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    points = np.stack([cx + cosine * x - sine * y, cy + sine * x + cosine * y], axis=-1)[None]
    found = fit_ellipses(points)[0]
    assert found.dtype == ELLIPSE
    np.testing.assert_allclose(found.tolist()[:4], [cx, cy, minor, minor * ratio], atol=1e-5)
    assert abs((found["angle_deg"] - angle + 90) % 180 - 90) < 1e-3


def test_cornea_enlarges_the_pupil_and_leaves_the_limbus() -> None:
    camera = camera_matrix("eye1", 400, 400)
    ahead, eyeball = np.array([[0.0, 0.0, -1.0]]), np.array([0.0, 0.0, 40.0])
    pupil, limbus = pupil_ellipses(ahead, np.array([4.0]), eyeball, camera), limbus_ellipses(ahead, eyeball, camera)
    plain = 561.5 * 4.0 / (40 - 10.3923)
    np.testing.assert_allclose([pupil["cx"][0], pupil["cy"][0]], 199.5, atol=1e-6)
    np.testing.assert_allclose(pupil["minor"], pupil["major"], rtol=1e-6)
    assert 1.10 < pupil["major"][0] / plain < 1.18
    np.testing.assert_allclose(limbus["major"], 561.5 * 12.0 / (40 - 10.3923), rtol=1e-6)
    np.testing.assert_allclose(project(np.array([0.0, 0.0, 40.0]), camera), 199.5)
