"""Errors of getting data out and in.

::

    PluginError
    └── ExportError          a recording could not be exported
        ├── UnknownFormat    there is no such format
        ├── MissingExtra     the packages that a format needs are not installed
        ├── NothingToExport  the recording has nothing that the format could hold
        └── AlreadyThere     the result is there already, and nobody said to replace it
"""

from __future__ import annotations

from gazed_plugins.errors import PluginError

__all__ = ["AlreadyThere", "ExportError", "MissingExtra", "NothingToExport", "UnknownFormat"]


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
