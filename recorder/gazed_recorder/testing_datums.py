"""The datums of a wearer made of formulas: pupils, gaze, fixations, blinks, as Pupil Core's programs write them.

Keys, their order and their types are those of Pupil Capture 3. The eyes look from one place to the next every 0.4 s,
pupils grow and shrink, and every 4 s both eyes blink, eye 1 a little later than eye 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

__all__ = ["EYE_SIZE", "WORLD_SIZE", "Wearer"]

EYE_SIZE = (192, 192)
WORLD_SIZE = (320, 240)
_EYE_FOCAL = 283.0
_WORLD_FOCAL = 280.0
_RADIUS = 10.392304845413264
_SPHERES = {0: np.array([1.9, -2.4, 41.0]), 1: np.array([-2.2, 2.9, 42.5])}
_CENTERS = {0: np.array([20.0, 15.0, -20.0]), 1: np.array([-40.0, 15.0, -20.0])}
_FIXATION_S = 0.4
_SACCADE_S = 0.04
_BLINK_EVERY_S, _BLINK_AT_S, _BLINK_S, _LATER_S = 4.0, 0.9, 0.16, 0.03
# The right eye's frames come first; the left eye's process is a little behind.
_LATENCY_S = {0: 0.004, 1: 0.013}

Floats = NDArray[np.float64]
Columns = dict[str, Floats]
Datum = tuple[str, float, bytes]
"""Topic, timestamp in s of Pupil time, and the packed map."""


class Wearer:
    """A wearer whose recording starts at Pupil time ``start``; the same arguments give the same datums.

    Args:
        start: Pupil time of the first frames, s.
        seconds: how long.
        rate: frames a second of each eye camera.
        eyes: those that have a camera.
        methods: which pupils there are, ``2d`` and ``3d``; gaze is 3-D if pupils are.
        phase: wearers of different phases look elsewhere.
    """

    def __init__(
        self, start: float, seconds: float, rate: float, eyes: tuple[int, ...], methods: tuple[str, ...], phase: float
    ) -> None:
        self._start, self._rate, self._eyes, self._methods, self._phase = start, rate, eyes, methods, phase
        self._seconds = seconds
        self.frames = round(seconds * rate)
        """Frames of each eye."""
        self._method = "3d" if "3d" in methods else "2d"

    def eye_times(self, eye: int, first: int, last: int) -> Floats:
        """Return when frames ``first`` to ``last - 1`` of an eye were taken, s of Pupil time."""
        number = np.arange(first, last)
        times: Floats = self._start + (number + 0.25 * eye) / self._rate + 1e-5 * np.sin(1.7 * number)
        return times

    def looks_at(self, times: Floats) -> tuple[Floats, Floats]:
        """Return where in the world's image the wearer looks, norm x and y, at Pupil times in s."""
        elapsed = times - self._start + self._phase
        number = np.floor(elapsed / _FIXATION_S)
        share = np.clip((elapsed - number * _FIXATION_S) / _SACCADE_S, 0.0, 1.0)
        share = share * share * (3 - 2 * share)
        (x0, y0), (x, y) = _place(number - 1), _place(number)
        x, y = x0 + share * (x - x0), y0 + share * (y - y0)
        return x + 0.002 * np.sin(40 * elapsed), y + 0.002 * np.cos(37 * elapsed)

    def datums(self, frames: int = 8192) -> Iterator[tuple[list[Datum], list[Datum]]]:
        """Iterate over the datums of pupils and of gaze, those of so many frames at a time, in order of arrival."""
        makers = {(eye, kind): _Template(_pupil(eye, kind)) for eye in self._eyes for kind in ("2d", "3d", "bare")}
        sights: list[tuple[int, ...]] = [(0,), (1,), (0, 1)]
        gazes = {seen: _Template(_gaze(seen, self._method)) for seen in sights}
        for first in range(0, self.frames, frames):
            columns = {eye: self._pupils(eye, first, min(first + frames, self.frames)) for eye in self._eyes}
            shut = {eye: columns[eye]["confidence"] == 0 for eye in self._eyes}
            pupils: list[tuple[float, Datum]] = []
            for eye, values in columns.items():
                kinds = (("2d", "2d", np.ones_like(shut[eye])), ("3d", "3d", ~shut[eye]), ("3d", "bare", shut[eye]))
                for method, kind, chosen in kinds:
                    if method not in self._methods:
                        continue
                    late = _LATENCY_S[eye] + (method == "3d") * 1e-6
                    pupils += makers[eye, kind].make(values, chosen, late)
            yield _in_order(pupils), _in_order(self._gazes(gazes, columns, shut))

    def fixations(self) -> Iterator[Datum]:
        """Iterate over the fixations: each is told twice, the second time with its whole duration."""
        topic = f"gaze.{self._method}.{'01' if len(self._eyes) == 2 else self._eyes[0]}."
        for number in range(int((self._seconds - _FIXATION_S) / _FIXATION_S)):
            begun = self._start + number * _FIXATION_S + 0.1 - self._phase % _FIXATION_S
            if begun < self._start:
                continue
            for duration in (0.1, 0.25):
                times = begun + np.arange(max(2, round(duration * self._rate))) / self._rate
                x, y = (float(np.mean(places)) for places in self.looks_at(times))
                datum: dict[str, Any] = {
                    "topic": "fixations",
                    "norm_pos": [x, y],
                    "dispersion": 0.4 + duration,
                    "method": f"{self._method} gaze",
                    "base_data": [[topic, time] for time in times.tolist()],
                    "timestamp": begun,
                    "duration": duration * 1000.0,
                    "confidence": 0.95,
                }
                if self._method == "3d":
                    datum["gaze_point_3d"] = [float(value) for value in _point(np.array(x), np.array(y), 500.0)]
                yield "fixations", begun, msgpack.packb({**datum, "id": number})

    def blinks(self) -> Iterator[Datum]:
        """Iterate over onset and offset of each blink; each rests on six 2-D pupils."""
        maker = _Template(_pupil(self._eyes[0], "2d"))
        number = 0
        while (at := number * _BLINK_EVERY_S + _BLINK_AT_S) + _BLINK_S + 0.1 < self._seconds:
            for kind, when, confidence in (("onset", at, 0.61), ("offset", at + _BLINK_S, 0.57)):
                middle = round(when * self._rate)
                values = self._pupils(self._eyes[0], max(0, middle - 3), middle + 3)
                base = [msgpack.unpackb(made[2]) for _, made in maker.make(values, slice(None), 0.0)]
                datum = {"topic": "blinks", "type": kind, "confidence": confidence, "base_data": base}
                stamp = base[len(base) // 2]["timestamp"]
                yield "blinks", stamp, msgpack.packb({**datum, "timestamp": stamp, "record": True})
            number += 1

    def _gazes(
        self,
        makers: Mapping[tuple[int, ...], _Template],
        columns: Mapping[int, Columns],
        shut: Mapping[int, NDArray[np.bool_]],
    ) -> list[tuple[float, Datum]]:
        made: list[tuple[float, Datum]] = []
        for seen, maker in makers.items():
            if not set(seen) <= set(self._eyes):
                continue
            chosen = np.logical_and.reduce([~shut[eye] if eye in seen else shut[eye] for eye in self._eyes])
            base = {f"{eye}.{name}": values for eye in seen for name, values in columns[eye].items()}
            stamps = np.mean([columns[eye]["timestamp"] for eye in seen], axis=0)
            x, y = self.looks_at(stamps)
            values = {
                **base,
                "timestamp": stamps,
                "confidence": np.mean([columns[eye]["confidence"] for eye in seen], axis=0),
                "norm_pos_x": x,
                "norm_pos_y": y,
            }
            point = _point(x, y, 500.0 + 80 * np.sin(stamps))
            values |= {f"gaze_point_{axis}": part for axis, part in zip("xyz", point, strict=True)}
            for eye in seen:
                center = np.broadcast_to(_CENTERS[eye], (len(stamps), 3))
                normal = np.stack(point, axis=1) - center
                normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
                values |= {f"center{eye}_{axis}": center[:, place] for place, axis in enumerate("xyz")}
                values |= {f"normal{eye}_{axis}": normal[:, place] for place, axis in enumerate("xyz")}
            made += maker.make(values, chosen, 0.012)
        return made

    def _pupils(self, eye: int, first: int, last: int) -> Columns:
        """Return what is seen of an eye in its frames ``first`` to ``last - 1``, without the blinks' 3-D pupils."""
        times = self.eye_times(eye, first, last)
        since = (times - self._start - _BLINK_AT_S - _LATER_S * eye) % _BLINK_EVERY_S
        shut = (since < _BLINK_S) & (times > self._start + _BLINK_AT_S)
        x, y = self.looks_at(times)
        normal = np.stack([0.9 * (x - 0.5) - 0.1 * (2 * eye - 1), 0.9 * (y - 0.5), -np.ones_like(x)], axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        center = _SPHERES[eye] + _RADIUS * normal
        diameter = 3.4 + 0.6 * np.sin(0.8 * (times - self._start) + self._phase + 0.1 * eye)
        pixels = {"ellipse": _projected(center), "sphere": _projected(np.broadcast_to(_SPHERES[eye], center.shape))}
        major = _EYE_FOCAL * diameter / center[:, 2]
        across = np.full_like(times, 2 * _EYE_FOCAL * _RADIUS / _SPHERES[eye][2])
        columns = {
            "timestamp": times,
            "confidence": np.where(shut, 0.0, 0.93 + 0.06 * np.sin(3.3 * times + eye)),
            "diameter_3d": diameter,
            "radius": diameter / 2,
            "theta": np.arccos(normal[:, 1]),
            "phi": np.arctan2(normal[:, 2], normal[:, 0]),
            "3d_axis_a": major * np.abs(normal[:, 2]),
            "3d_axis_b": major,
            "3d_angle": np.degrees(np.arctan2(normal[:, 1], normal[:, 0])),
            "3d_x": pixels["ellipse"][0],
            "3d_y": pixels["ellipse"][1],
            "sphere_x": pixels["sphere"][0],
            "sphere_y": pixels["sphere"][1],
            "sphere_axis": across,
        }
        # The 2-D detector sees nearly the same, in single precision, and nothing in a blink.
        for name in ("x", "y", "axis_a", "axis_b"):
            seen = np.where(shut, 0.0, columns[f"3d_{name}"] + 0.03 * np.sin(50 * times))
            columns[f"2d_{name}"] = seen.astype(np.float32).astype(np.float64)
        columns["2d_angle"] = np.where(shut, -90.0, columns["3d_angle"] + 0.4 * np.cos(50 * times))
        for kind in ("2d", "3d"):
            columns[f"{kind}_norm_x"] = columns[f"{kind}_x"] / EYE_SIZE[0]
            columns[f"{kind}_norm_y"] = 1 - columns[f"{kind}_y"] / EYE_SIZE[1]
        for place, axis in enumerate("xyz"):
            columns |= {f"normal_{axis}": normal[:, place], f"center_{axis}": center[:, place]}
        return columns


class _Template:
    """Packs datums of one shape: the places of its floats are found once, and written over for each datum."""

    def __init__(self, shape: dict[str, Any]) -> None:
        """Take a datum in which ``$name`` stands for the float of column ``name``."""
        self._topic = str(shape["topic"])
        self._names: list[str] = []
        packed = msgpack.packb(self._marked(shape))
        self._offsets = [packed.index(struct.pack(">d", _mark(number))) for number in range(len(self._names))]
        self._bytes = np.frombuffer(packed, np.uint8)

    def _marked(self, value: Any) -> Any:
        match value:
            case dict():
                return {key: self._marked(part) for key, part in value.items()}
            case list():
                return [self._marked(part) for part in value]
            case str() if value.startswith("$"):
                self._names.append(value[1:])
                return _mark(len(self._names) - 1)
        return value

    def make(self, columns: Columns, chosen: NDArray[np.bool_] | slice, late: float) -> list[tuple[float, Datum]]:
        """Return the chosen rows as datums, each with the time of its arrival in s."""
        stamps = columns["timestamp"][chosen]
        rows = np.tile(self._bytes, (len(stamps), 1))
        for name, offset in zip(self._names, self._offsets, strict=True):
            values = columns[name][chosen].astype(">f8")
            rows[:, offset : offset + 8] = values.view(np.uint8).reshape(-1, 8)
        size, block = rows.shape[1], rows.tobytes()
        return [
            (stamp + late, (self._topic, stamp, block[place * size : (place + 1) * size]))
            for place, stamp in enumerate(stamps.tolist())
        ]


def _place(number: Floats) -> tuple[Floats, Floats]:
    """Return the place in the world's image that fixations of these numbers are at, norm x and y."""
    return 0.2 + 0.6 * (number * 0.6180339887 % 1), 0.25 + 0.5 * (number * 0.4142135623 % 1)


def _mark(number: int) -> float:
    return 1.2345e300 + number * 1e290


def _in_order(made: list[tuple[float, Datum]]) -> list[Datum]:
    made.sort(key=lambda each: each[0])
    return [datum for _, datum in made]


def _projected(points: Floats) -> tuple[Floats, Floats]:
    """Return where points in an eye camera's space, mm of shape (n, 3), are in its image, px."""
    x, y, z = points.T
    return _EYE_FOCAL * x / z + EYE_SIZE[0] / 2, _EYE_FOCAL * y / z + EYE_SIZE[1] / 2


def _point(x: Floats, y: Floats, depth: float | Floats) -> tuple[Floats, Floats, Floats]:
    """Return the point in the world camera's space, mm, at norm position (x, y) and so deep."""
    z = np.broadcast_to(np.asarray(depth, np.float64), x.shape)
    return (x - 0.5) * WORLD_SIZE[0] / _WORLD_FOCAL * z, (0.5 - y) * WORLD_SIZE[1] / _WORLD_FOCAL * z, z


def _vector(name: str) -> list[str]:
    return [f"${name}_{axis}" for axis in "xyz"]


def _pupil(eye: int, kind: str, base: str = "$") -> dict[str, Any]:
    """Return the shape of a pupil: ``2d``, ``3d``, or the ``bare`` 3-D one of an eye in which nothing was found.

    ``base`` is what its names begin with.
    """
    method = "2d c++" if kind == "2d" else "pye3d 0.3.2 real-time"
    datum: dict[str, Any] = {"id": eye, "topic": f"pupil.{eye}.{kind.replace('bare', '3d')}", "method": method}
    if kind == "bare":
        return datum | {"norm_pos": [0.5, 0.5], "diameter": 0.0, "confidence": 0.0, "timestamp": f"{base}timestamp"}
    datum |= {
        "norm_pos": [f"{base}{kind}_norm_x", f"{base}{kind}_norm_y"],
        "diameter": f"{base}{kind}_axis_b",
        "confidence": f"{base}confidence",
        "timestamp": f"{base}timestamp",
    }
    ellipse = {
        "center": [f"{base}{kind}_x", f"{base}{kind}_y"],
        "axes": [f"{base}{kind}_axis_a", f"{base}{kind}_axis_b"],
        "angle": f"{base}{kind}_angle",
    }
    if kind == "2d":
        return datum | {"ellipse": ellipse}
    name = base.removeprefix("$")
    return datum | {
        "sphere": {"center": _SPHERES[eye].tolist(), "radius": _RADIUS},
        "projected_sphere": {
            "center": [f"{base}sphere_x", f"{base}sphere_y"],
            "axes": [f"{base}sphere_axis", f"{base}sphere_axis"],
            "angle": 0.0,
        },
        "circle_3d": {
            "center": _vector(f"{name}center"),
            "normal": _vector(f"{name}normal"),
            "radius": f"{base}radius",
        },
        "diameter_3d": f"{base}diameter_3d",
        "ellipse": ellipse,
        "location": [f"{base}3d_x", f"{base}3d_y"],
        "model_confidence": 1.0,
        "theta": f"{base}theta",
        "phi": f"{base}phi",
    }


def _gaze(seen: tuple[int, ...], method: str) -> dict[str, Any]:
    """Return the shape of gaze that rests on the pupils of these eyes."""
    datum: dict[str, Any] = {}
    if method == "3d" and len(seen) == 2:
        datum["eye_centers_3d"] = {str(eye): _vector(f"center{eye}") for eye in seen}
        datum["gaze_normals_3d"] = {str(eye): _vector(f"normal{eye}") for eye in seen}
        datum["gaze_point_3d"] = _vector("gaze_point")
    elif method == "3d":
        datum["eye_center_3d"] = _vector(f"center{seen[0]}")
        datum["gaze_normal_3d"] = _vector(f"normal{seen[0]}")
        datum["gaze_point_3d"] = _vector("gaze_point")
    return datum | {
        "norm_pos": ["$norm_pos_x", "$norm_pos_y"],
        "topic": f"gaze.{method}.{''.join(map(str, seen))}.",
        "confidence": "$confidence",
        "timestamp": "$timestamp",
        "base_data": [_pupil(eye, method, f"${eye}.") for eye in seen],
    }
