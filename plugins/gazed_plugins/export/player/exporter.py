"""The format ``csv``: the folder that Pupil Player exports, without Player."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.csv_text import Column, Mask
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.origins import are_solid
from gazed_plugins.export.player.classic import CLASSIC_GAZE_HEADER, CLASSIC_PUPIL_HEADER, classic_gaze_columns
from gazed_plugins.export.player.columns import GAZE_HEADER, PUPIL_HEADER, gaze_columns, pupil_columns
from gazed_plugins.export.player.events import EventSettings, write_annotations, write_blinks, write_fixations
from gazed_plugins.export.player.legend import legend_text
from gazed_plugins.export.player.tables import TableFile, Window, world_times, write_rows
from gazed_plugins.export.steps import Steps
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording
from gazed_recorder.reading.correlate import Rule, correlate
from gazed_recorder.reading.logs import empty_table
from gazed_recorder.reading.table import Table

__all__ = ["CsvExporter"]

Floats = NDArray[np.float64]
Columns = Callable[[Table, NDArray[np.int64]], list[Column]]

_OWNER = "csv"
# Rows that are decoded, and that are turned into text, at a time.
_DECODED, _WRITTEN = 16_384, 2_048
# Readers know the format by the Player that writes it, and by the oldest that opens such a recording.
_PLAYER_VERSION = "3.6.0"
_RULES = {
    "nearest": "the nearest frame in time, of two equally near the later one",
    "midpoint": "the first frame whose midpoint to the next one is not before it; empty behind the last midpoint",
}
_GAZE_KEPT = (
    "timestamp", "confidence", "norm_pos_x", "norm_pos_y", "gaze_point_3d_x", "gaze_point_3d_y", "gaze_point_3d_z",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the two tables look like."""

    rule: Rule
    pupil_header: tuple[str, ...]
    gaze_header: tuple[str, ...]
    gaze: Columns
    name: str


_LAYOUTS = {
    "player": _Layout("nearest", PUPIL_HEADER, GAZE_HEADER, gaze_columns, "csv"),
    "classic": _Layout("midpoint", CLASSIC_PUPIL_HEADER, CLASSIC_GAZE_HEADER, classic_gaze_columns, "classic-csv"),
}


class CsvExporter:
    """The files of Pupil Player's export, with its columns, their order, and its texts.

    A folder: ``pupil_positions.csv``, ``gaze_positions.csv``, ``fixations.csv`` and ``blinks.csv`` (found afterwards,
    as Player does) with their reports, ``annotations.csv``, ``export_info.csv``, ``pupil_gaze_positions_info.txt``
    (what the columns mean), and the videos with their timestamps, as they were recorded, sound in the first of them.
    Beside each table, ``…_unix.csv`` has the Unix time of each row, in ns.

    Arguments: ``layout``, ``player`` or ``classic`` (the two tables with the columns of Player 0.7's documentation, and
    no fixations, blinks or annotations); ``range``, ``all`` or ``player`` (of the rows of tables, as Player, only those
    from the first frame of the world video to before its last); ``videos``, ``false`` leaves them out; of fixations
    ``max_dispersion`` (degrees, 1.5), ``min_duration`` (ms, 80) and ``max_duration`` (ms, 220); of blinks
    ``history_length`` (s, 0.2), ``onset_confidence_threshold`` and ``offset_confidence_threshold`` (0.5).

    Different from Player: the number of a frame is that of the recorded frame, gaps in the world video are not filled
    with frames that nobody took; ``Export Date`` and ``Export Time`` stay empty, so that the same recording gives the
    same bytes; images are not encoded anew.
    """

    extra: ClassVar[str] = ""
    dataset: ClassVar[str] = ""

    def __init__(self, args: Mapping[str, Any]) -> None:
        self._events = EventSettings.of(_OWNER, args, "layout", "range", "videos")
        self._layout = _LAYOUTS[_choice(args, "layout", *_LAYOUTS)]
        self._whole = _choice(args, "range", "all", "player") == "all"
        self._videos = args.get("videos", True)
        if not isinstance(self._videos, bool):
            raise PluginArgument(f"{_OWNER}: videos is true or false, got {shown(self._videos)}")

    def name(self, recording: Recording, label: str) -> str:  # noqa: ARG002 - its label is enough
        """As ``Exporter``."""
        return f"{label}-{self._layout.name}"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """As ``Exporter``.

        Raises:
            ExportError: a video that was written is not as it has to be.
        """
        streams = recording.streams if self._videos else ()
        rows = sum(len(recording.timestamps(name)) for name in ("pupil", "gaze") if name in recording.logs)
        if not (rows or streams or "annotation" in recording.logs):
            hint = "" if recording.streams else "gazed info lists what it has"
            raise NothingToExport(f"{recording.path} has neither pupils nor gaze, annotations or videos", hint=hint)
        steps = Steps(progress, rows + sum(len(recording.timestamps(name)) for name in streams))
        target.mkdir()
        tables = _Tables(recording, target, self._layout, whole=self._whole, steps=steps)
        pupils = tables.write_pupils()
        gaze = tables.write_gaze()
        tables.write_legend(pupils, gaze)
        if self._layout.name == "csv":
            events = (tables.frames, self._events, tables.window)
            write_blinks(target, recording, _blinking(pupils), *events)
            write_fixations(target, recording, gaze, *events)
            write_annotations(target, recording, tables.frames, tables.window)
            write_rows(target / "export_info.csv", _info(recording, tables.frames))
        if streams:
            from gazed_plugins.export.video.folder import copy_videos

            copy_videos(target, recording, streams, steps.advance)
        steps.finish()

    def complete(self, output: Path) -> None:
        """Nothing stands beside the exports."""


