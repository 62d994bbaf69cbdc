"""The bank: one rendered loop on disk, mapped into memory for replay.

One file ``<key>.bank`` a stream, in ``$XDG_CACHE_HOME/gazed/wearer`` or ``~/.cache/gazed/wearer``. The key is a hash of
everything that decides the pixels, the renderer's own source included. Layout, little-endian: 8 bytes magic, u64 xxh3
of all that follows, u32 rows, u32 images; then the truth (rows x its record size), u32 image of each row, u64 offset of
each image and of the end, and the JPEGs.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from gazed_capture.errors import SourceError
from gazed_capture.wearer.fields import EYE_TRUTH, WORLD_TRUTH
from gazed_capture.wearer.options import BankSpec

__all__ = ["Bank", "cache_dir", "open_bank"]

_MAGIC = b"gazedbk1"
_HEADER = struct.Struct("<8sQII")
_CACHE_BYTES = 256 * 2**20
_LEFTOVER_S = 3600

_log = logging.getLogger(__name__)


class Bank:
    """A loop, ready to be replayed.

    Raises:
        ValueError: the file is not a bank of this ``spec``, or damaged.
    """

    def __init__(self, spec: BankSpec, file: BinaryIO) -> None:
        self.loop_ns = round(spec.seconds * 1e9)
        self._rows = spec.rows
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with memoryview(self._map) as whole:
            self._read(spec, whole)

    def _read(self, spec: BankSpec, whole: memoryview) -> None:
        if len(whole) < _HEADER.size:
            raise ValueError("cut short")
        magic, digest, rows, images = _HEADER.unpack_from(whole)
        if magic != _MAGIC or rows != spec.rows or digest != xxhash.xxh3_64_intdigest(whole[_HEADER.size - 8 :]):
            raise ValueError("its checksum is wrong")
        fields = _fields(spec)
        at = _HEADER.size
        self.truth: NDArray[np.void] = np.frombuffer(whole, fields, rows, at).copy()
        at += rows * fields.itemsize
        self._image_of_row: list[int] = np.frombuffer(whole, "<u4", rows, at).tolist()
        at += rows * 4
        self._offsets: list[int] = np.frombuffer(whole, "<u8", images + 1, at).tolist()

    def row_at(self, captured_ns: int) -> int:
        """Return the row that a camera sees at a host time; all streams of a wearer share this phase."""
        return ((captured_ns % self.loop_ns) * self._rows + self.loop_ns // 2) // self.loop_ns % self._rows

    def jpeg(self, row: int) -> bytes:
        """Return the image of a row."""
        image = self._image_of_row[row]
        return self._map[self._offsets[image] : self._offsets[image + 1]]

    def close(self) -> None:
        """Give the mapping back. Closing twice is fine."""
        self._map.close()


def cache_dir() -> Path:
    """Return the folder of the banks: below ``XDG_CACHE_HOME`` if it is set, else below ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gazed" / "wearer"


def open_bank(spec: BankSpec) -> Bank:
    """Open the bank of a stream; render it first if the cache does not hold it whole.

    Processes that render the same bank at once each write a file of their own, and the last to finish names it. Where
    the cache cannot be written, the bank lives in an unnamed temporary file. Banks beyond 256 MB are deleted, the one
    used longest ago first.

    Raises:
        SourceError: there is no room for the images anywhere.
    """
    path = cache_dir() / f"{_key(spec)}.bank"
    try:
        with path.open("rb") as file:
            bank = Bank(spec, file)
        os.utime(path)
    except FileNotFoundError:
        _log.info("rendering the simulated wearer's %s (once: it is kept in %s)", spec.stream, path)
    except (OSError, ValueError) as error:
        _log.warning("cached bank %s cannot be used (%s): rendering it again", path, error)
    else:
        return bank
    return _render_bank(spec, path)


def _render_bank(spec: BankSpec, path: Path) -> Bank:
    try:
        bank = _keep(spec, path)
        _trim(path.parent)
    except OSError as error:
        _log.warning("cannot keep the simulated wearer in %s: %s", path.parent, error.strerror)
    else:
        return bank
    try:
        with tempfile.TemporaryFile() as file:
            return _write(spec, file)
    except OSError as error:
        raise SourceError(
            f"no room for the simulated wearer's {spec.stream} in {path.parent} nor in {tempfile.gettempdir()}:"
            f" {error.strerror}",
            hint="free some disk space, or name a roomy folder in XDG_CACHE_HOME",
        ) from error


def _keep(spec: BankSpec, path: Path) -> Bank:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".part", dir=path.parent)
    with os.fdopen(handle, "w+b") as file:
        try:
            bank = _write(spec, file)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink()
            raise
    return bank


def _write(spec: BankSpec, file: BinaryIO) -> Bank:
    # In a process of its own: what rendering takes would stay in the memory of the camera, and OpenCV with it.
    command = [sys.executable, "-m", __name__, msgspec.json.encode(spec).decode()]
    failed = subprocess.run(command, stdout=file, check=False).returncode
    if failed < 0:
        raise SourceError(f"rendering the simulated wearer's {spec.stream} was ended by signal {-failed}")
    if failed:
        raise OSError(failed, os.strerror(failed))
    return Bank(spec, file)


def _content(spec: BankSpec) -> list[bytes]:
    from gazed_capture.wearer.render import render

    loop = render(spec)
    counts = struct.pack("<II", spec.rows, len(loop.images))
    start = _HEADER.size + loop.truth.nbytes + 4 * spec.rows + 8 * (len(loop.images) + 1)
    offsets = np.cumsum([start, *map(len, loop.images)], dtype="<u8")
    parts = [counts, loop.truth.tobytes(), loop.image_of_row.astype("<u4").tobytes(), offsets.tobytes(), *loop.images]
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return [_MAGIC, struct.pack("<Q", digest.intdigest()), *parts]


def _key(spec: BankSpec) -> str:
    # With the source in the key no change of the renderer can meet an image of before.
    digest = xxhash.xxh3_64(repr(astuple(spec)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return f"{spec.stream}-{spec.width}x{spec.height}-{digest.hexdigest()}"


def _fields(spec: BankSpec) -> np.dtype[np.void]:
    return WORLD_TRUTH if spec.stream == "world" else EYE_TRUTH


def _trim(folder: Path) -> None:
    """Delete what has not been used for longest, and what a killed renderer left."""
    files = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if path.suffix == ".bank":
            files.append((status.st_mtime, status.st_size, path))
        elif status.st_mtime < time.time() - _LEFTOVER_S:
            path.unlink(missing_ok=True)
    kept = 0
    for _, size, path in sorted(files, reverse=True):
        kept += size
        if kept > _CACHE_BYTES:
            path.unlink(missing_ok=True)


def _main(argv: list[str]) -> None:
    """Write one bank to standard output; the exit code is the number of the system's error."""
    spec = msgspec.json.decode(argv[1], type=BankSpec)
    try:
        with os.fdopen(os.dup(1), "wb") as out:
            out.writelines(_content(spec))
    except OSError as error:
        sys.exit(error.errno)


if __name__ == "__main__":
    _main(sys.argv)
