"""The controls of a camera: set as the configuration asks, and read back, since cameras refuse in silence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

from gazed_capture.errors import SourceOptionError

__all__ = ["Control", "apply_controls", "read_controls"]

_log = logging.getLogger(__name__)


class Control(Protocol):
    """One control, as ``uvc_bindings.Control`` has it."""

    display_name: str
    """May end in a blank."""
    d_type: Any
    """``int``, ``bool``, or ``{label: number}``."""
    value: Any
    """Setting it may fail silently."""

    def refresh(self) -> None:
        """Read ``value`` from the camera. Raises a bare ``Exception`` where the camera does not answer."""


def read_controls(stream: str, options: Mapping[str, Any]) -> dict[str, bool | int | str]:
    """Return the table ``controls`` of ``options``; empty if there is none.

    Raises:
        SourceOptionError: it is no table, or a value in it is not one that controls take.
    """
    controls = options.get("controls", {})
    if not isinstance(controls, Mapping):
        raise SourceOptionError(
            f"{stream}: controls is a table, got {controls!r}", hint="controls = { Gain = 10, Gamma = 100 }"
        )
    for name, value in controls.items():
        if not isinstance(value, bool | int | str):
            raise SourceOptionError(
                f"{stream}: control {name!r} takes a whole number, true, false or a label, got {value!r}"
            )
    return dict(controls)


def apply_controls(stream: str, controls: Iterable[Control], wanted: Mapping[str, bool | int | str]) -> dict[str, Any]:
    """Set the controls and return what the camera then says of all of them, by name.

    What it does not have, or does not take over, is a warning in the log: the camera works without.
    """
    there = {control.display_name.strip(): control for control in controls}
    # Manual values are refused while the automatic mode that governs them is on.
    for name in sorted(wanted, key=lambda name: "auto" not in name.lower()):
        _set(stream, there, name.strip(), wanted[name])
    return {name: control.value for name, control in there.items()}


def _set(stream: str, there: Mapping[str, Control], name: str, value: bool | int | str) -> None:
    control = there.get(name)
    if control is None:
        near = get_close_matches(name, there, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there) or 'none'}"
        _log.warning("%s: the camera has no control %r; %s", stream, name, meant)
        return
    labels = control.d_type if isinstance(control.d_type, dict) else {}
    number = labels.get(value) if isinstance(value, str) else int(value)
    if number is None:
        offer = f"one of {', '.join(labels)}" if labels else "a number"
        _log.warning("%s: control %r takes %s, got %r", stream, name, offer, value)
        return
    try:
        control.value = number
        control.refresh()
    except Exception as error:  # noqa: BLE001 - the library raises nothing more precise
        _log.warning("%s: control %r cannot be set to %r: %s", stream, name, value, error)
        return
    if control.value != number:
        _log.warning("%s: the camera refused %r = %r and keeps %r", stream, name, value, control.value)
