"""``.rrd`` files with a blueprint, whose bytes depend on what is in them alone.

The SDK marks each chunk, each row and each file with an id of the time and of chance, and lists the columns in the
footer as its hash tables have them. Here ids are counted, and the footer is sorted.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from gazed_plugins.export.errors import ExportError
from gazed_plugins.rerun import rrd_format as form
from gazed_plugins.rerun.calls import APPLICATION, Chunk, write_chunks

__all__ = ["write_rrd"]

_BLUEPRINT_ID = "blueprint"


def write_rrd(path: Path, recording_id: str, chunks: Iterable[Chunk], blueprint: Iterable[Chunk]) -> None:
    """Write a recording and its blueprint; ``blueprint`` is iterated over when all ``chunks`` have been written.

    Raises:
        OSError: the file cannot be written.
        ExportError: the installed SDK writes files of another form.
        Exception: what ``chunks`` or ``blueprint`` raises.
    """
    write_chunks(path, recording_id, _counted(chunks, 1))
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "blueprint.rrd"
        write_chunks(beside, _BLUEPRINT_ID, _counted(blueprint, 2))
        views = beside.read_bytes()
    try:
        _complete(path, views)
    except (IndexError, KeyError, TypeError, ValueError, struct.error, pa.ArrowInvalid) as error:
        raise ExportError(
            f"{path.name}: the installed rerun-sdk writes files of another form: {error!r}",
            hint="pip install 'gazed[rerun]'",
        ) from error


def _counted(chunks: Iterable[Chunk], series: int) -> Iterator[Chunk]:
    """Give each chunk and each row the next number as its id."""
    number = 0
    for chunk in chunks:
        batch = chunk.to_record_batch()
        first, *rows = (struct.pack(">QQ", series, number + row) for row in range(batch.num_rows + 1))
        number += batch.num_rows + 1
        schema = batch.schema.with_metadata({**batch.schema.metadata, b"rerun:id": b"chunk_" + first.hex().encode()})
        columns = [pa.array(rows, pa.binary(16)), *batch.columns[1:]]
        yield from Chunk.from_record_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _complete(path: Path, views: bytes) -> None:
    """Count what the SDK has not, and put a blueprint behind the recording: ``views``, till now a file."""
    with path.open("r+b") as file:
        told = list(form.messages(file))
        for kind, at, length in told:
            if kind == form.STORE_INFO:
                info = form.counted_store_info(form.payload_of(file, at, length), 1)
                file.seek(at)
                file.write(info)
        _, end, length = told[-1]
        (manifest,) = form.manifests(form.payload_of(file, end, length))
        file.seek(end - form.MESSAGE_HEADER)
        moved = file.tell() - form.FILE_HEADER
        was = form.store_id(form.RECORDING, _BLUEPRINT_ID, APPLICATION)
        store = form.store_id(form.BLUEPRINT, _BLUEPRINT_ID, APPLICATION)
        source = io.BytesIO(views)
        for kind, at, length in form.messages(source):
            payload = form.payload_of(source, at, length)
            if was not in payload:
                raise ValueError("a message does not name its store")
            payload = payload.replace(was, store, 1)
            if kind == form.STORE_INFO:
                payload = form.counted_store_info(payload, 2)
            if kind == form.END:
                (second,) = form.manifests(payload)
            else:
                form.put(file, kind, payload)
        form.put(file, form.ACTIVATION, form.activation(store))
        form.finish(file, [form.sorted_manifest(manifest, 0), form.sorted_manifest(second, moved)])
