"""``gazed devices``, ``gazed doctor`` and ``gazed version``: what is here."""

from __future__ import annotations

from typing import Any

import click

from gazed.cli.configuration import config_options, read_config
from gazed.cli.output import emit_json, finish, json_option

__all__ = ["devices", "doctor", "version"]

_MARKS = {"ok": "[green]ok[/]", "advice": "[yellow]advice[/]", "missing": "[red]missing[/]"}


@click.command()
@config_options
@json_option
def doctor(as_json: bool, **chosen: Any) -> None:
    """Say what this machine lacks and the command that mends it. Exit code 1 if something needed is missing."""
    from gazed.doctor import examine

    checks = list(examine(read_config(**chosen)))
    ok = all(check.state != "missing" for check in checks)
    if as_json:
        import msgspec

        emit_json({"ok": ok, "checks": msgspec.to_builtins(checks)})
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table("", "what", "found")
        for check in checks:
            table.add_row(_MARKS[check.state], escape(check.name), escape(check.found))
        Console().print(table)
        # Below the table, because a command that a cell has wrapped cannot be copied.
        for check in checks:
            if check.mend:
                click.echo(f"{check.name}: {check.mend}")
    finish(0 if ok else 1)


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List what the installed sources could open."""
    from dataclasses import asdict

    from gazed_capture.source import find_source, source_names
    from gazed_timesync import GazedError

    found: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    names = source_names()
    for name in names:
        try:
            found += [asdict(device) for device in find_source(name).devices()]
        except GazedError as error:
            problems[name] = f"{error.message}; {error.hint}"
    if as_json:
        emit_json({"sources": names, "devices": found, "problems": problems})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    # What is cut short cannot be copied into a configuration.
    titles = ("source", "device", "serial", "path", "modes", "problem")
    table = Table(*(Column(title, overflow="fold") for title in titles))
    for device in found:
        row = (device["source"], device["name"], device["serial"], device["path"], _modes(device), device["problem"])
        table.add_row(*map(escape, row))
    for name, problem in problems.items():
        table.add_row(escape(name), "", "", "", "", escape(problem))
    Console().print(table)
    click.echo(f"installed sources: {', '.join(names)}")


def _modes(device: dict[str, Any]) -> str:
    """Return the modes in short: each size once, with all its rates."""
    rates: dict[str, list[float]] = {}
    for width, height, fps in device["modes"]:
        # A microphone has samples a second and channels.
        rates.setdefault(f"{width}x{height}" if fps else f"{width} Hz, {height} channels", []).append(fps)
    return ", ".join(
        f"{size}@{'/'.join(f'{r:g}' for r in all_)}" if any(all_) else size for size, all_ in rates.items()
    )


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    import gazed

    if as_json:
        emit_json({"version": gazed.__version__})
    else:
        click.echo(f"gazed {gazed.__version__}")
