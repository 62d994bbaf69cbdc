"""``gazed run``, ``gazed demo`` and ``gazed bench``: commands that start a daemon."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazed.cli.configuration import config_options, read_config
from gazed.cli.output import emit_json, finish, json_option

if TYPE_CHECKING:
    from gazed.config import Config

__all__ = ["bench", "demo", "run"]

_DAMAGED = 6


@click.command()
@config_options
@click.option("--until-eof", is_flag=True, help="End when standard input closes, as with the program that started it.")
def run(until_eof: bool, **chosen: Any) -> None:
    """Start the daemon; it runs until SIGTERM or Ctrl-C."""
    import asyncio
    import logging
    import threading

    from gazed.analysis import check_analysis
    from gazed.doctor import require_extra
    from gazed.plugin_check import check_plugins
    from gazed.ports import check_ports
    from gazed.supervisor import Supervisor

    require_extra("daemon")
    effective = read_config(**chosen)
    check_analysis(effective)
    check_plugins(effective)
    check_ports(effective.daemon)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-8s %(name)s: %(message)s")
    _look_for_devices(effective)
    if until_eof:
        threading.Thread(target=_end_at_eof, daemon=True).start()
    finish(asyncio.run(Supervisor(effective).run()))


@click.command()
@click.option("--seconds", type=click.FloatRange(0.5, 86400), default=10.0, show_default=True)
@click.option("--recordings", type=click.Path(path_type=Path), help="Folder for recordings.")
@json_option
def demo(seconds: float, recordings: Path | None, as_json: bool) -> None:
    """Calibrate and record the simulated wearer: the whole daemon, verified and held against the truth."""
    from gazed.demo import run_demo
    from gazed.doctor import require_extra

    require_extra("daemon")
    _end_on_sigterm()
    config = read_config(None, "simulated", None, recordings, None, ())
    result = run_demo(config, seconds, _say)
    if as_json:
        emit_json(result)
    else:
        _show_streams(result["streams"])
        for problem in result["problems"]:
            click.echo(f"problem: {problem}")
        if result["accuracy"]:
            _show_truth(result["accuracy"])
        click.echo(f"{'verified' if result['verified'] else 'NOT verified'}: {result['recording']}")
    dropped = sum(stream["dropped"] for stream in result["streams"].values())
    finish(0 if result["verified"] and not dropped else _DAMAGED)


@click.command()
@click.option("--seconds", type=click.FloatRange(1, 86400), default=60.0, show_default=True)
@click.option("--profile", default="simulated", show_default=True, help="What to measure with.")
@click.option("--rate", type=click.Choice(["120", "200"]), help="Short for the simulated eyes at this rate.")
@click.option("--detect", is_flag=True, help="With pupils and gaze, whose latency is measured instead of frames'.")
@click.option("--recordings", type=click.Path(path_type=Path), help="Keep the recording in this folder.")
@json_option
def bench(seconds: float, profile: str, rate: str | None, detect: bool, recordings: Path | None, as_json: bool) -> None:
    """Measure the daemon while it records: latency, CPU and memory of each process, drops."""
    from gazed.analysis import check_analysis, without_analysis
    from gazed.bench import run_bench
    from gazed.doctor import require_extra

    require_extra("daemon")
    if rate is not None:
        profile = {"120": "simulated", "200": "simulated-200hz"}[rate]
    _end_on_sigterm()
    config = read_config(None, profile, None, recordings, None, ())
    if detect:
        check_analysis(config)
    else:
        config = without_analysis(config)
    result = run_bench(config, seconds, _say, keep=recordings is not None)
    if as_json:
        emit_json(result)
    else:
        _show_streams(result["streams"])
        _show_figures(result)
    dropped = sum(stream["dropped"] for stream in result["streams"].values())
    finish(1 if dropped else 0)


def _look_for_devices(config: Config) -> None:
    """Log which device each stream gets and what the USB controllers are asked for.

    Raises:
        ConfigError: a source refuses an option.
        DaemonError: chance would decide which camera a stream gets.
    """
    import logging

    from gazed.errors import ConfigError, DaemonError
    from gazed.sources import check_sources, controller_loads, plan_streams, refuse_ambiguous

    log = logging.getLogger("gazed")
    try:
        plans = plan_streams(config)
    except ConfigError:
        raise
    except DaemonError as error:
        check_sources(config)
        log.error("%s; the cameras are tried all the same", error.message)  # noqa: TRY400 - the message is all there is
        return
    refuse_ambiguous(plans)
    for plan in plans:
        if plan.code:
            log.warning("%s: %s%s", plan.stream, plan.message, f" ({plan.hint})" if plan.hint else "")
        else:
            log.info("%s: %s", plan.stream, plan.found)
    for load in controller_loads(plans):
        log.log(logging.WARNING if load.left_out else logging.INFO, "%s", load.text)


def _end_on_sigterm() -> None:
    """Unwind on SIGTERM as on Ctrl-C, so that no daemon is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _end_at_eof() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _show_streams(streams: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("stream", "received", "written", "dropped", "fps")
    for name, stream in streams.items():
        counts = (str(stream[key]) for key in ("received", "written", "dropped"))
        table.add_row(escape(name), *counts, f"{stream['fps']:.2f}")
    Console().print(table)


def _show_truth(accuracy: dict[str, Any]) -> None:
    click.echo(f"pupil: {accuracy['pupil_error_px_median']:.2f} px from the truth (median)")
    click.echo(
        f"gaze by {accuracy['gazer']}: {accuracy['gaze_error_deg_median']:.2f} degrees from the truth (median; "
        f"95 % within {accuracy['gaze_error_deg_p95']:.2f}), where it is confident: {accuracy['gaze_confident']:.0%}"
    )


def _show_figures(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    latency = Table("topic", "p50 ms", "p99 ms", title="taken from the camera → received by a subscriber")
    for topic, values in result["latency_ms"].items():
        latency.add_row(escape(topic), f"{values['p50']:.2f}", f"{values['p99']:.2f}")
    processes = Table("process", "CPU %", "PSS MB")
    for name, cpu in result["cpu_percent"].items():
        processes.add_row(escape(name), f"{cpu:.1f}", f"{result['pss_mb'][name]:.1f}")
    total = (sum(result[key].values()) for key in ("cpu_percent", "pss_mb"))
    processes.add_row("all", *(f"{value:.1f}" for value in total))
    Console().print(latency, processes)
    for eye, counts in result.get("detection", {}).items():
        click.echo(f"{eye}: {', '.join(f'{count} {name}' for name, count in counts.items())}")
