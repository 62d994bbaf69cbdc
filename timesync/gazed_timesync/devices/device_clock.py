"""From a camera's own clock to the host's: the time at which a frame was exposed."""

from __future__ import annotations

import math
from typing import Literal

from gazed_timesync.clock import HostNs
from gazed_timesync.devices.envelope import LowerEnvelope
from gazed_timesync.devices.stamp_track import StampTrack

__all__ = ["DeviceClock"]

_CRYSTAL_SD = 100e-6  # how far a camera's crystal is off its name
_RESCALED_SD = 2e-3  # how far the rate may be off after the driver has corrected it
_COUNTER_SD = 2e-2  # how far a frame rate may be off its name
_CATCH_UP_S = 1.0
_SLEW = 0.02
_JUMP_S = 0.02  # further off than this is worth a jump
_CAUSALITY_S = 2e-3
_VIOLATIONS = 3
_RISE_S = 4e-3  # later than this for two seconds, and the offset is no longer the one it was
_LOAD_S = 50e-3  # the same of a clock that never jumped: load is more likely
_BUNCHED, _BUNCH_FRAMES = 0.2, 100  # the share of frames right behind another, over the last so many
_GAP_S = 1.0
_CALM_S = 10.0  # that a frame rate has to be steady for
_MIN_STEP_NS = 1000
_TRANSFER_S = 4e-3  # libuvc gets 32 packets of 125 us at a time: a frame waits for the end of its transfer
_PHASE_S = 1e-4


