"""How numpy's numbers and arrays are written in pickles: four names, and what belongs to them.

Source of the format: numpy's ``__reduce__`` and ``__setstate__``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NAMES", "Dtype", "Name", "array_of", "is_dtype"]

_LARGEST = 1 << 24
_DTYPE = re.compile(r"[biuf][1248]")


class Name(enum.Enum):
    """What numpy's numbers and arrays are made by."""

    SCALAR = "scalar"
    DTYPE = "dtype"
    ARRAY = "ndarray"
    RECONSTRUCT = "_reconstruct"


NAMES = {
    ("numpy.core.multiarray", "scalar"): Name.SCALAR,
    ("numpy", "dtype"): Name.DTYPE,
    ("numpy", "ndarray"): Name.ARRAY,
    ("numpy.core.multiarray", "_reconstruct"): Name.RECONSTRUCT,
}
"""By module and name."""


class Dtype:
    """A numpy dtype: a ``code`` such as f8, and the ``order`` of its bytes."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="


def is_dtype(code: str) -> bool:
    """Tell whether a code is that of whole numbers, floats or truth values."""
    return _DTYPE.fullmatch(code) is not None


def array_of(dtype: Dtype, raw: Any, shape: Sequence[Any], by_column: bool = False) -> NDArray[Any]:
    """Return the array of this shape whose content ``raw`` is.

    Raises:
        ValueError, TypeError, OverflowError: it is not the content of such an array.
    """
    content = raw.encode() if isinstance(raw, str) else raw
    if not isinstance(content, bytes) or len(content) > _LARGEST or 0 in shape[1:]:
        raise ValueError("no content of an array")
    kind = np.dtype(dtype.order + dtype.code)
    return np.frombuffer(content, kind).reshape(tuple(shape), order="F" if by_column else "C")
