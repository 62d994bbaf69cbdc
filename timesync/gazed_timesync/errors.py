"""The root of every error gazed raises on purpose.

::

    GazedError            code, message, hint
    ├── ClockError        the shared clock
    │   └── ClockHeld     a jump was asked for while a recording holds the epoch
    └── ZreError          discovery on the local network
        └── ZreMalformed  bytes that are no message, or a message that is no valid one

Each part adds a branch of its own below ``GazedError``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["ClockError", "ClockHeld", "GazedError", "ZreError", "ZreMalformed"]


class GazedError(Exception):
    """Something failed in a way that a user can understand and mend.

    The same object is what the command line prints, the bus publishes and the client raises.
    ``code`` is stable and made for programs; ``hint`` is the command or change that helps.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """Return the error as it travels on the bus and in ``--json`` output."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class ClockError(GazedError):
    """The shared clock could not be read or changed."""

    code = "clock"


class ClockHeld(ClockError):
    """The epoch may not jump now: a recording is running."""

    code = "clock-held"


class ZreError(GazedError):
    """Other nodes on the local network cannot be found or spoken to."""

    code = "zre"


class ZreMalformed(ZreError):
    """This does not follow the protocol."""

    code = "zre-malformed"
