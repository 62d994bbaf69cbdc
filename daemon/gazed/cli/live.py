"""``gazed status`` and ``gazed record``: talking to a running daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from gazed.cli.output import connection_options, emit_json, json_option, reached

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["record", "status", "sync_line"]

_REFRESH_S = 0.5


@click.command()
@connection_options
@click.option("--once", is_flag=True, help="Print the table once and end.")
@click.option("--wait", metavar="SECONDS", type=float, help="First wait until every camera streams.")
@json_option
def status(address: str, port: int, once: bool, wait: float | None, as_json: bool) -> None:
    """Watch a running daemon: streams, processes, recording."""
    from gazed.waiting import wait_until_streaming
    from gazed_bus.remote import Remote

    with Remote(address, port) as remote:
        current = remote.status() if wait is None else wait_until_streaming(remote, wait)
        if as_json:
            emit_json(current)
            return
        from rich.console import Console
        from rich.live import Live

        console = Console()
        if once or not console.is_terminal:
            console.print(_status_view(current))
            return
        with Live(_status_view(current), console=console, refresh_per_second=4) as live:
            while True:
                time.sleep(_REFRESH_S)
                live.update(_status_view(remote.status()))


@click.group()
def record() -> None:
    """Start, stop and annotate recordings of a running daemon."""


@record.command()
@click.argument("name", default="")
@click.option("--no-eyes", is_flag=True, help="Record no eye cameras.")
@click.option("--mode", type=click.Choice(["jpeg", "h264", "mpeg4"]), help="Instead of the configured one.")
@click.option("--info", "infos", multiple=True, metavar="KEY=VALUE", help="About the participant; may be repeated.")
@connection_options
@json_option
def start(name: str, no_eyes: bool, mode: Any, infos: tuple[str, ...], address: str, port: int, as_json: bool) -> None:
    """Start a recording, in the session NAME if given. Returns when every stream is on disk."""
    user_info = dict(_pair(text) for text in infos)
    with reached(address, port) as remote:
        started = remote.start(name, record_eye=not no_eyes, user_info=user_info or None, mode=mode)
    _show(started, as_json, f"recording to {started.rec_path}")


@record.command()
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait until the files are closed.")
@connection_options
@json_option
def stop(timeout: float, address: str, port: int, as_json: bool) -> None:
    """Stop the recording. Returns when its files are complete."""
    with reached(address, port) as remote:
        stopped = remote.stop(timeout)
    _show(stopped, as_json, f"recorded {stopped.rec_path}")


@record.command()
@click.argument("label")
@click.option("--duration", default=0.0, help="Seconds.")
@click.option("--timestamp", type=float, help="Pupil time; now, if not given.")
@connection_options
@json_option
def annotate(label: str, duration: float, timestamp: float | None, address: str, port: int, as_json: bool) -> None:
    """Put LABEL into the recording. Returns when it is on disk."""
    with reached(address, port) as remote:
        acknowledged = remote.annotate(label, timestamp=timestamp, duration=duration)
    _show(acknowledged, as_json, f"annotated {label!r}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r}: wanted KEY=VALUE", param_hint="--info")
    return key, value


def _show(result: Any, as_json: bool, text: str) -> None:
    if as_json:
        import msgspec

        emit_json(msgspec.to_builtins(result))
    else:
        click.echo(text)


def _status_view(current: dict[str, Any]) -> Group:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    streams = Table("stream", "state", "frames", "fps", "missed", "received", "written", "dropped")
    for name, stream in current["streams"].items():
        cells = (stream.get(key, "") for key in ("state", "frames", "fps", "missed", "received", "written", "dropped"))
        streams.add_row(escape(name), *(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells))
    reasons = [
        f"{name}: {stream['reason'].removeprefix(f'{name}: ')}"
        for name, stream in current["streams"].items()
        if stream.get("reason")
    ]
    reasons += [
        f"{name}: {process['reason']}; the log says why"
        for name, process in current["processes"].items()
        if process["state"] in ("restarting", "failed") and name not in current["streams"]
    ]
    processes = Table("process", "state", "restarts", "per second", "behind")
    for name, process in current["processes"].items():
        plugin = current["plugins"].get(name)
        rate = (f"{plugin['per_s']:.1f}", str(plugin.get("behind", ""))) if plugin else ("", "")
        processes.add_row(escape(name), str(process["state"]), str(process["restarts"]), *rate)
    head = f"recording: {current['recording'] or 'none'}    time: {current['time']:.3f}    listen: {current['listen']}"
    estimate = current["gb_per_hour"]
    room = "video: rate not measured yet"
    if estimate is not None:
        room = f"video: {estimate:.1f} GB an hour as the cameras deliver it"
    if current["free_gb"] is not None:
        room += f"    free: {current['free_gb']:.0f} GB"
    gaze = current["plugins"].get("gaze")
    # One that has only just begun has not told anything yet.
    told = [_gaze_line(gaze)] if gaze and "gazer" in gaze else []
    sync = current["plugins"].get("Time_Sync")
    told += [f"time sync: {sync_line(sync)}"] if sync and "state" in sync else []
    return Group(escape(head), room, *map(escape, told), streams, *map(escape, reasons), processes)


def sync_line(sync: dict[str, Any]) -> str:
    """Return what the plugin Time_Sync says of itself, in one line."""
    parts = [sync["state"]]
    if sync["state"] != "LEADER":
        parts = [f"{sync['state']}, leader: {sync['leader'] or 'none'}"]
        # Without an answer of the leader neither is known.
        if "bound_s" in sync:
            parts.append(f"to go: {sync['offset_s'] * 1e6:+.1f} us  within: {sync['bound_s'] * 1e6:.1f} us")
    parts.append(f"others: {sync['participants']}")
    return "    ".join(parts)


def _gaze_line(gaze: dict[str, Any]) -> str:
    parts = ["not calibrated"]
    if gaze["gazer"]:
        parts = [f"{gaze['gazer']}, {'calibration ' + gaze['calibration'] if gaze['calibration'] else 'not stored'}"]
    if gaze["collecting"]:
        parts.append(f"{gaze['collecting']} runs, with {gaze['references']} references and {gaze['pupils']} pupils")
    if gaze["computing"]:
        parts.append("computing")
    return f"gaze: {'    '.join(parts)}"
