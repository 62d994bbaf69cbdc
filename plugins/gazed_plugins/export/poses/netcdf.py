"""``netcdf``: the datasets of ``movement`` as netCDF files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gazed_plugins.arguments import read_number, refuse_unknown
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.hdf5 import writing_hdf5
from gazed_plugins.export.poses.layout import Dims, read_choice, to_dataset
from gazed_plugins.export.poses.streams import Method, Poses, datums_of, read_poses
from gazed_plugins.export.steps import Steps
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording

__all__ = ["NetcdfExporter"]


class NetcdfExporter:
    """netCDF files in the layout of ``movement``, all that is tracked to the last bit.

    One folder a recording, with one file a stream: ``eye0.nc`` and ``eye1.nc`` (the pupil's ellipse as five keypoints,
    in px of the eye's image), ``gaze.nc`` (px of the world's image), ``eye0_3d.nc``, ``eye1_3d.nc``, ``gaze_3d.nc``
    (mm); each has the values of the datums beside them. ``xarray.open_dataset`` opens them, and ``movement`` works on
    them.

    Arguments: ``method``, ``2d`` or ``3d`` pupils (``3d`` where there are any); ``dims``, ``plural`` (movement 0.15 and
    0.16) or ``singular`` (from 0.17 on); ``rate``, samples a second on a regular grid that all streams share, instead
    of the datums' own times.
    """

    extra = "export"
    dataset = ""

    def __init__(self, args: Mapping[str, Any]) -> None:
        refuse_unknown("netcdf", "argument", args, ("method", "dims", "rate"))
        self._method = cast(Method | None, read_choice("netcdf", args, "method", Method))
        self._dims = cast(Dims, read_choice("netcdf", args, "dims", Dims) or "plural")
        self._rate = None if args.get("rate") is None else read_number("netcdf", "rate", args["rate"], 0.01, 100_000)

    def name(self, _recording: Recording, label: str) -> str:
        """Name the folder."""
        return f"{label}-netcdf"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """Write a file for each stream."""
        target.mkdir()
        # Each datum is read, and then written.
        steps = Steps(progress, 2 * datums_of(recording))
        written = False
        for poses in read_poses(recording, self._method, read=steps.advance):
            if len(poses):
                self._write_stream(poses, recording, target, steps)
                written = True
            # Only then is there room for the next one.
            del poses
        if not written:
            raise NothingToExport(f"{recording.path} has neither pupils nor gaze")
        steps.finish()

    def _write_stream(self, poses: Poses, recording: Recording, target: Path, steps: Steps) -> None:
        dataset = to_dataset(poses.resampled(self._rate) if self._rate else poses, recording, self._dims)
        packed = {name: {"zlib": True, "complevel": 1, "shuffle": True} for name in dataset.data_vars}
        with writing_hdf5(target / f"{poses.stream}.nc", lambda: steps.advance(0)) as file:
            dataset.to_netcdf(file, engine="h5netcdf", encoding=packed)
        steps.advance(len(poses))

    def complete(self, output: Path) -> None:
        """Do nothing: each recording stands alone."""
