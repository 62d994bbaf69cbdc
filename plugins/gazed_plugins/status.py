"""What the daemon tells of its streams, twice a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["STATUS", "told_of"]

STATUS = "gazed.status"
"""The topic."""


def told_of(status: Mapping[str, Any], stream: str) -> dict[str, Any]:
    """Return what a message under ``STATUS`` tells of the camera of a stream.

    That is ``device``, its name, and ``info``, the map of its ``StreamInfo``; empty as long as nothing is known of it.
    """
    streams = status.get("streams")
    known = streams.get(stream) if isinstance(streams, Mapping) else None
    info = known.get("info") if isinstance(known, Mapping) else None
    if not isinstance(known, Mapping) or not isinstance(info, Mapping):
        return {}
    device = known.get("device")
    return {"device": device if isinstance(device, str) else "", "info": info}
