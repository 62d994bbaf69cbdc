"""What viewers show of a recording: the videos with what was found in them, plots, states and texts."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import rerun.blueprint as rrb

from gazed_plugins.rerun.calls import APPLICATION, PUPIL_TIME, Chunk, read_chunks

__all__ = ["blueprint_chunks", "views_of"]

_NAMESPACE = uuid.UUID("5d1a3c76-8f6d-4d2e-9a41-6f0c5b7f21ab")
_PLOTS = {"confidence": "confidence", "diameter": "diameter, px", "diameter_3d": "diameter, mm", "norm_pos": "gaze"}
View = rrb.View | rrb.Container


def views_of(entities: Collection[str], more: Sequence[View] = ()) -> rrb.Blueprint:
    """Return the views of the ``entities`` that a recording has, and ``more`` of one's own below the plots.

    A view lists its entities by name: a pattern such as ``/pupil/*/diameter`` matches nothing, without a word.
    """
    images = [
        rrb.Spatial2DView(origin=f"/{name}", name=name)
        for name in ("world", "eye1", "eye0")
        if any(entity.startswith(f"/{name}/") for entity in entities)
    ]
    plots: list[View] = []
    for ending, name in _PLOTS.items():
        found = sorted(entity for entity in entities if entity.rpartition("/")[2] == ending)
        if found:
            plots.append(rrb.TimeSeriesView(origin="/", contents=found, name=name))
    found = [entity for entity in ("/blinks", "/fixations") if entity in entities]
    if found:
        plots.append(rrb.StateTimelineView(origin="/", contents=found, name="events"))
    found = [entity for entity in ("/annotations", "/notifications") if entity in entities]
    if found:
        plots.append(rrb.TextLogView(origin="/", contents=found, name="log"))
    plots += more
    columns: list[View] = []
    if images:
        world, *eyes = images if images[0].name == "world" else [None, *images]
        parts: list[View] = [each for each in (world, rrb.Horizontal(*eyes) if eyes else None) if each is not None]
        columns.append(rrb.Vertical(*parts, row_shares=[3, 2][: len(parts)]))
    if plots:
        columns.append(rrb.Vertical(*plots))
    return rrb.Blueprint(
        rrb.Horizontal(*columns), rrb.TimePanel(timeline=PUPIL_TIME), collapse_panels=True, auto_views=False
    )


def blueprint_chunks(blueprint: rrb.Blueprint) -> Iterator[Chunk]:
    """Yield what a blueprint consists of: the same for the same views, without the time at which it was made."""
    _count_ids(blueprint.root_container, "root")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "views.rbl"
        blueprint.save(APPLICATION, path)
        chunks = read_chunks(path, blueprint=True).stream().to_chunks()
    for chunk in sorted(chunks, key=lambda each: each.entity_path):
        batch = chunk.to_record_batch()
        yield from Chunk.from_record_batch(batch.drop_columns(["log_time"]))


def _count_ids(part: View, place: str) -> None:
    """Give views and their containers ids by their places, for those that chance has given them."""
    part.id = uuid.uuid5(_NAMESPACE, place)
    if isinstance(part, rrb.Container):
        for number, each in enumerate(part.contents):
            _count_ids(each, f"{place}/{number}")
