"""Events in BIDS: what was found in the eyes' movements beside their tables, and annotations as events of the task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from gazed_plugins.export.bids.files import PackedTsv, cell, json_bytes, tsv_bytes
from gazed_plugins.export.events import annotation_events, blink_events, fixation_events, free_name
from gazed_recorder.reader import Recording

__all__ = ["write_eye_events", "write_task_events"]

_EYE_EVENTS: dict[str, dict[str, Any]] = {
    "onset": {"Description": "Start, on the clock of the column timestamp.", "Units": "s"},
    "duration": {"Description": "Duration.", "Units": "s"},
    "trial_type": {
        "Description": "What happened.",
        "Levels": {"blink": "The eyes were shut.", "fixation": "Gaze stayed at one place."},
    },
    "confidence": {
        "Description": "Of a fixation, mean confidence of gaze; of a blink, highest response; 0 to 1.",
        "Format": "number",
    },
    "dispersion": {"Description": "Of a fixation, largest angle between two directions of gaze.", "Units": "degree"},
    "norm_pos_x": {
        "Description": "Of a fixation, mean place in the world camera's image: 0 is left, 1 is right.",
        "Format": "number",
    },
    "norm_pos_y": {
        "Description": "Of a fixation, mean place in the world camera's image: 0 is bottom, 1 is top.",
        "Format": "number",
    },
    "method": {"Description": "Of a fixation, which gaze it was found in."},
}
# Names that mean something in BIDS, which an annotation's own values need not.
_RESERVED = ("onset", "duration", "trial_type", "response_time", "hed", "stim_file", "channel")


def write_eye_events(recording: Recording, stem: Path, task: str) -> None:
    """Write blinks and fixations as ``<stem>_physioevents.tsv.gz``, with a sidecar, if there are any.

    Raises:
        DamagedFile: a log cannot be read.
    """
    rows = []
    for kind, events in (("blink", blink_events(recording)), ("fixation", fixation_events(recording))):
        rows += [{"onset": event.pop("timestamp"), **event, "trial_type": kind} for event in events]
    rows.sort(key=lambda row: (row["onset"], row["trial_type"]))
    if not rows:
        return
    with PackedTsv(stem.with_name(f"{stem.name}_physioevents.tsv.gz")) as file:
        columns = []
        for name in _EYE_EVENTS:
            if name in ("trial_type", "method"):
                texts = np.empty(len(rows), object)
                texts[:] = [cell(row.get(name)) for row in rows]
                columns.append(texts)
            else:
                columns.append(np.array([row.get(name, np.nan) for row in rows], np.float64))
        file.write(columns)
    told = {
        "TaskName": task,
        "Description": "Blinks and fixations, found while the recording was made.",
        "OnsetSource": "timestamp",
        "Columns": list(_EYE_EVENTS),
        **_EYE_EVENTS,
    }
    stem.with_name(f"{stem.name}_physioevents.json").write_bytes(json_bytes(told))


def write_task_events(recording: Recording, stem: Path, task: str, start: float) -> None:
    """Write annotations as ``<stem>_events.tsv``, with a sidecar, if there are any; in seconds from ``start``.

    Raises:
        DamagedFile: the annotations cannot be read.
    """
    found = annotation_events(recording)
    if not len(found):
        return
    others = [name for name in found.columns if name not in ("timestamp", "duration", "label")]
    taken = set(_RESERVED)
    names = [free_name(re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_"), taken) for name in others]
    rows = []
    for event in found:
        duration = event.get("duration", -1.0)
        more = (event.get(name) for name in others)
        rows.append((event["timestamp"] - start, duration if duration >= 0 else None, event["label"], *more))
    told: dict[str, Any] = {
        "TaskName": task,
        "onset": {"Description": "Time from the start of the recording.", "Units": "s"},
        "duration": {"Description": "Duration, as it was sent.", "Units": "s"},
        "trial_type": {"Description": "Label of the annotation."},
    }
    for name, original in zip(names, others, strict=True):
        kind = {"b": "boolean", "f": "number"}.get(found[original].dtype.kind, "string")
        told[name] = {"LongName": cell(original), "Description": "As it was sent with the annotation.", "Format": kind}
    stem.with_name(f"{stem.name}_events.tsv").write_bytes(tsv_bytes(["onset", "duration", "trial_type", *names], rows))
    stem.with_name(f"{stem.name}_events.json").write_bytes(json_bytes(told))
