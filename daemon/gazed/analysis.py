"""The plugins that compute from the start: pupil detectors, the gaze mapper and the marker detector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from gazed.config import Config
from gazed.errors import ConfigError

__all__ = ["PluginPlan", "check_analysis", "plan_analysis", "without_analysis"]


@dataclass(frozen=True, slots=True)
class PluginPlan:
    """One process: which plugin, and its arguments."""

    plugin: str
    arguments: dict[str, Any]


def plan_analysis(config: Config, streams: Iterable[str]) -> dict[str, PluginPlan]:
    """Return by process name what the configuration asks for while these streams are on.

    One detector for each eye (``pupil0``, …), ``gaze``, and ``marker`` where there is a world camera.
    """
    plans: dict[str, PluginPlan] = {}
    names = list(streams)
    if config.pupil.enabled:
        for eye in (int(name[3:]) for name in names if name.startswith("eye")):
            plans[f"pupil{eye}"] = PluginPlan("Pupil_Detector", {"eye": eye, **config.pupil.options})
    if config.gaze.enabled:
        settings = msgspec.to_builtins(config.gaze)
        del settings["enabled"]
        plans["gaze"] = PluginPlan("Gaze_Mapper", settings)
        if "world" in names:
            plans["marker"] = PluginPlan("Circle_Detector", {})
    return plans


def check_analysis(config: Config) -> None:
    """Refuse a configuration that asks for detectors that are not installed, or for settings that they do not have.

    Raises:
        ConfigError: the message names the key.
    """
    from gazed.doctor import check_extra
    from gazed_plugins.errors import PluginArgument
    from gazed_plugins.pupil.settings import CAMERA_ARGUMENTS, PupilSettings

    asking = [name for name in ("pupil", "gaze") if getattr(config, name).enabled]
    found = check_extra("detect")
    if asking and found.state != "ok":
        off = " ".join(f"--set {name}.enabled=false" for name in asking)
        raise ConfigError(
            f"{asking[0]}.enabled: wanted gazed[detect], but {found.found}", hint=f"{found.mend}   or without: {off}"
        )
    try:
        # What is said of the camera is checked by the detector, which can read files.
        PupilSettings.of({name: value for name, value in config.pupil.options.items() if name not in CAMERA_ARGUMENTS})
    except PluginArgument as error:
        raise ConfigError(f"pupil.options: {error.message}", hint=error.hint) from error


def without_analysis(config: Config) -> Config:
    """Return the configuration with cameras and recorder only."""
    return msgspec.structs.replace(
        config,
        pupil=msgspec.structs.replace(config.pupil, enabled=False),
        gaze=msgspec.structs.replace(config.gaze, enabled=False),
        plugins=msgspec.structs.replace(config.plugins, start=()),
    )
