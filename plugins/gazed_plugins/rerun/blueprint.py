"""What viewers show of a recording: the videos with what was found in them, plots, states and texts."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import rerun as rr
import rerun.blueprint as rrb

from gazed_plugins.rerun.calls import APPLICATION, PUPIL_TIME, Chunk, give_back, read_chunks

__all__ = ["blueprint_chunks", "views_of"]

_NAMESPACE = uuid.UUID("5d1a3c76-8f6d-4d2e-9a41-6f0c5b7f21ab")
_UNIT = (-0.05, 1.05)
_PLOTS: dict[str, tuple[str, tuple[float, float] | None]] = {
    "confidence": ("confidence", _UNIT),
    "diameter": ("diameter, px", None),
    "diameter_3d": ("diameter, mm", None),
    "norm_pos": ("gaze", _UNIT),
}
"""Plots by the last part of the entities in them: title, and range where it is known."""
View = rrb.View | rrb.Container


def views_of(entities: Collection[str], more: Sequence[View] = (), *, window_s: float | None = None) -> rrb.Blueprint:
    """Return the views of the ``entities`` that a recording has, and ``more`` of one's own below the plots.

    Plots show all of the recording, or ``window_s`` before the cursor, for one that grows.

    A view lists its entities by name: a pattern such as ``/pupil/*/diameter`` matches nothing, without a word.
    """
    columns = [column for column in (_images(entities), _plots(entities, more, window_s)) if column is not None]
    panel = rrb.TimePanel(timeline=PUPIL_TIME, state="collapsed")
    return rrb.Blueprint(rrb.Horizontal(*columns), panel, collapse_panels=True, auto_views=False)


def _images(entities: Collection[str]) -> View | None:
    there = {entity.split("/")[1] for entity in entities}
    world, *eyes = [
        rrb.Spatial2DView(origin=f"/{name}", name=name) if name in there else None for name in ("world", "eye1", "eye0")
    ]
    below = [eye for eye in eyes if eye is not None]
    rows: list[View] = [] if world is None else [world]
    rows += [rrb.Horizontal(*below)] if below else []
    return rrb.Vertical(*rows, row_shares=[3, 2][: len(rows)]) if rows else None


def _plots(entities: Collection[str], more: Sequence[View], window_s: float | None) -> View | None:
    curves: list[View] = []
    for ending, (name, span) in _PLOTS.items():
        found = sorted(entity for entity in entities if entity.rpartition("/")[2] == ending)
        if found:
            axis = None if span is None else rrb.ScalarAxis(range=span, zoom_lock=True)
            curves.append(
                rrb.TimeSeriesView(
                    origin="/", contents=found, name=name, axis_y=axis, time_ranges=_until_cursor(window_s)
                )
            )
    states = [entity for entity in ("/blinks", "/fixations") if entity in entities]
    texts = [entity for entity in ("/annotations", "/notifications") if entity in entities]
    rows = [*curves]
    rows += [rrb.StateTimelineView(origin="/", contents=states, name="events")] if states else []
    rows += more
    rows += [rrb.TextLogView(origin="/", contents=texts, name="log")] if texts else []
    return rrb.Vertical(*rows) if rows else None


def _until_cursor(window_s: float | None) -> rr.VisibleTimeRange | None:
    if window_s is None:
        return None
    start = rr.TimeRangeBoundary.cursor_relative(seconds=-window_s)
    return rr.VisibleTimeRange(PUPIL_TIME, start=start, end=rr.TimeRangeBoundary.cursor_relative())


def blueprint_chunks(blueprint: rrb.Blueprint) -> Iterator[Chunk]:
    """Yield what a blueprint consists of: the same for the same views, without the time at which it was made."""
    _count_ids(blueprint.root_container, "root")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "views.rbl"
        blueprint.save(APPLICATION, path)
        chunks = read_chunks(path, blueprint=True)
    give_back()
    for chunk in sorted(chunks, key=lambda each: each.entity_path):
        batch = chunk.to_record_batch()
        yield from Chunk.from_record_batch(batch.drop_columns(["log_time"]))


def _count_ids(part: View, place: str) -> None:
    """Give views and their containers ids by their places, for those that chance has given them."""
    part.id = uuid.uuid5(_NAMESPACE, place)
    if isinstance(part, rrb.Container):
        for number, each in enumerate(part.contents):
            _count_ids(each, f"{place}/{number}")
