"""Errors of the plugins.

::

    GazedError
    └── PluginError          a plugin failed
        ├── UnknownPlugin    no plugin of that name is installed, or a package it needs is not
        └── PluginArgument   an argument is unknown or out of range
"""

from __future__ import annotations

from gazed_timesync import GazedError

__all__ = ["PluginArgument", "PluginError", "UnknownPlugin"]


class PluginError(GazedError):
    """A plugin failed."""

    code = "plugin"


class UnknownPlugin(PluginError):
    """No plugin of that name can be loaded."""

    code = "unknown-plugin"
    exit_code = 2


class PluginArgument(PluginError):
    """An argument of a plugin is unknown or out of range."""

    code = "plugin-argument"
    exit_code = 2
