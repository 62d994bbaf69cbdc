"""Errors of the sources.

::

    GazedError
    └── SourceError
        ├── SourceOptionError   the configuration asks for something the source does not have
        ├── SourceNotFound      no such device or file, or more than one fits
        ├── DeviceLost          the device went away while it was read
        └── EndOfStream         a source with an end has reached it
"""

from __future__ import annotations

from gazed_timesync import GazedError

__all__ = ["DeviceLost", "EndOfStream", "SourceError", "SourceNotFound", "SourceOptionError"]


class SourceError(GazedError):
    """A source could not deliver."""

    code = "source"
    exit_code = 5


class SourceOptionError(SourceError):
    """An option of a source is unknown or out of range."""

    code = "source-option"
    exit_code = 2


class SourceNotFound(SourceError):
    """No device or file fits the configuration, or more than one does."""

    code = "source-not-found"


class DeviceLost(SourceError):
    """The device is gone; the camera process closes the source and opens it again until it is back."""

    code = "device-lost"


class EndOfStream(SourceError):
    """The source has an end and has reached it. Not a failure."""

    code = "end-of-stream"
