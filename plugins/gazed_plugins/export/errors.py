"""Errors of getting data out and in.

::

    PluginError
    └── ExportError          a recording could not be exported
        ├── UnknownFormat    there is no such format
        ├── MissingExtra     the packages that a format needs are not installed
        ├── NothingToExport  the recording has nothing that the format could hold
        ├── AlreadyThere     the result is there already, and nobody said to replace it, or it is of something else
        ├── BeingRecorded    the recording has not ended
        ├── BeingExported    another process exports the same right now
        ├── SameName         two recordings would be exported under one name
        ├── UnsafeOutput     the output folder lies where recorded files are
        └── NoScheduler      the scheduler that was to share out the work cannot be reached
"""

from __future__ import annotations

from gazed_plugins.errors import PluginError

__all__ = [
    "AlreadyThere",
    "BeingExported",
    "BeingRecorded",
    "ExportError",
    "MissingExtra",
    "NoScheduler",
    "NothingToExport",
    "SameName",
    "UnknownFormat",
    "UnsafeOutput",
]


class ExportError(PluginError):
    """A recording could not be exported."""

    code = "export"


class UnknownFormat(ExportError):
    """There is no format of that name."""

    code = "unknown-format"
    exit_code = 2


class MissingExtra(ExportError):
    """The packages that a format needs are not installed."""

    code = "missing-extra"


class NothingToExport(ExportError):
    """The recording has nothing that the format could hold."""

    code = "nothing-to-export"


class AlreadyThere(ExportError):
    """The result is there already."""

    code = "already-there"
    exit_code = 2


class BeingRecorded(ExportError):
    """The recording has not ended."""

    code = "being-recorded"


class BeingExported(ExportError):
    """Another process exports the same."""

    code = "being-exported"


class SameName(ExportError):
    """Two recordings would be exported under one name."""

    code = "same-name"
    exit_code = 2


class UnsafeOutput(ExportError):
    """Exports cannot go where recorded files are."""

    code = "unsafe-output"
    exit_code = 2


class NoScheduler(ExportError):
    """The scheduler cannot be reached."""

    code = "no-scheduler"
    exit_code = 3
