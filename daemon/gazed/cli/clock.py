"""``gazed clock``: every clock of this machine, how they stand to each other, and how far that is known."""

from __future__ import annotations

from typing import Any

import click

from gazed.cli.output import connection_options, emit_json, json_option

__all__ = ["clock"]


@click.command()
@connection_options
@json_option
def clock(address: str, port: int, as_json: bool) -> None:
    """Show the clocks of this machine, with bounds, and the Pupil time of a daemon if one answers."""
    from dataclasses import asdict

    from gazed_timesync.clock import host_now
    from gazed_timesync.relations import read_relations
    from gazed_timesync.unix_quality import read_kernel_clock, read_ntp_state

    ntp = read_ntp_state()
    found: dict[str, Any] = {
        "host_ns": host_now(),
        "pupil": _pupil(address, port),
        "relations": [asdict(relation) for relation in read_relations()],
        "kernel": asdict(read_kernel_clock()),
        "ntp": asdict(ntp) if ntp else None,
    }
    if as_json:
        emit_json(found)
    else:
        for line in _lines(found):
            click.echo(line)


def _pupil(address: str, port: int) -> dict[str, Any]:
    """Ask a daemon, or Pupil Capture, for its time; ``reason`` tells why there is none."""
    from gazed_bus.errors import BusError
    from gazed_bus.remote import Remote

    found: dict[str, Any] = {"address": f"{address}:{port}"}
    with Remote(address, port) as remote:
        try:
            offset = remote.clock_offset()
            found |= {"offset_s": offset.offset_s, "error_s": offset.error_s}
            status = remote.status()
            found |= status["clock"]
            found["time_sync"] = status.get("plugins", {}).get("Time_Sync")
        except BusError as error:
            # Pupil Capture tells its time, but not how it keeps it.
            if "offset_s" not in found:
                found["reason"] = error.message
    return found


def _lines(found: dict[str, Any]) -> list[str]:
    from gazed.cli.live import sync_line

    lines = [f"host    {found['host_ns'] / 1e9:.9f} s (CLOCK_MONOTONIC)"]
    pupil = found["pupil"]
    if "reason" in pupil:
        lines.append(f"pupil   {pupil['reason']}")
    else:
        more = ""
        if "rate_ppm" in pupil:
            held = ", held by a recording" if pupil["held"] else ""
            more = f", rate {pupil['rate_ppm']:+.3f} ppm, {pupil['steps']} steps{held}"
        lines.append(f"pupil   host {pupil['offset_s']:+.9f} s +- {pupil['error_s']:.9f} s, {pupil['address']}{more}")
        if (sync := pupil.get("time_sync")) and "state" in sync:
            lines.append(f"sync    {sync_line(sync)}")
    for each in found["relations"]:
        if each["offset_ns"] is None:
            lines.append(f"{each['clock']:7} {each['note']}")
        else:
            whole, rest = divmod(abs(each["offset_ns"]), 10**9)
            shown = f"{'-' if each['offset_ns'] < 0 else '+'}{whole}.{rest:09} s +- {each['error_ns'] / 1e9:.9f} s"
            lines.append(f"{each['clock']:7} host {shown}, {each['note']}")
    kernel, ntp = found["kernel"], found["ntp"]
    state = f"within {kernel['max_error_s']:.6f} s of UTC" if kernel["synchronised"] else "not synchronised"
    lines.append(f"kernel  Unix clock {state}, turned by {kernel['freq_ppm']:+.3f} ppm")
    if ntp is None:
        lines.append("ntp     neither chrony nor systemd answers")
    else:
        bound = "" if ntp["bound_s"] is None else f", {ntp['offset_s']:+.9f} s +- {ntp['bound_s']:.9f} s"
        of = f" with {ntp['server']}" if ntp["server"] else ""
        lines.append(
            f"ntp     {ntp['program']}: {'synchronised' if ntp['synchronised'] else 'not synchronised'}{of}{bound}"
        )
    return lines
