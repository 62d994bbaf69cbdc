"""Which datum logs a recording has, whatever version wrote it."""

from __future__ import annotations

import re
from functools import partial

from gazed_recorder.classic import PUPIL_DATA
from gazed_recorder.files import FolderFiles
from gazed_recorder.layout import stamps_of
from gazed_recorder.reading.logs import Log, annotations_among, pldata_log
from gazed_recorder.reading.packed import PackedLog
from gazed_recorder.reading.pupil_data import PupilData, read_pupil_data

__all__ = ["find_logs", "is_before", "with_annotations"]

_SUFFIX = ".pldata"


def find_logs(folder: FolderFiles, growing: bool) -> tuple[dict[str, Log], list[str]]:
    """Return the logs in a folder by their names, and a sentence for each thing that they lack.

    ``.pldata`` files count, if there are any, else ``pupil_data``. The timestamps of a recording that is ``growing``
    are taken from its datums: those in a file of their own come later.

    Raises:
        DamagedFile: ``pupil_data`` cannot be read.
    """
    files = sorted(name for name in folder.names if name.endswith(_SUFFIX) and not name.startswith("."))
    if files or PUPIL_DATA not in folder:
        logs = {}
        for file in files:
            stamps = None if growing else folder.file(stamps_of(file))
            logs[file.removesuffix(_SUFFIX)] = pldata_log(folder.path / file, stamps=stamps)
        return logs, []
    found = read_pupil_data(folder.path / PUPIL_DATA)
    told = [f"{PUPIL_DATA} ends too early: what is behind its end is left out"] if found.torn else []
    return {name: Log(name, partial(_of, found, name), old=not found.is_modern) for name in found.logs}, told


def with_annotations(logs: dict[str, Log], version: str) -> dict[str, Log]:
    """Return the logs with one of annotations, which before 1.9 were among the notifications."""
    if "annotation" in logs or "notify" not in logs or not is_before(version, (1, 9)):
        return logs
    return logs | {"annotation": annotations_among(logs["notify"])}


def is_before(version: str, other: tuple[int, int]) -> bool:
    """Tell whether a version is before another one; an unknown one is not.

    >>> is_before("0.9.12", (1, 9)), is_before("2.3", (1, 9)), is_before("", (1, 9))
    (True, False, False)
    """
    match = re.match(r"v?(\d{1,9})\.(\d{1,9})", version)
    return match is not None and (int(match[1]), int(match[2])) < other


def _of(found: PupilData, name: str) -> PackedLog:
    return found.logs[name]
