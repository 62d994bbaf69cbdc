"""Old pickles, turned into msgpack without making any of the objects that they tell of.

Up to version 0.9.3 Pupil Capture wrote ``pupil_data`` and ``camera_calibration`` as pickles: of protocol 2 by Python 2,
of protocol 4 from 0.9 on by Python 3. A pickle is a program. This one is not run by Python's own machine, which calls
what it is told to, but by one that knows numbers, texts, lists and maps, and turns each into packed bytes as soon as it
is complete. Of what stands for classes and functions it knows those four names by which numpy's numbers and arrays are
written, and does itself what they say. Everything else is refused.

Source of the format: the documentation of Python's ``pickletools``.
"""

from __future__ import annotations

import codecs
import io
import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import msgpack
import numpy as np

from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.pickled_numpy import NAMES, Dtype, Name, array_of, is_dtype

__all__ = ["is_pickle", "repack_lists", "repack_pickle"]

# What a pickle of so many bytes may become: maps that stand in many places are written out in each of them.
_ROOM, _EXPANSION = 1 << 26, 64
_MOST_VALUES = 1 << 18
_ROOM_IN_MEMO, _BYTES_PER_MEMO = 10_000, 4
_LONGEST_LINE = 1 << 16
_LONGEST_INT = 9
_STEPS_AT_ONCE = 4096
_DOUBLE, _GET, _LONG_GET, _MARK, _STOP = 0x47, 0x68, 0x6A, 0x28, 0x2E
_KNOWN_KEYS = 1024
_HEADS = [[bytes([first + count]) for count in range(16)] for first in (0x90, 0x80)]
_EMPTY_LIST, _NONE, _TRUE, _FALSE = b"\x90", b"\xc0", b"\xc3", b"\xc2"


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
        lists[str(msgpack.unpackb(key))] = value.items if whole else _split(machine.packed(value), name)
    return lists


