"""From packed datums to columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gazed_recorder.datalog import unpack_datum
from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.packed import SPARE, PackedLog
from gazed_recorder.reading.schemas import Column, Path
from gazed_recorder.reading.table import Table
from gazed_recorder.reading.templates import Leaf, Template, Unfit

__all__ = ["free_columns", "read_columns", "unpack"]

# Datums are decoded so many at a time, and fewer large ones: what is worked on stays in the processor's cache.
_MOST_ROWS, _BLOCK_BYTES = 4096, 1 << 21
# Fewer datums of one length are unpacked one at a time; so are all that fit none of so many templates.
_FEWEST = 8
_MOST_TEMPLATES = 64
_DTYPES = {"float": np.dtype("<f8"), "int": np.dtype("<i8"), "text": np.dtype(object), "object": np.dtype(object)}
_MISSING = {"float": float("nan"), "int": -1, "text": None, "object": None}
_WIDE = 2**62
_ABSENT = object()


def read_columns(log: PackedLog, columns: Iterable[Column], rows: NDArray[np.int64]) -> Table:
    """Return columns of the datums of these numbers, in this order.

    Raises:
        DamagedFile: a datum cannot be unpacked, or a value is not what its column holds; names the datum.
    """
    return _Decoder(log, tuple(columns), len(rows)).decode(rows)


def unpack(log: PackedLog) -> Iterator[dict[str, Any]]:
    """Iterate over the datums, in the order of their arrival.

    Raises (while iterating):
        DamagedFile: one cannot be unpacked; names it.
    """
    for number, payload in enumerate(log.payloads()):
        yield _unpacked(log, number, payload)


def free_columns(datums: list[dict[str, Any]]) -> Table:
    """Return one column for each key of any of the datums, in the order in which they first appear.

    Columns of numbers are float64 (missing: NaN), or int64 if all are whole and none is missing; others are objects.
    """
    names = dict.fromkeys(name for datum in datums for name in datum)
    return Table({str(name): _free_column([datum.get(name) for datum in datums]) for name in names})


def _free_column(values: list[Any]) -> NDArray[Any]:
    kinds = {type(value) for value in values}
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)} and kinds != {type(None)}:
        return np.array([np.nan if value is None else float(value) for value in values])
    # Each value is one element, also where all are lists of the same length.
    return np.fromiter(values, object, len(values))


def _unpacked(log: PackedLog, number: int, payload: bytes) -> dict[str, Any]:
    try:
        return unpack_datum(payload)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DamagedFile(f"{log.path}: record {number} cannot be unpacked: {error}") from error


class _Decoder:
    """The columns of ``length`` rows, filled block by block."""

    def __init__(self, log: PackedLog, columns: tuple[Column, ...], length: int) -> None:
        self._log = log
        self._columns = columns
        self._values = {column.name: np.full(length, _MISSING[column.kind], _DTYPES[column.kind]) for column in columns}
        self._by_length: dict[int, list[tuple[Template, list[tuple[Column, Leaf]]]]] = {}
        # The whole datum is in no template.
        self._quick = not any(() in column.paths or column.kind == "object" for column in columns)

    def decode(self, rows: NDArray[np.int64]) -> Table:
        mean = int(self._log.lengths[rows].mean()) if len(rows) else 0
        step = min(_MOST_ROWS, _BLOCK_BYTES // (mean + 1) + 1)
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            block, starts = self._log.read(some)
            self._decode_block(first, some, block, starts)
        return Table(self._values)

    def _decode_block(
        self, first: int, rows: NDArray[np.int64], block: NDArray[np.uint8], starts: NDArray[np.int64]
    ) -> None:
        lengths = self._log.lengths[rows]
        for length in np.unique(lengths).tolist():
            same = np.flatnonzero(lengths == length)
            if self._quick and len(same) >= _FEWEST and length:
                padded = sliding_window_view(block, length + -length % SPARE)[starts[same]]
                same = self._by_template(first, same, padded, length)
            for place in same.tolist():
                start = int(starts[place])
                self._one(first + place, int(rows[place]), block[start : start + length].tobytes())

    def _by_template(
        self, first: int, places: NDArray[np.int64], padded: NDArray[np.uint8], length: int
    ) -> NDArray[np.int64]:
        """Decode payloads of one length, each a row of whole words; return the places of those that fit no template."""
        known = self._by_length.setdefault(length, [])
        payloads, words = padded[:, :length], padded.view(np.uint64)
        unfit: list[int] = []
        number = 0
        while len(places):
            if number < len(known):
                template, wanted = known[number]
            elif len(known) < _MOST_TEMPLATES:
                try:
                    template = Template(payloads[0].tobytes())
                except Unfit:
                    unfit.append(int(places[0]))
                    places, payloads, words = places[1:], payloads[1:], words[1:]
                    if len(unfit) > _MOST_TEMPLATES:
                        break
                    continue
                wanted = self._wanted(template)
                known.append((template, wanted))
            else:
                break
            number += 1
            fit = template.fits(words)
            if fit.all():
                self._cut(first + places, payloads, wanted)
                places = places[:0]
            elif fit.any():
                self._cut(first + places[fit], payloads[fit], wanted)
                places, payloads, words = places[~fit], payloads[~fit], words[~fit]
        return np.concatenate([np.array(unfit, np.int64), places])

    def _wanted(self, template: Template) -> list[tuple[Column, Leaf]]:
        """Pair each column with its value in a template."""
        leaves = template.leaves
        pairs = []
        for column in self._columns:
            found = [leaves[path] for path in column.paths if path in leaves]
            if found:
                pairs.append((column, found[-1]))
        return pairs

    def _cut(self, places: NDArray[np.int64], payloads: NDArray[np.uint8], wanted: list[tuple[Column, Leaf]]) -> None:
        for column, leaf in wanted:
            if leaf.offset < 0 or column.kind == "text":
                if leaf.offset < 0:
                    self._values[column.name][places] = self._checked(column, leaf.constant, -1)
                    continue
                raise DamagedFile(f"{self._log.path}: {column.name} is a number, wanted a text")
            dtype = np.dtype(leaf.dtype)
            cut = payloads[:, leaf.offset : leaf.offset + dtype.itemsize]
            numbers = np.ascontiguousarray(cut).view(dtype)[:, 0]
            if column.kind == "int" and dtype.kind == "f":
                numbers = self._whole(column, numbers)
            self._values[column.name][places] = numbers

    def _whole(self, column: Column, numbers: NDArray[Any]) -> NDArray[np.int64]:
        whole = np.where(np.isfinite(numbers) & (np.abs(numbers) < _WIDE), numbers, 0.5)
        if (whole != np.trunc(whole)).any():
            raise DamagedFile(f"{self._log.path}: {column.name} is not a whole number")
        return whole.astype(np.int64)

    def _one(self, row: int, number: int, payload: bytes) -> None:
        datum = _unpacked(self._log, number, payload)
        for column in self._columns:
            for path in column.paths:
                value = _follow(datum, path)
                if value is not _ABSENT:
                    self._values[column.name][row] = self._checked(column, value, number)

    def _checked(self, column: Column, value: Any, number: int) -> Any:
        if value is None:
            return _MISSING[column.kind]
        match column.kind:
            case "object":
                return value
            case "text" if isinstance(value, str):
                return value
            case "float" if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            case "int" if isinstance(value, int | float) and not isinstance(value, bool) and -_WIDE < value < _WIDE:
                if int(value) == value:
                    return int(value)
        where = f"record {number}" if number >= 0 else "records"
        wanted = {"float": "a number", "int": "a whole number", "text": "a text"}[column.kind]
        raise DamagedFile(f"{self._log.path}: {where}: {column.name} is {value!r:.80}, wanted {wanted}")


def _follow(datum: Mapping[str, Any], path: Path) -> Any:
    value: Any = datum
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, _ABSENT)
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return _ABSENT
    return value
