"""An ``.npy`` file that grows row by row and can be read at every instant.

Format: NPY 1.0 (NumPy, ``numpy.lib.format``). The header has room for any count, so that it can be rewritten in place:
first the rows are appended, then the count. A kill between the two leaves a file that ``np.load`` reads, some rows
shorter.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gazed_recorder.errors import DamagedFile

__all__ = ["GrowingArray"]


class GrowingArray:
    """A one-dimensional array on disk.

    Not safe for use from two threads at once, except ``sync``. Use as a context manager, or call ``close``.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, *, _flags: int = os.O_CREAT | os.O_EXCL) -> None:
        """Create ``path``, an empty array.

        Raises:
            FileExistsError: it exists.
            OSError: it cannot be written.
        """
        self._path = path
        self._dtype = np.dtype(dtype)
        self._head, self._size = _header_of(self._dtype)
        self._count = 0
        self._closed = False
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | _flags, 0o644)
        try:
            self.truncate(0 if _flags else self._rows_on_disk())
        except BaseException:
            os.close(self._fd)
            if _flags:
                path.unlink()
            raise

    @classmethod
    def resume(cls, path: Path, dtype: npt.DTypeLike) -> Self:
        """Open an array again to append to it.

        What is on disk counts: whole rows behind the header are kept whatever the header says, a partial row is cut.

        Raises:
            DamagedFile: the file is no array of ``dtype`` that this class made.
            OSError: it cannot be read or written.
        """
        return cls(path, dtype, _flags=0)

    def append(self, row: bytes) -> None:
        """Append the bytes of one or more whole rows.

        Raises:
            ValueError: ``row`` is not a whole number of rows.
            OSError: it could not be written; the array is as it was before.
        """
        rows, rest = divmod(len(row), self._dtype.itemsize)
        if rest or not rows:
            raise ValueError(f"{self._path}: {len(row)} bytes are no rows of {self._dtype.itemsize} bytes")
        try:
            written = os.write(self._fd, row)
            while written < len(row):
                written += os.write(self._fd, row[written:])
            self._set_count(self._count + rows)
        except OSError:
            self.truncate(self._count)
            raise

    def extend(self, rows: npt.NDArray[Any]) -> None:
        """Append an array of rows, shape (n,), converted to the dtype of the file.

        Raises:
            OSError: it could not be written; the array is as it was before.
        """
        if len(rows):
            self.append(np.ascontiguousarray(rows, self._dtype).tobytes())

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` rows.

        Raises:
            OSError: it could not be written.
        """
        self._set_count(count)
        end = self._size + count * self._dtype.itemsize
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)

    def sync(self) -> None:
        """Return when all rows are on the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            os.close(self._fd)

    @property
    def count(self) -> int:
        """Rows in the file."""
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_count(self, count: int) -> None:
        # One write inside one page: a kill leaves the old count or the new one, never a mixture.
        os.pwrite(self._fd, (self._head + b"(%d,), }" % count).ljust(self._size - 1) + b"\n", 0)
        self._count = count

    def _rows_on_disk(self) -> int:
        found = os.pread(self._fd, self._size, 0)
        if len(found) < self._size or not found.startswith(self._head):
            raise DamagedFile(
                f"{self._path}: not the header of an array of {self._dtype}, found {found[:64]!r}",
                hint=f"gazed repair {self._path.parent}",
            )
        return (os.fstat(self._fd).st_size - self._size) // self._dtype.itemsize


def _header_of(dtype: np.dtype[Any]) -> tuple[bytes, int]:
    """Return the header up to the shape, and its whole length."""
    whole = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (0,)}
    np.lib.format.write_array_header_1_0(whole, fields)
    return whole.getvalue().partition(b"(0,)")[0], len(whole.getvalue())
