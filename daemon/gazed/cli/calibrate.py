"""``gazed calibrate`` and ``gazed validate``: from pupils to gaze, with a running daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazed.cli.output import connection_options, emit_json, json_option, reached

if TYPE_CHECKING:
    from gazed.calibrating import Mode

__all__ = ["calibrate", "show_accuracy", "validate"]

_choreography = click.option(
    "--choreography",
    type=click.Choice(["marker", "network"]),
    help="Where the wearer looks: at the marker that the world camera sees, or at places that the experiment sends. "
    "Instead of the configured one.",
)
_gazer = click.option("--gazer", type=click.Choice(["Gazer3D", "Gazer2D"]), help="Instead of the configured one.")
_name = click.option("--name", help="To store the calibration under.")


@click.group()
def calibrate() -> None:
    """Calibrate, and use stored calibrations."""


@click.group()
def validate() -> None:
    """Measure how accurate gaze is, at targets that the calibration did not know."""


@calibrate.command("start")
@_choreography
@_gazer
@_name
@connection_options
@json_option
def calibrate_start(address: str, port: int, as_json: bool, **fields: str | None) -> None:
    """Begin to collect pupils and the places looked at. Returns at once; `gazed calibrate stop` ends it."""
    _start("calibration", address, port, as_json, fields)


@validate.command("start")
@_choreography
@connection_options
@json_option
def validate_start(address: str, port: int, as_json: bool, **fields: str | None) -> None:
    """Begin to collect. Returns at once; `gazed validate stop` ends it."""
    _start("validation", address, port, as_json, fields)


@calibrate.command("stop")
@connection_options
@json_option
def calibrate_stop(address: str, port: int, as_json: bool) -> None:
    """Compute and store the calibration. Returns when gaze is mapped with it."""
    _stop("calibration", address, port, as_json)


@validate.command("stop")
@connection_options
@json_option
def validate_stop(address: str, port: int, as_json: bool) -> None:
    """Return how accurate gaze was."""
    _stop("validation", address, port, as_json)


@calibrate.command("list")
@click.option("--folder", type=click.Path(path_type=Path), help="Where they are stored, if not in the usual place.")
@json_option
def calibrate_list(folder: Path | None, as_json: bool) -> None:
    """List the calibrations stored on this machine."""
    import msgspec

    from gazed_plugins.gaze.store import list_calibrations

    found = msgspec.to_builtins(list_calibrations(folder))
    if as_json:
        emit_json({"calibrations": found})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    folding = Column("recording", overflow="fold")
    table = Table(Column("name", overflow="fold"), "gazer", "date (UTC)", "accuracy", folding)
    for each in found:
        date = each["date"][:19].replace("T", " ")
        known = each["accuracy"] and each["accuracy"]["accuracy"]["degrees"]
        accuracy = "" if known is None else f"{known:.2f} degrees"
        table.add_row(*map(escape, (each["name"], each["gazer_class_name"], date, accuracy, each["recording"])))
    Console().print(table)


@calibrate.command("use")
@click.argument("name")
@connection_options
@json_option
def calibrate_use(name: str, address: str, port: int, as_json: bool) -> None:
    """Map gaze with the stored calibration NAME."""
    from gazed.calibrating import load

    with reached(address, port) as remote:
        loaded = load(remote, name)
    if as_json:
        emit_json(loaded)
    else:
        click.echo(f"gaze is mapped with {loaded['name']} ({loaded['gazer_class_name']})")


@calibrate.command("screen")
@click.option("--choreography", type=click.Choice(["marker", "network"]), default="marker", show_default=True)
@_gazer
@_name
@connection_options
@json_option
def calibrate_screen(choreography: Any, address: str, port: int, as_json: bool, **fields: str | None) -> None:
    """Show nine targets on this machine's screen and calibrate with them. Escape breaks it off."""
    _screen("calibration", choreography, address, port, as_json, fields)


@validate.command("screen")
@click.option("--choreography", type=click.Choice(["marker", "network"]), default="marker", show_default=True)
@connection_options
@json_option
def validate_screen(choreography: Any, address: str, port: int, as_json: bool) -> None:
    """Show nine targets on this machine's screen and measure with them. Escape breaks it off."""
    _screen("validation", choreography, address, port, as_json, {})


def _start(mode: Mode, address: str, port: int, as_json: bool, fields: dict[str, str | None]) -> None:
    from gazed.calibrating import begin

    with reached(address, port) as remote:
        begin(remote, mode, **_given(fields))
    if as_json:
        emit_json({"started": mode})
    else:
        click.echo(f"{mode} started; to end it: gazed {'calibrate' if mode == 'calibration' else 'validate'} stop")


def _stop(mode: Mode, address: str, port: int, as_json: bool) -> None:
    from gazed.calibrating import finish

    with reached(address, port) as remote:
        _show_result(finish(remote, mode), as_json)


def _screen(
    mode: Mode, choreography: Any, address: str, port: int, as_json: bool, fields: dict[str, str | None]
) -> None:
    from gazed.calibrating import require_mapper
    from gazed_plugins.gaze.screen import ScreenWindow, Targets, calibrate_on_screen

    with reached(address, port) as remote:
        require_mapper(remote)
        window = ScreenWindow()
        try:
            targets = Targets(mode, choreography=choreography, options=_given(fields))
            result = calibrate_on_screen(remote, targets, window)
        finally:
            window.close()
    _show_result(result, as_json)


def _given(fields: dict[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in fields.items() if value is not None}


def _show_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(result)
        return
    what = "validation of " if result.get("data") == "validation" else ""
    name = result.get("name")
    click.echo(f"{what}{result['gazer_class_name']}{f', stored as {name}' if name else ''}")
    if "not_stored" in result:
        click.echo(f"it is in use, but could not be stored: {result['not_stored']}", err=True)
    if "accuracy" in result:
        show_accuracy(result)


def show_accuracy(found: dict[str, Any]) -> None:
    """Print accuracy, precision and the error at each target, as ``Accuracy.as_dict`` has them."""
    from rich.console import Console
    from rich.table import Table

    for key in ("accuracy", "precision"):
        click.echo(f"{key}: {_degrees(found[key])}")
    table = Table("target x", "y", "error", title="each target, in the world image (0 to 1, y up)")
    for target in found["targets"]:
        table.add_row(*(f"{value:.2f}" for value in target["norm_pos"]), _degrees(target["accuracy"]))
    Console().print(table)


def _degrees(score: dict[str, Any]) -> str:
    of = f"{score['used']} of {score['total']} samples"
    return f"unknown ({of})" if score["degrees"] is None else f"{score['degrees']:.2f} degrees ({of})"
