"""``gazed detect`` and ``gazed map``: pupils and gaze of recordings, computed anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from gazed.cli.calibrate import show_accuracy
from gazed.cli.folders import folder_argument
from gazed.cli.output import emit_json, json_option

__all__ = ["detect", "map_gaze", "progress_bar"]


@click.command()
@folder_argument
@click.option("--redetect", is_flag=True, help="Replace the results of an earlier detection.")
@click.option("--workers", type=click.IntRange(1, 64), help="Eyes at a time; as many as processors if not given.")
@click.option("--focal-length", type=click.FloatRange(1, 100_000), help="Of the eye cameras in px, if not recorded.")
@click.option(
    "--roi",
    "rois",
    multiple=True,
    metavar="EYE=X0,Y0,X1,Y1",
    help="Where to look, in px, in the place of gazed import roi.",
)
@json_option
def detect(
    folder: Path, redetect: bool, workers: int | None, focal_length: float | None, rois: tuple[str, ...], as_json: bool
) -> None:
    """Detect the pupils in every frame of a recording, into its offline_data."""
    import msgspec

    from gazed.doctor import require_extra
    from gazed_plugins.pupil.offline import detect_recording

    require_extra("daemon")
    require_extra("detect")
    with progress_bar("frames", as_json) as progress:
        result = detect_recording(
            folder,
            redetect=redetect,
            workers=workers,
            progress=progress,
            focal_length=focal_length,
            rois=dict(map(_roi, rois)) if rois else None,
        )
    if as_json:
        emit_json(msgspec.to_builtins(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("eye", "frames", "detected", "confident", "lid over it", "unreadable", "focal length")
    for eye, found in result.eyes.items():
        counts = (found.frames, found.detected, found.confident, sum(found.gated.values()), found.unreadable)
        table.add_row(eye, *map(str, counts), f"{found.focal_length:.1f} px ({found.camera})")
    Console().print(table)
    for eye, (left, top, right, bottom) in result.settings.get("rois", {}).items():
        click.echo(f"{eye}: searched in x {left} to {right}, y {top} to {bottom}")
    if result.kept:
        click.echo("these results were there already; --redetect replaces them")


def _roi(text: str) -> tuple[str, tuple[int, int, int, int]]:
    """Read ``0=10,20,180,170``: the eye, and its region of interest."""
    from gazed_plugins.pupil.settings import PupilSettings

    eye, _, box = text.partition("=")
    try:
        numbers = [int(each) for each in box.split(",")]
        stream = f"eye{int(eye)}"
    except ValueError:
        raise click.UsageError(f"--roi is EYE=X0,Y0,X1,Y1, such as 0=10,20,180,170, got {text!r:.100}") from None
    chosen = PupilSettings.of({"roi": numbers}).roi
    assert chosen is not None  # noqa: S101 - for the type checker
    return stream, chosen


@click.command("map")
@folder_argument
@click.option(
    "--gazer",
    type=click.Choice(["Gazer3D", "Gazer2D"]),
    help="To be fitted anew to the calibration's data; that of the calibration if not given.",
)
@click.option(
    "--calibration",
    metavar="NAME",
    help='A stored one, or one in the recording ("Recorded Calibration", "Recorded Calibration 2", …); the last one in '
    "the recording if not given.",
)
@click.option("--folder", "stored", type=click.Path(path_type=Path), help="Where calibrations are stored.")
@json_option
def map_gaze(folder: Path, gazer: str | None, calibration: str | None, stored: Path | None, as_json: bool) -> None:
    """Map the pupils of a recording to gaze, into its offline_data."""
    import msgspec

    from gazed.doctor import require_extra
    from gazed_plugins.gaze.offline import map_recording

    require_extra("daemon")
    require_extra("detect")
    with progress_bar("pupils", as_json) as progress:
        result = map_recording(folder, calibration=calibration, gazer=gazer, calibrations=stored, progress=progress)
    if as_json:
        emit_json(msgspec.to_builtins(result))
        return
    click.echo(f"{result.gaze} gaze datums of {result.pupils} pupils ({result.source}), by {result.gazer}")
    click.echo(f"calibration: {result.calibration}")
    click.echo(result.path)
    if result.leave_one_out:
        click.echo("\nat targets left out of the calibration, one at a time:")
        show_accuracy(result.leave_one_out)
    for number, validation in enumerate(result.validations, 1):
        click.echo(f"\nin validation {number} of the recording:")
        show_accuracy(validation)


@contextlib.contextmanager
def progress_bar(what: str, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how much is done, on a terminal; the block is given what to tell it by."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), what, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=hidden or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
