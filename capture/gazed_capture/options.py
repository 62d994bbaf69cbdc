"""The options of a source: unknown names are refused with the nearest known one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from gazed_capture.errors import SourceOptionError

__all__ = ["refuse_unknown"]


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
