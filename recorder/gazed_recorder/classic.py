"""``pupil_data``: all datums in one msgpack map, as Pupil Capture wrote it up to version 1.7."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import msgpack

from gazed_recorder.arrays import read_array
from gazed_recorder.atomic import replacing
from gazed_recorder.datalog import STAMP_DTYPE, PldataReader
from gazed_recorder.errors import DamagedFile
from gazed_recorder.space import free_bytes

__all__ = ["PUPIL_DATA", "classic_name", "write_pupil_data"]

PUPIL_DATA = "pupil_data"
_NAMES = {"pupil": "pupil_positions", "gaze": "gaze_positions", "notify": "notifications"}


def classic_name(log: str) -> str:
    """Return the key of a log in ``pupil_data``."""
    return _NAMES.get(log, log)


def write_pupil_data(folder: Path, hurry: Callable[[], bool] = lambda: False) -> str:
    """Build ``pupil_data`` from the logs of a folder, in constant memory; each datum is copied byte by byte.

    The map has the keys ``pupil_positions``, ``gaze_positions`` and ``notifications``, then one for each other log;
    each holds the list of the datums in the order of their arrival. Returns why it was not written:
    no room, or ``hurry`` said so; empty if it was.

    Raises:
        DamagedFile: a log is not in order; repair it first.
        OSError: the disk failed.
    """
    logs = sorted({path.stem for path in folder.glob("*.pldata")} - _NAMES.keys())
    paths = [folder / f"{name}.pldata" for name in (*_NAMES, *logs)]
    size, free = sum(path.stat().st_size for path in paths if path.exists()), free_bytes(folder)
    if size > free:
        return f"{size / 1e6:.0f} MB wanted, {free / 1e6:.0f} MB free"
    packer = msgpack.Packer()
    try:
        with replacing(folder / PUPIL_DATA) as file:
            file.write(packer.pack_map_header(len(paths)))
            for path in paths:
                file.write(packer.pack(classic_name(path.stem)))
                count = (
                    len(read_array(path.with_name(f"{path.stem}_timestamps.npy"), STAMP_DTYPE)) if path.exists() else 0
                )
                file.write(packer.pack_array_header(count))
                reader = PldataReader(path)
                for _, payload in reader if count else ():
                    if reader.count % 1024 == 0 and hurry():
                        raise _Hurried
                    file.write(payload)
                if reader.count != count:
                    raise DamagedFile(
                        f"{path}: {reader.count} records, {count} timestamps", hint=f"gazed repair {folder}"
                    )
    except _Hurried:
        return "there was no time"
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return f"the disk became full, {size / 1e6:.0f} MB wanted"
    return ""


class _Hurried(Exception):
    pass
