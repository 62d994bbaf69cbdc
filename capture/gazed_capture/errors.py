"""Errors of the sources.

::

    GazedError
    └── SourceError
        ├── SourceOptionError   the configuration asks for something the source does not have
        ├── SourceNotFound      no such device or file
        ├── DeviceAmbiguous     more than one device fits
        ├── DeviceRefused       the device is there, but this user may not open it, or another program has it
        ├── NoBandwidth         the USB controller has no room left for the stream
        ├── DeviceLost          the device went away while it was read
        └── EndOfStream         a source with an end has reached it
"""

from __future__ import annotations

from gazed_timesync import GazedError

__all__ = [
    "DeviceAmbiguous",
    "DeviceLost",
    "DeviceRefused",
    "EndOfStream",
    "NoBandwidth",
    "SourceError",
    "SourceNotFound",
    "SourceOptionError",
]


class SourceError(GazedError):
    """A source could not deliver."""

    code = "source"
    exit_code = 5


class SourceOptionError(SourceError):
    """An option of a source is unknown or out of range."""

    code = "source-option"
    exit_code = 2


class SourceNotFound(SourceError):
    """No device or file fits the configuration."""

    code = "source-not-found"


class DeviceAmbiguous(SourceError):
    """More than one device fits the configuration; the message lists them, the hint says how to tell them apart."""

    code = "device-ambiguous"


class DeviceRefused(SourceError):
    """The device is there and cannot be had: no permission (the message names the node), or another program has it."""

    code = "device-refused"


class NoBandwidth(SourceError):
    """The USB controller has no room left for what the camera was asked for."""

    code = "no-bandwidth"


class DeviceLost(SourceError):
    """The device is gone; the camera process closes the source and opens it again until it is back."""

    code = "device-lost"


class EndOfStream(SourceError):
    """The source has an end and has reached it. Not a failure."""

    code = "end-of-stream"
