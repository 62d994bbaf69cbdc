"""Old pickles, turned into msgpack without making any of the objects that they tell of.

Up to version 0.9.3 Pupil Capture wrote ``pupil_data`` and ``camera_calibration`` as pickles: of protocol 2 by Python 2,
of protocol 4 from 0.9 on by Python 3. A pickle is a program. This one is not run by Python's own machine, which calls
what it is told to, but by one that knows numbers, texts, lists and maps, and turns each into packed bytes as soon as it
is complete. Of what stands for classes and functions it knows those four names by which numpy's numbers and arrays are
written, and does itself what they say. Everything else is refused.

Source of the format: the documentation of Python's ``pickletools``.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.pickled_numpy import NAMES, Dtype, Name, array_of, is_dtype
from gazed_recorder.reading.pickled_values import FALSE, TRUE, PickleValues

__all__ = ["is_pickle", "repack_lists", "repack_pickle"]

# What a pickle of so many bytes may become: maps that stand in many places are written out in each of them.
_ROOM, _EXPANSION = 1 << 26, 64
_MOST_VALUES = 1 << 18
_ROOM_IN_MEMO, _BYTES_PER_MEMO = 10_000, 4
_STEPS_AT_ONCE = 4096
_DOUBLE, _MARK, _GET, _LONG_GET, _LONG_PUT, _STOP = 0x47, 0x28, 0x68, 0x6A, 0x72, 0x2E
_KNOWN_KEYS = 1024
_HEADS = [[bytes([first + count]) for count in range(16)] for first in (0x90, 0x80)]
_EMPTY_LIST, _NONE = b"\x90", b"\xc0"

# Bytes are a packed value; a tuple has among its values what is none.
_Value = Any


class _Growing:
    """A list, map or array that may still grow; ``packed`` once it is complete.

    ``items`` are packed values, but for the lists that are values of a map: these are packed together with it, so that
    the lists of datums, which are values of the outermost map, need not be.
    """

    __slots__ = ("is_map", "items", "packed")

    def __init__(self, is_map: bool, items: list[_Value]) -> None:
        self.is_map = is_map
        self.items = items
        self.packed: bytes | None = None


class _Array(_Growing):
    """A numpy array, as a list; it is empty until its content comes."""


def is_pickle(start: bytes) -> bool:
    """Tell whether a file that begins so (2 bytes or more) may be a pickled map, and cannot be a packed one."""
    return start[:1] in (b"(", b"}") or (start[:1] == b"\x80" and b"\x02" <= start[1:2] <= b"\x05")


def repack_pickle(pickled: bytes, name: object) -> bytes:
    """Return the content of a pickle as msgpack. Texts that are no UTF-8 become binary data, tuples become lists.

    ``name`` is that of its file, for messages. Time and memory grow with the size of the pickle and no faster.

    Raises:
        DamagedFile: it is torn, or holds something else than numbers, texts, lists and maps. Nothing of it is run.
    """
    machine = _Machine(pickled, name)
    return machine.packed(machine.run())


def repack_lists(pickled: bytes, name: object) -> dict[str, list[bytes]]:
    """Return a pickled map of lists: the packed values of the lists by their keys; as ``repack_pickle``.

    Raises:
        DamagedFile: also if it is something else.
    """
    machine = _Machine(pickled, name)
    found = machine.run()
    if not isinstance(found, _Growing) or not found.is_map or found.packed is not None:
        raise DamagedFile(f"{name}: wanted a map of lists")
    lists: dict[str, list[bytes]] = {}
    for key, value in zip(found.items[::2], found.items[1::2], strict=True):
        whole = isinstance(value, _Growing) and value.packed is None
        # The same list may stand under two keys.
        lists[str(msgpack.unpackb(key))] = [*value.items] if whole else _split(machine.packed(value), name)
    return lists


class _Machine(PickleValues):
    def __init__(self, pickled: bytes, name: object) -> None:
        super().__init__(pickled, name)
        self._stack: list[_Value] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Value] = {}
        self._remembered = 0
        self._wanted = _fetched(pickled)
        self._most_memo = _ROOM_IN_MEMO + len(pickled) // _BYTES_PER_MEMO
        self._left = _ROOM + _EXPANSION * len(pickled)
        self._packer = msgpack.Packer()
        self._keys: set[bytes] = set()
        self._steps: list[Callable[[], None] | None] = [None] * 256
        for code, step in self._opcodes().items():
            self._steps[code] = step

    def run(self) -> _Value:
        """Return what the pickle is of."""
        try:
            while self._run_some():
                if len(self._stack) + len(self._marks) > _MOST_VALUES:
                    self.refuse(f"more than {_MOST_VALUES} values in one list")
            return self._stack.pop()
        except (IndexError, KeyError, ValueError, OverflowError, struct.error, msgpack.UnpackException) as error:
            self.refuse(f"it ends too early, or is no pickle: {error}")
        finally:
            # The steps refer to the machine, so that it stays for a while.
            self._memo.clear()
            self.data = b""

    def _run_some(self) -> bool:
        """Take some steps; return whether there are more to take. What there is most of comes first."""
        data, steps, memo, push, at = self.data, self._steps, self._memo, self._stack.append, self.at
        wanted = self._wanted
        for _ in range(_STEPS_AT_ONCE):
            code = data[at]
            if code == _DOUBLE:  # it has the same bytes in both formats
                push(b"\xcb" + data[at + 1 : at + 9])
                at += 9
            elif code == _GET:
                push(memo[data[at + 1]])
                at += 2
            elif code == _MARK:
                self._marks.append(len(self._stack))
                at += 1
            elif code == _LONG_PUT and int.from_bytes(data[at + 1 : at + 5], "little") not in wanted:
                self._remembered += 1
                at += 5
            elif code == _STOP:
                return False
            else:
                self.at = at + 1
                step = steps[code]
                if step is None:
                    self.refuse(f"the instruction 0x{code:02x} is for none of numbers, texts, lists and maps")
                step()
                at = self.at
        self.at = at
        return True

    def _opcodes(self) -> dict[int, Callable[[], None]]:
        push = self._stack.append
        return {
            # how it is written
            0x80: lambda: self.skip(1), 0x95: lambda: self.skip(8),
            # numbers
            0x4E: lambda: push(_NONE), 0x88: lambda: push(TRUE), 0x89: lambda: push(FALSE),
            0x4A: lambda: push(self.signed()), 0x4B: lambda: push(self.unsigned(1)),
            0x4D: lambda: push(self.unsigned(2)),
            0x8A: lambda: push(self.long(1)), 0x8B: lambda: push(self.long(4)),
            0x49: lambda: push(self.int_line()), 0x4C: lambda: push(self.int_line()),
            0x46: lambda: push(self.float_line()),
            # texts
            0x55: lambda: push(self.text(1)), 0x54: lambda: push(self.text(4)), 0x58: lambda: push(self.text(4)),
            0x8C: lambda: push(self.text(1)), 0x8D: lambda: push(self.text(8)),
            0x43: lambda: push(self.binary(1)), 0x42: lambda: push(self.binary(4)), 0x8E: lambda: push(self.binary(8)),
            0x53: lambda: push(self.text_line()), 0x56: lambda: push(self.unicode_line()),
            # lists and maps
            0x5D: lambda: push(_Growing(False, [])), 0x7D: lambda: push(_Growing(True, [])),
            0x29: lambda: push(_EMPTY_LIST), 0x74: lambda: self._push_tuple(self._behind_mark()),
            0x85: lambda: self._push_tuple(self._last(1)), 0x86: lambda: self._push_tuple(self._last(2)),
            0x87: lambda: self._push_tuple(self._last(3)),
            0x6C: lambda: push(_Growing(False, self._values(self._behind_mark()))),
            0x64: lambda: push(_Growing(True, self._pairs(self._behind_mark()))),
            0x61: lambda: self._extend(self._last(1), is_map=False),
            0x65: lambda: self._extend(self._behind_mark(), is_map=False),
            0x73: lambda: self._extend(self._last(2), is_map=True),
            0x75: lambda: self._extend(self._behind_mark(), is_map=True),
            # what was there before
            0x71: lambda: self._remember(self.number(1)), 0x72: lambda: self._remember(self.number(4)),
            0x70: lambda: self._remember(self.number_line()), 0x94: lambda: self._remember(self._remembered),
            0x6A: lambda: push(self._memo[self.number(4)]), 0x67: lambda: push(self._memo[self.number_line()]),
            # numpy
            0x63: self._global, 0x93: self._stack_global, 0x52: self._reduce, 0x62: self._build,
        }  # fmt: skip

    # --- lists and maps ---------------------------------------------------------------------------------------------

    def _joined(self, is_map: bool, count: int, items: list[bytes]) -> bytes:
        """Return a list or map, packed; its size is known before it is made."""
        self._left -= sum(map(len, items)) + 5
        if self._left < 0:
            self.refuse("it would become many times larger than it is")
        return self._head(count, is_map) + b"".join(items)

    def packed(self, value: _Value) -> bytes:
        """Return a value packed; what grew until now is complete by that."""
        if type(value) is bytes:
            return value
        if not isinstance(value, _Growing):
            self.refuse("a type in the place of a value")
        if value.packed is None:
            items, value.items = value.items, []
            count = len(items) // 2 if value.is_map else len(items)
            value.packed = self._joined(value.is_map, count, self._values(items) if value.is_map else items)
        return value.packed

    def _head(self, count: int, is_map: bool) -> bytes:
        if count < 16:
            return _HEADS[is_map][count]
        head: bytes = self._packer.pack_map_header(count) if is_map else self._packer.pack_array_header(count)
        return head

    def _values(self, values: list[_Value]) -> list[bytes]:
        return [value if type(value) is bytes else self.packed(value) for value in values]

    def _pairs(self, values: list[_Value]) -> list[_Value]:
        pairs = [value if _is_list(value) else self.packed(value) for value in values]
        if len(pairs) % 2:
            self.refuse("a key without a value")
        if not self._keys.issuperset(pairs[::2]):
            for key in pairs[::2]:
                self._check_key(key)
        return pairs

    def _check_key(self, key: _Value) -> None:
        first = key[0] if type(key) is bytes else 0xC1
        if not (first < 0x80 or 0xA0 <= first < 0xC0 or 0xCC <= first < 0xD4 or 0xD9 <= first < 0xDC):
            self.refuse("a key that is neither a text nor a whole number")
        if len(self._keys) < _KNOWN_KEYS:
            self._keys.add(key)

    def _last(self, count: int) -> list[_Value]:
        if len(self._stack) < count:
            self.refuse("a value is missing")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _behind_mark(self) -> list[_Value]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _push_tuple(self, values: list[_Value]) -> None:
        try:
            packed = self._joined(False, len(values), values)
        except TypeError:  # a list or map is among them, or what arrays are made by
            if any(isinstance(value, Name | Dtype | tuple) for value in values):
                self._stack.append(tuple(values))
                return
            packed = self._joined(False, len(values), self._values(values))
        self._stack.append(packed)

    def _extend(self, values: list[_Value], *, is_map: bool) -> None:
        target = self._stack[-1]
        if not isinstance(target, _Growing) or target.is_map != is_map or isinstance(target, _Array):
            self.refuse("values for no list or map")
        fresh = self._pairs(values) if is_map else self._values(values)
        if target.packed is not None:
            self.refuse("a list or map that holds itself, or grows after it was used")
        target.items += fresh

    def _remember(self, number: int) -> None:
        self._remembered += 1
        if number > 255 and number not in self._wanted:
            return
        if len(self._memo) > self._most_memo:
            self.refuse(f"more than {self._most_memo} values to remember")
        self._memo[number] = self._stack[-1]

    # --- numpy ------------------------------------------------------------------------------------------------------

    def _global(self) -> None:
        self._push_name(self.line(), self.line())

    def _stack_global(self) -> None:
        self._push_name(*(_raw(value) for value in self._last(2)))

    def _push_name(self, module: bytes, name: bytes) -> None:
        text = module.decode(errors="replace"), name.decode(errors="replace")
        if text not in NAMES:
            self.refuse(f"it wants {'.'.join(text)[:80]!r}, which no recording needs; nothing was run")
        self._stack.append(NAMES[text])

    def _reduce(self) -> None:
        made_by, arguments = self._last(2)
        match made_by, _unpacked(arguments):
            case Name.DTYPE, [str(code), *_] if is_dtype(code):
                self._stack.append(Dtype(code))
            case Name.SCALAR, [Dtype() as dtype, raw]:
                self._stack.append(self.pack(self._array(dtype, raw, [1])[0].item()))
            case Name.RECONSTRUCT, [Name.ARRAY, *_]:
                self._stack.append(_Array(False, []))
            case _:
                self.refuse("something that is to be called; nothing was run")

    def _build(self) -> None:
        [state] = self._last(1)
        match self._stack[-1], _unpacked(state):
            case Dtype() as dtype, [int(), "<" | ">" | "|" | "=" as order, *_]:
                dtype.order = order
            case _Array(packed=None) as target, [int(), [*shape], Dtype() as dtype, int(by_column), raw]:
                target.packed = self.pack(self._array(dtype, raw, shape, bool(by_column)).tolist())
            case _:
                self.refuse("the state of something that is neither a number nor an array")

    def _array(self, dtype: Dtype, raw: Any, shape: list[Any], by_column: bool = False) -> np.ndarray:
        try:
            return array_of(dtype, raw, shape, by_column)
        except (ValueError, TypeError, OverflowError):
            self.refuse(f"no array of {dtype.code} and shape {shape!r:.80}")


def _fetched(pickled: bytes) -> frozenset[int]:
    """Return the numbers, above 255, under which a pickle may fetch what it told to remember; and a few more.

    A pickle tells to remember nearly everything. Looking for what may be the instruction, wherever it stands, takes no
    time; no value that is needed can be missed.
    """
    if pickled[:1] != b"\x80":  # of protocol 0 and 1, which write numbers as text
        return frozenset(map(int, re.findall(rb"g([0-9]{1,10})\n", pickled))) | _fetched(b"\x80" + pickled)
    content = np.frombuffer(pickled, np.uint8)
    places = np.flatnonzero(content == _LONG_GET)
    places = places[places < len(content) - 4]
    numbers = sum(content[places + 1 + place].astype(np.int64) << 8 * place for place in range(4))
    return frozenset(np.unique(numbers).tolist()) if len(places) else frozenset()


def _is_list(value: _Value) -> bool:
    """Tell whether a value is packed, or a list that may still grow."""
    return type(value) is bytes or (type(value) is _Growing and not value.is_map and value.packed is None)


def _split(packed: bytes, name: object) -> list[bytes]:
    """Return the packed values of a packed list."""
    unpacker = msgpack.Unpacker(io.BytesIO(packed), max_buffer_size=len(packed))
    try:
        ends = [0] * unpacker.read_array_header()
    except ValueError as error:
        raise DamagedFile(f"{name}: wanted a map of lists") from error
    first = unpacker.tell()
    for number in range(len(ends)):
        unpacker.skip()
        ends[number] = unpacker.tell()
    return [packed[begin:end] for begin, end in zip([first, *ends], ends, strict=False)]


def _raw(value: _Value) -> bytes:
    """Return what a packed text holds."""
    found = msgpack.unpackb(value) if type(value) is bytes else b""
    return found.encode() if isinstance(found, str) else found if isinstance(found, bytes) else b""


def _unpacked(values: _Value) -> list[Any]:
    """Return the values of a tuple, packed or not."""
    if type(values) is bytes:
        found = msgpack.unpackb(values, strict_map_key=False)
        return found if isinstance(found, list) else []
    if not isinstance(values, tuple):
        return []
    return [msgpack.unpackb(value, strict_map_key=False) if type(value) is bytes else value for value in values]
