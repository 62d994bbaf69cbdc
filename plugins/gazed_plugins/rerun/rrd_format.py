"""What ``.rrd`` files consist of, as found by looking at files that version 0.41 of the SDK writes.

A header; messages (kind, length, a protobuf message); among them one that tells of each store (a recording, a
blueprint), one for each chunk, and a last one, the footer, that tells where each chunk lies and what it holds; and a
trailer that tells where the footer is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

__all__ = [
    "ACTIVATION",
    "BLUEPRINT",
    "CHUNK",
    "END",
    "FILE_HEADER",
    "RECORDING",
    "STORE_INFO",
    "activation",
    "counted_store_info",
    "finish",
    "manifest_of",
    "messages",
    "put",
    "sorted_manifest",
    "store_id",
]

FILE_HEADER = 12
END, STORE_INFO, CHUNK, ACTIVATION = range(4)
"""Kinds of messages."""
RECORDING, BLUEPRINT = 1, 2
"""Kinds of stores."""
_HEADER = struct.Struct("<QQ")
_TRAILER = struct.Struct("<QQI8sI")
_MAGIC = b"RRF2FOOT"
_CRC_SEED = 7_850_921
_COMPRESSION = "lz4_raw"
# What each footer tells of a chunk; further columns depend on what the chunks hold.
_FIXED = [
    "chunk_entity_path",
    "chunk_id",
    "chunk_is_static",
    "chunk_num_rows",
    "chunk_byte_offset",
    "chunk_byte_size",
    "chunk_byte_size_uncompressed",
]
_OFFSET = _FIXED.index("chunk_byte_offset")


def messages(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield kind and length of each message's payload, up to the footer's; the caller reads the payload.

    Raises (while iterating):
        struct.error: the file ends before.
    """
    kind = STORE_INFO
    while kind != END:
        kind, length = _HEADER.unpack(file.read(_HEADER.size))
        yield kind, length


def put(file: BinaryIO, kind: int, payload: bytes) -> None:
    """Write a message where the file is."""
    file.write(_HEADER.pack(kind, len(payload)))
    file.write(payload)


def finish(file: BinaryIO, manifests: list[bytes]) -> None:
    """Write the footer, of what it tells of each store, and the trailer where the file is."""
    footer = b"".join(_block(1, manifest) for manifest in manifests)
    put(file, END, footer)
    at, crc = file.tell() - len(footer), xxhash.xxh32_intdigest(footer, _CRC_SEED)
    file.write(_TRAILER.pack(at, len(footer), crc, _MAGIC, 1))


def store_id(kind: int, name: str, application: str) -> bytes:
    """Return what messages call a store by."""
    return _number(1, kind) + _block(2, name.encode()) + _block(3, _block(1, application.encode()))


def activation(store: bytes) -> bytes:
    """Return the message after which a blueprint is the default one of its application."""
    return _block(1, store) + _number(3, 1)


def counted_store_info(payload: bytes, number: int) -> bytes:
    """Return what tells of a store, with a number in the place of an id of the time and of chance.

    Raises:
        ValueError: it has another form.
    """
    if not payload.startswith(b"\x0a\x12\x09") or payload[11:12] != b"\x11":
        raise ValueError("what tells of a store has another form")
    return payload[:3] + struct.pack("<Q", 0) + payload[11:12] + struct.pack("<Q", number) + payload[20:]


def manifest_of(footer: bytes) -> bytes:
    """Return what a footer tells of its one store.

    Raises:
        KeyError: it tells of none.
    """
    return _read(footer)[0][1]


def sorted_manifest(manifest: bytes, moved: int) -> bytes:
    """Return what a footer tells of a store with its columns in order; its chunks lie ``moved`` bytes further on.

    Raises:
        ValueError, KeyError, pyarrow.ArrowInvalid: it has another form.
    """
    parts, _ = _read(manifest)
    columns, _ = _read(parts[2])
    schema = pa.ipc.read_schema(pa.py_buffer(columns[1]))
    schema = pa.schema(sorted(schema, key=lambda field: field.name), schema.metadata)
    table, numbers = _read(parts[4])
    if sorted(parts) != [1, 2, 3, 4] or sorted(numbers) != [1, 3, 4]:
        raise ValueError("the footer has another form")
    plain = _sorted_table(pa.decompress(table[2], numbers[4], _COMPRESSION), moved)
    squeezed = pa.compress(plain, _COMPRESSION, asbytes=True)
    packed = _number(1, numbers[1]) + _block(2, squeezed) + _number(3, numbers[3]) + _number(4, plain.size)
    listed = _block(1, schema.serialize().to_pybytes())
    return _block(1, parts[1]) + _block(2, listed) + _block(3, parts[3]) + _block(4, packed)


def _sorted_table(stream: pa.Buffer, moved: int) -> pa.Buffer:
    table = pa.ipc.open_stream(stream).read_all()
    names = table.schema.names
    if names[: len(_FIXED)] != _FIXED:
        raise ValueError(f"the footer has the columns {names[: len(_FIXED)]}")
    field = table.schema.field(_OFFSET)
    table = table.set_column(_OFFSET, field, pc.add(table.column(_OFFSET), pa.scalar(moved, field.type)))
    table = table.select(_FIXED + sorted(names[len(_FIXED) :]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def _read(message: bytes) -> tuple[dict[int, bytes], dict[int, int]]:
    """Return the blocks and the numbers in a message, by the numbers of their fields."""
    blocks, numbers = dict[int, bytes](), dict[int, int]()
    for field, value in _fields(message):
        if isinstance(value, bytes):
            blocks[field] = value
        else:
            numbers[field] = value
    return blocks, numbers


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        if key & 7 == 2:
            yield key >> 3, message[at : at + value]
            at += value
        elif key & 7 == 0:
            yield key >> 3, value
        else:
            raise ValueError(f"a field of wire type {key & 7}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] > 127:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _packed(value)


def _block(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _packed(len(value)) + value


def _packed(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
