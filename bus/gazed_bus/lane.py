"""The recorder lane: how frames reach the recorder without loss.

A camera (``LaneSender``, DEALER) keeps each frame of a recording until the recorder (``LaneReceiver``, ROUTER) says
that it is on disk. When the recorder dies and comes back, it names the last frame it has of each stream, and the camera
goes on behind that one. What does not fit the camera's bounded queue is dropped and counted; the counts travel with
every frame, so that ``received == written + dropped`` can be checked at any instant.

Messages, first frame is the kind:

=====  =====================  ==================================================================
kind   direction              further frames
=====  =====================  ==================================================================
``H``  camera to recorder     msgpack map: stream, state, info, session
``F``  camera to recorder     header (``FrameHeader``), payload
``E``  camera to recorder     msgpack map: session, recorder, received, dropped, missed
``S``  recorder to camera     session and recorder number (u64), last captured_ns on disk (i64)
``A``  recorder to camera     captured_ns up to which everything is on disk (i64)
``X``  recorder to camera     session (u64): stop after the frames you hold
``Q``  recorder to camera     session (u64): everything arrived, forget it
=====  =====================  ==================================================================
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import msgpack
import zmq

from gazed_bus.frame import Frame, PayloadFormat, StreamInfo
from gazed_timesync import PupilTime

__all__ = ["Ended", "FrameHeader", "Hello", "LaneReceiver", "LaneSender", "StreamState"]

StreamState = Literal["streaming", "silent", "waiting", "lost", "ended"]
_FORMATS: tuple[PayloadFormat, ...] = get_args(PayloadFormat)
_HEADER = struct.Struct("<QQQdqqdQQQHHB")
_START = struct.Struct("<QQq")
_ACK = struct.Struct("<q")
_SESSION = struct.Struct("<Q")
_WINDOW_FRAMES = 256
_HELLO_EVERY = 0.5


class FrameHeader(NamedTuple):
    """What travels in front of each frame's payload."""

    session: int
    recorder: int
    sequence: int
    device_time: float
    host_ns: int
    captured_ns: int
    timestamp: float
    received: int
    """Frames this camera process took from its source since the recording began, this one included."""
    dropped: int
    """Of those, how many the camera had to drop because its queue was full."""
    missed: int
    """Frames of this recording that the source never got from the device."""
    width: int
    height: int
    format: int

    @property
    def payload_format(self) -> PayloadFormat:
        """What the payload is."""
        return _FORMATS[self.format]


@dataclass(frozen=True, slots=True)
class Hello:
    """A camera is there."""

    identity: bytes
    stream: str
    state: StreamState
    info: StreamInfo | None
    """What the camera delivers, or delivered last; ``None`` if it was never open."""
    session: int
    """The recording of which it may hold frames; 0 if none."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A camera has handed over everything it held of a recording."""

    identity: bytes
    session: int
    received: int
    dropped: int
    missed: int


