"""Old pickles become msgpack, and nothing that they ask for is done."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_recorder.errors import DamagedFile
from gazed_recorder.reader import Recording
from gazed_recorder.reading.pickled import is_pickle, repack_lists, repack_pickle
from gazed_recorder.testing_classic import make_classic_recording
from gazed_recorder.testing_pickle import python2_pickle

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
texts = st.text(max_size=300)
numpys = st.floats(allow_nan=False).map(np.float64) | st.integers(-(2**31), 2**31 - 1).map(np.int32)
arrays = st.lists(st.floats(allow_nan=False), min_size=1, max_size=6).map(np.array)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda values: (
            st.lists(values, max_size=5)
            | st.lists(values, max_size=5).map(tuple)
            | st.dictionaries(texts | st.integers(0, 9), values, max_size=5)
        ),
        max_leaves=40,
    )


def plain(value: Any) -> Any:
    """Return what is left of a value in msgpack."""
    match value:
        case dict():
            return {key: plain(part) for key, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case np.generic():
            return value.item()
        case np.ndarray():
            return value.tolist()
    return value


def unpacked(pickled: bytes) -> Any:
    return msgpack.unpackb(repack_pickle(pickled, "pupil_data"), strict_map_key=False)


@given(nested(numbers | texts | numpys | arrays | st.none() | st.booleans()))
def test_what_python_2_wrote_comes_out_as_it_was(value: Any) -> None:
    pickled = python2_pickle(value)
    assert unpacked(pickled) == plain(value)
    # Python itself agrees that this is the pickle of that value.
    if "numpy" not in repr(pickled):
        assert plain(pickle.loads(pickled, encoding="utf-8")) == plain(value)  # noqa: S301


@given(nested(numbers | texts | st.none() | st.booleans()), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_what_python_3_wrote_comes_out_as_it_was(value: Any, protocol: int) -> None:
    assert unpacked(pickle.dumps(value, protocol)) == plain(value)


def test_the_bytes_of_a_real_python_2() -> None:
    # pickle.dumps({'id': 0, 'norm_pos': (0.5, 0.25), 'raw': '\xff\xfe', 'n': 2**40}, 2) by Python 2.7
    real = (
        b"\x80\x02}q\x01(U\x02idq\x02K\x00U\x08norm_posq\x03G?\xe0\x00\x00\x00\x00\x00\x00G?\xd0\x00\x00\x00\x00\x00"
        b"\x00\x86q\x04U\x03rawq\x05U\x02\xff\xfeq\x06U\x01nq\x07I1099511627776\nu."
    )
    assert unpacked(real) == {"id": 0, "norm_pos": [0.5, 0.25], "raw": b"\xff\xfe", "n": 2**40}


def test_numpys_numbers_and_arrays() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    value = {
        "x": np.float64(0.1), "y": np.float32(0.5), "n": np.int64(-(2**40)), "b": np.bool_(True), "u": np.uint8(200),
        "matrix": matrix, "again": matrix[0], "flags": np.array([True, False]),
    }  # fmt: skip
    assert unpacked(python2_pickle(value)) == plain(value)
    by_column = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x02\x86"
    )
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    assert unpacked(by_column + kind + b"\x88U\x04\x01\x02\x03\x04tb.") == [[1, 3], [2, 4]]


def test_a_map_in_two_places_is_written_out_in_both() -> None:
    pupil = {"id": 0, "timestamp": 1.0}
    content = {"pupil_positions": [pupil], "gaze_positions": [{"base": [pupil]}, {"base": [pupil]}]}
    assert unpacked(python2_pickle(content)) == content


def test_lists_of_datums_are_told_one_by_one() -> None:
    datums = [{"timestamp": float(number), "x": (number, 0.5)} for number in range(2500)]
    content = {"pupil_positions": datums, "again": datums, "tuple": (1, 2), "none": []}
    for pickled in (python2_pickle(content), pickle.dumps(content, 4), pickle.dumps(content, 0)):
        lists = repack_lists(pickled, "pupil_data")
        assert [msgpack.unpackb(each) for each in lists["pupil_positions"]] == plain(datums)
        assert lists["again"] == lists["pupil_positions"]
        assert [lists["tuple"], lists["none"]] == [[b"\x01", b"\x02"], []]
    for other in ([1], {"pupil_positions": 1}, {"pupil_positions": {"a": 1}}, "text"):
        with pytest.raises(DamagedFile, match="wanted a map of lists"):
            repack_lists(python2_pickle(other), "pupil_data")


class Calls:
    """Anything that Python's own unpickler would call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.exec, builtins.open, getattr, os.remove])
