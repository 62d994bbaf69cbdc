"""``gazed view``: a running daemon, or a recording, in Rerun's viewer in a browser on this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazed.cli.output import connection_options, emit_json, json_option, reached

if TYPE_CHECKING:
    from gazed_plugins.rerun.live import LiveView

__all__ = ["view"]

_EXAMPLES = """\b
Examples:
  gazed view                                  # the daemon on this machine
  gazed view --save session.rrd               # and keep what was shown
  gazed view recordings/2026_03_01/000        # a recording
  gazed view session.rrd
From another machine, over ssh; then open the same address there:
  ssh -L 9090:127.0.0.1:9090 -L 9876:127.0.0.1:9876 LAB-MACHINE
"""
_PAGE_PORT, _DATA_PORT = 9090, 9876
_PATIENT = 10
_MAGIC = b"RRF2"
_LARGE = 2_000_000_000


@click.command(epilog=_EXAMPLES)
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@connection_options
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Also write what is shown to this .rrd.")
@click.option("--force", is_flag=True, help="Replace the file of --save.")
@click.option(
    "--images",
    metavar="FPS",
    type=click.FloatRange(0, 240),
    default=15.0,
    show_default=True,
    help="Images a second of each camera; 0 for none.",
)
@click.option("--web-port", type=click.IntRange(0, 65535), default=_PAGE_PORT, show_default=True, help="0: a free one.")
@click.option(
    "--data-port", type=click.IntRange(0, 65535), default=_DATA_PORT, show_default=True, help="0: a free one."
)
@json_option
def view(path: Path | None, web_port: int, as_json: bool, save: Path | None, force: bool, **live: Any) -> None:
    """Show a running daemon, or a recording, in a browser on this machine; needs gazed[rerun].

    PATH is a recording, which is exported first if it was not yet, or an .rrd file; without it, it is the daemon.

    Viewer and data are served on 127.0.0.1 only, and the page can reach nothing else. What this program cannot keep up
    with is dropped and counted; the daemon never waits for it. With --json, the addresses are printed as one object,
    and at the end what was shown as another.
    """
    from gazed_plugins.export.errors import MissingExtra
    from gazed_plugins.extras import install_command, missing_package

    for extra in ("rerun", "daemon"):
        if missing := missing_package(extra):
            hint = install_command(extra)
            raise MissingExtra(f"gazed view needs gazed[{extra}], but {missing} is not installed", hint=hint)
    # What the SDK would say of its server is no news.
    os.environ.setdefault("RUST_LOG", "error")
    if path is None:
        _view_live(web_port, save, force, as_json, **live)
    elif save is not None:
        raise click.UsageError("--save is for a running daemon; gazed export --to rerun makes a file of a recording")
    else:
        _view_file(path, web_port, as_json)


def _view_live(
    web_port: int,
    save: Path | None,
    force: bool,
    as_json: bool,
    *,
    address: str,
    port: int,
    images: float,
    data_port: int,
) -> None:
    with reached(address, port) as remote:
        from gazed_plugins.rerun.live import LiveView
        from gazed_plugins.rerun.viewer import WebViewer

        # Whatever else this machine has to do comes first: it may be the daemon's.
        os.nice(_PATIENT)
        stop = _ended_by_signals()
        with (
            LiveView(
                remote,
                data_port,
                save=save,
                replace=force,
                most_fps=images,
                say=lambda text: click.echo(text, err=True),
            ) as shown,
            WebViewer(web_port, live=shown.url) as page,
        ):
            kept = str(save) if save else None
            _tell({"url": page.url, "data": shown.url, "recording": shown.recording_id, "save": kept}, as_json)
            shown.run(stop.is_set)
        _tell_counts(shown, as_json)


def _view_file(path: Path, web_port: int, as_json: bool) -> None:
    from gazed.cli.offline import progress_bar
    from gazed_plugins.export.run import export_recording
    from gazed_plugins.rerun.viewer import WebViewer

    if path.is_dir():
        with progress_bar("frames and data", as_json) as progress:
            path = Path(export_recording(path, "rerun", resume=True, progress=progress).path)
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise click.UsageError(f"{path} is neither a recording nor an .rrd file")
    if path.stat().st_size > _LARGE:
        hint = "gazed export --to rerun --set videos=false makes a smaller one"
        click.echo(f"a browser keeps all {path.stat().st_size / 1e9:.1f} GB of {path} in its memory; {hint}", err=True)
    stop = _ended_by_signals()
    with WebViewer(web_port, recording=path) as page:
        _tell({"url": page.url, "file": str(path)}, as_json)
        stop.wait()


def _ended_by_signals() -> threading.Event:
    """Return what is set by Ctrl-C or SIGTERM from now on, so that all ends in order."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _tell(addresses: Mapping[str, str | None], as_json: bool) -> None:
    if as_json:
        emit_json(addresses)
        return
    click.echo(f"open {addresses['url']}")
    click.echo("Ctrl-C ends it", err=True)


def _tell_counts(shown: LiveView, as_json: bool) -> None:
    counts = shown.counts
    if as_json:
        emit_json({"shown": counts})
        return
    images = counts.pop("images")
    parts = [f"{name} {count}" for name, count in {**counts, **images, "lost": sum(counts["lost"].values())}.items()]
    click.echo("shown: " + ", ".join(parts))