class _Machine:
    def __init__(self, pickled: bytes, name: object) -> None:
        self._data = pickled
        self._name = name
        self._at = 0
        self._stack: list[_Value] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Value] = {}
        self._remembered = 0
        self._wanted = _fetched(pickled)
        self._most_memo = _ROOM_IN_MEMO + len(pickled) // _BYTES_PER_MEMO
        self._left = _ROOM + _EXPANSION * len(pickled)
        self._packer = msgpack.Packer()
        self._pack: Callable[[Any], bytes] = self._packer.pack
        self._keys: set[bytes] = set()
        self._steps: list[Callable[[], None] | None] = [None] * 256
        for code, step in self._opcodes().items():
            self._steps[code] = step

    def run(self) -> _Value:
        """Return what the pickle is of."""
        try:
            while self._run_some():
                if len(self._stack) + len(self._marks) > _MOST_VALUES:
                    self._refuse(f"more than {_MOST_VALUES} values in one list")
            return self._stack.pop()
        except (IndexError, KeyError, ValueError, OverflowError, struct.error, msgpack.UnpackException) as error:
            self._refuse(f"it ends too early, or is no pickle: {error}")
        finally:
            # The steps refer to the machine, so that it stays for a while.
            self._memo.clear()
            self._data = b""

    def _run_some(self) -> bool:
        """Take some steps; return whether there are more to take. What there is most of comes first."""
        data, steps, memo, push, at = self._data, self._steps, self._memo, self._stack.append, self._at
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
            elif code == _STOP:
                return False
            else:
                self._at = at + 1
                step = steps[code]
                if step is None:
                    self._refuse(f"the instruction 0x{code:02x} is for none of numbers, texts, lists and maps")
                step()
                at = self._at
        self._at = at
        return True

    def _opcodes(self) -> dict[int, Callable[[], None]]:
        push = self._stack.append
        return {
            # how it is written
            0x80: lambda: self._skip(1), 0x95: lambda: self._skip(8),
            # numbers
            0x4E: lambda: push(_NONE), 0x88: lambda: push(_TRUE), 0x89: lambda: push(_FALSE),
            0x4A: lambda: self._push_int(4, signed=True), 0x4B: lambda: self._push_int(1),
            0x4D: lambda: self._push_int(2),
            0x8A: lambda: self._push_long(1), 0x8B: lambda: self._push_long(4),
            0x49: self._int_line, 0x4C: self._int_line, 0x46: self._float_line,
            # texts
            0x55: lambda: self._push_text(1), 0x54: lambda: self._push_text(4), 0x58: lambda: self._push_text(4),
            0x8C: lambda: self._push_text(1), 0x8D: lambda: self._push_text(8),
            0x43: lambda: self._push_bytes(1), 0x42: lambda: self._push_bytes(4), 0x8E: lambda: self._push_bytes(8),
            0x53: self._text_line, 0x56: self._unicode_line,
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
            0x71: lambda: self._remember(self._number(1)), 0x72: lambda: self._remember(self._number(4)),
            0x70: lambda: self._remember(self._line_number()), 0x94: lambda: self._remember(self._remembered),
            0x6A: lambda: push(self._memo[self._number(4)]), 0x67: lambda: push(self._memo[self._line_number()]),
            # numpy
            0x63: self._global, 0x93: self._stack_global, 0x52: self._reduce, 0x62: self._build,
        }  # fmt: skip

    # --- reading the pickle -----------------------------------------------------------------------------------------

    def _refuse(self, reason: str) -> NoReturn:
        raise DamagedFile(f"{self._name}: a pickle that is not read further than byte {self._at}: {reason}")

    def _skip(self, size: int) -> None:
        self._at += size

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            self._refuse("it ends too early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._at, self._at + _LONGEST_LINE)
        if end < 0:
            self._refuse("a line without end")
        line = self._data[self._at : end]
        self._at = end + 1
        return line

    def _line_number(self) -> int:
        line = self._line()
        if not re.fullmatch(rb"[0-9]{1,10}", line):
            self._refuse(f"{line[:40]!r} is no number")
        return int(line)

    # --- values -----------------------------------------------------------------------------------------------------

    def _push_int(self, size: int, *, signed: bool = False) -> None:
        self._stack.append(self._pack(int.from_bytes(self._take(size), "little", signed=signed)))

    def _push_long(self, size: int) -> None:
        length = self._number(size)
        if length > _LONGEST_INT:
            self._refuse(f"a whole number of {length} bytes")
        self._push_whole(int.from_bytes(self._take(length), "little", signed=True))

    def _push_whole(self, number: int) -> None:
        if not -(2**63) <= number < 2**64:
            self._refuse("a whole number of more than 64 bits")
        self._stack.append(self._pack(number))

    def _int_line(self) -> None:
        line = self._line().rstrip(b"L")
        if not re.fullmatch(rb"[+-]?[0-9]{1,20}", line):
            self._refuse(f"{line[:40]!r} is no whole number")
        if line in (b"00", b"01"):
            self._stack.append(_TRUE if line == b"01" else _FALSE)
        else:
            self._push_whole(int(line))

    def _float_line(self) -> None:
        line = self._line()
        try:
            self._stack.append(self._pack(float(line)))
        except ValueError:
            self._refuse(f"{line[:40]!r} is no number")

    def _push_text(self, size: int) -> None:
        self._stack.append(self._packed_text(self._take(self._number(size))))

    def _packed_text(self, text: bytes) -> bytes:
        # Python 2 has one type for text and for binary data.
        try:
            return self._pack(text.decode())
        except UnicodeDecodeError:
            return self._pack(text)

    def _push_bytes(self, size: int) -> None:
        self._stack.append(self._pack(self._take(self._number(size))))

    def _text_line(self) -> None:
        line = self._line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            self._refuse(f"{line[:40]!r} is no text")
        try:
            self._stack.append(self._packed_text(codecs.escape_decode(line[1:-1])[0]))
        except ValueError:
            self._refuse(f"{line[:40]!r} is no text")

    def _unicode_line(self) -> None:
        line = self._line()
        try:
            self._stack.append(self._pack(line.decode("raw-unicode-escape")))
        except ValueError:
            self._refuse(f"{line[:40]!r} is no text")

    # --- lists and maps ---------------------------------------------------------------------------------------------

    def _joined(self, is_map: bool, count: int, items: list[bytes]) -> bytes:
        """Return a list or map, packed; its size is known before it is made."""
        self._left -= sum(map(len, items)) + 5
        if self._left < 0:
            self._refuse("it would become many times larger than it is")
        return self._head(count, is_map) + b"".join(items)

    def packed(self, value: _Value) -> bytes:
        """Return a value packed; what grew until now is complete by that."""
        if type(value) is bytes:
            return value
        if not isinstance(value, _Growing):
            self._refuse("a type in the place of a value")
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
            self._refuse("a key without a value")
        if not self._keys.issuperset(pairs[::2]):
            for key in pairs[::2]:
                self._check_key(key)
        return pairs

    def _check_key(self, key: _Value) -> None:
        first = key[0] if type(key) is bytes else 0xC1
        if not (first < 0x80 or 0xA0 <= first < 0xC0 or 0xCC <= first < 0xD4 or 0xD9 <= first < 0xDC):
            self._refuse("a key that is neither a text nor a whole number")
        if len(self._keys) < _KNOWN_KEYS:
            self._keys.add(key)

    def _last(self, count: int) -> list[_Value]:
        if len(self._stack) < count:
            self._refuse("a value is missing")
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
            self._refuse("values for no list or map")
        fresh = self._pairs(values) if is_map else self._values(values)
        if target.packed is not None:
            self._refuse("a list or map that holds itself, or grows after it was used")
        target.items += fresh

    def _remember(self, number: int) -> None:
        self._remembered += 1
        if number > 255 and number not in self._wanted:
            return
        if len(self._memo) > self._most_memo:
            self._refuse(f"more than {self._most_memo} values to remember")
        self._memo[number] = self._stack[-1]

    # --- numpy ------------------------------------------------------------------------------------------------------

    def _global(self) -> None:
        self._push_name(self._line(), self._line())

    def _stack_global(self) -> None:
        self._push_name(*(_raw(value) for value in self._last(2)))

    def _push_name(self, module: bytes, name: bytes) -> None:
        text = module.decode(errors="replace"), name.decode(errors="replace")
        if text not in NAMES:
            self._refuse(f"it wants {'.'.join(text)[:80]!r}, which no recording needs; nothing was run")
        self._stack.append(NAMES[text])

    def _reduce(self) -> None:
        made_by, arguments = self._last(2)
        match made_by, _unpacked(arguments):
            case Name.DTYPE, [str(code), *_] if is_dtype(code):
                self._stack.append(Dtype(code))
            case Name.SCALAR, [Dtype() as dtype, raw]:
                self._stack.append(self._pack(self._array(dtype, raw, [1])[0].item()))
            case Name.RECONSTRUCT, [Name.ARRAY, *_]:
                self._stack.append(_Array(False, []))
            case _:
                self._refuse("something that is to be called; nothing was run")

    def _build(self) -> None:
        [state] = self._last(1)
        match self._stack[-1], _unpacked(state):
            case Dtype() as dtype, [int(), "<" | ">" | "|" | "=" as order, *_]:
                dtype.order = order
            case _Array(packed=None) as target, [int(), [*shape], Dtype() as dtype, int(by_column), raw]:
                target.packed = self._pack(self._array(dtype, raw, shape, bool(by_column)).tolist())
            case _:
                self._refuse("the state of something that is neither a number nor an array")

    def _array(self, dtype: Dtype, raw: Any, shape: list[Any], by_column: bool = False) -> np.ndarray:
        try:
            return array_of(dtype, raw, shape, by_column)
        except (ValueError, TypeError, OverflowError):
            self._refuse(f"no array of {dtype.code} and shape {shape!r:.80}")


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
