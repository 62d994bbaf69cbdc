"""Errors of the bus and of the client.

::

    GazedError
    └── BusError
        ├── MessageError       a message is not what the wire format asks for
        ├── NotDelivered       the broker takes no more messages
        ├── PortInUse          a port the daemon needs is taken
        ├── CameraModelError   intrinsics of a camera are not well formed
        └── RemoteError        the client's view
            ├── NotReachable   nobody answers at that address
            ├── RequestRefused the daemon said no; ``reason`` and text are the daemon's
            └── NotGazed       something answers, but it is not gazed
"""

from __future__ import annotations

from gazed_timesync import GazedError

__all__ = [
    "BusError",
    "CameraModelError",
    "MessageError",
    "NotDelivered",
    "NotGazed",
    "NotReachable",
    "PortInUse",
    "RemoteError",
    "RequestRefused",
]


class BusError(GazedError):
    """The bus or a peer on it misbehaved."""

    code = "bus"


class MessageError(BusError):
    """A message breaks the wire format; it was not acted upon."""

    code = "message"


class NotDelivered(BusError):
    """A message that must arrive could not be handed over: the broker is away and the queue is full."""

    code = "not-delivered"


class PortInUse(BusError):
    """A port that the daemon needs is taken by another program."""

    code = "port-in-use"
    exit_code = 4


class CameraModelError(BusError):
    """Intrinsics of a camera are not well formed, or the file that should hold them cannot be read."""

    code = "camera-model"


class RemoteError(BusError):
    """A request to a running daemon failed."""

    code = "remote"
    exit_code = 3


class NotReachable(RemoteError):
    """Nobody answered in time."""

    code = "not-reachable"


class NotGazed(RemoteError):
    """Something answers at the address, but it does not speak gazed's requests (Pupil Capture, perhaps)."""

    code = "not-gazed"


class RequestRefused(RemoteError):
    """The daemon understood and refused; ``reason`` is its stable code."""

    code = "refused"

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason

    def as_dict(self) -> dict[str, str]:
        """Return the error with the daemon's own code."""
        return {**super().as_dict(), "reason": self.reason}
