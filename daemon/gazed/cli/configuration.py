"""``gazed config``, and the options that choose a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gazed.cli.output import emit_json, json_option

__all__ = ["config", "config_options", "read_config"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file that overrides the profile."),
    click.option("--profile", help="A ready set-up: simulated, simulated-200hz, file, pupil-core."),
    click.option("--port", type=click.IntRange(0, 65535), help="Port of Pupil Remote; 0 is a free one."),
    click.option("--recordings", type=click.Path(path_type=Path), help="Folder for recordings."),
    click.option("--listen", help="Address to bind; the default is this machine only, 0.0.0.0 the whole network."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other key; may be repeated."),
)


def config_options(command: _Command) -> _Command:
    """Add the options that ``read_config`` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_config(
    file: Path | None,
    profile: str | None,
    port: int | None,
    recordings: Path | None,
    listen: str | None,
    settings: tuple[str, ...],
) -> Any:
    """Return the ``Config`` that the options ask for.

    Raises:
        ConfigError: the configuration is wrong.
    """
    from gazed.config import load_config, merge_tables, parse_setting

    flags: dict[str, Any] = {}
    for setting in settings:
        merge_tables(flags, parse_setting(setting))
    if recordings is not None:
        merge_tables(flags, {"recorder": {"root": str(recordings.absolute())}})
    for key, value in (("port", port), ("listen", listen)):
        if value is not None:
            merge_tables(flags, {"daemon": {key: value}})
    return load_config(profile, file, flags)


@click.group()
def config() -> None:
    """Show or check the configuration."""


@config.command()
@config_options
@json_option
def show(as_json: bool, **chosen: Any) -> None:
    """Print the effective configuration as TOML."""
    effective = read_config(**chosen)
    if as_json:
        emit_json(effective.to_dict())
    else:
        click.echo(effective.to_toml(), nl=False)


@config.command()
@config_options
@json_option
def check(as_json: bool, **chosen: Any) -> None:
    """Check every key, the options of every camera and plugin, and whether the detectors asked for are installed."""
    from gazed.analysis import check_analysis
    from gazed.plugin_check import check_plugins
    from gazed.sources import check_sources

    effective = read_config(**chosen)
    check_sources(effective)
    check_analysis(effective)
    check_plugins(effective)
    if as_json:
        emit_json({"ok": True, "streams": list(effective.enabled_streams)})
    else:
        click.echo(f"configuration is fine: {', '.join(effective.enabled_streams)}")
