"""Errors of the daemon and its command line.

::

    GazedError
    └── DaemonError
        ├── ConfigError     a configuration file, profile or flag is wrong; names the file and the key
        └── StartFailed     the daemon ended, or did not get ready in time; carries the end of its log
"""

from __future__ import annotations

from gazed_timesync import GazedError

__all__ = ["ConfigError", "DaemonError", "StartFailed"]


class DaemonError(GazedError):
    """The daemon as a whole could not do what was asked."""

    code = "daemon"


class ConfigError(DaemonError):
    """The configuration asks for something that does not exist or is out of range."""

    code = "config"
    exit_code = 2


class StartFailed(DaemonError):
    """The daemon did not come up."""

    code = "start-failed"
