"""The values in a pickle that are neither lists nor maps, each turned into msgpack where it stands."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, NoReturn

import msgpack

from gazed_recorder.errors import DamagedFile

__all__ = ["FALSE", "TRUE", "PickleValues"]

TRUE, FALSE = b"\xc3", b"\xc2"
_LONGEST_LINE = 1 << 16
_LONGEST_INT = 9


class PickleValues:
    """Reads on from byte ``at`` of a pickle; ``name`` is that of its file, for messages.

    Its methods return packed values, but for those that say something else. All raise ``DamagedFile``.
    """

    def __init__(self, pickled: bytes, name: object) -> None:
        self.data = pickled
        self.at = 0
        self.pack: Callable[[Any], bytes] = msgpack.Packer().pack
        self._name = name

    def refuse(self, reason: str) -> NoReturn:
        """Read no further."""
        raise DamagedFile(f"{self._name}: a pickle that is not read further than byte {self.at}: {reason}")

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        self.at += size

    def take(self, size: int) -> bytes:
        """Return the next bytes as they are."""
        end = self.at + size
        if end > len(self.data):
            self.refuse("it ends too early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, size: int) -> int:
        """Return a number of so many bytes."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> bytes:
        """Return the rest of a line as it is."""
        end = self.data.find(b"\n", self.at, self.at + _LONGEST_LINE)
        if end < 0:
            self.refuse("a line without end")
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def number_line(self) -> int:
        """Return the number that a line is."""
        line = self.line()
        if not re.fullmatch(rb"[0-9]{1,10}", line):
            self.refuse(f"{line[:40]!r} is no number")
        return int(line)

    def signed(self) -> bytes:
        """Read a whole number of 4 bytes."""
        return self.pack(int.from_bytes(self.take(4), "little", signed=True))

    def unsigned(self, size: int) -> bytes:
        """Read a whole number that is not below 0."""
        return self.pack(self.number(size))

    def long(self, size: int) -> bytes:
        """Read a whole number whose length, itself of ``size`` bytes, comes first."""
        length = self.number(size)
        if length > _LONGEST_INT:
            self.refuse(f"a whole number of {length} bytes")
        return self._whole(int.from_bytes(self.take(length), "little", signed=True))

    def int_line(self) -> bytes:
        """Read a line that is a whole number or a truth value."""
        line = self.line().rstrip(b"L")
        if not re.fullmatch(rb"[+-]?[0-9]{1,20}", line):
            self.refuse(f"{line[:40]!r} is no whole number")
        if line in (b"00", b"01"):
            return TRUE if line == b"01" else FALSE
        return self._whole(int(line))

    def float_line(self) -> bytes:
        """Read a line that is a number."""
        line = self.line()
        try:
            return self.pack(float(line))
        except ValueError:
            self.refuse(f"{line[:40]!r} is no number")

    def text(self, size: int) -> bytes:
        """Read a text whose length, of ``size`` bytes, comes first."""
        return self._text(self.take(self.number(size)))

    def binary(self, size: int) -> bytes:
        """Read bytes whose length, of ``size`` bytes, comes first."""
        return self.pack(self.take(self.number(size)))

    def text_line(self) -> bytes:
        """Read a line that is a text in quotes."""
        line = self.line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            self.refuse(f"{line[:40]!r} is no text")
        try:
            return self._text(codecs.escape_decode(line[1:-1])[0])
        except ValueError:
            self.refuse(f"{line[:40]!r} is no text")

    def unicode_line(self) -> bytes:
        """Read a line that is a text without quotes."""
        line = self.line()
        try:
            return self.pack(line.decode("raw-unicode-escape"))
        except ValueError:
            self.refuse(f"{line[:40]!r} is no text")

    def _whole(self, number: int) -> bytes:
        if not -(2**63) <= number < 2**64:
            self.refuse("a whole number of more than 64 bits")
        return self.pack(number)

    def _text(self, text: bytes) -> bytes:
        # Python 2 has one type for text and for binary data.
        try:
            return self.pack(text.decode())
        except UnicodeDecodeError:
            return self.pack(text)
