"""The one protocol that every exporter follows, and the registry of exporters.

An exporter is one file with one class, registered under the entry point group ``gazed.exporters`` by the name of its
format. ``gazed_plugins.export.testing.check_exporter`` is the contract as a test.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gazed_plugins.export.errors import MissingExtra, UnknownFormat
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording

__all__ = ["Exporter", "find_exporter", "format_names"]


class Exporter(Protocol):
    """Writes recordings in one format.

    Its docstring is what users read about the format. What it writes depends on the recording and its arguments alone:
    the same twice is the same to the byte. It may keep in memory what grows with the number of datums, but no more than
    the columns that it writes; never the videos.
    """

    extra: ClassVar[str]
    """The optional extra whose packages it needs, such as ``export``; empty if it needs none. It imports them inside
    its functions."""

    dataset: ClassVar[str]
    """The folder in ``exports`` that it gets where no output is named, as what stands beside several exports is its
    own; empty for formats whose exports stand alone."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        """Take the arguments of the format.

        Raises:
            PluginArgument: one is unknown or out of range.
        """

    def name(self, recording: Recording, label: str) -> str:
        """Return the path, relative to the output folder, of the one file or folder that it makes of a recording.

        ``label`` is a name of the recording that is safe in file names.
        """

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """Write the recording to ``target``, which is not there yet, in a folder of its own that is.

        Its last part is that of ``name``. A failed one is removed by the caller. ``progress`` is called at least every
        second or so, with what is done and what there is to do, in steps of any size.

        Raises:
            NothingToExport: the recording has nothing that the format could hold.
            DamagedFile: the recording cannot be read.
            OSError: the target cannot be written.
        """

    def complete(self, output: Path) -> None:
        """Bring up to date what stands beside the exports of all recordings in ``output``, if the format has that."""


def format_names() -> list[str]:
    """Return the names of all formats, sorted."""
    return sorted(entry.name for entry in entry_points(group="gazed.exporters"))


def find_exporter(name: str) -> type[Exporter]:
    """Return the exporter of a format.

    Raises:
        UnknownFormat: there is none; the message lists those there are.
        MissingExtra: a package that it needs is not installed.
    """
    for entry in entry_points(group="gazed.exporters"):
        if entry.name == name:
            try:
                loaded: type[Exporter] = entry.load()
            except ImportError as error:
                mend = "pip install 'gazed[export]'"
                raise MissingExtra(f"format {name} cannot be loaded: {error}", hint=mend) from error
            return loaded
    known = format_names()
    near = difflib.get_close_matches(name[:100], known, 1)
    hint = f"did you mean {near[0]}?" if near else ""
    raise UnknownFormat(f"no format {name!r:.100}: there are {', '.join(known)}", hint=hint)
