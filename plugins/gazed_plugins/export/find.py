"""Finding recordings in folders, and naming their exports."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gazed_plugins.export.errors import SameName
from gazed_plugins.export.place import is_recording
from gazed_recorder.errors import NotARecording
from gazed_recorder.reading.info import holds_recording

__all__ = ["Found", "find_recordings", "label_of", "refuse_same_names"]

_LONGEST = 100
_DIGITS = 8


@dataclass(slots=True)
class Found:
    """What was found in folders."""

    recordings: dict[Path, str] = field(default_factory=dict)
    """The recordings, those of each folder in order of their names, and the labels of their exports."""
    unreadable: dict[Path, OSError] = field(default_factory=dict)
    """Folders that could not be looked into."""


def find_recordings(folders: Iterable[Path], leave_out: Path | None = None) -> Found:
    """Find the recordings among and below ``folders``: wherever there is a file that only a recording has.

    Nothing is looked for in a recording, in hidden folders and in ``leave_out``; links are followed, and what they
    lead to counts once. The label of a recording is made of the folders between the given one and itself, at least of
    its own name and that of the folder it is in.

    Raises:
        NotARecording: one of the folders is none, or there is no recording in it.
    """
    found = Found()
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        if not folder.is_dir():
            raise NotARecording(f"{folder} is not a folder", hint="name recordings, or folders in which they are")
        before = len(found.recordings) + len(found.unreadable)
        new = _look(folder, folder, leave_out.resolve() if leave_out else None, seen, found)
        if new and len(found.recordings) + len(found.unreadable) == before:
            if not holds_recording({each.name for each in folder.iterdir()}):
                raise NotARecording(f"there is no recording in {folder}", hint="a recording holds an info.player.json")
            # Nothing but videos is left of it: only whoever names it can know that it is one.
            found.recordings[folder] = label_of(folder)
    return found


def label_of(folder: Path, root: Path | None = None) -> str:
    """Return the name of a recording in file names: of 1 to 100 characters ``A-Z a-z 0-9 _ -``.

    It has the names of the folders from ``root`` (without that) to the recording, at least the last two. Spaces become
    ``_``; where other characters do, eight digits follow that tell apart what would be the same now.

    >>> label_of(Path("recordings/first try/000"))
    'first_try-000'
    >>> label_of(Path("recordings/P 1/monday/000"), Path("recordings"))
    'P_1-monday-000'
    """
    # Without the .. of what was typed; where links lead does not matter for a name.
    parts = Path(os.path.abspath(folder)).parts[1:]  # noqa: PTH100
    depth = len(folder.relative_to(root).parts) if root is not None else 0
    name = unicodedata.normalize("NFC", "-".join(parts[-max(2, depth) :]))
    label = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")
    if label == name.replace(" ", "_") and 0 < len(label) <= _LONGEST:
        return label
    digits = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
    return f"{label[: _LONGEST - _DIGITS - 1]}-{digits}".lstrip("-")


def refuse_same_names(recordings: dict[Path, str]) -> None:
    """Go on only if all labels differ, in any file system.

    Raises:
        SameName: two are the same, at least where capitals do not count.
    """
    first: dict[str, Path] = {}
    for folder, label in recordings.items():
        other = first.setdefault(label.lower(), folder)
        if other != folder:
            raise SameName(
                f"{other} and {folder} would both be exported as {label}",
                hint="name the folder in which both are, or export them into different folders: --output DIR",
            )


def _look(folder: Path, root: Path, leave_out: Path | None, seen: set[tuple[int, int]], found: Found) -> bool:
    """Look into a folder and all below it, however deep, unless they were seen; tell whether any was not."""
    left, before = [folder], len(seen)
    while left:
        here = left.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen or (leave_out is not None and here.resolve() == leave_out):
                continue
            seen.add((status.st_dev, status.st_ino))
            if is_recording(here):
                found.recordings[here] = label_of(here, root)
                continue
            below = [each for each in here.iterdir() if not each.name.startswith(".") and each.is_dir()]
            left += sorted(below, reverse=True)
        except OSError as error:
            found.unreadable[here] = error
    return len(seen) > before
