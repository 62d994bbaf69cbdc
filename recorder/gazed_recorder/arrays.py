"""The ``.npy`` files of a recording: made whole, and read without trusting them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gazed_recorder.errors import DamagedFile

__all__ = ["array_file", "read_array"]


def array_file(rows: NDArray[Any]) -> bytes:
    """Return the whole ``.npy`` file of an array."""
    whole = io.BytesIO()
    np.save(whole, rows)
    return whole.getvalue()


def read_array(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the rows of a 1-D ``.npy`` of version 1.0; a torn last row, or one that the header lacks, is left out.

    Raises:
        DamagedFile: there is no such file, or it is of another kind.
    """
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            if version != (1, 0):
                raise DamagedFile(f"{path}: npy version {version}, wanted (1, 0)")
            shape, _, found = npy.read_array_header_1_0(file)
            if len(shape) != 1 or found != dtype:
                raise DamagedFile(f"{path}: {len(shape)}-D of {found}, wanted 1-D of {dtype}")
            start = file.tell()
            rows = min(shape[0], (path.stat().st_size - start) // dtype.itemsize)
            return np.fromfile(file, dtype, rows)
    except OSError as error:
        raise DamagedFile(f"{path}: {error.strerror}", hint=f"gazed repair {path.parent}") from error
    except DamagedFile:
        raise
    # numpy tells of a bad header by whatever its parser stumbles over.
    except Exception as error:
        raise DamagedFile(f"{path}: no npy header: {error}", hint=f"gazed repair {path.parent}") from error
