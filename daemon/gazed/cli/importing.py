"""``gazed import``: what other programs have tracked, as pupils or regions of interest of recordings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gazed.cli.offline import progress_bar
from gazed.cli.output import emit_json, json_option

__all__ = ["import_"]

_SOFTWARE = ("DeepLabCut", "SLEAP", "LightningPose", "Anipose", "NWB", "netCDF", "numpy")
_INTO = ("match", "partial", "force")
_NEW = ("output", "timestamps", "fps", "name", "started")

_EXAMPLES = """\b
Examples:
  gazed import keypoints eye0DLC.h5 --from DeepLabCut --into recordings/first/000 --eye 0
  gazed import keypoints eye.slp --from SLEAP --video eye.mp4 --fps 60 --output recordings
"""

_eye_option = click.option("--eye", type=click.IntRange(0, 9), default=0, show_default=True, help="0 is the right one.")
_file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group("import")
def import_() -> None:
    """Take in what other programs have tracked."""


@import_.command(epilog=_EXAMPLES)
@_file_argument
@click.option(
    "--from",
    "software",
    type=click.Choice(_SOFTWARE, case_sensitive=False),
    metavar="PROGRAM",
    required=True,
    help=f"What wrote it: {', '.join(_SOFTWARE)}.",
)
@click.option("--into", type=click.Path(path_type=Path), metavar="DIR", help="The recording of which this is an eye.")
@click.option("--video", type=click.Path(path_type=Path), help="The video that was tracked, to make a recording of.")
@_eye_option
@click.option("--keypoints", metavar="A,B,…", help="Those on the pupil's edge; all but a centre if not given.")
@click.option("--individual", metavar="NAME", help="Whose, if the file has several.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.6, show_default=True, help="Least confidence of a keypoint."
)
@click.option("--focal-length", type=click.FloatRange(1, 100_000), help="Of the camera in px; for keypoints in mm.")
@click.option("--pose-estimation", metavar="NAME", default="PoseEstimation", help="Which one of an NWB file.")
@click.option(
    "--match", type=click.Choice(["frame", "time"]), help="Into: rows are frames by number (or by their time)."
)
@click.option("--partial", is_flag=True, help="Into: the file may end before the video does.")
@click.option("--force", is_flag=True, help="Into: replace pupils of this eye that were computed before.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Video: where recordings are.")
@click.option("--timestamps", type=click.Path(path_type=Path), help="Video: time of each frame in s, .npy or .csv.")
@click.option("--fps", type=click.FloatRange(0.001, 100_000), help="Video: frames a second, if there are no times.")
@click.option("--name", help="Video: of the session; that of the video if not given.")
@click.option("--started", metavar="TIME", help="Video: when it began, such as 2026-03-01T10:00:00+01:00.")
@json_option
def keypoints(file: Path, software: str, into: Path | None, video: Path | None, as_json: bool, **options: Any) -> None:
    """Make pupils of keypoints on the edge of a tracked pupil.

    With --into they become an eye's pupils in the offline_data of a recording, where gazed detect and Pupil Player have
    theirs. With --video and --output, a recording is made of the tracked video.

    An ellipse is fitted to the keypoints of each frame, to at least five; a pupil is as sure as they are on average,
    times the share of them that was sure enough. What gazed exports (dlc, sleap, …) comes back as it was.
    """
    import msgspec

    from gazed.doctor import require_extra

    if (into is None) == (video is None):
        raise click.UsageError("give either --into, a recording, or --video, to make a recording of")
    kind, others = ("into", _NEW) if into else ("video", _INTO)
    for name in others:
        if options.pop(name):
            raise click.UsageError(f"--{name} does not go with --{kind}")
    require_extra("daemon")
    names = options.pop("keypoints")
    options |= {"keypoints": [name.strip() for name in names.split(",")] if names else None}
    with progress_bar("frames", as_json) as progress:
        if into:
            from gazed_plugins.keypoints.into import import_keypoints

            options["match"] = options["match"] or "frame"
            result = import_keypoints(file, software, into, progress=progress, **options)
        else:
            result = _record(file, software, video, progress, options)
    if as_json:
        emit_json(msgspec.to_builtins(result))
        return
    click.echo(f"{result.source}: {', '.join(result.keypoints)}")
    counts = f"{result.found} with an ellipse, {result.confident} confident"
    click.echo(f"{result.stream}: {result.pupils} pupils in {result.frames} frames, {counts}")
    click.echo(result.recording)


def _record(file: Path, software: str, video: Path | None, progress: Any, options: dict[str, Any]) -> Any:
    from gazed_plugins.keypoints.record import read_times, record_keypoints

    output, times, started = (options.pop(name) for name in ("output", "timestamps", "started"))
    if output is None:
        raise click.UsageError("--video needs --output, the folder for recordings")
    if started is not None:
        try:
            started = datetime.fromisoformat(started)
        except ValueError as error:
            raise click.UsageError(f"--started: {error}") from None
    options["name"] = options["name"] or ""
    options |= {"times": read_times(times) if times else None, "started": started, "progress": progress}
    return record_keypoints(file, software, str(video), output, **options)


@import_.command()
@_file_argument
@click.option("--into", type=click.Path(path_type=Path), metavar="DIR", required=True, help="The recording.")
@_eye_option
@click.option("--track", type=click.IntRange(0), help="Whose boxes, if the file has several.")
@click.option("--margin", type=click.FloatRange(0, 10_000), default=0.0, help="Pixels to add on each side.")
@click.option("--force", is_flag=True, help="Replace a region that was taken in before.")
@json_option
def roi(file: Path, into: Path, eye: int, track: int | None, margin: float, force: bool, as_json: bool) -> None:
    """Let gazed detect look for an eye's pupil only where boxes were drawn (tracks of the VGG Image Annotator, csv).

    The region is the smallest around all boxes. The detector misses pupils that are nearer to its end than about their
    size: boxes around the pupil itself need a --margin.
    """
    import msgspec

    from gazed_plugins.keypoints.roi import import_roi

    result = import_roi(file, into, eye=eye, track=track, margin=margin, force=force)
    if as_json:
        emit_json(msgspec.to_builtins(result))
        return
    left, top, right, bottom = result.roi
    click.echo(f"{result.stream}: x {left} to {right}, y {top} to {bottom}, around {result.boxes} boxes")
    click.echo(f"gazed detect {result.recording} goes by it")
