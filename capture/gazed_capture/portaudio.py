"""Sound from PortAudio (the package sounddevice): which inputs there are, and a stream from one of them.

PortAudio is loaded when it is first asked for: a machine without it goes on. It knows the devices that were there when
it started and none that came later, so it is started anew before each look, unless a stream is open, which would end.
"""

from __future__ import annotations

import atexit
import re
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from gazed_capture.errors import DeviceRefused, SourceError
from gazed_capture.sound import BLOCK, Chunk
from gazed_capture.source import DeviceInfo
from gazed_capture.usb import usb_parent
from gazed_timesync import HostNs, UnixNs, host_now
from gazed_timesync.devices.stream_clock import StreamClock

__all__ = ["Capture", "default_input", "inputs"]

_SYSFS_SOUND = Path("/sys/class/sound")
_PERIODS = 4  # in the sound system, of about 40 ms: what a busy machine may be late
_QUEUE_S = 2.0  # in this process: what the reader may be late
_CLOSE_S = 1.0
_UNAVAILABLE = -9985  # paDeviceUnavailable, portaudio.h
# What ALSA's own configuration lists beside devices: converters, some of which PortAudio dies of when they are opened.
_CONVERTERS = ("lavrate", "samplerate", "speexrate", "speex", "upmix", "vdownmix", "jack", "oss", "null")
_streams: set[Capture] = set()
_closing: list[threading.Thread] = []


def inputs() -> dict[int, DeviceInfo]:
    """Return all sound inputs by PortAudio's number, without those that only convert what another one delivers.

    Waits for as long as a stream of a sound system that hangs cannot be closed: PortAudio dies if it is ended before.

    Raises:
        SourceError: the package sounddevice is not installed, or PortAudio cannot be loaded or started.
    """
    sounddevice = _load()
    while _closing:
        _closing.pop().join()
    if not _streams:
        # There is no public way to look again (sounddevice 0.5).
        try:
            sounddevice._terminate()  # noqa: SLF001
            sounddevice._initialize()  # noqa: SLF001
        except sounddevice.PortAudioError as error:
            raise SourceError(f"PortAudio does not start: {error.args[0]}") from error
    return {
        index: _describe(device)
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0 and device["name"] not in _CONVERTERS
    }


def default_input() -> int | None:
    """Return the number of the sound system's default input; ``None`` if it has none. After ``inputs`` only."""
    for system in _load().query_hostapis():
        if system["default_input_device"] >= 0:
            return int(system["default_input_device"])
    return None


def _load() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise SourceError(
            "microphones need the package sounddevice", hint="install it with: pip install 'gazed[audio]'"
        ) from error
    except OSError as error:
        raise SourceError(
            f"microphones need the library PortAudio, and it cannot be loaded: {error}",
            hint="apt-get install libportaudio2",
        ) from error
    return sounddevice


def _describe(device: dict[str, Any]) -> DeviceInfo:
    """Tell of a kernel's device which USB device it is: PortAudio ends its name with ALSA's, ``(hw:1,0)``."""
    card = re.search(r"\(hw:(\d+),\d+\)$", device["name"])
    usb = usb_parent(_SYSFS_SOUND / f"card{card[1]}" / "device") if card else None
    return DeviceInfo(
        "microphone",
        device["name"],
        usb.serial if usb else "",
        modes=((int(device["default_samplerate"]), device["max_input_channels"], 0.0),),
        path=usb.path if usb else "",
    )


class Capture:
    """An open input, from which samples come until it is closed.

    Args:
        index: PortAudio's number of the device.
        name: of the device, for messages.
        rate: samples a second.
        channels: how many.

    Raises:
        DeviceRefused: another program has it.
        SourceError: it cannot be opened like this.
    """

    def __init__(self, index: int, name: str, rate: int, channels: int) -> None:
        sounddevice = _load()
        self._queue: SimpleQueue[tuple[int, bytes, float, float, HostNs, UnixNs, bool]] = SimpleQueue()
        self._room = round(_QUEUE_S * rate)
        self._counted = 0
        self._clock = StreamClock()
        # PortAudio's stamps are exact only if it need not cut periods into pieces of another size.
        period = BLOCK * max(1, round(rate / 24_000))
        try:
            self._stream = sounddevice.RawInputStream(
                device=index,
                samplerate=rate,
                channels=channels,
                dtype="int16",
                blocksize=period,
                latency=_PERIODS * period / rate,
                callback=self._on_samples,
            )
            _streams.add(self)
            self._stream.start()
        except sounddevice.PortAudioError as error:
            self.close()
            if error.args[1:2] == (_UNAVAILABLE,):
                raise DeviceRefused(
                    f"microphone {name!r} is in use by another program", hint="fuser -v /dev/snd/* shows by which"
                ) from error
            raise SourceError(
                f"microphone {name!r} cannot be opened with {rate} samples a second and {channels} channels: "
                f"{error.args[0]}",
                hint="gazed devices shows what it offers",
            ) from error

    def _on_samples(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """Run in PortAudio's thread, which must never wait."""
        host, unix = host_now(), UnixNs(time.time_ns())
        if self._queue.qsize() * frames < self._room:
            self._queue.put(
                (
                    self._counted,
                    bytes(data),
                    times.inputBufferAdcTime,
                    times.currentTime,
                    host,
                    unix,
                    status.input_overflow,
                )
            )
        self._counted += frames

    @property
    def running(self) -> bool:
        """Whether more samples can come."""
        return bool(self._stream.active)

    def get(self, timeout: float) -> Chunk | None:
        """Return the next samples, or ``None`` when none came within ``timeout`` seconds."""
        try:
            first, data, adc_s, now_s, host, unix, overflowed = self._queue.get(timeout=timeout)
        except Empty:
            return None
        self._clock.observe(now_s, host, unix)
        return Chunk(first, data, adc_s, self._clock.to_host(adc_s), host, overflowed)

    def close(self) -> None:
        """Give the device back; a sound system that hangs is left alone after a second."""
        if self not in _streams:
            return
        _streams.discard(self)
        closing = threading.Thread(target=self._stream.close, name="close sound", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():
            _closing.append(closing)
            # It would end PortAudio, and with it this process by a signal.
            atexit.unregister(_load()._exit_handler)  # noqa: SLF001
