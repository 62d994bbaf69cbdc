"""Which clock a sound stream tells its times on, and what it reads compared with the host's.

PortAudio's stream time is CLOCK_MONOTONIC on a kernel PCM and CLOCK_REALTIME through the PulseAudio plugin; nothing
in its interface says which, and the second one steps whenever somebody sets the computer's clock. So it is measured.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from gazed_timesync.clock import HostNs
from gazed_timesync.relations import UnixNs

__all__ = ["StreamClock"]

_SAME_NS = 1_000_000_000  # between two readings of one clock lies less, even on a machine that stumbles
_KEPT = 256  # readings: about five seconds of sound


class StreamClock:
    """Converts times of a stream to host time by what all clocks showed at the last ``observe``.

    Where the stream's clock is one of the computer's, the conversion is exact; any other one is taken to run like the
    host's, and the offset is that of the reading with the least delay of the last few seconds.
    """

    def __init__(self) -> None:
        self._kind: Literal["monotonic", "realtime", "other"] = "other"
        self._offset = 0
        self._delays: deque[int] = deque(maxlen=_KEPT)

    @property
    def kind(self) -> Literal["monotonic", "realtime", "other"]:
        """The clock that the stream's time was found to be at the last reading."""
        return self._kind

    def observe(self, stream_s: float, host: HostNs, unix: UnixNs) -> None:
        """Take in a reading of the stream's clock, and of the host's and the Unix clock at once and soon after it.

        Args:
            stream_s: seconds of the stream's clock.
            host: ns of CLOCK_MONOTONIC.
            unix: ns of CLOCK_REALTIME.
        """
        stream_ns = round(stream_s * 1e9)
        self._delays.append(host - stream_ns)
        if abs(host - stream_ns) < _SAME_NS:
            self._kind, self._offset = "monotonic", 0
        elif abs(unix - stream_ns) < _SAME_NS:
            self._kind, self._offset = "realtime", host - unix
        else:
            self._kind, self._offset = "other", min(self._delays)

    def to_host(self, stream_s: float) -> HostNs:
        """Convert a time of the stream, in seconds, by the last reading."""
        return HostNs(round(stream_s * 1e9) + self._offset)
