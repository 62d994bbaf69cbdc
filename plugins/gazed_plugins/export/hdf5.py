"""Writing HDF5 files where the disk may be full: HDF5 itself then ends the process with a segmentation fault."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["writing_hdf5"]


@contextmanager
def writing_hdf5(path: Path, beat: Callable[[], object] = lambda: None) -> Iterator[io.RawIOBase]:
    """Yield a file for ``h5py``, ``h5netcdf`` or ``xarray`` to write ``path`` with, which must not be there yet.

    ``beat`` is called each time that some of it is written.

    Raises (at the end of the block):
        OSError: it could not be written; HDF5 was not told.
    """
    with _Patient(path, beat) as file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            # What could not be written cannot be read back, either.
            if file.error is not None:
                raise file.error from error
            raise
    if file.error is not None:
        raise file.error


class _Patient(io.RawIOBase):
    """A file that remembers its first error and goes on as if nothing were."""

    def __init__(self, path: Path, beat: Callable[[], object]) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._beat = beat
        self._file = path.open("x+b", buffering=0)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        written = 0
        self._beat()
        try:
            while self.error is None and written < len(view):
                written += self._file.write(view[written:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            if self.error is None:
                return self._file.truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def close(self) -> None:
        self._file.close()
        super().close()
