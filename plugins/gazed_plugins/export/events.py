"""What happened in a recording, one row an event: blinks, fixations, annotations and notifications.

Times are Pupil time in s. ``duration`` is in s, NaN where nothing tells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from gazed_recorder.reader import Recording
from gazed_recorder.reading.logs import empty_table
from gazed_recorder.reading.table import Table

__all__ = [
    "annotation_events",
    "blink_events",
    "clean_text",
    "fixation_events",
    "free_name",
    "notification_events",
    "text_of",
]

# Blink_Detection tells of an onset with every frame while it lasts; onsets further apart are of two blinks.
_SAME_ONSET_S = 0.5
_MOST_TEXT = 4096
_DEEPEST = 16
_KNOWN = ("topic", "timestamp")
_OF_FIXATION = ("confidence", "dispersion", "norm_pos_x", "norm_pos_y", "method")


def blink_events(recording: Recording) -> Table:
    """Return the blinks that were found live: ``timestamp``, ``duration``, ``confidence`` (the highest of its datums).

    A blink goes from the first onset to the last offset that follows. Offsets without an onset are left out.
    """
    rows: list[list[float]] = []
    last, state = -np.inf, ""
    names = ("timestamp", "type", "confidence")
    blinks = _columns(recording, "blinks", names)
    for at, kind, sure in zip(*(blinks[name].tolist() for name in names), strict=True):
        if kind == "onset":
            if state != "onset" or at - last > _SAME_ONSET_S:
                rows.append([at, np.nan, sure])
            last, state = at, kind
        elif kind == "offset" and state:
            rows[-1][1] = at - rows[-1][0]
            state = kind
        else:
            continue
        rows[-1][2] = max(rows[-1][2], sure)
    return _table(("timestamp", "duration", "confidence"), rows)


def fixation_events(recording: Recording) -> Table:
    """Return the fixations, each once: one that went on was told again and again, under one id.

    It goes from the start of the first datum to the end of the last; the rest is that of its longest datum:
    ``confidence``, ``dispersion`` in degrees, ``norm_pos_x`` and ``norm_pos_y`` in the world's image, and ``method``.
    """
    fixations = _columns(recording, "fixations", ("timestamp", "duration", "id", *_OF_FIXATION))
    starts, durations = fixations["timestamp"], fixations["duration"] / 1000
    ends, ids = starts + np.nan_to_num(durations), fixations["id"].tolist()
    groups: list[list[int]] = []
    end = -np.inf
    for row in range(len(fixations)):
        if not groups or ids[row] != ids[groups[-1][0]] or starts[row] > end:
            groups.append([])
            end = -np.inf
        groups[-1].append(row)
        end = max(end, ends[row])
    longest = [max(group, key=lambda row: np.nan_to_num(durations[row])) for group in groups]
    firsts = np.array([group[0] for group in groups], np.int64)
    spans = np.array([max(ends[row] for row in group) for group in groups]) - starts[firsts]
    rest = fixations.select(_OF_FIXATION)[np.array(longest, np.int64)]
    method = _texts(rest["method"].tolist())
    return rest.with_columns(method=method, timestamp=starts[firsts], duration=spans)


def annotation_events(recording: Recording) -> Table:
    """Return the annotations: ``timestamp``, ``duration``, ``label`` (text), and what else any of them has.

    Further columns are float64 if all values are numbers, bool if all are, else texts, empty where an annotation has no
    such value.
    """
    found = recording.annotations
    durations = found["duration"] if "duration" in found else np.full(len(found), np.nan)
    labels = found["label"] if "label" in found else np.full(len(found), "", object)
    columns = {
        "timestamp": found["timestamp"],
        "duration": np.array([_number(value) for value in durations.tolist()], np.float64),
        "label": _texts(labels.tolist()),
    }
    for name in found.columns:
        if name not in (*columns, *_KNOWN):
            columns[name] = _plain(found[name])
    return Table(columns)


def notification_events(recording: Recording) -> Table:
    """Return the notifications: ``timestamp``, ``subject`` and ``content``, a line ``key = value`` for each value.

    Of a key that holds more than 4096 characters, as the data of a calibration does, only the name is left.
    """
    rows = []
    for note in recording.data("notify") if "notify" in recording.logs else ():
        lines = []
        for key, value in note.items():
            if key not in (*_KNOWN, "subject"):
                text = "\n".join(_lines(str(key), value))
                lines.append(text if len(text) <= _MOST_TEXT else f"{key} = (in the recording)")
        rows.append((float(note["timestamp"]), text_of(note.get("subject")), "\n".join(map(clean_text, lines))))
    rows.sort(key=lambda row: row[0])
    stamps = np.array([row[0] for row in rows], np.float64)
    return Table(
        {"timestamp": stamps, "subject": _texts([r[1] for r in rows]), "content": _texts([r[2] for r in rows])}
    )


def free_name(wanted: str, taken: set[str]) -> str:
    """Return a name, with a number behind it if it is ``taken``, and take it; large and small letters are the same."""
    number, name = 1, wanted or "unnamed"
    while name.lower() in taken:
        number += 1
        name = f"{wanted or 'unnamed'}_{number}"
    taken.add(name.lower())
    return name


def text_of(value: Any) -> str:
    """Return a value of a datum as a text: empty for ``None``, a map or a list as lines ``key = value``."""
    if value is None:
        return ""
    if isinstance(value, str):
        return clean_text(value)
    return clean_text("\n".join(line.removeprefix(" = ") for line in _lines("", value)))


def clean_text(text: str) -> str:
    """Return a text that every file can hold: no NUL, and nothing that UTF-8 has no bytes for."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _columns(recording: Recording, log: str, names: tuple[str, ...]) -> Table:
    """Return columns of a log, which may not be there; all of them, with what they rest on, would take much longer."""
    return recording.table(log, names) if log in recording.logs else empty_table(log).select(names)


def _lines(name: str, value: Any, depth: int = 0) -> Iterator[str]:
    """Yield a line for each value in maps and in lists of maps; lists of plain values stay together."""
    if isinstance(value, dict) and value and depth < _DEEPEST:
        for key, part in value.items():
            yield from _lines(f"{name}.{key}" if name else str(key), part, depth + 1)
    elif isinstance(value, list | tuple) and any(isinstance(part, dict) for part in value) and depth < _DEEPEST:
        for number, part in enumerate(value):
            yield from _lines(f"{name}.{number}", part, depth + 1)
    else:
        yield f"{name} = {_json(value)}"


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, RecursionError):  # keys that JSON has not, nested too deeply
        return f"({type(value).__name__})"


def _plain(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if column.dtype != object:
        return column.astype(np.float64)
    values = column.tolist()
    if all(isinstance(value, bool) for value in values):
        return np.array(values, np.bool_)
    return _texts(values)


def _texts(values: list[Any]) -> np.ndarray[Any, Any]:
    column = np.empty(len(values), object)
    column[:] = [text_of(value) for value in values]
    return column


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _table(names: tuple[str, ...], rows: list[list[float]]) -> Table:
    return Table(dict(zip(names, np.array(rows, np.float64).reshape(-1, len(names)).T, strict=True)))
