"""Paints the room that the world camera looks into: a desk under a window, a shelf, a screen, a lamp."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_capture.wearer.texture import Image, clouds

__all__ = ["paint_room"]

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]
"""Blue, green, red."""

_WIDTH, _HEIGHT, _DESK = 1280, 720, 478


def paint_room(seed: int, width: int, height: int, *, lamp: bool) -> Picture:
    """Return the room as a (height, width, 3) BGR image, with the desk lamp on or off.

    It is painted at 1280x720 and scaled to fill, cut at the sides or at top and bottom.
    """
    rng = np.random.default_rng([seed, 11])
    room = _wall(rng)
    _window(room, rng)
    _pictures(room, rng)
    _shelf(room, rng)
    room[_DESK:] = _desk(rng)
    _screen(room, rng)
    _keyboard(room)
    _small_things(room, rng)
    _lamp(room, lamp=lamp)
    lit = _illuminate(room, rng, lamp=lamp)
    factor = max(width / _WIDTH, height / _HEIGHT)
    cover = (round(_WIDTH * factor), round(_HEIGHT * factor))
    scaled = cv2.resize(lit, cover, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    left, top = (cover[0] - width) // 2, (cover[1] - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width], np.uint8)


def _box(room: Picture, left: int, top: int, right: int, bottom: int, color: Color) -> None:
    cv2.rectangle(room, (left, top), (right - 1, bottom - 1), color, -1)


def _tint(rng: np.random.Generator, low: int, high: int) -> Color:
    blue, green, red = (int(value) for value in rng.integers(low, high, 3))
    return blue, green, red


def _wall(rng: np.random.Generator) -> Picture:
    plaster = clouds(rng, _HEIGHT, _WIDTH, [(4, 6, 4.0), (60, 110, 2.5), (240, 420, 2.8)])
    wall = np.array([176, 188, 196], np.float32) + plaster[:, :, None]
    wall[_DESK - 22 : _DESK] = np.array([150, 160, 170], np.float32)
    return np.asarray(np.clip(wall, 0, 255), np.uint8)


def _window(room: Picture, rng: np.random.Generator) -> None:
    left, top, right, bottom = 60, 40, 340, 330
    height, width = bottom - top, right - left
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = (1 - down) * np.array([236, 200, 160], np.float32) + down * np.array([244, 236, 226], np.float32)
    view = sky + clouds(rng, height, width, [(4, 5, 9.0), (12, 16, 5.0)])[:, :, None]
    leaves = clouds(rng, height, width, [(10, 10, 1.0), (40, 40, 0.8), (80, 80, 0.4)])
    tree = leaves + 3.2 * (down[:, :, 0] - 0.62) > 0
    view[tree] = np.array([52, 104, 70], np.float32) + 22 * leaves[tree][:, None]
    room[top:bottom, left:right] = np.clip(view, 0, 255).astype(np.uint8)
    frame: Color = (226, 230, 232)
    for x in (left, (left + right) // 2, right):
        _box(room, x - 8, top - 8, x + 8, bottom + 8, frame)
    for y in (top, (top + bottom) // 2 - 30, bottom):
        _box(room, left - 8, y - 8, right + 8, y + 8, frame)
    _box(room, left - 26, bottom + 8, right + 26, bottom + 24, (206, 212, 216))


def _pictures(room: Picture, rng: np.random.Generator) -> None:
    for left, top, right, bottom in ((430, 60, 590, 190), (640, 40, 780, 220)):
        _box(room, left, top, right, bottom, (40, 52, 66))
        _box(room, left + 8, top + 8, right - 8, bottom - 8, (228, 234, 236))
        height, width = bottom - top - 44, right - left - 44
        paint = np.stack([clouds(rng, height, width, [(3, 3, 34.0), (9, 9, 20.0)]) for _ in range(3)], axis=2)
        room[top + 22 : bottom - 22, left + 22 : right - 22] = np.clip(128 + paint, 0, 255).astype(np.uint8)


def _shelf(room: Picture, rng: np.random.Generator) -> None:
    wood: Color = (74, 104, 138)
    _box(room, 900, 30, 1250, 436, wood)
    for row in range(3):
        top = 44 + row * 130
        _box(room, 914, top, 1236, top + 118, (40, 56, 74))
        x = 918
        while x < 1200:
            wide = int(rng.integers(14, 34))
            high = int(rng.integers(74, 110))
            cover = _tint(rng, 40, 210)
            _box(room, x, top + 118 - high, x + wide, top + 118, cover)
            spine = (min(255, cover[0] + 60), min(255, cover[1] + 60), min(255, cover[2] + 60))
            _box(room, x + 3, top + 118 - high + 12, x + wide - 3, top + 118 - high + 20, spine)
            cv2.line(room, (x, top + 118 - high), (x, top + 117), (24, 30, 36), 1)
            x += wide + int(rng.integers(0, 3))


def _desk(rng: np.random.Generator) -> Picture:
    """Return the desk's top: grain along boards that run towards the wall."""
    height = _HEIGHT - _DESK
    flat = clouds(rng, 900, 1600, [(5, 9, 8.0), (7, 300, 8.0), (18, 700, 7.0)])
    for x in range(0, 1600, 200):
        flat[:, x : x + 3] -= 38
    flat = flat + np.repeat(rng.normal(0, 6, 8).astype(np.float32), 200)[None, :]
    corners = np.array([[180, 0], [_WIDTH - 180, 0], [_WIDTH + 300, height], [-300, height]], np.float32)
    plane = np.array([[0, 0], [1600, 0], [1600, 900], [0, 900]], np.float32)
    seen = cv2.warpPerspective(
        flat, cv2.getPerspectiveTransform(plane, corners), (_WIDTH, height), borderMode=cv2.BORDER_REFLECT
    )
    wood = np.array([96, 138, 176], np.float32) + seen[:, :, None] * np.array([0.9, 1.0, 1.05], np.float32)
    wood[:5] *= 0.6
    return np.asarray(np.clip(wood, 0, 255), np.uint8)


