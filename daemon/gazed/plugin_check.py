"""Trying what a configuration says of plugins, before the daemon starts: are they installed, are their arguments right.

Arguments are tried in a process of its own (``python -m gazed.plugin_check``, arguments by plugin as JSON on standard
input), since plugins may load what they like, and the supervisor stays light.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from gazed.config import Config
from gazed.errors import ConfigError, DaemonError
from gazed_timesync import GazedError

__all__ = ["check_plugins"]

_REFUSED = 2


def check_plugins(config: Config) -> None:
    """Refuse ``plugins.enabled`` that are not installed, and ``plugins.arguments`` that their plugin does not take.

    Raises:
        ConfigError: the message names the key.
        DaemonError: a plugin died when it was tried.
    """
    from gazed_plugins.plugin import plugin_names

    installed = plugin_names()
    for name in config.plugins.enabled:
        if name not in installed:
            raise ConfigError(
                f"plugins.enabled: no plugin {name!r} is installed", hint=f"there are {', '.join(installed)}"
            )
    if not config.plugins.arguments:
        return
    for name, arguments in config.plugins.arguments.items():
        try:
            json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError) as problem:
            raise ConfigError(f"plugins.arguments.{name}: wanted values as JSON has them: {problem}") from problem
    done = subprocess.run(
        [sys.executable, "-m", "gazed.plugin_check"],
        input=json.dumps(config.plugins.arguments).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode == _REFUSED and done.stdout:
        # What a plugin loads may print, too; the answer is the last line.
        refusal = json.loads(done.stdout.splitlines()[-1])
        raise ConfigError(refusal["message"], hint=refusal["hint"])
    if done.returncode:
        raise DaemonError(f"trying the plugins failed: {done.stderr.decode(errors='replace').strip()[-500:]}")


def _main() -> int:
    from gazed_plugins.plugin import find_plugin
    from gazed_plugins.testing import FakeContext

    given: dict[str, dict[str, Any]] = json.load(sys.stdin)
    for name, arguments in given.items():
        try:
            find_plugin(name)(FakeContext(), arguments).close()
        except GazedError as error:
            message = f"plugins.arguments.{name}: {error.message.removeprefix(f'{name}: ')}"
            sys.stdout.write(f"\n{json.dumps({'message': message, 'hint': error.hint})}\n")
            return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main())
