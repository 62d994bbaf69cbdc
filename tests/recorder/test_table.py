from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from gazed_recorder.reading.columns import free_columns
from gazed_recorder.reading.table import Table


def table() -> Table:
    text = np.array(["a", None, "a"], object)
    return Table(
        {
            "timestamp": np.array([1.0, 2.0, 3.0]),
            "id": np.array([0, 1, -1]),
            "x": np.array([0.5, np.nan, 1]),
            "text": text,
        }
    )


def test_columns_rows_and_parts() -> None:
    whole = table()
    assert whole.columns == ("timestamp", "id", "x", "text")
    assert (len(whole), "x" in whole, "y" in whole) == (3, True, False)
    assert repr(whole) == "<Table of 3 rows: timestamp, id, x, text>"
    assert list(whole)[1] == {"timestamp": 2.0, "id": 1}
    assert whole[1:]["id"].tolist() == [1, -1]
    assert whole[whole["timestamp"] > 1.5]["timestamp"].tolist() == [2.0, 3.0]
    assert whole[[2, 0]]["text"].tolist() == ["a", "a"]
    assert whole.select(["id"]).columns == ("id",)
    assert whole.with_columns(index=np.arange(3)).columns[-1] == "index"
    assert Table.concatenated([whole, whole[:1]])["timestamp"].tolist() == [1.0, 2.0, 3.0, 1.0]
    with pytest.raises(KeyError, match="no column 'y', found timestamp, id, x, text"):
        whole["y"]
    with pytest.raises(ValueError, match="different lengths"):
        Table({"a": np.zeros(1), "b": np.zeros(2)})
    assert len(Table({})) == 0


def test_as_pandas_and_arrow() -> None:
    frame = table().to_pandas()
    assert frame["timestamp"].tolist() == [1.0, 2.0, 3.0]
    assert frame["text"].isna().tolist() == [False, True, False]
    arrow = table().to_arrow()
    assert arrow.schema.field("timestamp").type == pa.float64()
    assert arrow.schema.field("id").type == pa.int64()
    assert arrow.column("text").to_pylist() == ["a", None, "a"]


def test_datums_of_any_keys_become_columns() -> None:
    free = free_columns(
        [
            {"timestamp": 1, "label": "go", "n": 1},
            {"timestamp": 2.5, "n": 2, "more": {"a": [1]}},
            {"timestamp": 3, "n": 1 << 70},
        ]
    )
    assert free.columns == ("timestamp", "label", "n", "more")
    assert free["timestamp"].dtype == np.float64
    assert free["n"].tolist() == [1, 2, 1 << 70]
    assert free["more"].tolist() == [None, {"a": [1]}, None]
    assert free.to_arrow().column("more").to_pylist() == [None, '{"a":[1]}', None]
    assert free_columns([{"a": 1}, {"a": 2}])["a"].dtype == np.int64
    assert free_columns([{"a": True}, {"a": None}])["a"].tolist() == [True, None]
    assert free_columns([{"a": [1, 2]}, {"a": [3, 4]}])["a"].tolist() == [[1, 2], [3, 4]]
    assert len(free_columns([])) == 0
