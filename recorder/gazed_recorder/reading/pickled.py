"""Old pickles, turned into msgpack without making any of the objects that they tell of.

Up to version 0.9.3 Pupil Capture wrote ``pupil_data`` and ``camera_calibration`` as pickles: of protocol 2 by Python 2,
of protocol 4 from 0.9 on by Python 3. A pickle is a program. This one is not run by Python's own machine, which calls
what it is told to, but by one that knows numbers, texts, lists and maps, and turns each into packed bytes as soon as it
is complete. Of what stands for classes and functions it knows those four names by which numpy's numbers and arrays are
written, and does itself what they say. Everything else is refused.

Source of the format: the documentation of Python's ``pickletools``, and numpy's ``__reduce__``.
"""

from __future__ import annotations

import codecs
import enum
import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import msgpack
import numpy as np

from gazed_recorder.errors import DamagedFile

__all__ = ["is_pickle", "repack_pickle"]

# What a pickle of so many bytes may become: maps that stand in many places are written out in each of them.
_ROOM, _EXPANSION = 1 << 26, 64
_MOST_VALUES = 1 << 20
_ROOM_IN_MEMO, _BYTES_PER_MEMO = 10_000, 4
_LARGEST_ARRAY = 1 << 24
_LONGEST_LINE = 1 << 16
_LONGEST_INT = 9
_STEPS_AT_ONCE = 4096
_STOP = 0x2E
_DTYPE = re.compile(r"[biuf][1248]")
_DOUBLE = struct.Struct(">d")
_KNOWN_KEYS = 1024
_HEADS = [[bytes([first + count]) for count in range(16)] for first in (0x90, 0x80)]
_EMPTY_LIST, _NONE, _TRUE, _FALSE = b"\x90", b"\xc0", b"\xc3", b"\xc2"


class _Name(enum.Enum):
    """What numpy's numbers and arrays are made by."""

    SCALAR = "scalar"
    DTYPE = "dtype"
    ARRAY = "ndarray"
    RECONSTRUCT = "_reconstruct"


_NAMES = {
    ("numpy.core.multiarray", "scalar"): _Name.SCALAR,
    ("numpy", "dtype"): _Name.DTYPE,
    ("numpy", "ndarray"): _Name.ARRAY,
    ("numpy.core.multiarray", "_reconstruct"): _Name.RECONSTRUCT,
}


