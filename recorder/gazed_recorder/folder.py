"""Where a recording goes: ``<root>/<session>/<NNN>``, and the lock that says that somebody is writing there.

Session names come from outside. As in Pupil Capture a ``/`` makes sub-folders; here nothing gets out of the root.
"""

from __future__ import annotations

import fcntl
import os
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from gazed_recorder.errors import RecordingRefused

__all__ = ["LOCK", "FolderLock", "NewFolder", "clean_session_name", "is_being_written", "make_folder"]

LOCK = ".lock"
_MOST_BYTES = 100
_MOST_PARTS = 8
# Not allowed on Windows, where many recordings are looked at.
_FORBIDDEN = frozenset('<>:"|?*\\')


@dataclass(frozen=True, slots=True)
class NewFolder:
    """A folder made for a recording."""

    path: Path
    session: str
    """The session name in use."""
    notice: str
    """What was changed in the name that was asked for; empty if nothing."""


def clean_session_name(name: str, now: datetime) -> str:
    """Return ``name`` as a relative path of 1 to 8 safe components of 1 to 100 UTF-8 bytes, joined by ``/``.

    What cannot be printed and what Windows forbids becomes ``_``; spaces stay, except at the
    ends of a component, where dots go as well: no component is ``..`` or hidden. What is empty then is left out; if
    nothing is left, the name is the date of ``now`` as ``YYYY_MM_DD``.
    """
    parts = [part for part in map(_clean_part, name.split("/")) if part][:_MOST_PARTS]
    return "/".join(parts) or now.strftime("%Y_%m_%d")


def _clean_part(part: str) -> str:
    kept = "".join(
        "_" if char in _FORBIDDEN or not char.isprintable() else char
        for char in unicodedata.normalize("NFC", part[: 4 * _MOST_BYTES])
    ).strip(" .")
    return kept.encode()[:_MOST_BYTES].decode(errors="ignore").strip(" .")


def make_folder(root: Path, session_name: str, now: datetime) -> NewFolder:
    """Make the first free ``<root>/<session>/<NNN>``, counting from ``000``; never an existing one, whoever else tries.

    ``now`` is local time, for the default name.

    Raises:
        RecordingRefused: ``root-not-writable``; ``outside-root`` if a link leads out of it; ``name-taken`` if the name
            leads into another recording or through a file.
    """
    session = clean_session_name(session_name, now)
    notice = f"session name {session_name!r} was changed to {session!r}" if session_name not in ("", session) else ""
    try:
        root.mkdir(parents=True, exist_ok=True)
        home = root.resolve()
        place = home
        for part in session.split("/"):
            place = _enter(home, place / part)
        return NewFolder(_number(place), session, notice)
    except OSError as error:
        raise RecordingRefused(
            f"cannot make a folder for session {session!r} in {root}: {error.strerror}",
            reason="root-not-writable",
            hint=f"check that {root} is a folder you may write to, or set recorder.root",
        ) from error


def _enter(home: Path, place: Path) -> Path:
    try:
        place.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise RecordingRefused(
            f"{place} is not a folder", reason="name-taken", hint="use another session name"
        ) from error
    if not place.resolve().is_relative_to(home):
        raise RecordingRefused(
            f"{place} leads out of the recordings root {home}",
            reason="outside-root",
            hint="remove the link, or set recorder.root to where it leads",
        )
    if (place / "info.player.json").exists() or (place / "manifest.json").exists():
        raise RecordingRefused(
            f"{place} is a recording: no other one can be made inside",
            reason="name-taken",
            hint="use another session name",
        )
    return place


def _number(place: Path) -> Path:
    number = 0
    while True:
        folder = place / f"{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def is_being_written(folder: Path) -> bool:
    """Tell whether somebody holds the lock of a recording folder, for which nobody can get it meanwhile."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class FolderLock:
    """Held by whoever writes in a recording folder; the kernel gives it back when the process dies.

    A file ``.lock`` that nobody holds means that the writer was killed.

    Raises:
        RecordingRefused: ``in-use``: somebody is writing there; ``root-not-writable``: the lock file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._descriptor = -1
        while not self._take():
            pass

    def _take(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RecordingRefused(
                f"{self._path.parent} is being written by another process",
                reason="in-use",
                hint="stop the recording first: gazed record stop",
            ) from error
        except OSError as error:
            raise RecordingRefused(
                f"cannot lock {self._path.parent}: {error.strerror}",
                reason="root-not-writable",
                hint="check that the folder exists and that you may write there",
            ) from error
        # The last holder may have removed the file between our opening and our locking.
        if self._path.exists() and os.path.samestat(os.fstat(descriptor), self._path.stat()):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def release(self) -> None:
        """Give the lock back and remove its file. Doing it twice is fine."""
        if self._descriptor >= 0:
            # Removed while still held: whoever opens the path from now on makes a file of their own.
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
