"""``gazed export``: recordings in other formats, one or thousands."""

from __future__ import annotations

import datetime
import inspect
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gazed.cli.output import emit_json, finish, json_option

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from gazed_plugins.export.batch import BatchResult, Step

__all__ = ["export"]

_EXAMPLES = """\b
Examples:
  gazed export recordings/2026_03_01/000 --to csv
  gazed export recordings --to parquet --output dataset --workers 4
  gazed query "SELECT recording, count(*) FROM blinks GROUP BY recording" --data dataset
"""
_FAILED = 1
_SIGTERM = 143


@click.command(epilog=_EXAMPLES)
@click.argument("folders", metavar="DIR...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--to", metavar="FORMAT", help="What to make of them; --formats lists the formats.")
@click.option(
    "--formats", is_flag=True, help="List the formats; with --to, tell all about one, and what it can be told."
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Where exports go; if not given, exports in each recording."
)
@click.option("--force", is_flag=True, help="Replace earlier exports; each stays until the new one is whole.")
@click.option("--resume", is_flag=True, help="Leave what was exported earlier with the same options as it is.")
@click.option("--offline", is_flag=True, help="Take pupils, gaze and fixations that were computed after the recording.")
@click.option("--mapping", metavar="NAME", help="The same, with the one of several gaze mappings that is called so.")
@click.option("--workers", type=click.IntRange(1, 1024), default=1, show_default=True, help="Recordings at a time.")
@click.option("--scheduler", metavar="ADDRESS", default="", help="Let the workers of this dask scheduler do it.")
@click.option("--layout", help="csv: which columns and files.")
@click.option("--subject", help="bids, nwb: who it was.")
@click.option("--session", help="bids: which session.")
@click.option("--task", help="bids: what was to be done.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Anything else that the format takes.")
@json_option
def export(
    folders: tuple[Path, ...],
    to: str | None,
    formats: bool,
    output: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
    workers: int,
    scheduler: str,
    mapping: str | None,
    **options: Any,
) -> None:
    """Export recordings to another format.

    DIR is a recording, or a folder with recordings at any depth. Each export appears when it is whole. A recording that
    fails does not keep the others: it is named, and the exit code is 1. A run that was stopped goes on with --resume.
    """
    from gazed.doctor import require_extra

    require_extra("daemon")
    if formats:
        _show_formats(to, as_json)
        return
    if to is None:
        raise click.UsageError("--to FORMAT is missing; --formats lists the formats")
    if not folders:
        raise click.UsageError("name at least one recording, or folder with recordings")
    options["offline"] = mapping or options["offline"]
    named = {name: options.pop(name) for name in ("layout", "subject", "session", "task")}
    args = _settings(settings) | {name: value for name, value in named.items() if value is not None}
    # Unwound as on Ctrl-C, so that nothing half-done stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_SIGTERM))
    result = _run(folders, to, output, {**options, "args": args}, workers, scheduler, as_json)
    if as_json:
        emit_json({"format": to, "done": result.done, "skipped": result.skipped, "failed": result.failed})
    elif len(folders) == len(result.done) == 1:
        click.echo(next(iter(result.done.values())))
    else:
        place = f"; in {output}" if output is not None else ""
        click.echo(f"done {len(result.done)}, skipped {len(result.skipped)}, failed {len(result.failed)}{place}")
    finish(_FAILED if result.failed else 0)


def _run(
    folders: tuple[Path, ...],
    to: str,
    output: Path | None,
    options: Mapping[str, Any],
    workers: int,
    scheduler: str,
    hidden: bool,
) -> BatchResult:
    """Export one recording, whose error is that of the command, or many."""
    from gazed_plugins.export.batch import BatchResult, Step, export_many
    from gazed_plugins.export.place import is_recording
    from gazed_plugins.export.run import export_recording

    with _Display.shown(hidden) as display:
        if len(folders) > 1 or scheduler or not is_recording(folders[0]):
            return export_many(
                folders, to, output, workers=workers, scheduler=scheduler, progress=display.tell, **options
            )
        name = str(folders[0])
        one = export_recording(
            folders[0], to, output, progress=lambda done, of: display.tell(Step(1, 0, name, done, of)), **options
        )
        made = {name: one.path}
        return BatchResult(skipped=made) if one.skipped else BatchResult(done=made)


class _Display:
    """Bars for all recordings and for those in work, on a terminal; a line for each that fails, everywhere."""

    def __init__(self, bars: Progress, hidden: bool) -> None:
        self._bars = bars
        self._hidden = hidden
        self._total: TaskID | None = None
        self._open: dict[str, TaskID] = {}
        self._ended: set[str] = set()
        # Steps come from the threads of dask as well.
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def shown(cls, hidden: bool) -> Iterator[_Display]:
        """Show it while the block runs."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        quiet = hidden or not console.is_terminal
        with Progress(*columns, console=console, disable=quiet, transient=True) as bars:
            yield cls(bars, hidden)

    def tell(self, step: Step) -> None:
        """Show a step."""
        from rich.markup import escape

        with self._lock:
            if self._total is None and step.total > 1:
                self._total = self._bars.add_task("recordings", total=step.total)
            if step.outcome:
                self._end(step)
            elif step.recording not in self._ended:
                name = escape("/".join(Path(step.recording).parts[-2:]))
                task = self._open.get(step.recording)
                if task is None:
                    task = self._open[step.recording] = self._bars.add_task(name)
                self._bars.update(task, completed=step.done, total=step.of)

    def _end(self, step: Step) -> None:
        self._ended.add(step.recording)
        if (task := self._open.pop(step.recording, None)) is not None:
            self._bars.remove_task(task)
        if self._total is not None:
            self._bars.update(
                self._total, completed=step.finished, description=f"{step.finished} of {step.total} recordings"
            )
        if step.outcome == "failed" and not self._hidden:
            what = step.error["message"]
            where = "" if step.recording in what else f"{step.recording}: "
            self._bars.console.print(f"failed: {where}{what}", markup=False, highlight=False, soft_wrap=True)


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """Return what ``--set`` says; what is no number, truth value or list is a text."""
    from gazed.config import parse_setting

    found: dict[str, Any] = {}
    for text in texts:
        for name, value in parse_setting(text).items():
            dated = isinstance(value, datetime.date | datetime.time)
            found[name] = text.partition("=")[2] if dated else value
    return found


def _show_formats(to: str | None, as_json: bool) -> None:
    from gazed_plugins.export.exporter import find_exporter, format_names

    names = [to] if to else format_names()
    docs = {name: (inspect.getdoc(find_exporter(name)) or "").replace("``", "") for name in names}
    if as_json:
        emit_json({"formats": docs})
    elif to:
        click.echo(docs[to])
    else:
        for name, text in docs.items():
            first = " ".join(text.split("\n\n")[0].split())
            click.echo(f"{name:14} {first.partition('. ')[0].rstrip('.')}")