class LaneSender:
    """The camera's end of the lane. Never blocks; one thread.

    ``limit_bytes`` bounds what is held while the recorder is away.
    """

    def __init__(
        self, endpoint: str, stream: str, *, limit_bytes: int, context: zmq.Context[Any] | None = None
    ) -> None:
        self.stream = stream
        self._limit = limit_bytes
        self._socket: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, f"{stream}-{os.getpid()}-{os.urandom(4).hex()}".encode())
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.connect(endpoint)
        self._pending: deque[tuple[FrameHeader, bytes | memoryview]] = deque()
        self._unsent = 0
        self._bytes = 0
        self._session = 0
        self._recorder = 0
        self._after_ns = 0
        self._ending = False
        self._end_sent = False
        self._hello: dict[str, Any] = {}
        self._hello_at = 0.0
        self.received = 0
        self.dropped = 0
        self.missed = 0

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For polling."""
        return self._socket

    @property
    def recording(self) -> bool:
        """Whether frames are wanted now."""
        return self._session != 0 and not self._ending

    @property
    def held(self) -> int:
        """Frames that are not known to be on disk yet."""
        return len(self._pending)

    def announce(self, state: StreamState, info: StreamInfo | None) -> None:
        """Say what this camera is and how it is doing; repeated twice a second by ``turn``."""
        known = asdict(info) if info else self._hello.get("info")
        self._hello = {"stream": self.stream, "state": state, "info": known}
        self._hello_at = 0.0
        self.turn()

    def offer(self, frame: Frame, timestamp: PupilTime, missed: int = 0) -> None:
        """Take a frame for the recording, if one is running; ``missed`` frames were lost by the device before it."""
        if not self.recording or frame.captured_ns <= self._after_ns:
            return
        self.received += 1
        self.missed += missed
        size = len(frame.payload)
        if self._bytes + size > self._limit:
            self.dropped += 1
        else:
            device_time = math.nan if frame.device_time is None else frame.device_time
            header = FrameHeader(
                self._session, 0, frame.sequence, device_time, frame.host_ns, frame.captured_ns, timestamp,
                self.received, self.dropped, self.missed, frame.width, frame.height, _FORMATS.index(frame.format),
            )  # fmt: skip
            self._pending.append((header, frame.payload))
            self._unsent += 1
            self._bytes += size
        self._pump()

    def turn(self) -> None:
        """Handle what the recorder said and send what may be sent. Call at least twice a second."""
        while True:
            try:
                kind, *body = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            self._handle(kind, body)
        now = time.monotonic()
        if self._hello and now - self._hello_at >= _HELLO_EVERY:
            self._hello_at = now
            self._socket.send_multipart([b"H", msgpack.packb({**self._hello, "session": self._session})])
        self._pump()

    def _handle(self, kind: bytes, body: list[bytes]) -> None:
        if kind == b"S":
            session, self._recorder, after_ns = _START.unpack(body[0])
            if session != self._session:
                self._forget()
                self._session, self._after_ns = session, after_ns
                self.received = self.dropped = self.missed = 0
            self._confirm(after_ns)
            self._unsent = len(self._pending)
            # A recorder that died while it stopped says so again, or its successor goes on.
            self._ending = self._end_sent = False
        elif kind == b"A":
            self._confirm(*_ACK.unpack(body[0]))
        elif kind == b"X" and _SESSION.unpack(body[0])[0] == self._session:
            self._ending = True
        elif kind == b"Q" and _SESSION.unpack(body[0])[0] == self._session:
            self._forget()

    def _forget(self) -> None:
        self._pending.clear()
        self._unsent = self._bytes = self._session = 0
        self._ending = self._end_sent = False

    def _confirm(self, captured_ns: int) -> None:
        while self._pending and self._pending[0][0].captured_ns <= captured_ns:
            _, payload = self._pending.popleft()
            self._bytes -= len(payload)
        self._unsent = min(self._unsent, len(self._pending))

    def _pump(self) -> None:
        while self._unsent and len(self._pending) - self._unsent < _WINDOW_FRAMES:
            header, payload = self._pending[len(self._pending) - self._unsent]
            packed = _HEADER.pack(*header._replace(recorder=self._recorder))
            self._socket.send_multipart([b"F", packed, payload])
            self._unsent -= 1
        if self._ending and not self._unsent and not self._end_sent:
            body = {
                "session": self._session,
                "recorder": self._recorder,
                "received": self.received,
                "dropped": self.dropped,
                "missed": self.missed,
            }
            self._socket.send_multipart([b"E", msgpack.packb(body)])
            self._end_sent = True

    def close(self) -> None:
        """Close the socket; what was not confirmed is gone."""
        self._socket.close()


class LaneReceiver:
    """The recorder's end of the lane."""

    def __init__(self, endpoint: str, *, context: zmq.Context[Any] | None = None) -> None:
        self.number = int.from_bytes(os.urandom(8), "big")
        self._socket: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.bind(endpoint)

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For polling."""
        return self._socket

    def receive(self) -> Hello | Ended | tuple[bytes, FrameHeader, zmq.Frame] | None:
        """Return the next event, or ``None`` when nothing is waiting; a frame comes as (identity, header, payload).

        What was sent to a recorder before this one is passed over: its camera sends it again.
        """
        while True:
            try:
                identity, kind, *body = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return None
            match kind.bytes:
                case b"F":
                    header = FrameHeader(*_HEADER.unpack(body[0].buffer))
                    if header.recorder == self.number:
                        return identity.bytes, header, body[1]
                case b"H":
                    hello = msgpack.unpackb(body[0].buffer)
                    info = StreamInfo(**hello["info"]) if hello["info"] else None
                    return Hello(identity.bytes, hello["stream"], hello["state"], info, hello["session"])
                case b"E":
                    ended = msgpack.unpackb(body[0].buffer)
                    if ended.pop("recorder") == self.number:
                        return Ended(identity.bytes, **ended)

    def start(self, identity: bytes, session: int, after_ns: int) -> None:
        """Ask a camera for the frames captured after ``after_ns``, and for those that follow."""
        self._socket.send_multipart([identity, b"S", _START.pack(session, self.number, after_ns)])

    def confirm(self, identity: bytes, captured_ns: int) -> None:
        """Tell a camera that everything up to ``captured_ns`` is on disk."""
        self._socket.send_multipart([identity, b"A", _ACK.pack(captured_ns)])

    def stop(self, identity: bytes, session: int) -> None:
        """Ask a camera to hand over what it holds and to say ``Ended``."""
        self._socket.send_multipart([identity, b"X", _SESSION.pack(session)])

    def done(self, identity: bytes, session: int) -> None:
        """Let a camera forget the recording."""
        self._socket.send_multipart([identity, b"Q", _SESSION.pack(session)])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
