"""A file that grows along with a live recording, written by a thread of its own.

The SDK could write it itself, but says nothing when it cannot, and then waits for ever when it is to end.
"""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from gazed_plugins.export.errors import AlreadyThere
from gazed_plugins.rerun.calls import Chunk
from gazed_plugins.rerun.rrd import write_rrd
from gazed_recorder.errors import DiskFull

__all__ = ["LiveFile"]

_WAITING = 64
_PATIENCE_S = 10.0


class LiveFile:
    """Writes chunks as they come; whole when it is closed.

    Args:
        path: the file.
        recording_id: what the recording is called.
        blueprint: the views to begin with.
        replace: whether it may be there already.

    Raises:
        AlreadyThere: it is there.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, recording_id: str, blueprint: Sequence[Chunk], *, replace: bool = False) -> None:
        try:
            path.open("wb" if replace else "xb").close()
        except FileExistsError as error:
            raise AlreadyThere(f"{path} is there already", hint="--force replaces it") from error
        self._path = path
        self._chunks: queue.Queue[Sequence[Chunk] | None] = queue.Queue(_WAITING)
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._write, args=(recording_id, blueprint), name="live file", daemon=True
        )
        self._thread.start()

    def send(self, chunks: Sequence[Chunk]) -> None:
        """Hand over chunks.

        Raises:
            DiskFull: there was no room for those before.
            OSError: they could not be written for another reason, or not within 10 s.
        """
        self._check()
        try:
            self._chunks.put(chunks, timeout=_PATIENCE_S)
        except queue.Full:
            self._check()
            raise TimeoutError(errno.ETIMEDOUT, "the disk is too slow", str(self._path)) from None

    def close(self) -> None:
        """Write what is left and the end of the file.

        Raises:
            DiskFull, OSError: as ``send``.
        """
        while self._thread.is_alive():
            try:
                self._chunks.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        self._check()

    def _write(self, recording_id: str, blueprint: Sequence[Chunk]) -> None:
        try:
            write_rrd(self._path, recording_id, self._handed_over(), blueprint)
        except Exception as error:  # noqa: BLE001 - raised where chunks are handed over
            self._error = error

    def _handed_over(self) -> Iterator[Chunk]:
        while (chunks := self._chunks.get()) is not None:
            yield from chunks

    def _check(self) -> None:
        error = self._error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"{self._path} cannot be written any further: its disk is full",
                hint=f"rerun rrd merge --continue-on-error {self._path} -o whole.rrd keeps what is there",
            ) from error
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        if error is not None:
            raise error
