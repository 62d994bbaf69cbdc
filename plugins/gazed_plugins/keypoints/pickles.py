"""HDF5 files that PyTables wrote may hold pickles, which are programs; it runs them when the files are read."""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

from gazed_plugins.keypoints.errors import NotKeypoints, UnsafeFile

__all__ = ["may_run", "refuse_programs"]

# Whatever makes something else than numbers, texts, lists and maps begins with the name of what makes it.
_NAMES = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}


def refuse_programs(path: Path) -> None:
    """Look through an HDF5 file for pickles of more than numbers, texts, lists and maps.

    Raises:
        UnsafeFile: there is one, or a link that leads to where nobody has looked.
        NotKeypoints: it is no HDF5 file.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            # What is said ends the walk; an error must not, as HDF5 does not know them.
            danger = (
                _danger(file) or file.visititems_links(_leads_away) or file.visititems(lambda _, node: _danger(node))
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SystemError) as error:
        raise NotKeypoints(f"{path}: no HDF5 file that can be read: {error}") from error
    if danger:
        raise UnsafeFile(f"{path}: {danger}", hint="do not open this file anywhere, unless you know who made it")


def _leads_away(name: Any, link: Any) -> str | None:
    import h5py

    return None if isinstance(link, h5py.HardLink) else f"{name!r:.100} is a link to elsewhere"


def _danger(node: Any) -> str | None:
    """Say what in an object may be a program."""
    import h5py
    import numpy as np

    if isinstance(node, h5py.Dataset) and h5py.check_vlen_dtype(node.dtype) not in (None, str, bytes):
        return f"{node.name} may hold objects as pickles"
    for name in node.attrs:
        dtype = node.attrs.get_id(name).dtype
        if h5py.check_string_dtype(dtype) is None and dtype.kind != "S":
            continue
        for value in np.ravel(node.attrs[name]).tolist():
            if may_run(value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")):
                return f"attribute {name!r:.100} of {node.name} is a pickle that may run a program"
    return None


def may_run(value: bytes) -> bool:
    """Tell whether PyTables takes a text for a pickle, and Python might come upon a name in it."""
    if not value.rstrip(b"\0").endswith(b"."):
        return False
    try:
        return any(step.name in _NAMES for step, _, _ in pickletools.genops(value))
    except (ValueError, IndexError, EOFError):
        # No pickle, or one that PyTables tries in other ways. A name takes a new line, or bytes that no text has.
        return b"\n" in value or not value.isascii()