def test_nothing_is_called(function: Any, protocol: int, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    argument = f"touch {witness}" if function is os.system else f"open({str(witness)!r}, 'w').close()"
    evil = pickle.dumps({"pupil_positions": [Calls(function, argument)]}, protocol)
    with pytest.raises(DamagedFile, match="nothing was run"):
        repack_pickle(evil, "pupil_data")
    assert not witness.exists()


ATTACKS = {
    "a class by INST": b"(ios\nsystem\n.",
    "a class by OBJ": b"(cos\nsystem\nU\x02ido.",
    "a class by NEWOBJ": b"\x80\x02cbuiltins\nlist\n)\x81.",
    "a class by NEWOBJ_EX": b"\x80\x04\x8c\x08builtins\x8c\x04list\x93)}\x92.",
    "a class by extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pid\n.",
    "a persistent id in binary": b"\x80\x02U\x02idQ.",
    "a name made of texts": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    "a name made of a number": b"\x80\x04K\x01K\x02\x93.",
    "numpy's load": b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
    "a state for a map": b"\x80\x02}U\x01xb.",
    "a state for a function": b"\x80\x02cnumpy\ndtype\nU\x01xb.",
    "an array of objects": b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.",
    "a type as a value": b"\x80\x02]cnumpy\ndtype\na.",
    "a type as a result": b"\x80\x02cnumpy\ndtype\n.",
    "numpy's number without a type": b"\x80\x02cnumpy.core.multiarray\nscalar\nK\x01K\x02\x86R.",
    "a called number": b"\x80\x02K\x01)R.",
    "a set": pickle.dumps({1}, 4),
    "a map as a key": b"\x80\x02}}K\x01s.",
    "a list as a key": b"\x80\x02}]K\x01s.",
    "a float as a key": b"\x80\x02}G?\xe0\x00\x00\x00\x00\x00\x00K\x01s.",
    "a key without a value": b"\x80\x02}(K\x01u.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a map that grows later": b"\x80\x02]}q\x00ah\x00K\x01K\x02s.",
    "a value for a number": b"\x80\x02K\x01K\x02a.",
    "a pair for a list": b"\x80\x02]K\x01K\x02s.",
    "what was never remembered": b"\x80\x02h\x09.",
    "a mark that is not there": b"\x80\x02]e.",
    "a whole number of a megabyte": b"\x80\x02\x8b\x00\x00\x10\x00" + bytes(1 << 20) + b".",
    "a whole number of 65 bits": b"\x80\x02I36893488147419103232\n.",
    "a number in words": b"Ione\n.",
    "a float in words": b"Fone\n.",
    "a text without its quotes": b"Sone\n.",
    "a line without end": b"I" + b"1" * 100_000,
    "a text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "binary data longer than the file": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "nothing": b"\x80\x02",
    "no result": b"\x80\x02.",
    "no end": b"\x80\x02K\x01",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_no_recording_is_refused(name: str) -> None:
    with pytest.raises(DamagedFile, match=r"^pupil_data: a pickle that is not read further than byte \d+: "):
        repack_pickle(ATTACKS[name], "pupil_data")


def _lists_of_lists(levels: int) -> bytes:
    """Return a list of 200 times a list of 200 times a list …: each is one object."""
    head = b"\x80\x02]q\x00"
    for level in range(1, levels):
        head += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * 200 + b"e"
    return head + b"."


BOMBS = {
    "lists of lists": _lists_of_lists(20),
    "tuples of tuples": b"\x80\x02)"
    + b"".join(b"q%c(" % level + b"h%c" % level * 200 + b"t" for level in range(20))
    + b".",
    "a deep tuple": b"\x80\x02)" + b"\x85" * 300_000 + b".",
    "a deep list": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "a tower of maps": b"\x80\x02" + b"}" * 1_500_000,
    "a tower of marks": b"\x80\x02" + b"(" * 1_500_000,
    "much to remember": b"\x80\x04]" + b"\x94" * 1_500_000,
    "a place far out": b"\x80\x02]r\xff\xff\xff\x7f.",
    "an array of nothing": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01J\x00\x00\x00\x40K\x00"
        b"\x86cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R\x89U\x00tb."
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_neither_time_nor_memory(name: str) -> None:
    tracemalloc.start()
    begun = time.process_time()
    with suppress(DamagedFile):
        repack_pickle(BOMBS[name], "pupil_data")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6
    assert time.process_time() - begun < 20


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes(junk: bytes) -> None:
    for pickled in (junk, b"\x80\x02" + junk, b"\x80\x04(" + junk):
        try:
            repack_pickle(pickled, "junk")
        except DamagedFile:
            continue


@settings(max_examples=300)
@given(st.data())
def test_mutated_pickles(data: st.DataObject) -> None:
    pupil = {"norm_pos": (np.float64(0.5), np.float64(0.25)), "id": 0, "method": "2d python", "a": np.arange(3.0)}
    pickled = bytearray(python2_pickle({"pupil_positions": [pupil], "gaze_positions": [{"base": [pupil]}]}))
    for _ in range(data.draw(st.integers(1, 4))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    try:
        msgpack.unpackb(repack_pickle(bytes(pickled), "mutated"), strict_map_key=False)
    except DamagedFile:
        return


def test_what_is_a_pickle_and_what_is_msgpack() -> None:
    for protocol in range(6):
        assert is_pickle(pickle.dumps({"pupil_positions": []}, protocol)[:2])
    for size in (0, 3, 20, 70_000):
        assert not is_pickle(msgpack.packb({str(number): [] for number in range(size)})[:2])


def test_a_recording_with_an_evil_pickle_opens_and_refuses_it(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "0.7.4", seconds=0.2)
    (folder / "pupil_data").write_bytes(pickle.dumps({"pupil_positions": Calls(os.system, f"touch {tmp_path}/x")}, 2))
    recording = Recording(folder)
    assert len(recording.world) == 6
    with pytest.raises(DamagedFile, match="nothing was run"):
        _ = recording.pupil
    with pytest.raises(DamagedFile, match="nothing was run"):
        _ = recording.logs
    assert any("nothing was run" in sentence for sentence in recording.missing)
    (folder / "camera_calibration").write_bytes(pickle.dumps(Calls(os.system, f"touch {tmp_path}/x"), 2))
    with pytest.raises(DamagedFile, match="nothing was run"):
        recording.intrinsics("world")
    assert not (tmp_path / "x").exists()
