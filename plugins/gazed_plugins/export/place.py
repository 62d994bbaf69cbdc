"""``OutputFolder``: where exports appear whole or not at all, and each is known to be of which recording.

What is being written lies in the hidden folder ``.gazed-export`` of the output folder; so does a receipt for each
export: of which recording it is, and what the format was told.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from gazed_plugins.export.errors import BeingExported, UnsafeOutput
from gazed_recorder.atomic import replace_file
from gazed_recorder.errors import RecordingRefused
from gazed_recorder.folder import LOCK, FolderLock
from gazed_recorder.reading.info import SIGNS

__all__ = ["EXPORTS", "HIDDEN", "OutputFolder", "Receipt", "is_recording"]

EXPORTS = "exports"
"""The folder in a recording for its exports, as in Pupil Player."""
HIDDEN = ".gazed-export"
_WRITING = ".writing"
_NEW, _OLD = "new", "old"
_ATTEMPTS = 1000


class Receipt(msgspec.Struct, frozen=True):
    """What an export was made of."""

    recording: str
    """The recording, wherever its folder lies."""
    format: str
    args: dict[str, Any]
    state: str
    """What else it depends on: of a recording that was repaired or analysed since, this is another one."""


def is_recording(folder: Path) -> bool:
    """Tell whether a folder is a recording, be it torn; of one that has nothing but videos, nobody can tell."""
    return any((folder / name).is_file() for name in SIGNS)


class OutputFolder:
    """A folder for exports, which need not be there yet.

    Raises:
        UnsafeOutput: it is a recording or inside one, other than in the folder ``exports``; or that leads elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hidden = path / HIDDEN
        real = path.resolve()
        for folder in (real, *real.parents):
            if is_recording(folder) and (folder == real or not real.is_relative_to(folder / EXPORTS)):
                raise UnsafeOutput(
                    f"{path} lies in the recording {folder}, where nothing may be written",
                    hint=f"take another folder, or leave --output out: then it is {EXPORTS} of the recording",
                )

    @classmethod
    def of(cls, recording: Path, dataset: str = "") -> OutputFolder:
        """Return the folder in a recording for its exports, or for a dataset among them.

        Raises:
            UnsafeOutput: it is a link to somewhere else.
        """
        for folder in (recording / EXPORTS, recording / EXPORTS / dataset):
            if folder.is_symlink():
                raise UnsafeOutput(f"{folder} is a link", hint="remove it, or name a folder: --output DIR")
        return cls(folder)

    def target(self, name: str) -> Path:
        """Return where an export of that name goes.

        Raises:
            UnsafeOutput: that is not in the folder.
        """
        target = self.path / name
        if not target.parent.resolve().is_relative_to(self.path.resolve()) or target.resolve() == self.path.resolve():
            raise UnsafeOutput(f"{target} leads out of {self.path}", hint="remove the link, or take another folder")
        return target

    def receipt(self, name: str) -> Receipt | None:
        """Return the receipt of an export; ``None`` if nothing is known of it."""
        try:
            return msgspec.json.decode(self._receipt(name).read_bytes(), type=Receipt)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def put(self, name: str, receipt: Receipt, write: Callable[[Path], None]) -> None:
        """Have an export of that name written, and put it into its place when it is whole, instead of an earlier one.

        What a process has left that was killed at the same goes away first. Whatever happens, the earlier export or the
        new one is there, and nothing half-done.

        Raises:
            BeingExported: another process writes it.
            OSError: it cannot be written.
        """
        target, work = self.target(name), self._work(name)
        made = [folder for folder in (self._hidden, self.path, *self.path.parents) if not folder.exists()]
        try:
            with self._locked(work):
                self._clear(work, target)
                fresh = work / _NEW / target.name
                try:
                    fresh.parent.mkdir()
                    write(fresh)
                    self._put_in_place(fresh, target, work / _OLD, name, receipt)
                finally:
                    self._clear(work, target)
            _remove_empty(work)
        except BaseException:
            _remove_empty(work, *made)
            raise

    def sweep(self) -> None:
        """Remove what killed processes have left half-done; what others are writing stays.

        Raises:
            OSError: it cannot be removed.
        """
        for work in sorted(self._hidden.glob(f"*{_WRITING}")):
            # An export that was about to be replaced waits for the next run of the same.
            if (work / _OLD).exists():
                continue
            with suppress(BeingExported, FileNotFoundError), self._locked(work, make=False):
                # Who wants to write there may have made it anew meanwhile.
                shutil.rmtree(work, ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold what only one process may do at a time; others wait.

        Raises:
            OSError: the folder cannot be made.
        """
        self._hidden.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _put_in_place(self, fresh: Path, target: Path, aside: Path, name: str, receipt: Receipt) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        paper = msgspec.json.encode(receipt, order="deterministic")
        if not os.path.lexists(target):
            # Before the export: then whoever finds one finds its receipt.
            replace_file(self._receipt(name), paper, durable=False)
            fresh.rename(target)
            return
        self._receipt(name).unlink(missing_ok=True)
        if target.is_dir() or fresh.is_dir():
            target.rename(aside)
            fresh.rename(target)
        else:
            fresh.replace(target)
        replace_file(self._receipt(name), paper, durable=False)

    def _clear(self, work: Path, target: Path) -> None:
        """Empty a work folder; an earlier export that is in nobody's place goes back into its own."""
        if (work / _OLD).exists() and not os.path.lexists(target):
            (work / _OLD).rename(target)
        for left in work.iterdir():
            if left.name != LOCK:
                _remove(left)

    @contextmanager
    def _locked(self, work: Path, *, make: bool = True) -> Iterator[None]:
        # Between our making the folder and our locking it, a sweep may have removed it.
        for _ in range(_ATTEMPTS):
            if make:
                work.mkdir(parents=True, exist_ok=True)
            try:
                lock = FolderLock(work)
            except RecordingRefused as error:
                if make and isinstance(error.__cause__, FileNotFoundError):
                    continue
                if error.reason != "in-use" and isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None
                raise BeingExported(
                    f"another process exports the same to {self.path}", hint="wait until it has ended"
                ) from error
            with lock:
                yield
            return
        raise BeingExported(f"other processes keep removing {work}", hint="start it again")

    def _work(self, name: str) -> Path:
        return self._hidden / f"{_key(name)}{_WRITING}"

    def _receipt(self, name: str) -> Path:
        return self._hidden / f"{_key(name)}.json"


def _key(name: str) -> str:
    """Return a name for a file: readable, and another one for each name."""
    return f"{Path(name).name[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