class _Tables:
    """The two tables of pupils and gaze."""

    def __init__(self, recording: Recording, folder: Path, layout: _Layout, *, whole: bool, steps: Steps) -> None:
        self._recording, self._folder, self._layout, self._steps = recording, folder, layout, steps
        self.frames = world_times(recording)
        """When the frames of the world were taken, s."""
        self._within = float(self.frames[0]), float(self.frames[-1])
        self.window: Window = None if whole else self._within
        """From when to when datums are exported, s."""

    def write_pupils(self) -> Table:
        """Write ``pupil_positions.csv``; return ``timestamp``, ``confidence``, and whether each is 3D (``solid``)."""
        found = [_empty_pupils()]
        with TableFile(self._folder, "pupil_positions", self._layout.pupil_header, self._recording) as file:
            for batch in self._batches("pupil"):
                found.append(_judged(batch))
                self._write(file, batch, pupil_columns)
        return Table.concatenated(found)

    def write_gaze(self) -> Table:
        """Write ``gaze_positions.csv``; return the columns that fixations are found by."""
        found = [empty_table("gaze").select(_GAZE_KEPT)]
        with TableFile(self._folder, "gaze_positions", self._layout.gaze_header, self._recording) as file:
            for batch in self._batches("gaze"):
                found.append(batch.select(_GAZE_KEPT))
                self._write(file, batch, self._layout.gaze)
        return Table.concatenated(found)

    def write_legend(self, pupils: Table, gaze: Table) -> None:
        """Write ``pupil_gaze_positions_info.txt``."""
        outside = [int(self._outside(table["timestamp"]).sum()) for table in (pupils, gaze)]
        done = (
            "are left out, as Pupil Player does" if self.window else "are in the tables; Pupil Player leaves them out"
        )
        index, rule = self._layout.gaze_header[1], _RULES[self._layout.rule]
        unix = (
            "Files that end in _unix.csv have a row for each row of the table of that name: Pupil time, and Unix time"
        )
        notes = [
            "A cell is empty where a datum has no such value, and nan where the value is not a number.",
            f"{index}: {rule}.",
            f"{outside[0]} pupils and {outside[1]} gaze positions that lie outside of the world video's time {done}.",
            f"{unix} in nanoseconds.",
        ]
        text = legend_text(self._layout.pupil_header, self._layout.gaze_header, notes)
        (self._folder / "pupil_gaze_positions_info.txt").write_text(text, "utf-8")

    def _batches(self, name: str) -> Iterator[Table]:
        if name in self._recording.logs:
            for batch in self._recording.batches(name, _DECODED):
                yield batch
                self._steps.advance(len(batch))

    def _write(self, file: TableFile, batch: Table, columns: Columns) -> None:
        if self.window:
            batch = batch[~self._outside(batch["timestamp"])]
        index = correlate(batch["timestamp"], self.frames, self._layout.rule)
        for first in range(0, len(batch), _WRITTEN):
            some = batch[first : first + _WRITTEN]
            file.columns(columns(some, index[first : first + _WRITTEN]))
        file.times(batch["timestamp"])

    def _outside(self, times: Floats) -> Mask:
        """Tell which times Pupil Player leaves out; the rule of its early versions tells so itself."""
        if self._layout.rule == "midpoint":
            return correlate(times, self.frames, "midpoint") < 0
        return ~((times >= self._within[0]) & (times < self._within[1]))


def _choice(args: Mapping[str, Any], name: str, *known: str) -> str:
    value = args.get(name, known[0])
    if value not in known:
        raise PluginArgument(f"{_OWNER}: {name} is {' or '.join(known)}, got {shown(value)}")
    return str(value)


def _empty_pupils() -> Table:
    return Table({"timestamp": np.zeros(0), "confidence": np.zeros(0), "solid": np.zeros(0, np.bool_)})


def _judged(pupils: Table) -> Table:
    return pupils.select(("timestamp", "confidence")).with_columns(solid=are_solid(pupils))


def _blinking(pupils: Table) -> Table:
    """Return the pupils in which blinks are found: the 2D ones, or all if there are none."""
    flat = ~pupils["solid"]
    wanted: Mask = flat if flat.any() else ~flat
    return pupils[np.flatnonzero(wanted & np.isfinite(pupils["timestamp"]) & np.isfinite(pupils["confidence"]))]


def _info(recording: Recording, frames: Floats) -> list[tuple[str, str]]:
    """Return ``export_info.csv``; the colon in one of its keys is Player's."""
    times = frames[[0, -1]].tolist()
    version = tuple(int(part) for part in recording.info.meta_version.split(".")[:2] if part.isdecimal())
    return [
        ("key", "value"),
        ("Player Software Version", _PLAYER_VERSION),
        ("Data Format Version", "2.0" if version >= (2, 2) or not version else "1.16"),
        ("Export Date", ""),
        ("Export Time", ""),
        ("Frame Index Range:", f"0 - {len(frames) - 1}"),
        ("Relative Time Range", " - ".join(_clock(time - times[0]) for time in times)),
        ("Absolute Time Range", " - ".join(map(repr, times))),
    ]


def _clock(seconds: float) -> str:
    minutes, ms = divmod(round(seconds * 1000), 60_000)
    return f"{minutes:02d}:{ms // 1000:02d}.{ms % 1000:03d}"
