"""The command line. Each command is one function in a module of this package; heavy imports happen inside it."""

from __future__ import annotations

import click

from gazed.cli.calibrate import calibrate, validate
from gazed.cli.clock import clock
from gazed.cli.configuration import config
from gazed.cli.diagnose import devices, doctor, version
from gazed.cli.export import export
from gazed.cli.folders import info, repair, verify
from gazed.cli.importing import import_
from gazed.cli.live import record, status
from gazed.cli.offline import detect, map_gaze
from gazed.cli.output import ErrorReporting
from gazed.cli.query import query
from gazed.cli.samples import samples
from gazed.cli.start import bench, demo, run
from gazed.cli.timesync import timesync
from gazed.cli.view import view

__all__ = ["main"]

_EPILOG = """\b
Exit codes:
  0  done
  1  failed
  2  wrong usage or wrong input
  3  daemon not reachable, or it refused
  4  a port is taken
  5  a source (camera) failed
  6  recording damaged or not verified
  7  disk full
"""


@click.group(cls=ErrorReporting, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Capture, time-stamp and record eye trackers: a recording you can believe."""


for _command in (
    demo, run, status, view, record, calibrate, validate, info, verify, repair, detect, map_gaze, import_, export,
    query, devices, doctor, config, clock, timesync, samples, bench, version,
):  # fmt: skip
    main.add_command(_command)
