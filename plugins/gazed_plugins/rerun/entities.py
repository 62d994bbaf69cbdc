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

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.events import text_of
from gazed_plugins.rerun import calls
from gazed_plugins.rerun.calls import Chunk, Times
from gazed_recorder.reading.table import Table

__all__ = [
    "CONFIDENT",
    "ELLIPSE_POINTS",
    "LOG_ENTITIES",
    "annotation_line",
    "gaze_chunks",
    "image_entity",
    "live_entities",
    "pupil_chunks",
    "pupil_entities",
    "span_chunk",
    "styled",
    "text_chunk",
]

CONFIDENT = 0.6
"""Pupils and gaze of less confidence are not drawn over the images; Pupil Core's programs use no such data either."""
ELLIPSE_POINTS = 16
LOG_ENTITIES = {
    "gaze": ("/gaze/confidence", "/gaze/norm_pos", "/world/gaze"),
    "blinks": ("/blinks",),
    "fixations": ("/fixations",),
    "annotation": ("/annotations",),
    "notify": ("/notifications",),
}
"""What views show of the logs other than pupils."""
_SPATIAL = ("3d", "pye3d")
_KNOWN = ("label", "seq", "timestamp", "topic")
_CURVES = {"2d": ("confidence", "diameter"), "3d": ("confidence", "diameter", "diameter_3d")}
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
    for eye, method, rows in _by_origin(table):
        yield from _pupils(eye, method, table[rows], times.at(rows), ellipses, datums)


def pupil_entities(table: Table) -> set[str]:
    """Return the entities that views show of pupils, from their columns ``eye_id``, ``topic`` and ``method``."""
    found = set()
    for eye, method, _ in _by_origin(table):
        found |= {f"/pupil/{eye}/{method}/{name}" for name in _CURVES[method]} | {f"/eye{eye}/pupil_{method}"}
    return found


def _by_origin(table: Table) -> Iterator[tuple[int, str, NDArray[np.int64]]]:
    """Yield the rows of each eye and method; before 2.0 only the method told of it, not the topic."""
    eyes = table["eye_id"]
    pairs = zip(table["topic"].tolist(), table["method"].tolist(), strict=True)
    spatial = np.array([(topic or "").endswith("3d") or (way or "").startswith(_SPATIAL) for topic, way in pairs])
    for eye in np.unique(eyes).tolist():
        for method, chosen in (("2d", ~spatial), ("3d", spatial)):
            rows = np.flatnonzero((eyes == eye) & chosen)
            if len(rows):
                yield eye, method, rows


def _pupils(eye: int, method: str, table: Table, times: Times, ellipses: bool, datums: bool) -> Iterator[Chunk]:
    entity = f"/pupil/{eye}/{method}"
    for name in _CURVES[method]:
        yield _curve(f"{entity}/{name}", times, table[name])
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
    yield _curve("/gaze/confidence", times, table["confidence"])
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


def annotation_line(note: Mapping[str, object]) -> str:
    """Return an annotation as a text: its label and what else it has."""
    more = {name: value for name, value in note.items() if name not in _KNOWN and value != ""}
    return f"{text_of(note.get('label'))}  {text_of(more)}".strip() if more else text_of(note.get("label"))


def text_chunk(entity: str, times: Times, lines: Sequence[str]) -> Chunk:
    """Return texts, one a row."""
    return calls.chunk(entity, times, calls.texts(lines))


def live_entities(streams: Collection[str], *, images: bool) -> set[str]:
    """Return the entities that views show of a daemon with these cameras."""
    found = {image_entity(stream) for stream in streams} if images else set[str]()
    for eye in [stream[3:] for stream in streams if stream.startswith("eye")]:
        found |= {f"/pupil/{eye}/{method}/{name}" for method, curves in _CURVES.items() for name in curves}
    return found.union(*LOG_ENTITIES.values())


def styled(chunks: Iterable[Chunk], seen: set[str] | None = None) -> Iterator[Chunk]:
    """Yield chunks, and before the first one of each entity how it looks; ``seen`` are entities that had one before."""
    seen = set() if seen is None else seen
    for chunk in chunks:
        if chunk.entity_path not in seen:
            seen.add(chunk.entity_path)
            yield from _style(chunk.entity_path)
        yield chunk


def _style(entity: str) -> Iterator[Chunk]:
    place, name = entity.rpartition("/")[::2]
    match name:
        case "gaze" if place == "/world":
            yield calls.static(entity, calls.point_style(_COLORS["gaze"], 6.0))
        case "pupil_2d" | "pupil_3d":
            yield calls.static(entity, calls.ellipse_style(_COLORS[name[6:]], 2.0))
        case "confidence" | "diameter" | "diameter_3d" if place.startswith("/pupil/"):
            eye, method = place.split("/")[2:4]
            red, green, blue = _EYE_COLORS.get(int(eye), (200, 200, 200))
            shade = 1.0 if method == "3d" else 0.7
            color = (round(red * shade), round(green * shade), round(blue * shade))
            yield calls.static(entity, calls.series_style([f"eye {eye}, {method}"], [color]))
        case "confidence":
            yield calls.static(entity, calls.series_style(["gaze"], [_COLORS["gaze"]]))
        case "norm_pos":
            yield calls.static(entity, calls.series_style(["x", "y"], [(240, 240, 240), _COLORS["gaze"]]))
        case "blinks" | "fixations":
            yield calls.static(entity, calls.state_style({name.removesuffix("s"): _COLORS[name]}))


def _curve(entity: str, times: Times, values: NDArray[np.float64]) -> Chunk:
    """Return a curve; rows without a value interrupt it."""
    known = np.isfinite(values)
    return calls.chunk(entity, times, calls.scalars(values, None if known.all() else known))


def _columns(table: Table) -> dict[str, NDArray[np.generic]]:
    return {name: table[name] for name in table.columns if name != "timestamp"}


def _ellipses(table: Table) -> NDArray[np.float32]:
    """Return the ellipses as closed lines, (n, 17, 2) in px; an axis is a diameter, the angle is that of the first."""
    turn = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS + 1)
    along = table["ellipse_axis_a"][:, None] / 2 * np.cos(turn)
    across = table["ellipse_axis_b"][:, None] / 2 * np.sin(turn)
    angle = np.radians(table["ellipse_angle"])[:, None]
    x = table["ellipse_center_x"][:, None] + along * np.cos(angle) - across * np.sin(angle)
    y = table["ellipse_center_y"][:, None] + along * np.sin(angle) + across * np.cos(angle)
    return (np.stack([x, y], axis=2) + _MIDDLE).astype(np.float32)
