"""What comes from outside, in arguments and over the bus, is looked at before it is worked with."""

from __future__ import annotations

import difflib
import reprlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from gazed_plugins.errors import PluginArgument

__all__ = [
    "is_number",
    "is_vector",
    "read_names",
    "read_number",
    "read_numbers",
    "read_text",
    "refuse_unknown",
    "shown",
]

_NUMBERS = (float, int)
_LARGEST = sys.float_info.max
_LONGEST = 100
_brief = reprlib.Repr()
_brief.maxlevel = 2
_brief.maxstring = _brief.maxother = 80


def refuse_unknown(owner: str, kind: str, values: Iterable[Any], known: Iterable[str]) -> None:
    """Refuse names that are not ``known``, with the nearest one that is.

    Raises:
        PluginArgument: ``values`` holds another name.
    """
    names = list(known)
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(str(name)[:_LONGEST], names, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes: {', '.join(names) or 'none'}"
            raise PluginArgument(f"{owner} has no {kind} {shown(name)}", hint=hint)


def read_numbers(
    owner: str, args: Mapping[str, Any], known: Mapping[str, tuple[float, float, float]], *others: str
) -> dict[str, float]:
    """Return all ``known`` arguments (default, smallest, largest) of a plugin, those of ``args`` in place of defaults.

    Arguments named in ``others`` are left to the caller.

    Raises:
        PluginArgument: an argument is in neither list, is no number, or is out of range.
    """
    refuse_unknown(owner, "argument", args, [*known, *others])
    return {
        name: read_number(owner, name, args.get(name, default), low, high)
        for name, (default, low, high) in known.items()
    }


def read_number(owner: str, name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` if it is a number from ``low`` to ``high``.

    Raises:
        PluginArgument: it is not.
    """
    if not is_number(value) or not low <= value <= high:
        raise PluginArgument(f"{owner}: {name} is a number from {low:g} to {high:g}, got {shown(value)}")
    return float(value)


def read_text(owner: str, values: Mapping[str, Any], name: str, default: str, *, least: int = 0) -> str:
    """Return a text of ``least`` to 100 bytes in UTF-8.

    Raises:
        PluginArgument: it is none.
    """
    value = values.get(name, default)
    if not isinstance(value, str) or not least <= len(value.encode(errors="replace")) <= _LONGEST:
        raise PluginArgument(f"{owner}: {name} is a string of {least} to {_LONGEST} bytes, got {shown(value)}")
    return value


def read_names(owner: str, values: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of names; empty if there is none.

    Raises:
        PluginArgument: it is no list of strings.
    """
    value = values.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise PluginArgument(f"{owner}: {name} is a list of names, got {shown(value)}")
    return value


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a number that a float can hold, and neither true nor false."""
    # Compared, not asked by math.isfinite, which fails at whole numbers of more than 308 digits.
    return isinstance(value, _NUMBERS) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def is_vector(value: object, length: int) -> bool:
    """Tell whether a value is a list or tuple of so many numbers, as ``is_number`` has them."""
    return isinstance(value, list | tuple) and len(value) == length and all(map(is_number, value))


def shown(value: object) -> str:
    """Return a value for a message, shortened: it may be huge, or nested so deeply that ``repr`` fails."""
    return _brief.repr(value)[:_LONGEST]
