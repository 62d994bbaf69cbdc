"""``gazed samples``: recordings to try things out with."""

from __future__ import annotations

from pathlib import Path

import click

from gazed.cli.output import emit_json, json_option

__all__ = ["samples"]


@click.group()
def samples() -> None:
    """Get recordings to try things out with; no network is needed."""


@samples.command("list")
@json_option
def list_samples(as_json: bool) -> None:
    """List the samples."""
    from gazed.doctor import require_extra
    from gazed.samples import SAMPLES, samples_folder

    require_extra("export")
    if as_json:
        listed = [{"name": each.name, "what": each.what, "size_mb": each.size_mb} for each in SAMPLES.values()]
        emit_json({"samples": listed, "folder": str(samples_folder())})
        return
    for sample in SAMPLES.values():
        click.echo(f"{sample.name:8} {sample.size_mb:6.1f} MB  {sample.what}")
    click.echo(f"kept in {samples_folder()}")


@samples.command()
@click.argument("name")
@click.option("--output", type=click.Path(path_type=Path), help="Make a copy of it in this folder, to be changed.")
@json_option
def fetch(name: str, output: Path | None, as_json: bool) -> None:
    """Print the folder of a sample, which is made if it is not there."""
    from gazed.doctor import require_extra
    from gazed.samples import fetch_sample

    require_extra("export")
    folder = fetch_sample(name, output, lambda text: click.echo(text, err=True))
    if as_json:
        emit_json({"recording": str(folder)})
    else:
        click.echo(folder)
