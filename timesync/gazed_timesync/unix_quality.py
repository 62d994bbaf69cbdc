"""How well this machine's Unix clock is kept: what the kernel says (adjtimex(2)), and what an NTP program says."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gazed_timesync.errors import ClockError

__all__ = ["KernelClock", "NtpState", "read_kernel_clock", "read_ntp_state"]

_STA_UNSYNC = 0x40
_TIMEOUT_S = 2.0


class _Timex(ctypes.Structure):
    """``struct timex`` of linux/timex.h."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("pulse", ctypes.c_long * 3),
        ("shift", ctypes.c_int),
        ("counts", ctypes.c_long * 5),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What the kernel knows of its Unix clock; the errors are those that the NTP program gave it, in seconds.

    ``freq_ppm`` is how much the kernel turns CLOCK_MONOTONIC and the Unix clock against the machine's own counter.
    """

    synchronised: bool
    estimated_error_s: float
    max_error_s: float
    freq_ppm: float
    tai_offset_s: int


@dataclass(frozen=True, slots=True)
class NtpState:
    """What an NTP program says of the Unix clock; ``bound_s`` is ``None`` where it does not say.

    The bound is chrony's: offset + root dispersion + half the root delay (chronyc(1), tracking).
    """

    program: str
    synchronised: bool
    server: str = ""
    offset_s: float | None = None
    bound_s: float | None = None


def read_kernel_clock() -> KernelClock:
    """Ask the kernel; changes nothing and needs no rights.

    Raises:
        ClockError: it does not answer.
    """
    found = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(found)) < 0:
        raise ClockError(f"adjtimex: {os.strerror(ctypes.get_errno())}")
    return KernelClock(
        synchronised=not found.status & _STA_UNSYNC,
        estimated_error_s=found.esterror / 1e6,
        max_error_s=found.maxerror / 1e6,
        freq_ppm=found.freq / 65536,
        tai_offset_s=found.tai,
    )


def _run(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout


def read_ntp_state(run: Callable[[Sequence[str]], str] = _run) -> NtpState | None:
    """Ask chrony, or else systemd; ``None`` where neither is there and answers.

    ``run`` executes a command and returns what it prints, or nothing if it is not there or fails.
    """
    # Reference ID, server, stratum, reference time, offset, last offset, RMS offset, frequency, residual frequency,
    # skew, root delay, root dispersion, update interval, leap status.
    fields = run(["chronyc", "-c", "tracking"]).strip().split(",")
    if len(fields) == 14:
        try:
            offset_s, delay_s, dispersion_s = float(fields[4]), float(fields[10]), float(fields[11])
        except ValueError:
            pass
        else:
            bound_s = abs(offset_s) + dispersion_s + delay_s / 2
            return NtpState("chrony", fields[13] != "Not synchronised", fields[1], offset_s, bound_s)
    lines = run(["timedatectl", "show", "--property=NTP", "--property=NTPSynchronized"]).split()
    shown = dict(line.split("=", 1) for line in lines if "=" in line)
    return NtpState("systemd", shown["NTPSynchronized"] == "yes") if "NTPSynchronized" in shown else None
