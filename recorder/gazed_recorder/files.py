"""``FolderFiles``: the files that are really in a folder of a recording, which may come from anywhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gazed_recorder.errors import DamagedFile, NotARecording

__all__ = ["FolderFiles"]


class FolderFiles:
    """The files of one folder, as they are when it is looked at.

    A link is followed only to what lies inside the recording: a folder that somebody handed on could otherwise make a
    program read any file of its user. What leads out, and what is neither a file nor a folder, is left out.

    Raises:
        NotARecording: there is no such folder, or it cannot be looked into.
    """

    def __init__(self, path: Path, home: str | None = None) -> None:
        """Look into ``path``; ``home`` is the real path of the recording, which is the folder itself if not given."""
        self.path = path
        self.names: frozenset[str]
        """The names of its files."""
        self.refused: tuple[str, ...]
        """The names of what leads out of the recording, and of what is neither a file nor a folder; sorted."""
        try:
            self._home = home or os.path.realpath(path)
            self._sizes: dict[str, int] = {}
            with os.scandir(path) as entries:
                kinds = {entry.name: self._kind(entry) for entry in entries}
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NotARecording(
                f"{path}: {reason}", hint="name the folder of one recording, such as 2026_03_01/000"
            ) from error
        self.names = frozenset(name for name, kind in kinds.items() if kind == "file")
        self.folders = frozenset(name for name, kind in kinds.items() if kind == "folder")
        """The names of its folders."""
        self.refused = tuple(sorted(name for name, kind in kinds.items() if kind == "refused"))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def file(self, name: str) -> Path | None:
        """Return the path of a file of this folder, or ``None`` if it has no such file, or nothing is in it."""
        return self.path / name if self._sizes.get(name) else None

    def folder(self, name: str) -> FolderFiles | None:
        """Return a folder in this one, or ``None`` if it has none of that name.

        Raises:
            NotARecording: it cannot be looked into.
        """
        return FolderFiles(self.path / name, self._home) if name in self.folders else None

    def read(self, name: str, most: int) -> bytes | None:
        """Return the content of a file of this folder, or ``None`` if it has no such file.

        Raises:
            DamagedFile: it cannot be read, or has more than ``most`` bytes.
        """
        if name not in self.names:
            return None
        path = self.path / name
        try:
            with path.open("rb") as file:
                content = file.read(most + 1)
        except OSError as error:
            raise DamagedFile(f"{path}: {error.strerror}") from error
        if len(content) > most:
            raise DamagedFile(f"{path}: more than {most} bytes, which no recording's has")
        return content

    def _kind(self, entry: os.DirEntry[str]) -> str:
        real = os.path.realpath(entry.path)
        if real != self._home and not real.startswith(os.path.join(self._home, "")):  # noqa: PTH118
            return "refused"
        try:
            found = os.stat(real)  # noqa: PTH116
        except OSError:
            # A file that is being replaced may be gone by now.
            return "refused" if entry.is_symlink() else "gone"
        if stat.S_ISREG(found.st_mode):
            self._sizes[entry.name] = found.st_size
            return "file"
        return "folder" if stat.S_ISDIR(found.st_mode) else "refused"
