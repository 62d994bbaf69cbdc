"""Numbers that come from outside: arguments of plugins, and what stands in datums."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gazed_plugins.errors import PluginArgument
from gazed_plugins.pupil.settings import refuse_unknown

__all__ = ["is_number", "read_numbers"]


def read_numbers(
    owner: str, args: Mapping[str, Any], known: Mapping[str, tuple[float, float, float]], *others: str
) -> dict[str, float]:
    """Return all ``known`` arguments (default, smallest, largest) of a plugin, those of ``args`` in place of defaults.

    Arguments named in ``others`` are left to the caller.

    Raises:
        PluginArgument: an argument is in neither list, is no number, or is out of range.
    """
    refuse_unknown(owner, "argument", args, [*known, *others])
    numbers = {}
    for name, (default, low, high) in known.items():
        value = args.get(name, default)
        if not is_number(value) or not low <= value <= high:
            raise PluginArgument(f"{owner}: {name} is a number from {low:g} to {high:g}, got {value!r:.80}")
        numbers[name] = float(value)
    return numbers


def is_number(value: Any) -> bool:
    """Tell whether this is a finite number, and neither true nor false."""
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
