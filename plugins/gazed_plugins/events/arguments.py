"""Arguments of plugins that are numbers within limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gazed_plugins.errors import PluginArgument
from gazed_plugins.pupil.settings import refuse_unknown

__all__ = ["read_numbers"]


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
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise PluginArgument(f"{owner}: {name} is a number from {low:g} to {high:g}, got {value!r:.80}")
        numbers[name] = float(value)
    return numbers
