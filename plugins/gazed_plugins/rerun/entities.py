"""Which entities the data of a recording become, or those on the bus: the same names in a file and live.

==============================  ====================================================================================
``/world/video`` ``/eyeN/…``    the images
``/world/gaze``                 gaze as points over the world, while confident
``/eyeN/pupil_2d`` ``…_3d``     the pupils' ellipses over the eyes, while confident
``/pupil/N/2d`` ``…/3d``        every number of the pupils as it is, an archetype ``gazed.Pupil``; below it
                                ``confidence``, ``diameter`` (px) and ``diameter_3d`` (mm) as curves
``/gaze``                       the same of gaze, ``gazed.Gaze``; below it ``confidence`` and ``norm_pos``
``/blinks`` ``/fixations``      states: what is going on
``/annotations``                texts, as are ``/notifications``
==============================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.rerun import calls
from gazed_plugins.rerun.calls import Chunk, Times
from gazed_recorder.reading.table import Table

__all__ = [
    "CONFIDENT",
    "ELLIPSE_POINTS",
    "gaze_chunks",
    "image_entity",
    "pupil_chunks",
    "span_chunk",
    "style_of",
    "text_chunk",
]

CONFIDENT = 0.6
"""Pupils and gaze of less confidence are not drawn over the images; Pupil Core's programs use no such data either."""
ELLIPSE_POINTS = 16
_COLORS = {
    "2d": (255, 200, 60),
    "3d": (255, 70, 70),
    "gaze": (60, 220, 120),
    "blinks": (90, 140, 255),
    "fixations": (60, 200, 120),
}
# A viewer counts pixels from the corner of the image, detectors from the middle of its first pixel.
_MIDDLE = 0.5
_EYE_COLORS = {0: (255, 120, 90), 1: (90, 170, 255)}


def image_entity(stream: str) -> str:
    """Return the entity of a stream's images."""
    return f"/{stream}/video"


def pupil_chunks(table: Table, times: Times, *, ellipses: bool = True, datums: bool = True) -> Iterator[Chunk]:
    """Yield what pupils become: a table with the columns of the log ``pupil``, and when its rows are."""
    methods = np.array(_methods(table))
    for eye in np.unique(table["eye_id"]).tolist():
        for method in ("2d", "3d"):
            rows = np.flatnonzero((table["eye_id"] == eye) & (methods == method))
            if len(rows):
                yield from _pupils(f"/pupil/{eye}/{method}", eye, method, table[rows], times.at(rows), ellipses, datums)


def _pupils(
    entity: str, eye: int, method: str, table: Table, times: Times, ellipses: bool, datums: bool
) -> Iterator[Chunk]:
    yield from _curve(f"{entity}/confidence", times, table["confidence"])
    yield from _curve(f"{entity}/diameter", times, table["diameter"])
    if method == "3d":
        yield from _curve(f"{entity}/diameter_3d", times, table["diameter_3d"])
    if ellipses:
        lines = _ellipses(table)
        shown = (table["confidence"] >= CONFIDENT) & np.isfinite(lines).all((1, 2))
        yield calls.chunk(f"/eye{eye}/pupil_{method}", times, calls.strips(lines, shown))
    if datums:
        yield calls.chunk(entity, times, calls.datums("gazed.Pupil", _columns(table)))


def gaze_chunks(table: Table, times: Times, world: tuple[int, int] | None, *, datums: bool = True) -> Iterator[Chunk]:
    """Yield what gaze becomes: a table with the columns of the log ``gaze``; ``world`` is the size of its images."""
    places = np.column_stack([table["norm_pos_x"], table["norm_pos_y"]])
    known = np.isfinite(places).all(1)
    yield from _curve("/gaze/confidence", times, table["confidence"])
    yield calls.chunk("/gaze/norm_pos", times, calls.scalars(places, known))
    if world is not None:
        over = np.column_stack([places[:, 0], 1 - places[:, 1]]) * world + _MIDDLE
        shown = (table["confidence"] >= CONFIDENT) & known
        yield calls.chunk("/world/gaze", times, calls.points(over, shown))
    if datums:
        yield calls.chunk("/gaze", times, calls.datums("gazed.Gaze", _columns(table)))


def span_chunk(entity: str, times: Times, begins: Sequence[bool]) -> Chunk:
    """Return what goes on (``/blinks``: a blink), from rows where it begins to rows where it does not."""
    state = entity.strip("/").removesuffix("s")
    return calls.chunk(entity, times, calls.states([state if begin else None for begin in begins]))


def text_chunk(entity: str, times: Times, lines: Sequence[str]) -> Chunk:
    """Return texts, one a row."""
    return calls.chunk(entity, times, calls.texts(lines))


def style_of(entity: str) -> Chunk | None:
    """Return how an entity looks, at all times; ``None`` for one that looks as the viewer likes."""
    place, name = entity.rpartition("/")[::2]
    match name:
        case "gaze" if place == "/world":
            return calls.static(entity, calls.point_style(_COLORS["gaze"], 6.0))
        case "pupil_2d" | "pupil_3d":
            return calls.static(entity, calls.ellipse_style(_COLORS[name[6:]], 2.0))
        case "confidence" | "diameter" | "diameter_3d" if place.startswith("/pupil/"):
            eye, method = place.split("/")[2:4]
            red, green, blue = _EYE_COLORS.get(int(eye), (200, 200, 200))
            shade = 1.0 if method == "3d" else 0.7
            color = (round(red * shade), round(green * shade), round(blue * shade))
            return calls.static(entity, calls.series_style([f"eye {eye}, {method}"], [color]))
        case "confidence":
            return calls.static(entity, calls.series_style(["gaze"], [_COLORS["gaze"]]))
        case "norm_pos":
            return calls.static(entity, calls.series_style(["x", "y"], [(240, 240, 240), _COLORS["gaze"]]))
        case "blinks" | "fixations":
            return calls.static(entity, calls.state_style({name.removesuffix("s"): _COLORS[name]}))
    return None


def _curve(entity: str, times: Times, values: NDArray[np.float64]) -> Iterator[Chunk]:
    """Yield a curve, if there is any value; rows without one interrupt it."""
    known = np.isfinite(values)
    if known.any():
        yield calls.chunk(entity, times, calls.scalars(values, None if known.all() else known))


def _columns(table: Table) -> dict[str, NDArray[np.generic]]:
    return {name: table[name] for name in table.columns if name != "timestamp"}


def _methods(table: Table) -> list[str]:
    """Return ``2d`` or ``3d`` for each pupil; before 2.0 only the method told, not the topic."""
    return [
        "3d" if "3d" in (topic or "").rpartition(".")[2] or (method or "").startswith(("3d", "pye3d")) else "2d"
        for topic, method in zip(table["topic"].tolist(), table["method"].tolist(), strict=True)
    ]


def _ellipses(table: Table) -> NDArray[np.float32]:
    """Return the ellipses as closed lines, (n, 17, 2) in px; an axis is a diameter, the angle is that of the first."""
    turn = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS + 1)
    along = table["ellipse_axis_a"][:, None] / 2 * np.cos(turn)
    across = table["ellipse_axis_b"][:, None] / 2 * np.sin(turn)
    angle = np.radians(table["ellipse_angle"])[:, None]
    x = table["ellipse_center_x"][:, None] + along * np.cos(angle) - across * np.sin(angle)
    y = table["ellipse_center_y"][:, None] + along * np.sin(angle) + across * np.cos(angle)
    return (np.stack([x, y], axis=2) + _MIDDLE).astype(np.float32)
