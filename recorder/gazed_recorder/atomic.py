"""Replacing a file as a whole: whoever reads finds the old one or the new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["WRITING", "replace_file", "replacing", "sync_folder"]

WRITING = ".writing"


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open ``<path>.writing``; it becomes ``path`` when the block ends well, and goes away when it does not.

    Unless it is ``durable``, and so waits for the disk, a power cut may cost both.
    """
    beside = path.with_name(path.name + WRITING)
    try:
        with beside.open("wb", buffering=1 << 20) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace ``path`` by a file of ``data``, as ``replacing`` does.

    Raises:
        OSError: it cannot be written; the old one is still there.
    """
    with replacing(path, durable=durable) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Return when the names in ``folder`` are on the disk.

    Raises:
        OSError: the disk failed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
