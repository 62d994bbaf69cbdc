"""The run directory: where the processes of one daemon find each other.

It is private (mode 0700), lives as long as the daemon, and holds the ipc sockets and the shared clock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunDir"]

_PREFIX = "gazed-"


@dataclass(frozen=True, slots=True)
class RunDir:
    """Addresses inside the run directory of one daemon."""

    path: Path

    @classmethod
    def create(cls) -> RunDir:
        """Make a new private run directory below ``XDG_RUNTIME_DIR``, or below the system's temporary folder.

        Those of daemons that were killed are removed on this occasion.
        """
        base = os.environ.get("XDG_RUNTIME_DIR")
        # An ipc address holds 107 characters: a deep TMPDIR would not fit.
        parent = base if base and Path(base).is_dir() and os.access(base, os.W_OK) and len(base) < 60 else "/tmp"  # noqa: S108
        for left in Path(parent).glob(f"{_PREFIX}*/pid"):
            with contextlib.suppress(OSError, ValueError):
                if left.stat().st_uid == os.getuid() and not Path(f"/proc/{int(left.read_text())}").exists():
                    shutil.rmtree(left.parent)
        run = cls(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))
        (run.path / "pid").write_text(str(os.getpid()))
        return run

    def remove(self) -> None:
        """Delete the directory and what is left in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def pub(self) -> str:
        """Where publishers connect (XSUB)."""
        return f"ipc://{self.path}/pub"

    @property
    def sub(self) -> str:
        """Where subscribers connect (XPUB)."""
        return f"ipc://{self.path}/sub"

    @property
    def push(self) -> str:
        """Where messages that must arrive are pushed (PULL)."""
        return f"ipc://{self.path}/push"

    @property
    def lane(self) -> str:
        """Where cameras hand frames to the recorder (ROUTER)."""
        return f"ipc://{self.path}/lane"

    @property
    def clock(self) -> Path:
        """The shared clock of ``gazed_timesync.PupilClock``."""
        return self.path / "clock"