def _screen(room: Picture, rng: np.random.Generator) -> None:
    _box(room, 590, 456, 690, 520, (58, 58, 60))
    cv2.ellipse(room, (640, 524), (96, 16), 0, 0, 360, (66, 66, 70), -1, cv2.LINE_AA)
    _box(room, 432, 238, 848, 472, (28, 28, 30))
    _box(room, 442, 248, 838, 460, (52, 44, 40))
    for row in range(15):
        x, y = 456 + 14 * int(rng.integers(0, 4)), 262 + row * 13
        while x < 610:
            word = int(rng.integers(10, 40))
            _box(room, x, y, min(x + word, 640), y + 5, _tint(rng, 90, 240))
            x += word + 6
    _box(room, 660, 262, 826, 448, (244, 244, 242))
    for step in range(1, 5):
        cv2.line(room, (660, 262 + step * 37), (826, 262 + step * 37), (214, 214, 212), 1)
    colors: tuple[Color, ...] = ((190, 110, 40), (60, 140, 230), (90, 170, 90))
    for index, color in enumerate(colors):
        across = np.arange(664, 824)
        down = 300 + 48 * index + 14 * np.sin(np.cumsum(rng.normal(0.05, 0.12, len(across))))
        curve = np.stack([across, np.clip(down, 268, 442)], axis=1).astype(np.int32)
        cv2.polylines(room, [curve[:, None, :]], False, color, 2, cv2.LINE_AA)


def _keyboard(room: Picture) -> None:
    body = np.array([[470, 574], [812, 574], [836, 650], [446, 650]], np.int32)
    cv2.fillConvexPoly(room, body, (62, 62, 64), cv2.LINE_AA)
    for row in range(5):
        y = 580 + 14 * row
        left, right = 474 - 4 * row, 808 + 4 * row
        for key in range(15):
            a, b = (round(left + (right - left) * (key + part) / 15) for part in (0.08, 0.92))
            _box(room, a, y, b, y + 10, (206, 206, 204))


