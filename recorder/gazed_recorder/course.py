"""How far the running recording has come, for the recorder that takes over when this one dies.

It stands in ``<run directory>/recording`` from the start of a recording until its last frame has arrived.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gazed_recorder.atomic import replace_file

__all__ = ["Course"]


class Course(msgspec.Struct):
    """Where a recording stands between ``recording.should_start`` and ``recording.stopped``."""

    folder: str
    request: dict[str, str | int] = {}
    """``request`` of whoever waits for an answer, if that was given."""
    eyes: bool = True
    """Whether the eye cameras take part."""
    started: bool = False
    stop_reason: str | None = None
    """Why it is being stopped; ``None`` while it is not."""

    @property
    def changing(self) -> bool:
        """Whether it is still starting, or stopping."""
        return not self.started or self.stop_reason is not None

    def save(self, path: Path) -> None:
        """Replace ``path`` in one step.

        Raises:
            OSError: it cannot be written.
        """
        replace_file(path, msgspec.json.encode(self), durable=False)

    @classmethod
    def load(cls, path: Path) -> Course:
        """Read what ``save`` wrote.

        Raises:
            OSError: it cannot be read.
            msgspec.DecodeError: it was not made by ``save``.
        """
        return msgspec.json.decode(path.read_bytes(), type=cls)
