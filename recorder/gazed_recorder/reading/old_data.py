"""What datums of Pupil Capture's early versions are called today: names of logs, topics and keys.

By the rules by which Pupil Player opens old recordings. They go by what is in a datum, not by the version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_recorder.datalog import log_name
from gazed_recorder.reading.table import Table

__all__ = ["modern_datum", "modern_log", "modern_topics"]

_LOGS = {"pupil_positions": "pupil", "gaze_positions": "gaze", "notifications": "notify"}
# Topics that a log had before; without any it is the same.
_EARLIER = {
    "pupil": ("pupil", "pupil_positions"),
    "gaze": ("gaze_positions",),
    "blinks": ("blink",),
    "fixations": ("fixation",),
    "surfaces": ("surfaces", "surface"),
    "annotation": ("notify.annotation",),
}
# Keys of the 3-D detector before 0.7.4.
_KEYS_3D = {
    "projectedSphere": "projected_sphere",
    "modelConfidence": "model_confidence",
    "modelID": "model_id",
    "circle3D": "circle_3d",
    "diameter_3D": "diameter_3d",
}


def modern_log(key: str) -> str:
    """Return the name of the log whose datums lie under a key of ``pupil_data``."""
    return _LOGS.get(key) or log_name(key)


def modern_datum(log: str, datum: dict[str, Any]) -> dict[str, Any]:
    """Return a datum of a log as later versions wrote it; what is like that already stays as it is."""
    datum = dict(datum)
    if "base" in datum and "base_data" not in datum and log == "gaze":
        datum["base_data"] = datum.pop("base")
    if log == "gaze" and isinstance(datum.get("base_data"), list):
        datum["base_data"] = [modern_datum("pupil", base) if _is_map(base) else base for base in datum["base_data"]]
    if log == "pupil" and not _KEYS_3D.keys().isdisjoint(datum):
        datum = {_KEYS_3D.get(key, key): value for key, value in datum.items()}
    if log == "pupil" and datum.get("method") == "3D c++":
        datum["method"] = "3d c++"
    if isinstance(place := datum.get("norm_pos"), list):
        datum["norm_pos"] = [_only_value(value) for value in place]
    datum["topic"] = _modern_topic(log, datum)
    return datum


def modern_topics(log: str, table: Table) -> Table:
    """Return the table of a log with the topics that ``modern_datum`` would give."""
    if "topic" not in table or not len(table):
        return table
    topics = table["topic"].copy()
    old = _is_old(log, topics)
    # One text for each eye, not one for each row.
    if log == "pupil":
        eyes = table["eye_id"]
        for eye in np.unique(eyes[old]).tolist():
            topics[old & (eyes == eye)] = f"pupil.{eye}"
    elif log == "notify":
        topics[old] = [f"notify.{subject}" for subject in table["subject"][old]]
    else:
        topics[old] = log
    return table.with_columns(topic=topics)


def _is_old(log: str, topics: NDArray[Any]) -> NDArray[np.bool_]:
    earlier = _EARLIER.get(log, ())
    if log == "notify":
        return np.array([topic is None or not topic.startswith("notify.") for topic in topics.tolist()], bool)
    return np.array([topic is None or topic in earlier for topic in topics.tolist()], bool)


def _modern_topic(log: str, datum: dict[str, Any]) -> Any:
    topic = datum.get("topic")
    if log == "notify":
        known = isinstance(topic, str) and topic.startswith("notify.")
        return topic if known else f"notify.{datum.get('subject')}"
    if topic is not None and topic not in _EARLIER.get(log, ()):
        return topic
    if log == "pupil":
        return f"pupil.{datum.get('id', -1)}"
    return f"surfaces.{datum.get('name', '')}" if log == "surfaces" else log


def _only_value(value: Any) -> Any:
    """Return a number that one gaze mapper wrote as an array of one number."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)
