"""What comes over the bus is checked before it is calculated with: one wrong number would spoil a fit or a matcher."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, TypeGuard

import msgpack

from gazed_plugins.arguments import is_number, is_vector, shown
from gazed_plugins.gaze.errors import ChoreographyRefused
from gazed_plugins.gaze.matching import Datum

__all__ = ["MOST_REFERENCES", "Size", "is_pupil", "pack", "read_references", "usable_data"]

MOST_REFERENCES = 4000
"""In one calibration: two minutes of a marker at 30 frames a second."""

Size = tuple[int, int]
"""Width and height of the world image in px."""

_DEEPEST = 16
_HINT = "ref_data is a list of maps with a timestamp and a norm_pos or screen_pos of 2 numbers (HMD: mm_pos of 3)"


def pack(datum: Mapping[str, Any]) -> bytes:
    """Return a datum packed.

    Raises:
        ChoreographyRefused: something in it cannot be packed, or it is nested so deeply that others could not.
    """
    if not _is_shallow(datum, _DEEPEST):
        raise ChoreographyRefused(f"a datum is nested more than {_DEEPEST} deep")
    try:
        packed: bytes = msgpack.packb(datum)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ChoreographyRefused(f"a datum cannot be packed: {error}") from error
    return packed


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in value)


def is_pupil(datum: object) -> TypeGuard[Datum]:
    """Tell whether this is a pupil datum that can be matched and mapped: all numbers used for it are there, finite."""
    if not isinstance(datum, dict):
        return False
    eye, method = datum.get("id"), datum.get("method")
    if not (type(eye) is int and eye in (0, 1) and isinstance(method, str)):
        return False
    if not (is_number(datum.get("timestamp")) and is_number(datum.get("confidence"))):
        return False
    if not is_vector(datum.get("norm_pos"), 2):
        return False
    if "sphere" not in datum and "circle_3d" not in datum:
        return True
    sphere, circle = datum.get("sphere"), datum.get("circle_3d")
    return (
        isinstance(sphere, dict)
        and isinstance(circle, dict)
        and is_vector(sphere.get("center"), 3)
        and is_vector(circle.get("normal"), 3)
    )


def read_references(ref_data: object, wanted: Literal["place", "mm"], size: Size) -> list[Datum]:
    """Return references from a notification, ``norm_pos`` and ``screen_pos`` each completed by the other.

    Args:
        ref_data: what the notification carries.
        wanted: a place in the world image, or ``mm_pos``.
        size: of the world image.

    Raises:
        ChoreographyRefused: it is no list of references, or too long a one; nothing of it may be used.
    """
    if not isinstance(ref_data, list | tuple):
        raise ChoreographyRefused(f"ref_data is no list: {shown(ref_data)}", hint=_HINT)
    if len(ref_data) > MOST_REFERENCES:
        raise ChoreographyRefused(f"{len(ref_data)} references are too many: at most {MOST_REFERENCES}", hint=_HINT)
    return [_read(ref, wanted, size) for ref in ref_data]


def usable_data(data: Mapping[str, Any], wanted: Literal["place", "mm"], size: Size) -> dict[str, list[Datum]]:
    """Return ``ref_list`` and ``pupil_list`` of what others have stored, less what cannot be calculated with."""
    refs, pupils = ([] if not isinstance(data.get(key), list) else data[key] for key in ("ref_list", "pupil_list"))
    found: list[Datum] = []
    for ref in refs:
        with suppress(ChoreographyRefused):
            found.append(_read(ref, wanted, size))
    return {"ref_list": found, "pupil_list": list(filter(is_pupil, pupils))}


def _read(ref: object, wanted: Literal["place", "mm"], size: Size) -> Datum:
    if not isinstance(ref, dict) or not is_number(ref.get("timestamp")):
        raise ChoreographyRefused(f"a reference has no timestamp: {shown(ref)}", hint=_HINT)
    stamp = float(ref["timestamp"])
    if wanted == "mm":
        if not is_vector(ref.get("mm_pos"), 3):
            raise ChoreographyRefused(f"a reference has no mm_pos of 3 numbers: {shown(ref)}", hint=_HINT)
        return {"mm_pos": [float(value) for value in ref["mm_pos"]], "timestamp": stamp}
    width, height = size
    if is_vector(ref.get("norm_pos"), 2):
        x, y = (float(value) for value in ref["norm_pos"])
    elif is_vector(ref.get("screen_pos"), 2):
        x, y = ref["screen_pos"][0] / width, 1 - ref["screen_pos"][1] / height
    else:
        raise ChoreographyRefused(f"a reference has no norm_pos or screen_pos of 2 numbers: {shown(ref)}", hint=_HINT)
    pixel = ref["screen_pos"] if is_vector(ref.get("screen_pos"), 2) else (x * width, (1 - y) * height)
    return {"norm_pos": [x, y], "screen_pos": [float(value) for value in pixel], "timestamp": stamp}
