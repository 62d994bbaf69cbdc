"""``gazed timesync``: a participant in Pupil Time Sync, alone, on any machine."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gazed.cli.output import emit_json, json_option

if TYPE_CHECKING:
    from gazed_timesync.sync.node import TimeSyncNode

__all__ = ["timesync"]

_LEADING_BIAS = 250.0
# Announcements take a second or two.
_PATIENCE = 5
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Bias(click.FloatRange):
    """A range that nan is not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail."""
        number = float(super().convert(value, param, ctx))
        return number if isfinite(number) else self.fail(f"{value!r} is no number.", param, ctx)


@click.group()
def timesync() -> None:
    """Share one clock with Pupil Capture and daemons on the network, without one; --json: a line a second."""


def _node_options(command: _Command) -> _Command:
    options = (
        click.option("--group", default="default", show_default=True, help="First part of the group's name."),
        click.option("--name", default="", help="What others are shown; the host's name, if not given."),
        click.option("--interface", "interfaces", multiple=True, metavar="NAME", help="Only on it; may be repeated."),
        click.option("--seconds", type=click.FloatRange(0), help="End after so long."),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@timesync.command()
@_node_options
@click.option("--bias", type=_Bias(0, 1e6), default=_LEADING_BIAS, show_default=True, help="Pupil Capture's is 1.")
@click.option("--compensate", is_flag=True, help="Set followers that are Pupil Capture right, and others wrong.")
def lead(bias: float, compensate: bool, **options: Any) -> None:
    """Lead the group with this machine's clock, and say so each second, in a line, with --json an object."""
    _run(options, _line, bias=bias, compensate=compensate)


@timesync.command()
@_node_options
def follow(**options: Any) -> None:
    """Follow whoever leads, and show each second how good that is: a line, with --json an object."""
    _run(options, _line, may_lead=False)


@timesync.command()
@_node_options
def watch(**options: Any) -> None:
    """Show who takes part, who leads, and where clock services listen, each second."""
    _run(options, _board, may_lead=False)


def _run(options: dict[str, Any], show: Callable[[TimeSyncNode, bool], None], **more: Any) -> None:
    from gazed_timesync import LocalClock, SyncState
    from gazed_timesync.sync.node import TimeSyncNode

    as_json, seconds = options.pop("as_json"), options.pop("seconds")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with TimeSyncNode(LocalClock(), **options, **more) as node:
        shown = 0
        while not stop.wait(1.0 if seconds is None else min(1.0, max(0.0, seconds - shown))):
            show(node, as_json)
            shown += 1
            if shown == _PATIENCE and node.status().state is SyncState.UNSYNCED:
                click.echo(_why_unsynced(node, options["group"]), err=True)
            if seconds is not None and shown >= seconds:
                return


def _why_unsynced(node: TimeSyncNode, group: str) -> str:
    if group in node.groups:
        return f"nobody in the group {group} leads: do others follow only?"
    if node.groups:
        return f"nobody is in the group {group}; there is --group {', '.join(node.groups)}"
    return f"nobody is in the group {group}: is it another network, or does a firewall keep UDP port 5670 shut?"


def _fields(node: TimeSyncNode) -> dict[str, Any]:
    status = node.status()
    names = ("leader", "offset_s", "skew_ppm", "bound_s", "sigma_s")
    return {"state": status.state.value, **{name: getattr(status, name) for name in names}}


def _line(node: TimeSyncNode, as_json: bool) -> None:
    fields = _fields(node)
    if as_json:
        emit_json(fields)
        return
    line = f"{fields['state']:9} {fields['leader'] or 'nobody'}"
    if isfinite(fields["bound_s"]):
        line += (
            f"  to go {fields['offset_s'] * 1e6:+.1f} us  skew {fields['skew_ppm']:+.2f} ppm  "
            f"within {fields['bound_s'] * 1e6:.1f} us  (sigma {fields['sigma_s'] * 1e6:.1f} us)"
        )
    click.echo(line)


def _board(node: TimeSyncNode, as_json: bool) -> None:
    participants = [asdict(participant) for participant in node.participants]
    if as_json:
        emit_json({**_fields(node), "participants": participants})
        return
    _line(node, False)
    for each in participants:
        mark = "leads" if each["leads"] else ""
        click.echo(f"  {each['name']}  {each['host']}:{each['port']}  rank {each['rank']:.3f}  {mark}")