class DeviceClock:
    """Maps the frame stamps of a camera that runs on a clock of its own to the host's.

    The offset between the clocks is the lower edge of ``arrival - stamp`` over two minutes (``LowerEnvelope``). What
    even the fastest frames need from the exposure to the host - sensor readout, transfer - is in no clock; it stays in
    the result as a constant delay unless ``latency_s`` names it. Load that delays each single frame for longer than two
    seconds cannot be told from a clock that moved; right after a jump it is taken for that.

    Args:
        period_s: nominal seconds from frame to frame.
        latency_s: constant delay to subtract, in seconds.
    """

    def __init__(self, period_s: float, *, latency_s: float = 0.0) -> None:
        self._nominal_s = period_s
        self._latency_ns = round(latency_s * 1e9)
        self._skew = 0.0
        self._steps = 0
        self._last: HostNs | None = None
        self._begin()

    @property
    def kind(self) -> Literal["hardware", "arrival"]:
        """What the last result rests on: the device's stamps, or arrival times (smoothed over a steady frame rate)."""
        return "hardware" if self._track.stamped else "arrival"

    @property
    def error_s(self) -> float | None:
        """Bound of the last result's error in seconds, apart from the constant delay between exposure and arrival.

        ``None`` where nothing is known: no frame yet, or arrival times at an unsteady rate.
        """
        if self._origin is None or not self._steady:
            return None
        frame_s = self._track.period_s * (1 + self._envelope.skew)
        bound = self._envelope.error_s + _beat(frame_s) + abs(self._behind) + self._early + self._doubt
        # Frames that come in bunches waited for somebody to look; the last of a bunch, for up to a frame.
        return bound + frame_s if self._bunched > _BUNCHED else bound

    @property
    def steps(self) -> int:
        """How often the device's clock was found to have jumped."""
        return self._steps

    def reset(self) -> None:
        """Begin anew: sequence and stamps of a new stream. What is known of the skew is kept."""
        self._keep_skew()
        self._begin()

    def _begin(self) -> None:
        self._track = StampTrack(self._nominal_s)
        self._envelope = LowerEnvelope(self._skew, _CRYSTAL_SD)
        self._origin: HostNs | None = None
        self._sequence = 0
        self._arrival_s = 0.0
        self._line = (0.0, 0.0, 0.0)  # device seconds, host seconds since the origin, skew
        self._behind = 0.0
        self._early = 0.0
        self._violations = 0
        self._doubt = 0.0
        self._bunched = 0.0
        self._steady_from = _CALM_S
        self._original = True

    def map(self, device_s: float | None, arrival_ns: HostNs, sequence: int) -> HostNs:
        """Return the best estimate of the exposure of a frame.

        Strictly increasing from call to call, by 1 us at least, and never later than ``arrival_ns``.

        Args:
            device_s: the stamp as the camera's driver hands it out, in seconds; ``None`` or not above zero: no stamp.
            arrival_ns: host time at which the frame was taken out of the driver; rises by 1 us at least.
            sequence: number of the frame; a gap means lost frames. One that does not rise is a new stream.
        """
        estimate = self._estimate(device_s, arrival_ns, sequence)
        self._early = max(0, estimate - arrival_ns) / 1e9
        captured = min(estimate - self._latency_ns, arrival_ns)
        if self._last is not None:
            captured = max(captured, self._last + _MIN_STEP_NS)
        self._last = HostNs(captured)
        return self._last

    def _estimate(self, device_s: float | None, arrival_ns: HostNs, sequence: int) -> int:
        if self._origin is not None:
            arrival_s = (arrival_ns - self._origin) / 1e9
            frames = sequence - self._sequence
            before, elapsed = self._track.seconds, arrival_s - self._arrival_s
            if frames > 0:
                changed = self._track.advance(device_s, frames, arrival_s)
            if frames <= 0 or abs(self._track.seconds - before - elapsed) > _GAP_S:
                self.reset()
        if self._origin is None:
            self._origin, arrival_s, changed = arrival_ns, 0.0, False
            self._track.advance(device_s, 0, 0.0)
        close = arrival_s - self._arrival_s < self._nominal_s / 4
        self._bunched += (close - self._bunched) / _BUNCH_FRAMES
        self._sequence, self._arrival_s = sequence, arrival_s
        x = self._track.seconds
        if changed:
            self._pin(x)
        self._learn(x, arrival_s - x)
        if not self._steady:
            return arrival_ns
        start, host_s, skew = self._line
        return self._origin + round((host_s + (x - start) * (1 + skew)) * 1e9)

    @property
    def _steady(self) -> bool:
        """Whether the line can be used: without stamps, only while the frame counter has proven to be a clock."""
        return self._track.trusted or self._arrival_s >= self._steady_from

    def _keep_skew(self) -> None:
        """Remember the skew of the device's crystal, unless the driver or a jump has changed it since the start."""
        if self._original and self._envelope.settled and self._track.stamped:
            self._skew = self._envelope.skew
        self._original = False

    def _pin(self, x: float) -> None:
        """Go on from ``x`` at a rate that has to be learned anew."""
        if self._track.jumps:
            self._steps += 1
            self._track.jumps = 0
        envelope = self._envelope
        self._keep_skew()
        sd = _RESCALED_SD if self._track.trusted else _COUNTER_SD
        self._envelope = LowerEnvelope(envelope.skew, sd, (x, envelope.at(x)))

    def _learn(self, x: float, y: float) -> None:
        """Take in how late a frame was by the device's clock, and steer the line."""
        envelope = self._envelope
        self._violations = self._violations + 1 if envelope.settled and y < envelope.at(x) - _CAUSALITY_S else 0
        if self._violations >= _VIOLATIONS:
            self._steps += self._track.trusted
            self._part()
            self._envelope = envelope = LowerEnvelope(envelope.skew, _RESCALED_SD)
            self._violations = 0
            self._doubt = 0.0
        fitted = envelope.add(x, y)
        if envelope.full:
            self._doubt = 0.0
        if fitted and envelope.settled and envelope.lift_s > (_LOAD_S if self._original else _RISE_S):
            # It may as well be load; then the line is too high until a frame proves it, or none does in two minutes.
            self._doubt += envelope.lift_s
            self._part()
            envelope.keep_recent(_RESCALED_SD)
        target = x + envelope.at(x)
        if not envelope.settled:
            self._line, self._behind = (x, target, envelope.skew), 0.0
        elif fitted:
            start, host_s, skew = self._line
            now = host_s + (x - start) * (1 + skew)
            self._behind = target - now
            if abs(self._behind) > _JUMP_S:
                now, self._behind = target, 0.0
            slew = max(-_SLEW, min(_SLEW, self._behind / _CATCH_UP_S))
            self._line = (x, now, envelope.skew + slew)

    def _part(self) -> None:
        """Note that the device's time and the arrivals have parted."""
        self._original = False
        self._steady_from = self._arrival_s + _CALM_S


def _beat(period_s: float) -> float:
    """Return how much the shortest wait for the end of a transfer varies as frames and transfers beat, in seconds.

    Frames of one period meet the transfers in few phases; while the clocks drift the phases all shift together.
    """
    for phases in range(1, 40):
        if abs(math.remainder(phases * period_s, _TRANSFER_S)) < _PHASE_S:
            return _TRANSFER_S / phases
    return _PHASE_S
