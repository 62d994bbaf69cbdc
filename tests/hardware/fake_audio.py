"""A sound system without hardware: a PulseAudio daemon of our own, behind ALSA's plugin, behind PortAudio.

What is played into the output ``speaker`` is heard by the input ``mic``. Socket and ALSA configuration lie in a folder
of their own, so no other sound system of this user is touched. Needs the Debian packages ``PACKAGES``. Also a command:
``python fake_audio.py COMMAND …`` runs a command with this sound system.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PACKAGES", "FakeAudio", "missing"]

PACKAGES = "pulseaudio pulseaudio-utils libasound2-plugins libportaudio2"
_PATIENCE_S = 10.0
# PortAudio lists the devices that have a hint.
_ALSA = """</usr/share/alsa/alsa.conf>
pcm.mic { type pulse device "speaker.monitor" hint { show on description "what the speaker plays" } }
pcm.speaker { type pulse device "speaker" hint { show on description "null sink" } }
pcm.!default { type asym playback.pcm "speaker" capture.pcm "mic" }
"""


def missing() -> str:
    """Return why there can be no fake sound system here; empty if there can."""
    plugin = any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    programs = all(map(shutil.which, ("pulseaudio", "pacat")))
    return "" if plugin and programs else f"no sound system to test with: apt-get install {PACKAGES}"


class FakeAudio:
    """One daemon with one null sink. ``env`` is the environment of a program that is to use it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._daemon: subprocess.Popen[bytes] | None = None
        self._player: subprocess.Popen[bytes] | None = None
        config = home / "alsa.conf"
        config.write_text(_ALSA)
        self._script = home / "pulse.pa"
        self._socket = home / "socket"
        # A null sink that may rewind works in blocks of 2 s, and its stamps are off by as much as 0.6 s at first.
        self._script.write_text(
            f"load-module module-native-protocol-unix socket={self._socket} auth-anonymous=1\n"
            "load-module module-null-sink sink_name=speaker rate=48000 channels=2 norewinds=1\n"
        )
        self.own = {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": str(config),
        }
        self.env = {**os.environ, **self.own}

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[FakeAudio]:
        """Start one, and stop it at the end."""
        with tempfile.TemporaryDirectory(prefix="sound") as folder:
            audio = cls(Path(folder))
            try:
                audio.start()
                yield audio
            finally:
                audio.kill()

    def hang(self) -> None:
        """Let the daemon stand still until ``resume``."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Start the daemon; returns when it can be used."""
        self._socket.unlink(missing_ok=True)
        with (self._home / "log").open("w") as log:
            options = "--daemonize=no --exit-idle-time=-1 --use-pid-file=no --disable-shm=yes --realtime=no"
            command = ["pulseaudio", "-n", "-F", str(self._script), "--log-target=stderr", "--log-level=error"]
            self._daemon = subprocess.Popen([*command, *options.split()], env=self.env, stderr=log)
        end = time.monotonic() + _PATIENCE_S
        while not self._socket.exists():
            if self._daemon.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"pulseaudio does not start: {(self._home / 'log').read_text()}")
            time.sleep(0.02)
        # Somebody has to ask for less delay: a null sink is ahead of its own stamps by as much as it may delay.
        command = ["pacat", "-p", "--raw", "--latency-msec=20", "-d", "speaker", "/dev/zero"]
        self._player = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """End the daemon as a crash would."""
        for process in (self._player, self._daemon):
            if process is not None:
                process.kill()
                process.wait()
        self._player = self._daemon = None


if __name__ == "__main__":
    with FakeAudio.running() as audio:
        sys.exit(subprocess.run(sys.argv[1:], env=audio.env, check=False).returncode)
