"""Ground truth: for any capture time of a simulated stream, what its frame shows.

The fields and their units are those of ``EYE_TRUTH`` and ``WORLD_TRUTH`` in ``fields``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_capture.wearer.bank import open_bank
from gazed_capture.wearer.options import read_options

__all__ = ["Truth", "load_truth", "write_truth"]


class Truth:
    """The truth of one stream; ``rows`` is the loop, one record of ``EYE_TRUTH`` or ``WORLD_TRUTH`` a frame."""

    def __init__(self, rows: NDArray[np.void], loop_ns: int) -> None:
        self.rows = rows
        self.loop_ns = loop_ns

    def at(self, captured_ns: ArrayLike) -> NDArray[np.void]:
        """Return the records (same shape) of frames captured at host times, in ns of CLOCK_MONOTONIC.

        A time that is off by less than half a frame still finds its frame.
        """
        phase = np.asarray(captured_ns, np.int64) % self.loop_ns
        return self.rows[(phase * len(self.rows) + self.loop_ns // 2) // self.loop_ns % len(self.rows)]


def load_truth(stream: str, options: Mapping[str, Any]) -> Truth:
    """Return the truth of a stream with these options of its source.

    Raises:
        SourceOptionError: an option is unknown or out of range.
    """
    bank = open_bank(read_options(stream, options).bank)
    bank.close()
    return Truth(bank.truth, bank.loop_ns)


def write_truth(
    folder: Path,
    stream: str,
    options: Mapping[str, Any],
    captured_ns: Sequence[int] | NDArray[np.int64],
    timestamps: Sequence[float] | NDArray[np.float64],
) -> Path:
    """Write ``<stream>_truth.npy`` into ``folder``, made if missing, and return its path.

    For a recording the folder is its ``truth``: beside the videos, players would take the file for one of theirs.
    One record for each recorded frame: its ``timestamp`` (Pupil time, s), ``captured_ns`` (host time), and the fields
    of the truth.

    Raises:
        SourceOptionError: an option is unknown or out of range.
        ValueError: ``captured_ns`` and ``timestamps`` differ in length.
    """
    if len(captured_ns) != len(timestamps):
        raise ValueError(f"{stream}: {len(captured_ns)} capture times, but {len(timestamps)} timestamps")
    found = load_truth(stream, options).at(captured_ns)
    records = np.empty(len(found), [("timestamp", "f8"), ("captured_ns", "i8"), *found.dtype.descr])
    records["timestamp"], records["captured_ns"] = timestamps, captured_ns
    for name in found.dtype.names or ():
        records[name] = found[name]
    folder.mkdir(exist_ok=True)
    path = folder / f"{stream}_truth.npy"
    np.save(path, records)
    return path