def _small_things(room: Picture, rng: np.random.Generator) -> None:
    sheet = np.array([[150, 560], [372, 548], [396, 664], [128, 680]], np.int32)
    cv2.fillConvexPoly(room, sheet + 5, (70, 100, 130), cv2.LINE_AA)
    cv2.fillConvexPoly(room, sheet, (236, 240, 242), cv2.LINE_AA)
    for row in range(8):
        y = 572 + 12 * row
        end = int(rng.integers(280, 368))
        cv2.line(room, (160 - 2 * row, y), (end, y - 8), (150, 120, 100), 2, cv2.LINE_AA)
    cv2.ellipse(room, (960, 640), (60, 17), 0, 0, 360, (66, 96, 126), -1, cv2.LINE_AA)
    cv2.ellipse(room, (990, 594), (30, 32), 0, 0, 360, (60, 70, 190), 10, cv2.LINE_AA)
    _box(room, 905, 560, 985, 634, (60, 70, 190))
    _box(room, 913, 560, 925, 636, (110, 122, 226))
    cv2.ellipse(room, (945, 634), (40, 12), 0, 0, 360, (52, 62, 176), -1, cv2.LINE_AA)
    cv2.ellipse(room, (945, 560), (40, 12), 0, 0, 360, (90, 100, 210), -1, cv2.LINE_AA)
    cv2.ellipse(room, (945, 561), (34, 9), 0, 0, 360, (24, 38, 58), -1, cv2.LINE_AA)
    pot = np.array([[236, 420], [324, 420], [312, 500], [248, 500]], np.int32)
    for _ in range(60):
        angle, length = rng.uniform(-1.3, 1.3), rng.uniform(40, 130)
        tip = (int(280 + np.sin(angle) * length), int(420 - np.cos(angle) * length))
        green = (int(rng.integers(30, 70)), int(rng.integers(90, 160)), int(rng.integers(40, 90)))
        cv2.line(room, (280, 424), tip, green, 2, cv2.LINE_AA)
        cv2.ellipse(room, tip, (13, 6), float(np.degrees(angle)) - 90, 0, 360, green, -1, cv2.LINE_AA)
    cv2.fillConvexPoly(room, pot, (70, 92, 168), cv2.LINE_AA)


def _lamp(room: Picture, *, lamp: bool) -> None:
    metal: Color = (48, 50, 54)
    cv2.ellipse(room, (1130, 560), (66, 20), 0, 0, 360, metal, -1, cv2.LINE_AA)
    for a, b in (((1130, 556), (1180, 400)), ((1180, 400), (1076, 292))):
        cv2.line(room, a, b, metal, 8, cv2.LINE_AA)
    shade = np.array([[1060, 262], [1100, 296], [1062, 368], [990, 306]], np.int32)
    cv2.fillConvexPoly(room, shade, (66, 132, 60), cv2.LINE_AA)
    bulb: Color = (222, 250, 255) if lamp else (120, 128, 132)
    cv2.ellipse(room, (1026, 338), (46, 12), 40, 0, 360, bulb, -1, cv2.LINE_AA)


def _glow(x: float, y: float, reach: float) -> Image:
    across = np.arange(_WIDTH, dtype=np.float32)[None, :] - np.float32(x)
    down = np.arange(_HEIGHT, dtype=np.float32)[:, None] - np.float32(y)
    return np.asarray(np.exp(-(across**2 + 1.4 * down**2) / np.float32(2 * reach**2)), np.float32)


def _illuminate(room: Picture, rng: np.random.Generator, *, lamp: bool) -> Picture:
    grain = clouds(rng, _HEIGHT, _WIDTH, [(360, 640, 1.2)])
    light = 0.66 + 0.30 * _glow(200, 240, 360)
    glow = light[:, :, None] * np.ones(3, np.float32)
    if lamp:
        glow = glow * 1.06 + _glow(930, 520, 260)[:, :, None] * np.array([0.34, 0.46, 0.52], np.float32)
    lit = (room + grain[:, :, None]) * glow
    lit[238:472, 432:848] = room[238:472, 432:848]  # the screen shines by itself
    return np.clip(lit, 0, 255).astype(np.uint8)
