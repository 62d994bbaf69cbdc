"""The files of a BIDS dataset: tables without and with a header, compressed and not, and JSON beside them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.events import clean_text

__all__ = ["MISSING", "PackedTsv", "cell", "json_bytes", "tsv_bytes"]

MISSING = "n/a"
# A higher one takes three times as long and saves a fiftieth.
_LEVEL = 4


class PackedTsv:
    """A ``.tsv.gz`` without a header, written column by column; its bytes depend on the values alone.

    Numbers are the shortest ones that read back exactly; what is missing or no finite number is ``n/a``.
    """

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            raw = opened.enter_context(path.open("xb"))
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=raw, mtime=0)
            self._file = opened.enter_context(packed)
            self._close = opened.pop_all()
        self.rows = 0

    def write(self, columns: Sequence[NDArray[Any]]) -> None:
        """Add rows: columns of equal length, of numbers or of texts that have neither tabs nor ends of lines."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = []
        for column in columns:
            if column.dtype == object:
                texts.append(pa.array(column, pa.string()))
            else:
                missing = ~np.isfinite(column)
                texts.append(pc.cast(pa.array(column, mask=missing), pa.string()))
        options = {"null_handling": "replace", "null_replacement": MISSING}
        lines = pc.binary_join_element_wise(*texts, "\t", **options).to_pylist()
        if lines:
            self._file.write(("\n".join(lines) + "\n").encode())
        self.rows += len(lines)

    def __enter__(self) -> PackedTsv:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close.__exit__(kind, error, trace)


def tsv_bytes(names: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a small table with a header."""
    lines = ["\t".join(map(cell, names)), *("\t".join(map(cell, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def cell(value: object) -> str:
    """Return a value as one cell: numbers exactly, a text in one line; ``n/a`` for what is missing or not finite."""
    if isinstance(value, float):
        return repr(value) if np.isfinite(value) else MISSING
    text = "" if value is None else clean_text(str(value).lower() if isinstance(value, bool) else str(value))
    return re.sub(r"\s+", " ", text).strip() or MISSING


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Return a JSON file, in the order of the keys."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
