from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_recorder.errors import DamagedFile
from gazed_recorder.npy import GrowingArray
from gazed_recorder.records import FRAME_DTYPE, FrameRecord


def saved(rows: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.floats()),
        st.tuples(st.just("extend"), st.lists(st.floats(), max_size=30)),
        st.tuples(st.just("truncate"), st.floats(0, 1)),
        st.tuples(st.just("resume"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=50, deadline=None)
@given(steps=steps)
def test_the_file_is_what_numpy_would_save_after_each_step(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("a") / "a.npy"
    model: list[float] = []
    array = GrowingArray(path, "<f8")
    for step, value in steps:
        if step == "append":
            array.append(np.float64(value).tobytes())
            model.append(value)
        elif step == "extend":
            array.extend(np.array(value, float))
            model += value
        elif step == "truncate":
            del model[int(value * len(model)) :]
            array.truncate(len(model))
        else:
            array.close()
            array = GrowingArray.resume(path, "<f8")
        assert path.read_bytes() == saved(np.array(model, "<f8"))
        assert array.count == len(model)
    array.close()


def test_frame_records_read_back_as_structured_rows(tmp_path):
    records = [FrameRecord(i, i / 7, i * 3, i * 5, i / 30, 2**64 - 1 - i) for i in range(1001)]
    with GrowingArray(tmp_path / "f.npy", FRAME_DTYPE) as array:
        for record in records:
            array.append(record.pack())
        array.sync()
    rows = np.load(tmp_path / "f.npy")
    assert rows.dtype == FRAME_DTYPE
    assert [FrameRecord(*row) for row in rows.tolist()] == records


def test_a_kill_between_row_and_count_costs_readers_that_row_only_until_resumed(tmp_path):
    path = tmp_path / "a.npy"
    with GrowingArray(path, "<f8") as array:
        array.extend(np.arange(5.0))
    with path.open("ab") as file:
        file.write(np.float64(5).tobytes())
    assert np.load(path).tolist() == [0, 1, 2, 3, 4]
    GrowingArray.resume(path, "<f8").close()
    assert np.load(path).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_file_cut_anywhere_resumes_with_its_whole_rows(tmp_path):
    path = tmp_path / "a.npy"
    with GrowingArray(path, "<f8") as array:
        array.extend(np.arange(4.0))
    whole = path.read_bytes()
    for cut in range(128, len(whole) + 1):
        path.write_bytes(whole[:cut])
        with GrowingArray.resume(path, "<f8") as array:
            array.append(np.float64(9).tobytes())
        assert np.load(path).tolist() == [*range((cut - 128) // 8), 9]


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", bytes(500), saved(np.zeros(3, "<f4")), saved(np.zeros((3, 1)))[:99]]
)
def test_resuming_what_is_no_such_array_is_refused_and_changes_nothing(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"a\.npy"):
        GrowingArray.resume(path, "<f8")
    assert path.read_bytes() == content


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        GrowingArray(path, "<f8")
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("row", [b"", b"1234567", b"123456789"])
def test_a_part_of_a_row_is_refused(tmp_path, row):
    with GrowingArray(tmp_path / "a.npy", "<f8") as array:
        with pytest.raises(ValueError, match="rows of 8 bytes"):
            array.append(row)
        assert array.count == 0
