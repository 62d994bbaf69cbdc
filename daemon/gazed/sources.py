"""Trying the options of every camera before the daemon starts.

A process of its own (``python -m gazed.sources``, configuration as JSON on standard input): sources may load numpy and
codecs, and the supervisor stays without them.
"""

from __future__ import annotations

import json
import subprocess
import sys

from gazed.config import Config
from gazed.errors import ConfigError, DaemonError
from gazed_timesync import GazedError

__all__ = ["check_sources"]


def check_sources(config: Config) -> None:
    """Construct every enabled source once, which opens nothing, and refuse what it refuses.

    Raises:
        ConfigError: a source is not installed, or refuses an option; the message names the stream.
    """
    done = subprocess.run(
        [sys.executable, "-m", "gazed.sources"], input=config.to_json(), capture_output=True, text=True, check=False
    )
    if done.returncode == 2 and done.stdout:
        refusal = json.loads(done.stdout)
        raise ConfigError(refusal["message"], hint=refusal["hint"])
    if done.returncode:
        raise DaemonError(f"checking the sources failed: {done.stderr.strip()[-500:]}")


def _main() -> int:
    from gazed_capture.source import find_source

    config = Config.from_json(sys.stdin.buffer.read())
    for name, stream in config.enabled_streams.items():
        try:
            find_source(stream.source)(name, stream.options)
        except GazedError as error:
            text = json.dumps({"message": f"streams.{name}: {error.message}", "hint": error.hint})
            sys.stdout.write(text)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
