"""``gazed info``, ``gazed verify`` and ``gazed repair``: recordings on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from gazed.cli.output import emit_json, finish, json_option

__all__ = ["folder_argument", "info", "repair", "verify"]

_DAMAGED = 6


def _existing(_context: click.Context, _parameter: click.Parameter, folder: Path) -> Path:
    from gazed_recorder.errors import NotARecording

    # Unlike Path.is_dir, this takes a name that no file system allows.
    if not os.path.isdir(folder):  # noqa: PTH112
        raise NotARecording(f"{folder} is not a folder", hint="name the folder of a recording, which holds world.mp4")
    return folder


folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path), callback=_existing)


@click.command()
@folder_argument
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Show what is in a recording."""
    from gazed.summary import describe

    facts = describe(folder)
    if as_json:
        emit_json(facts)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    shown = {key: facts[key] or "unknown" for key in ("recording", "state", "software", "started")}
    shown |= {"duration": f"{facts['duration_s']} s", "size": f"{facts['size_mb']} MB"}
    for key, value in shown.items():
        console.print(f"{key:10} {escape(str(value))}", highlight=False, soft_wrap=True)
    table = Table("stream", "kind", "count", "per second", "first", "last")
    for name, stream in facts["streams"].items():
        times = (f"{stream[key]:.6f}" if stream[key] is not None else "" for key in ("first", "last"))
        count = "unreadable" if stream["count"] is None else str(stream["count"])
        table.add_row(escape(name), stream["kind"], count, f"{stream['rate']:.2f}", *times)
    console.print(table)
    if facts["offline"]:
        click.echo(f"computed afterwards: {', '.join(facts['offline'])}")
    for sentence in facts["missing"]:
        click.echo(f"missing: {sentence}")
    for found in facts["accuracy"]:
        angles = (found[key] for key in ("accuracy_deg", "precision_deg"))
        accuracy, precision = ("unknown" if angle is None else f"{angle:.2f} degrees" for angle in angles)
        click.echo(f"{found['of']} of {found['gazer']}: accuracy {accuracy}, precision {precision}")


@click.command()
@folder_argument
@click.option("--quick", is_flag=True, help="Do not decode the videos: packets, times and checksums only.")
@json_option
def verify(folder: Path, quick: bool, as_json: bool) -> None:
    """Prove that a recording holds what it promises. Exit code 6 if it does not."""
    from gazed_recorder.verify import verify as prove

    result = prove(folder, deep=not quick)
    if as_json:
        import msgspec

        emit_json(msgspec.to_builtins(result))
    else:
        _show_streams(result.streams)
        for problem in result.problems:
            click.echo(f"problem: {problem}")
        click.echo(f"{folder}: {'verified' if result.ok else 'NOT verified'}")
    finish(0 if result.ok else _DAMAGED)


@click.command()
@folder_argument
@click.option("--retime", is_flag=True, help="Then fit the times of camera frames once more; videos are written anew.")
@json_option
def repair(folder: Path, retime: bool, as_json: bool) -> None:
    """Complete a recording that was torn by a crash. Changes nothing in a healthy one."""
    from gazed_recorder.errors import DamagedFile
    from gazed_recorder.repair import repair as mend

    try:
        result = mend(folder)
    except DamagedFile as error:
        hint = "beyond repair: too little is left to say what this recording was; its videos may still play"
        raise DamagedFile(error.message, hint=hint) from error
    retimed: dict[str, Any] = {}
    if retime:
        from gazed_recorder.retime import retime as fit_times

        retimed = fit_times(folder)
    if as_json:
        import msgspec

        emit_json(msgspec.to_builtins(result) | ({"retimed": msgspec.to_builtins(retimed)} if retime else {}))
    else:
        for action in result.actions:
            click.echo(action)
        for stream, frames in result.lost.items():
            click.echo(f"lost: {stream}: {frames}")
        for problem in result.problems:
            click.echo(f"problem: {problem}")
        click.echo(f"{folder}: {'repaired' if result.repaired else 'nothing to repair'}")
        for stream, change in retimed.items():
            usual, largest = change.median_s * 1e3, change.largest_s * 1e3
            done = f"{change.frames} frames by {usual:.3f} ms (median), at most {largest:.3f} ms"
            click.echo(f"{stream}: {change.reason or done}")
    finish(_DAMAGED if result.problems else 0)


def _show_streams(streams: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("stream", "frames", "timestamps", "gaps", "dropped")
    for name, stream in streams.items():
        table.add_row(escape(name), *(str(stream[key]) for key in ("frames", "timestamps", "gaps", "dropped")))
    Console().print(table)
