"""The options of a source: unknown names are refused with the nearest known one, numbers are held to their range."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gazed_capture.errors import SourceOptionError

__all__ = ["read_losses", "read_mode", "read_number", "read_path", "refuse_unknown"]


def refuse_unknown(source: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    """Check that ``options`` holds names from ``known`` only.

    Raises:
        SourceOptionError: a name is unknown; the hint names the nearest known one.
    """
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise SourceOptionError(
                f"source {source!r} has no option {name!r}: it takes {', '.join(sorted(known))}",
                hint=f"did you mean {near[0]!r}?" if near else "",
            )


def read_number(stream: str, options: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    """Return the number ``name`` of ``options``, a whole one where the default is.

    Raises:
        SourceOptionError: it is no such number, or less than ``low`` or more than ``high``.
    """
    value = options.get(name, default)
    whole = isinstance(default, int)
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise SourceOptionError(f"{stream}: {name} is {kind} from {low:g} to {high:g}, got {value!r}")
    return float(value)


def read_mode(stream: str, options: Mapping[str, Any]) -> tuple[int, int, float]:
    """Return ``width`` and ``height`` in pixels and ``fps`` of a real camera; by default what Pupil's headsets do.

    Raises:
        SourceOptionError: one of them is no number, or out of range.
    """
    width, height, fps = (1280, 720, 30.0) if stream == "world" else (192, 192, 120.0)
    return (
        int(read_number(stream, options, "width", width, 1, 65535)),
        int(read_number(stream, options, "height", height, 1, 65535)),
        read_number(stream, options, "fps", fps, 1, 1000),
    )


def read_losses(stream: str, options: Mapping[str, Any], name: str) -> float | frozenset[int]:
    """Return which frames of a simulated device never arrive: a part of all, or these; none by default.

    Raises:
        SourceOptionError: it is neither a number from 0 to less than 1, nor a list of sequence numbers.
    """
    value = options.get(name, 0.0)
    if isinstance(value, list | tuple) and all(type(number) is int and number >= 0 for number in value):
        return frozenset(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise SourceOptionError(
        f"{stream}: {name} is a part of all frames (0 <= {name} < 1) or a list of sequence numbers, got {value!r}"
    )


def read_path(stream: str, options: Mapping[str, Any], name: str) -> Path | None:
    """Return the path ``name`` of ``options``, ``~`` expanded; ``None`` if it is not there.

    Raises:
        SourceOptionError: it is no path.
    """
    value = options.get(name)
    if not isinstance(value, str | Path | None):
        raise SourceOptionError(f"{stream}: {name} is the path of a file, got {value!r}")
    return None if value is None else Path(value).expanduser()
