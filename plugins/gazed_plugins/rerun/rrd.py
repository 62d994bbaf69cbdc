"""``.rrd`` files with a blueprint, whose bytes depend on what is in them alone.

The SDK marks each chunk, each row and each file with an id of the time and of chance, and lists the columns in the
footer as its hash tables have them. Here ids are counted, and the footer is sorted. The blueprint comes first: a viewer
that meets it later has made views of its own by then.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from gazed_plugins.export.errors import ExportError
from gazed_plugins.extras import install_command
from gazed_plugins.rerun import rrd_format as form
from gazed_plugins.rerun.calls import APPLICATION, Chunk, write_chunks

__all__ = ["write_rrd"]

_BLUEPRINT_ID = "blueprint"
_RECORDING_SERIES, _BLUEPRINT_SERIES = 1, 2
_BLOCK = 1 << 20


def write_rrd(path: Path, recording_id: str, chunks: Iterable[Chunk], blueprint: Iterable[Chunk]) -> None:
    """Write a recording and its blueprint; ``chunks`` may be iterated over by steps, they are not kept.

    Raises:
        OSError: the file cannot be written.
        ExportError: the installed SDK writes files of another form.
        Exception: what ``chunks`` or ``blueprint`` raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        views = Path(folder) / "blueprint.rrd"
        write_chunks(views, _BLUEPRINT_ID, _counted(blueprint, _BLUEPRINT_SERIES))
        with path.open("wb") as file, views.open("rb") as source:
            joining = _Joining(file, source)
            joining.start()
            try:
                write_chunks(joining.entrance, recording_id, _counted(chunks, _RECORDING_SERIES))
            except BrokenPipeError:
                # The other end of the pipe knows why.
                joining.finish()
                raise
            finally:
                joining.close()
            joining.finish()


def _counted(chunks: Iterable[Chunk], series: int) -> Iterator[Chunk]:
    """Give each chunk and each row the next number as its id."""
    number = 0
    for chunk in chunks:
        batch = chunk.to_record_batch()
        count = batch.num_rows
        ids = np.empty((count + 1, 2), ">u8")
        ids[:, 0], ids[:, 1] = series, np.arange(number, number + count + 1)
        number += count + 1
        rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(ids[1:].tobytes())])
        name = b"chunk_" + ids[0].tobytes().hex().encode()
        schema = batch.schema.with_metadata({**batch.schema.metadata, b"rerun:id": name})
        yield from Chunk.from_record_batch(pa.RecordBatch.from_arrays([rows, *batch.columns[1:]], schema=schema))


class _Joining(threading.Thread):
    """Puts a blueprint, a file of its own till now, before what the SDK writes into ``entrance``, and joins footers."""

    def __init__(self, file: BinaryIO, blueprint: BinaryIO) -> None:
        super().__init__(name="rrd", daemon=True)
        self._file = file
        self._blueprint = blueprint
        self._reading, self._writing = os.pipe()
        self.entrance = Path(f"/dev/fd/{self._writing}")
        self._error: Exception | None = None

    def run(self) -> None:
        """Read to the end of what is written."""
        try:
            with os.fdopen(self._reading, "rb", _BLOCK) as stream:
                _join(self._file, self._blueprint, stream)
        except Exception as error:  # noqa: BLE001 - raised by finish
            self._error = error

    def close(self) -> None:
        """Say that nothing more comes, and wait."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
            self.join()

    def finish(self) -> None:
        """Wait, and raise what went wrong."""
        self.close()
        if isinstance(self._error, IndexError | KeyError | TypeError | ValueError | struct.error | pa.ArrowInvalid):
            raise ExportError(
                f"the installed rerun-sdk writes files of another form: {self._error!r}",
                hint=install_command("rerun"),
            ) from self._error
        if self._error is not None:
            raise self._error


def _join(file: BinaryIO, blueprint: BinaryIO, recording: BinaryIO) -> None:
    file.write(recording.read(form.FILE_HEADER))
    was = form.store_id(form.RECORDING, _BLUEPRINT_ID, APPLICATION)
    store = form.store_id(form.BLUEPRINT, _BLUEPRINT_ID, APPLICATION)
    blueprint.seek(form.FILE_HEADER)
    for kind, length in form.messages(blueprint):
        payload = blueprint.read(length)
        if was not in payload:
            raise ValueError("a message does not name its store")
        payload = payload.replace(was, store, 1)
        if kind == form.STORE_INFO:
            payload = form.counted_store_info(payload, _BLUEPRINT_SERIES)
        if kind == form.END:
            manifest = form.manifest_of(payload)
        else:
            form.put(file, kind, payload)
    form.put(file, form.ACTIVATION, form.activation(store))
    moved = file.tell() - form.FILE_HEADER
    for kind, length in form.messages(recording):
        payload = recording.read(length)
        if kind == form.STORE_INFO:
            form.put(file, kind, form.counted_store_info(payload, _RECORDING_SERIES))
        elif kind == form.END:
            parts = [form.sorted_manifest(manifest, 0), form.sorted_manifest(form.manifest_of(payload), moved)]
            form.finish(file, parts)
        else:
            form.put(file, kind, payload)
    recording.read()
