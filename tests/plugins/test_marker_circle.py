"""The detector of circle markers, on rendered markers and on what the simulated wearer's world camera sees."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, radians, sin
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gazed_capture.wearer.bank import open_bank
from gazed_capture.wearer.options import read_options
from gazed_capture.wearer.room import paint_room
from gazed_plugins.marker.circle import CircleDetector, Marker

Gray = NDArray[np.uint8]
Point = tuple[float, float]

WIDTH, HEIGHT, FOCAL = 1280, 720, 800.0
MIDDLE: Point = (640.3, 360.8)
DARK, BRIGHT = 14.0, 238.0
REF = ((1.4, BRIGHT), (1.0, DARK), (38 / 60, BRIGHT), (19 / 60, DARK), (3 / 60, BRIGHT))
"""Reach of each disc from the centre, and its gray level, from the paper inwards."""
STOP = ((1.4, DARK), (1.0, BRIGHT), (38 / 60, DARK), (19 / 60, BRIGHT))


def plain(level: float = 120.0) -> Gray:
    return np.full((HEIGHT, WIDTH), level, np.uint8)


def room(seed: int) -> Gray:
    return np.asarray(cv2.cvtColor(paint_room(seed, WIDTH, HEIGHT, lamp=bool(seed % 2)), cv2.COLOR_BGR2GRAY), np.uint8)


def draw(
    image: Gray,
    center: Point,
    radius: float,
    discs: tuple[tuple[float, float], ...] = REF,
    *,
    tilt: float = 0.0,
    turn: float = 0.0,
    then: Callable[[Gray], Gray] = lambda image: image,
) -> Gray:
    """Return the image with a marker of ``radius`` px, tilted by degrees about an axis, and noise."""
    tilted = np.array(
        [[cos(radians(tilt)), 0, sin(radians(tilt))], [0, 1, 0], [-sin(radians(tilt)), 0, cos(radians(tilt))]]
    )
    spin = np.array(
        [[cos(radians(turn)), -sin(radians(turn)), 0], [sin(radians(turn)), cos(radians(turn)), 0], [0, 0, 1]]
    )
    camera = np.array([[FOCAL, 0, center[0]], [0, FOCAL, center[1]], [0, 0, 1]])
    pose = spin @ tilted
    plane = camera @ np.column_stack([pose[:, 0] * radius / FOCAL, pose[:, 1] * radius / FOCAL, [0, 0, 1]])
    back = np.linalg.inv(plane)
    reach = 2.0 * radius + 4
    left, right = max(0, int(center[0] - reach)), min(WIDTH, int(center[0] + reach))
    top, bottom = max(0, int(center[1] - reach)), min(HEIGHT, int(center[1] + reach))
    patch = np.zeros((bottom - top, right - left))
    for down in (-1 / 3, 0, 1 / 3):
        for aside in (-1 / 3, 0, 1 / 3):
            x, y = np.meshgrid(np.arange(left, right) + aside, np.arange(top, bottom) + down)
            u, v, w = (row[0] * x + row[1] * y + row[2] for row in back)
            away = np.hypot(u / w, v / w)
            shade = image[top:bottom, left:right].astype(np.float64)
            for edge, level in discs:
                shade = np.where(away < edge, level, shade)
            patch += shade / 9
    out = image.copy()
    out[top:bottom, left:right] = patch
    noise = np.random.default_rng(7).normal(0, 1.5, image.shape)
    return np.asarray(np.clip(then(out) + noise, 0, 255), np.uint8)


def find(image: Gray) -> list[Marker]:
    return CircleDetector().detect(image)


def one(image: Gray) -> Marker:
    markers = find(image)
    assert len(markers) == 1, f"{len(markers)} markers"
    return markers[0]


def off(marker: Marker, center: Point) -> float:
    return float(np.hypot(marker.center[0] - center[0], marker.center[1] - center[1]))


@pytest.mark.parametrize("radius", [10.5, 14, 25, 47, 90, 200])
@pytest.mark.parametrize(("kind", "discs"), [("Ref", REF), ("Stop", STOP)])
def test_markers_of_all_sizes_are_found_to_a_tenth_of_a_pixel(radius: float, kind: str, discs: Any) -> None:
    marker = one(draw(room(2), MIDDLE, radius, discs))
    assert marker.kind == kind
    assert off(marker, MIDDLE) < 0.1
    assert marker.radius == pytest.approx(radius, rel=0.03)
    assert marker.norm_pos == pytest.approx((marker.center[0] / WIDTH, 1 - marker.center[1] / HEIGHT))
    assert [sum(axes) / 4 / radius for _, axes, _ in marker.ellipses] == pytest.approx([1, 38 / 60, 19 / 60], rel=0.06)


@pytest.mark.parametrize("tilt", [30, 60])
@pytest.mark.parametrize("radius", [30, 90])
def test_perspective_does_not_shift_the_centre(radius: float, tilt: float) -> None:
    marker = one(draw(plain(), MIDDLE, radius, tilt=tilt, turn=25))
    assert off(marker, MIDDLE) < 0.1
    if radius == 90:
        (x, y), _, _ = marker.ellipses[0]
        assert np.hypot(x - MIDDLE[0], y - MIDDLE[1]) > 3


BLURS: dict[str, Callable[[Gray], Gray]] = {
    "out of focus": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8),
    "moved": lambda image: np.asarray(cv2.blur(image, (11, 1)), np.uint8),
    "in half shadow": lambda image: (image * np.linspace(0.2, 1.6, WIDTH).clip(0, 1)).astype(np.uint8),
    "pale": lambda image: (100 + image * 0.18).astype(np.uint8),
    "on a screen": lambda image: (image * (0.8 + 0.2 * np.sin(np.arange(WIDTH) * 2.2)) * 0.95).astype(np.uint8),
}


@pytest.mark.parametrize("name", BLURS)
@pytest.mark.parametrize("radius", [25, 80])
def test_bad_pictures_of_a_marker(name: str, radius: float) -> None:
    assert off(one(draw(plain(), MIDDLE, radius, then=BLURS[name])), MIDDLE) < 0.2


@pytest.mark.parametrize("part", [0.05, 0.1, 0.2, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("level", [30, 120, 220])
def test_a_covered_marker_is_in_its_place_or_not_there(part: float, level: int) -> None:
    radius = 40.0
    image = draw(plain(), MIDDLE, radius)
    image[:, int(MIDDLE[0] - radius * 1.5) : int(MIDDLE[0] - radius * (1 - 2 * part))] = level
    markers = find(image)
    assert all(off(marker, MIDDLE) < 0.2 for marker in markers)
    assert markers or part > 0.05
    assert not markers or part < 0.35


def test_several_markers_come_largest_first() -> None:
    image = draw(draw(draw(room(1), (200.0, 200.0), 30), (700.0, 300.0), 60, STOP), (1000.0, 500.0), 20)
    markers = find(image)
    assert [marker.kind for marker in markers] == ["Stop", "Ref", "Ref"]
    assert [round(marker.radius, -1) for marker in markers] == [60, 30, 20]


def test_a_stop_marker_on_bright_paper_is_no_target() -> None:
    for edge in (1.3, 1.5, 1.7, 2.0):
        discs = ((1.2 * edge, BRIGHT), (edge, DARK), *STOP[1:])
        assert all(marker.kind == "Stop" for marker in find(draw(plain(), MIDDLE, 40, discs)))


WRONG: dict[str, tuple[tuple[float, float], ...]] = {
    "a disc": ((1.4, BRIGHT), (1.0, DARK)),
    "a ring": ((1.4, BRIGHT), (1.0, DARK), (0.6, BRIGHT)),
    "a thin ring": ((1.4, BRIGHT), (1.0, DARK), (0.9, BRIGHT), (0.3, DARK)),
    "a large dot": ((1.4, BRIGHT), (1.0, DARK), (0.7, BRIGHT), (0.5, DARK)),
    "a tiny dot": ((1.4, BRIGHT), (1.0, DARK), (0.6, BRIGHT), (0.12, DARK)),
    "almost gray": ((1.4, 120.0), (1.0, 112.0), (0.6, 120.0), (0.3, 112.0)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_marker_is_not_taken_for_one(name: str) -> None:
    for radius in (15, 40, 120):
        assert find(draw(plain(), MIDDLE, radius, WRONG[name])) == []


def test_pictures_without_marker() -> None:
    rng = np.random.default_rng(1)
    assert not any(find(room(seed)) for seed in range(1, 9))
    assert find(plain()) == []
    assert find(np.asarray(rng.integers(0, 256, (HEIGHT, WIDTH)), np.uint8)) == []
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    for pitch in (3.1, 7.7, 19.3, 60.0):
        moire = 128 + 60 * np.sin(x / pitch) * np.sin(y / pitch) + 60 * np.sin(np.hypot(x - 640, y - 360) / pitch)
        assert find(np.asarray(moire, np.uint8)) == []
    clutter = plain()
    for _ in range(300):
        x0, y0, radius, level = (int(value) for value in rng.integers([0, 0, 4, 0], [WIDTH, HEIGHT, 90, 256]))
        cv2.circle(clutter, (x0, y0), radius, level, int(rng.integers(-1, 8)) or 1, cv2.LINE_AA)
    assert find(clutter) == []
    text = plain(240)
    for row in range(20, HEIGHT, 24):
        cv2.putText(
            text, "o0O8@Qe90 (o) 60oO B8& o0O8@Qe90", (5, row), cv2.FONT_HERSHEY_COMPLEX, row / 500, 0, 1, cv2.LINE_AA
        )
    assert find(text) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (40, 40), (240, 320), (480, 640), (1080, 1920)])
def test_images_of_any_size(shape: tuple[int, int]) -> None:
    image = np.full(shape, 200, np.uint8)
    assert find(image) == []
    if min(shape) > 200:
        assert (
            off(one(np.ascontiguousarray(draw(plain(), (150.0, 100.0), 30)[: shape[0], : shape[1]])), (150, 100)) < 0.1
        )


def test_a_marker_is_followed_lost_and_found_again() -> None:
    detector = CircleDetector()
    for step in range(70):
        center = (300.0 + 6 * step, 300.0 + step)
        image = draw(plain(), center, 30) if not 40 <= step < 43 else plain()
        markers = detector.detect(image)
        assert len(markers) == (not 40 <= step < 43)
        assert all(off(marker, center) < 0.1 for marker in markers)


def test_a_second_marker_is_seen_within_30_images() -> None:
    detector = CircleDetector()
    detector.detect(draw(plain(), MIDDLE, 30))
    both = draw(draw(plain(), MIDDLE, 30), (200.0, 200.0), 30)
    assert 2 in [len(detector.detect(both)) for _ in range(32)]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_target_of_the_simulated_wearer(seed: int) -> None:
    bank = open_bank(read_options("world", {"seed": seed, "seconds": 3.0}).bank)
    detector, errors = CircleDetector(), []
    for row, truth in enumerate(bank.truth):
        image = cv2.imdecode(np.frombuffer(bank.jpeg(row), np.uint8), cv2.IMREAD_GRAYSCALE)
        markers = detector.detect(np.asarray(image, np.uint8))
        assert [marker.kind for marker in markers] == ["Ref"]
        errors.append(off(markers[0], tuple(truth["target_px"])))
        assert markers[0].radius == pytest.approx(truth["target_radius_px"], rel=0.03)
    bank.close()
    assert np.median(errors) < 0.05
    assert max(errors) < 0.2
