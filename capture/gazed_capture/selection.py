"""Which device of several is meant: by serial number, by the port it is plugged into, or by name if only one has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from gazed_capture.errors import DeviceAmbiguous, SourceNotFound, SourceOptionError
from gazed_capture.source import DeviceInfo

__all__ = ["SELECTION", "Wanted", "pick"]

SELECTION = ("serial", "path", "name")
"""The options by which every source of devices selects; see ``Wanted``."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration says of the device; what is empty says nothing."""

    stream: str
    source: str
    serial: str = ""
    path: str = ""
    """As ``DeviceInfo.path``."""
    name: str = ""
    """The name, or a pattern for it: ``*`` is any text, ``?`` any character, ``[ab]`` one of these."""

    @classmethod
    def read(cls, stream: str, source: str, options: Mapping[str, Any]) -> Wanted:
        """Take the options ``serial``, ``path`` and ``name``, of which none is needed.

        Raises:
            SourceOptionError: one is not a text, or is empty.
        """
        for option in SELECTION:
            value = options.get(option, "-")
            if not isinstance(value, str) or not value:
                raise SourceOptionError(
                    f"{stream}: {option} of source {source!r} is a text that is not empty, got {value!r}",
                    hint="`gazed devices` shows what is there",
                )
        return cls(stream, source, *(options.get(option, "") for option in SELECTION))

    def fits(self, device: DeviceInfo) -> bool:
        """Tell whether ``device`` can be what is meant."""
        return (
            self.serial in ("", device.serial)
            and self.path in ("", device.path)
            and (not self.name or fnmatchcase(device.name, self.name))
        )

    def __str__(self) -> str:
        given = [f"{option} = {getattr(self, option)!r}" for option in SELECTION if getattr(self, option)]
        return f"a device with {', '.join(given)}" if given else "a device"


def pick(wanted: Wanted, devices: Sequence[DeviceInfo]) -> DeviceInfo:
    """Return the one device that fits.

    Raises:
        SourceNotFound: none does; the message lists those that are there.
        DeviceAmbiguous: more than one does; the message lists them.
    """
    fitting = [device for device in devices if wanted.fits(device)]
    if len(fitting) == 1:
        return fitting[0]
    where = f"{wanted.stream}: source {wanted.source!r}"
    if fitting:
        raise DeviceAmbiguous(
            f"{where} wants {wanted}, and {len(fitting)} fit: {_listed(fitting)}",
            hint=f"say which: {_telling(fitting)}",
        )
    there = f"there are {_listed(devices)}" if devices else "there is none at all"
    near = get_close_matches(wanted.name, {device.name for device in devices} - {wanted.name}, n=1)
    raise SourceNotFound(
        f"{where} wants {wanted}: {there}",
        hint=f"did you mean name = {near[0]!r}?" if near else "plug it in; `gazed devices` shows what is there",
    )


def _listed(devices: Sequence[DeviceInfo]) -> str:
    return "; ".join(
        f"{device.name or 'a device without a name'} (serial {device.serial or 'none'}, path {device.path or 'none'})"
        for device in devices
    )


def _telling(devices: Sequence[DeviceInfo]) -> str:
    """Return the option that tells the devices apart, with the first one's value as the example."""
    for option in ("serial", "path", "name"):
        values = [getattr(device, option) for device in devices]
        if all(values) and len(set(values)) == len(values):
            return f"{option} = {values[0]!r}, …"
    return "they cannot be told apart: unplug one"
