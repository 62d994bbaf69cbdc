"""A camera with a clock of its own, in simulated time: what its frames' true times are and what a host sees of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gazed_timesync.clock import HostNs
from gazed_timesync.devices.device_clock import DeviceClock

__all__ = ["CameraFrames", "Load", "Seen", "camera_frames", "libuvc_stamps", "map_frames"]

Load = Literal["idle", "load", "stalls", "polled"]
Seen = Literal["transfers", "packets", "references"]

_TICKS = 15_000_000  # per second: the counter of a Pupil Cam
_START_NS = 1_000_000_000_000


@dataclass(frozen=True, slots=True)
class CameraFrames:
    """Frames of a camera, one row each."""

    exposed_s: NDArray[np.float64]
    """The true time of the exposure, in seconds of the host's clock since the stream's start."""
    ticks: NDArray[np.int64]
    """The camera's counter at the exposure, unwrapped, 15 MHz by its own crystal."""
    arrival_s: NDArray[np.float64]
    """When the host took the frame out of the driver, seconds as above."""
    sequence: NDArray[np.int64]

    def arrival_ns(self) -> list[HostNs]:
        """Return the arrivals as host time."""
        return [HostNs(_START_NS + int(arrival)) for arrival in np.round(self.arrival_s * 1e9)]

    def only(self, keep: NDArray[Any]) -> CameraFrames:
        """Return the frames chosen by a mask or by indices; the others are lost."""
        return CameraFrames(self.exposed_s[keep], self.ticks[keep], self.arrival_s[keep], self.sequence[keep])


def camera_frames(
    seconds: float,
    *,
    fps: float = 120.0,
    ppm: float = 50.0,
    load: Load = "idle",
    seen: Seen = "transfers",
    seed: int = 0,
    warm_up_ppm: float = 5.0,
    first_late_s: float = 0.0,
) -> CameraFrames:
    """Simulate a USB camera and a host that is idle, loaded, or stalls for 20 to 200 ms every ten seconds.

    A ``polled`` host is so busy that it looks for frames every 20 to 100 ms only, and finds several.

    The crystal is off by ``ppm``, warms up over minutes and wanders at random; a frame takes 4.5 ms to transfer, in USB
    transfers of 4 ms whose completion the host sees when it gets round to it.

    ``seen`` is what a driver makes of that: ``transfers``, as libuvc's wheel has it, is the completion of the transfer;
    ``packets`` takes off what came behind the frame's last packet of 125 us; ``references`` knows from the camera's
    source clock reference as well how long that frame took.
    """
    random = np.random.default_rng(seed)
    grid = np.arange(-20.0, seconds + 2, 0.01)
    warm = warm_up_ppm * (1 - np.exp(-np.maximum(grid, 0) / 180))
    rate = ppm + warm + np.cumsum(random.normal(0, 0.002, len(grid)))
    device = np.concatenate(([0.0], np.cumsum((1 + rate[:-1] * 1e-6) * 0.01)))
    count = int(seconds * fps)
    exposed_device = np.interp(0.0, grid, device) + (np.arange(count) + 0.3) / fps
    exposed = np.interp(exposed_device, device, grid)
    varies = 0.0 if seen == "references" else 0.03
    sent = exposed + 4.5e-3 * (1 + varies * random.standard_normal(count))
    phase = random.uniform(0, 4e-3)
    grain = 4e-3 if seen == "transfers" else 125e-6
    done = phase + (np.floor((sent - phase) / grain) + 1) * grain
    late = 30e-6 + random.exponential(20e-6 if load == "idle" else 120e-6, count)
    rare, slow = (0.01, 1e-3) if load == "idle" else (0.08, 4e-3)
    late += np.where(random.random(count) < rare, random.exponential(slow, count), 0)
    if load == "stalls":
        for start in np.sort(random.uniform(0, seconds, int(seconds / 10))):
            end = start + random.uniform(0.02, 0.2)
            held = (done > start) & (done < end)
            late[held] = np.maximum(late[held], end - done[held] + 50e-6 * np.arange(held.sum()))
    if load == "polled":
        looks = np.cumsum(random.uniform(0.02, 0.1, int(seconds / 0.05) + 100))
        late += looks[np.searchsorted(looks, done)] - done
    late[0] += first_late_s
    late += random.exponential(50e-6 if load == "idle" else 300e-6, count)
    apart = 2e-6 * np.arange(count)
    arrival = np.maximum.accumulate(done + late - apart) + apart
    return CameraFrames(exposed, np.floor(exposed_device * _TICKS).astype(np.int64), arrival, np.arange(1, count + 1))


def libuvc_stamps(frames: CameraFrames) -> NDArray[np.float64]:
    """Return the stamps that libuvc would hand out for these frames, in seconds of the host's clock.

    As ``_uvc_populate_frame_ts_us`` of pupil-labs/libuvc does it: an offset from the first frame's arrival alone, and
    a frequency corrected from the mean of 30 s of arrivals, from the sixth minute on, for the whole history.
    """
    fps = 1 / float(np.median(np.diff(frames.exposed_s)))
    stamps = np.zeros(len(frames.ticks))
    start_s = float(frames.arrival_s[0]) - 4.5e-3 - float(frames.ticks[0]) / _TICKS + _START_NS / 1e9
    frequency, first_mean, first_at, total, means = float(_TICKS), -1.0, 0.0, 0.0, 0
    window = 30 * round(fps)
    for index in range(1, len(stamps)):
        stamps[index] = start_s + float(frames.ticks[index]) / frequency
        arrival_s = _START_NS / 1e9 + float(frames.arrival_s[index])
        total += arrival_s - stamps[index]
        if (index + 1) % window == 0:
            mean, total = total / window, 0.0
            if first_mean < 0:
                first_mean, first_at = mean, arrival_s
                continue
            means += 1
            slope = (mean - first_mean) / (arrival_s - first_at)
            if means > 10 and abs(slope) > 0.5e-6:
                frequency *= 1 - slope
                first_mean = -1.0
    return stamps


def map_frames(
    clock: DeviceClock, frames: CameraFrames, stamps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map frames one after the other; return the captured times, in seconds as ``exposed_s``, and the bounds stated.

    A bound is infinite where the clock states none.
    """
    captured, bounds = np.empty(len(stamps)), np.empty(len(stamps))
    rows = zip(stamps.tolist(), frames.arrival_ns(), frames.sequence.tolist(), strict=True)
    for index, (stamp, arrival, sequence) in enumerate(rows):
        captured[index] = (clock.map(stamp, arrival, sequence) - _START_NS) / 1e9
        error = clock.error_s
        bounds[index] = np.inf if error is None else error
    return captured, bounds
