"""``Table``: data as columns of equal length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["Table"]


class Table:
    """Named columns of equal length, each a 1-D numpy array.

    Numbers are float64 (what a datum lacks is NaN) or int64, texts and everything else are Python objects (what a datum
    lacks is ``None``). ``table["confidence"]`` is a column; ``table[:100]``, ``table[mask]`` and ``table[indices]`` are
    tables of those rows; iterating gives one dict a row, without what it lacks.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._columns = dict(columns)
        lengths = {len(column) for column in self._columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        self._length = lengths.pop() if lengths else 0

    @classmethod
    def concatenated(cls, tables: Sequence[Table]) -> Table:
        """Return the rows of several tables with the same columns, one after the other."""
        return cls({name: np.concatenate([table[name] for table in tables]) for name in tables[0].columns})

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._columns)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"<Table of {self._length} rows: {', '.join(self._columns)}>"

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice | NDArray[Any] | Sequence[int]) -> Table: ...
    def __getitem__(self, key: str | slice | NDArray[Any] | Sequence[int]) -> NDArray[Any] | Table:
        """Return a column by its name, or the rows of a slice, of a boolean mask or of indices.

        Raises:
            KeyError: there is no column of that name; the message lists those there are.
        """
        if isinstance(key, str):
            try:
                return self._columns[key]
            except KeyError:
                raise KeyError(f"no column {key!r}, found {', '.join(self._columns)}") from None
        rows = key if isinstance(key, slice) else np.asarray(key)
        return Table({name: column[rows] for name, column in self._columns.items()})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        names = self.columns
        for values in zip(*(self._columns[name].tolist() for name in names), strict=True):
            yield {
                name: value for name, value in zip(names, values, strict=True) if value is not None and value == value
            }

    def select(self, names: Iterable[str]) -> Table:
        """Return the table with only these columns.

        Raises:
            KeyError: as for one column.
        """
        return Table({name: self[name] for name in names})

    def with_columns(self, **columns: NDArray[Any]) -> Table:
        """Return the table with further columns (or others of the same name)."""
        return Table({**self._columns, **columns})

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas ``DataFrame``; needs ``gazed[export]``."""
        import pandas as pd

        return pd.DataFrame(self._columns, copy=False)

    def to_arrow(self) -> pyarrow.Table:
        """Return a pyarrow ``Table``, texts as dictionaries; needs ``gazed[export]``."""
        import pyarrow as pa

        return pa.table({name: _arrow(column) for name, column in self._columns.items()})


def _arrow(column: NDArray[Any]) -> Any:
    import pyarrow as pa

    if column.dtype != object:
        return pa.array(column)
    kinds = {type(value) for value in column.tolist()} - {type(None)}
    if kinds <= {str}:
        return pa.array(column, pa.string()).dictionary_encode()
    if kinds <= {bool} or kinds <= {int} or kinds <= {int, float}:
        return pa.array(column.tolist())
    import msgspec

    # Maps and lists of any shape: one text each, which every reader of Parquet takes.
    return pa.array([None if value is None else msgspec.json.encode(value).decode() for value in column], pa.string())
