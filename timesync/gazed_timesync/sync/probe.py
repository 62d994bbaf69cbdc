"""The datagrams by which our own nodes ask each other for the time: 48 bytes each way, so that nothing is amplified.

========  =======================================================  ==========================
offset    question                                                 answer
========  =======================================================  ==========================
0         ``PTX1``                                                 ``PTX1``
4         number, uint32                                           the same number
8         host time of the question, int64 ns                      the same
16        zeros                                                    leader's time of receipt, float64 s
24        zeros                                                    leader's time of the answer, float64 s
32        zeros                                                    jumps of the leader's clock, uint32
36        zeros                                                    zeros
========  =======================================================  ==========================

All little-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from gazed_timesync.clock import HostNs

__all__ = ["PROBE_BYTES", "Answer", "Question"]

PROBE_BYTES = 48
_MAGIC = b"PTX1"
_QUESTION = struct.Struct("<4sIq32x")
_ANSWER = struct.Struct("<4sIqddI12x")


class Question(NamedTuple):
    """A follower's question."""

    number: int
    sent_ns: HostNs

    def pack(self) -> bytes:
        """Return the datagram."""
        return _QUESTION.pack(_MAGIC, *self)

    @classmethod
    def unpack(cls, datagram: bytes) -> Question | None:
        """Read a datagram; nothing, if it is no question."""
        if len(datagram) != PROBE_BYTES or not datagram.startswith(_MAGIC):
            return None
        _, number, sent_ns = _QUESTION.unpack(datagram)
        return cls(number, sent_ns)


class Answer(NamedTuple):
    """A leader's answer; times are its Pupil time in seconds."""

    question: Question
    received: float
    replied: float
    steps: int

    def pack(self) -> bytes:
        """Return the datagram."""
        return _ANSWER.pack(_MAGIC, *self.question, self.received, self.replied, self.steps & 0xFFFFFFFF)

    @classmethod
    def unpack(cls, datagram: bytes) -> Answer | None:
        """Read a datagram; nothing, if it is no answer."""
        if len(datagram) != PROBE_BYTES or not datagram.startswith(_MAGIC):
            return None
        _, number, sent_ns, received, replied, steps = _ANSWER.unpack(datagram)
        return cls(Question(number, sent_ns), received, replied, steps)