class _Dtype:
    """A numpy dtype: a ``code`` such as f8, and the ``order`` of its bytes."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="


class _Growing:
    """A list, map or array that is not complete yet: ``items`` are packed; once it is complete, ``packed`` is."""

    __slots__ = ("is_map", "items", "packed")

    def __init__(self, is_map: bool, items: list[bytes]) -> None:
        self.is_map = is_map
        self.items = items
        self.packed: bytes | None = None


class _Array(_Growing):
    """A numpy array, as a list; it is empty until its content comes."""


# Bytes are a packed value; a tuple has among its values what is none.
_Value = Any


def is_pickle(start: bytes) -> bool:
    """Tell whether a file that begins so (2 bytes or more) may be a pickled map, and cannot be a packed one."""
    return start[:1] in (b"(", b"}") or (start[:1] == b"\x80" and b"\x02" <= start[1:2] <= b"\x05")


def repack_pickle(pickled: bytes, name: object) -> bytes:
    """Return the content of a pickle as msgpack. Texts that are no UTF-8 become binary data, tuples become lists.

    ``name`` is that of its file, for messages. Time and memory grow with the size of the pickle and no faster.

    Raises:
        DamagedFile: it is torn, or holds something else than numbers, texts, lists and maps. Nothing of it is run.
    """
    return _Machine(pickled, name).run()


class _Machine:
    def __init__(self, pickled: bytes, name: object) -> None:
        self._data = pickled
        self._name = name
        self._at = 0
        self._stack: list[_Value] = []
        self._marks: list[int] = []
        self._memo: dict[int, _Value] = {}
        self._most_memo = _ROOM_IN_MEMO + len(pickled) // _BYTES_PER_MEMO
        self._left = _ROOM + _EXPANSION * len(pickled)
        self._packer = msgpack.Packer()
        self._pack: Callable[[Any], bytes] = self._packer.pack
        self._keys: set[bytes] = set()
        self._steps: list[Callable[[], None] | None] = [None] * 256
        for code, step in self._opcodes().items():
            self._steps[code] = step

    def run(self) -> bytes:
        try:
            while self._run_some():
                if len(self._stack) + len(self._marks) > _MOST_VALUES:
                    self._refuse(f"more than {_MOST_VALUES} values in one list")
            return self._packed(self._stack.pop())
        except (IndexError, KeyError, struct.error):
            self._refuse("it ends too early, or is no pickle")

    def _run_some(self) -> bool:
        """Take some steps; return whether there are more to take."""
        data, steps = self._data, self._steps
        for _ in range(_STEPS_AT_ONCE):
            code = data[self._at]
            self._at += 1
            step = steps[code]
            if step is not None:
                step()
            elif code == _STOP:
                return False
            else:
                self._refuse(f"the instruction 0x{code:02x} is for none of numbers, texts, lists and maps")
        return True

    def _opcodes(self) -> dict[int, Callable[[], None]]:
        push = self._stack.append
        return {
            # where to begin
            0x80: lambda: self._skip(1), 0x95: lambda: self._skip(8),
            0x28: lambda: self._marks.append(len(self._stack)),
            # numbers
            0x4E: lambda: push(_NONE), 0x88: lambda: push(_TRUE), 0x89: lambda: push(_FALSE),
            0x4A: lambda: self._push_int(4, signed=True), 0x4B: lambda: self._push_int(1),
            0x4D: lambda: self._push_int(2),
            0x47: lambda: push(b"\xcb" + self._take(8)),  # a double has the same bytes in both formats
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
            0x70: lambda: self._remember(self._line_number()), 0x94: lambda: self._remember(len(self._memo)),
            0x68: lambda: push(self._memo[self._number(1)]), 0x6A: lambda: push(self._memo[self._number(4)]),
            0x67: lambda: push(self._memo[self._line_number()]),
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
            self._stack.append(b"\xcb" + _DOUBLE.pack(float(line)))
        except ValueError:
            self._refuse(f"{line[:40]!r} is no number")

    def _push_text(self, size: int) -> None:
        self._stack.append(self._packed_text(self._take(self._number(size))))

    def _packed_text(self, text: bytes) -> bytes:
        # Python 2 has one type for text and for binary data.
        try:
            return self._made(self._pack(text.decode()))
        except UnicodeDecodeError:
            return self._made(self._pack(text))

    def _push_bytes(self, size: int) -> None:
        self._stack.append(self._made(self._pack(self._take(self._number(size)))))

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
            self._stack.append(self._made(self._pack(line.decode("raw-unicode-escape"))))
        except ValueError:
            self._refuse(f"{line[:40]!r} is no text")

    # --- lists and maps ---------------------------------------------------------------------------------------------

    def _made(self, packed: bytes) -> bytes:
        """Count what was made."""
        self._left -= len(packed)
        if self._left < 0:
            self._refuse("it would become many times larger than it is")
        return packed

    def _packed(self, value: _Value) -> bytes:
        """Return a value packed; what grew until now is complete by that."""
        if type(value) is bytes:
            return value
        if not isinstance(value, _Growing):
            self._refuse("a type in the place of a value")
        if value.packed is None:
            count = len(value.items) // 2 if value.is_map else len(value.items)
            value.packed = self._made(self._head(count, value.is_map) + b"".join(value.items))
            value.items = []
        return value.packed

    def _head(self, count: int, is_map: bool) -> bytes:
        if count < 16:
            return _HEADS[is_map][count]
        head: bytes = self._packer.pack_map_header(count) if is_map else self._packer.pack_array_header(count)
        return head

    def _values(self, values: list[_Value]) -> list[bytes]:
        return [value if type(value) is bytes else self._packed(value) for value in values]

    def _pairs(self, values: list[_Value]) -> list[bytes]:
        pairs = self._values(values)
        if len(pairs) % 2:
            self._refuse("a key without a value")
        if not self._keys.issuperset(pairs[::2]):
            for key in pairs[::2]:
                self._check_key(key)
        return pairs

    def _check_key(self, key: bytes) -> None:
        first = key[0]
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
            packed = self._head(len(values), False) + b"".join(values)
        except TypeError:  # a list or map is among them, or what arrays are made by
            if any(isinstance(value, _Name | _Dtype | tuple) for value in values):
                self._stack.append(tuple(values))
                return
            packed = self._head(len(values), False) + b"".join(self._values(values))
        self._stack.append(self._made(packed))

    def _extend(self, values: list[_Value], *, is_map: bool) -> None:
        target = self._stack[-1]
        if not isinstance(target, _Growing) or target.is_map != is_map or isinstance(target, _Array):
            self._refuse("values for no list or map")
        fresh = self._pairs(values) if is_map else self._values(values)
        if target.packed is not None:
            self._refuse("a list or map that holds itself, or grows after it was used")
        target.items += fresh

    def _remember(self, number: int) -> None:
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
        if text not in _NAMES:
            self._refuse(f"it wants {'.'.join(text)[:80]!r}, which no recording needs; nothing was run")
        self._stack.append(_NAMES[text])

    def _reduce(self) -> None:
        made_by, arguments = self._last(2)
        match made_by, _unpacked(arguments):
            case _Name.DTYPE, [str(code), *_] if _DTYPE.fullmatch(code):
                self._stack.append(_Dtype(code))
            case _Name.SCALAR, [_Dtype() as dtype, raw]:
                self._stack.append(self._pack(self._array(dtype, raw, (1,))[0].item()))
            case _Name.RECONSTRUCT, [_Name.ARRAY, *_]:
                self._stack.append(_Array(False, []))
            case _:
                self._refuse("something that is to be called; nothing was run")

    def _build(self) -> None:
        [state] = self._last(1)
        match self._stack[-1], _unpacked(state):
            case _Dtype() as dtype, [int(), "<" | ">" | "|" | "=" as order, *_]:
                dtype.order = order
            case _Array(packed=None) as target, [int(), [*shape], _Dtype() as dtype, int(by_column), raw]:
                array = self._array(dtype, raw, tuple(shape), "F" if by_column else "C")
                target.packed = self._made(self._pack(array.tolist()))
            case _:
                self._refuse("the state of something that is neither a number nor an array")

    def _array(self, dtype: _Dtype, raw: Any, shape: tuple[Any, ...], order: Any = "C") -> np.ndarray:
        content = raw.encode() if isinstance(raw, str) else raw
        try:
            kind = np.dtype(dtype.order + dtype.code)
            if not isinstance(content, bytes) or len(content) > _LARGEST_ARRAY or 0 in shape[1:]:
                raise ValueError("no content")
            return np.frombuffer(content, kind).reshape(shape, order=order)
        except (ValueError, TypeError, OverflowError):
            self._refuse(f"no array of {dtype.code} and shape {shape!r:.80}")


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
