"""Columns cut out of packed datums hold what unpacking them one at a time gives."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.columns import read_columns
from gazed_recorder.reading.logs import Log, pldata_log
from gazed_recorder.reading.packed import PackedLog, index_pldata
from gazed_recorder.reading.schemas import SCHEMAS, Column
from gazed_recorder.reading.templates import Template, Unfit

NUMBERS = st.one_of(st.floats(), st.floats(width=32), st.integers(-(2**53), 2**53), st.integers(-200, 200), st.none())
COLUMNS = (
    Column("number", "float", (("n",),)),
    Column("whole", "int", (("i",),)),
    Column("text", "text", (("t",),)),
    Column("deep", "float", (("m", "v", 1),)),
    Column("either", "float", (("old",), ("new", "1"), ("new", 1))),
)


def pack(datum: object) -> bytes:
    # Pupil Player packs the data that others rest on once more.
    return bytes(msgpack.packb(datum, default=lambda each: msgpack.ExtType(13, pack(each.inner))))


class Nested:
    def __init__(self, inner: object) -> None:
        self.inner = inner


def log_of(payloads: list[bytes]) -> PackedLog:
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    return PackedLog(Path("memory"), np.cumsum(lengths) - lengths, lengths, b"".join(payloads))


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, object]:
    """Draw a datum whose numbers are placeholders, so that several datums can have the same shape."""
    shape: dict[str, object] = {}
    for key in draw(st.permutations(["n", "i", "t", "m", "old", "new", "x"])):
        if draw(st.booleans()):
            shape[key] = {
                "n": "number", "i": "whole", "t": draw(st.sampled_from(["a", "b", "é" * 20])), "old": "number",
                "m": draw(st.sampled_from([{"v": ["number", "number"]}, {"w": 1}, [1, 2], {"v": []}])),
                "new": draw(st.sampled_from([{"1": "number"}, {1: "number"}, ["number", "number"]])),
                "x": draw(st.sampled_from([{}, True, None, b"raw", "y" * 300, 1 << 40, -(1 << 40)])),
            }[key]  # fmt: skip
    return shape


def fill(draw: st.DrawFn, shape: object, wrap: bool) -> object:
    if shape == "number":
        return draw(NUMBERS)
    if shape == "whole":
        return draw(st.one_of(st.integers(-(2**40), 2**40), st.integers(0, 3), st.just(2.0), st.none()))
    if isinstance(shape, dict):
        filled = {key: fill(draw, value, wrap) for key, value in shape.items()}
        return Nested(filled) if wrap and shape and "n" not in shape else filled
    return [fill(draw, value, wrap) for value in shape] if isinstance(shape, list) else shape


@st.composite
def logs(draw: st.DrawFn) -> list[bytes]:
    payloads = []
    for shape in draw(st.lists(shapes(), min_size=1, max_size=3)):
        wrap = draw(st.booleans())
        for _ in range(draw(st.integers(1, 12))):
            datum = {key: fill(draw, value, wrap) for key, value in shape.items()}
            payloads.append(pack(datum))
    return draw(st.permutations(payloads))


def follow(datum: object, *path: object) -> object:
    for step in path:
        try:
            datum = datum[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return datum


def expected(datum: dict[str, object], column: Column) -> object:
    found = None
    for path in column.paths:
        value = follow(datum, *path)
        found = value if value is not None else found
    missing = {"float": math.nan, "int": -1, "text": None}[column.kind]
    return missing if found is None else found


def plain(payload: bytes) -> dict[str, object]:
    def nested(code: int, data: bytes) -> object:
        return plain(data)

    datum = msgpack.unpackb(payload, strict_map_key=False, ext_hook=nested)
    assert isinstance(datum, dict)  # an empty list would make a map as well
    return datum


@given(logs())
def test_columns_are_what_unpacking_gives(payloads: list[bytes]) -> None:
    columns = [column for column in COLUMNS if column.name != "either"]
    rows = np.arange(len(payloads))[::-1].copy()
    table = read_columns(log_of(payloads), columns, rows)
    for column in columns:
        wanted = [expected(plain(payloads[row]), column) for row in rows]
        if column.kind == "text":
            assert table[column.name].tolist() == wanted
        else:
            np.testing.assert_array_equal(table[column.name], np.array(wanted, table[column.name].dtype))


@given(
    st.lists(st.sampled_from([{"old": 1.0}, {"new": {"1": 2.0}}, {"new": [0, 3.5]}, {"new": {1: 4}}, {}]), min_size=20)
)
def test_of_several_places_the_last_one_counts(datums: list[dict[str, object]]) -> None:
    table = read_columns(log_of([pack(datum) for datum in datums]), COLUMNS[-1:], np.arange(len(datums)))
    np.testing.assert_array_equal(table["either"], [expected(datum, COLUMNS[-1]) for datum in datums])


@given(st.binary(max_size=60), st.integers(1, 30))
def test_bytes_that_are_no_datum_are_told(junk: bytes, copies: int) -> None:
    try:
        good = not set(plain(junk)) & {"n", "i", "t", "m", "old", "new"}
    except Exception:  # noqa: BLE001 - msgpack tells of junk in many ways
        good = False
    with nullcontext() if good else pytest.raises(DamagedFile, match="memory"):
        read_columns(log_of([junk] * copies), COLUMNS, np.arange(copies))


@pytest.mark.parametrize("copies", [1, 40])
@pytest.mark.parametrize(
    ("datum", "message"),
    [
        ({"n": "fast"}, "number is 'fast', wanted a number"),
        ({"n": True}, "number is True, wanted a number"),
        ({"i": "3"}, "whole is '3', wanted a whole number"),
        ({"i": 0.5}, "whole is "),
        ({"t": 5}, "text is "),
        ({"m": {"v": [0, {}]}}, "deep is {}, wanted a number"),
    ],
)
def test_a_value_of_another_kind_is_told(datum: dict[str, object], message: str, copies: int) -> None:
    with pytest.raises(DamagedFile, match=message):
        read_columns(log_of([pack(datum)] * copies), COLUMNS, np.arange(copies))


def test_a_key_that_stands_twice_counts_once() -> None:
    twice = b"\x82" + (b"\xa1m\x81\xa1v\x92\x01\x02" + b"\xa1m\x81\xa1w\x05")
    table = read_columns(log_of([twice] * 40), COLUMNS, np.arange(40))
    assert np.isnan(table["deep"]).all()


@pytest.mark.parametrize(
    "bomb", [b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\x81\xa1n" * 5000, b"\xdf\xff\xff\xff\xff"]
)
def test_a_datum_that_promises_too_much_is_told(bomb: bytes) -> None:
    with pytest.raises(Unfit):
        Template(bomb)
    with pytest.raises(DamagedFile, match="cannot be unpacked"):
        read_columns(log_of([bomb] * 20), COLUMNS, np.arange(20))


def write_pldata(path: Path, payloads: list[bytes], topic: str = "x") -> None:
    path.write_bytes(b"".join(msgpack.packb([topic, payload]) for payload in payloads))


@given(
    payloads=st.lists(st.one_of(st.binary(max_size=300), st.just(b"z" * 70_000)), max_size=8),
    topic=st.sampled_from(["x", "t" * 40]),
    cut=st.integers(0, 400),
)
def test_the_index_finds_what_the_reader_passes(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], topic: str, cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.pldata"
    write_pldata(path, payloads, topic)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    log = index_pldata(path)
    found = list(log.payloads())
    assert found == payloads[: len(found)]
    sizes = [len(msgpack.packb([topic, payload])) for payload in payloads]
    kept = max(0, len(whole) - cut)
    assert len(found) == int(np.searchsorted(np.cumsum(sizes), kept, side="right"))
    assert log.torn == kept - sum(sizes[: len(found)])


def test_damage_in_the_middle_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.pldata"
    write_pldata(path, [b"a" * 10] * 3)
    path.write_bytes(path.read_bytes() + b"garbage" + path.read_bytes())
    with pytest.raises(DamagedFile, match=r"no record at byte 45, after 3 good ones"):
        index_pldata(path)


def test_rows_come_in_the_order_of_time_whatever_order_they_arrived_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    stamps = rng.permutation(np.repeat(np.arange(500) / 8, 2))
    write_pldata(
        tmp_path / "pupil.pldata", [pack({"timestamp": float(t), "id": index}) for index, t in enumerate(stamps)]
    )
    log = pldata_log(tmp_path / "pupil.pldata")
    table = log.table()
    order = np.argsort(stamps, kind="stable")
    assert table["timestamp"].tolist() == stamps[order].tolist()
    assert table["eye_id"].tolist() == order.tolist()
    pieces = list(log.batches(rows=64))
    assert [len(piece) for piece in pieces] == [64] * 15 + [40]
    assert np.concatenate([piece["eye_id"] for piece in pieces]).tolist() == order.tolist()
    assert log.table(["eye_id"]).columns == ("eye_id",)
    with pytest.raises(KeyError, match="no column 'diamter', found timestamp"):
        log.table(["diamter"])


def test_datums_from_all_over_a_large_file_are_read_piece_by_piece(tmp_path: Path) -> None:
    payloads = [pack({"timestamp": float(index), "pad": b"p" * 60_000}) for index in range(1500)]
    write_pldata(tmp_path / "pupil.pldata", payloads)
    log = index_pldata(tmp_path / "pupil.pldata")
    rows = np.array([1499, 0, 750, 1, 1498], np.int64)
    block, starts = log.read(rows)
    assert [block[start : start + log.lengths[row]].tobytes() for start, row in zip(starts, rows, strict=True)] == [
        payloads[row] for row in rows
    ]
    assert len(block) < 1_000_000


def test_monocular_gaze_goes_to_the_eye_of_its_pupil() -> None:
    def gaze(eye: int, **more: object) -> bytes:
        return pack({"timestamp": 1.0, "base_data": [{"timestamp": 0.5, "id": eye}], **more})

    alone = {"eye_center_3d": [1.0, 2.0, 3.0], "gaze_normal_3d": [0.0, 0.0, 1.0]}
    both = {"eye_centers_3d": {"0": [1, 1, 1], "1": [2, 2, 2]}, "gaze_normals_3d": {"0": [3, 3, 3], "1": [4, 4, 4]}}
    old = {"eye_centers_3d": {0: [5.0] * 3, 1: [6.0] * 3}, "gaze_normals_3d": {0: [7.0] * 3, 1: [8.0] * 3}}
    payloads = [gaze(0, **alone), gaze(1, **alone), gaze(0, **both), gaze(0, **old)]
    log = Log("gaze", lambda: log_of(payloads))
    table = log.table()
    nan = math.nan
    np.testing.assert_array_equal(table["eye_center0_3d_x"], [1.0, nan, 1.0, 5.0])
    np.testing.assert_array_equal(table["eye_center1_3d_x"], [nan, 1.0, 2.0, 6.0])
    np.testing.assert_array_equal(table["gaze_normal0_z"], [1.0, nan, 3.0, 7.0])
    np.testing.assert_array_equal(table["gaze_normal1_z"], [nan, 1.0, 4.0, 8.0])
    assert "eye_center_3d_x" not in table


def test_every_schema_has_its_own_names() -> None:
    for columns in SCHEMAS.values():
        names = [column.name for column in columns]
        assert len(set(names)) == len(names)
        assert names[0] == "timestamp"
