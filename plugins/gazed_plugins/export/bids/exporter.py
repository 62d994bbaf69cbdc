"""``bids``: recordings as a dataset of the Brain Imaging Data Structure, one folder each."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from gazed_plugins.arguments import refuse_unknown, shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.bids.dataset import complete_dataset
from gazed_plugins.export.bids.events import write_eye_events, write_task_events
from gazed_plugins.export.bids.files import tsv_bytes
from gazed_plugins.export.bids.physio import tables_of, write_tables
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.origins import survey
from gazed_plugins.export.session import start_of, wall_clock
from gazed_plugins.export.steps import Steps
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording

__all__ = ["BidsExporter"]

_LABELS = ("subject", "session", "task")
_LONGEST = 40


class BidsExporter:
    """A BIDS dataset (Brain Imaging Data Structure 1.11, eye tracking), one folder ``sub-…/ses-…`` a recording.

    In ``beh`` are the pupils of the left eye (``recording-eye1``) and the right one (``eye2``), one row a frame, and
    gaze (``eye3``) in px of the world camera's image, with JSON beside them; blinks and fixations are in
    ``…_physioevents.tsv.gz``, annotations in ``…_events.tsv``. If there is both 2-D and 3-D gaze, 2-D gaze is
    ``eye4``. Videos are not part of it.

    Arguments:
        subject: letters and digits; if not given, those of the name in ``user_info``, or else of the recording's name.
        session: if not given, name and number of the recording's folder, so that no two have the same.
        task: ``eyetracking`` if not given.
    """

    extra: ClassVar[str] = ""
    dataset: ClassVar[str] = "bids"

    def __init__(self, args: Mapping[str, Any]) -> None:
        refuse_unknown("bids", "argument", args, _LABELS)
        for name, value in args.items():
            if not isinstance(value, str) or not re.fullmatch(rf"[0-9A-Za-z]{{1,{_LONGEST}}}", value):
                wanted = f"1 to {_LONGEST} letters and digits, others BIDS does not allow"
                raise PluginArgument(f"bids: {name} is {wanted}; got {shown(value)}")
        self._args = dict(args)

    def name(self, recording: Recording, label: str) -> str:
        """Return ``sub-<subject>/ses-<session>``."""
        return f"sub-{self._subject(recording)}/ses-{self._args.get('session') or _bids_label(label)}"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """Write the folder of a recording."""
        rows = sum(len(recording.timestamps(log)) for log in ("pupil", "gaze") if log in recording.logs)
        steps = Steps(progress, 2 * rows)
        found = survey(recording, steps)
        tables = tables_of(recording, found)
        if not tables:
            raise NothingToExport(f"{recording.path} has neither pupils nor gaze")
        folder = target / "beh"
        target.mkdir()
        folder.mkdir()
        session, task = f"sub-{self._subject(recording)}_{target.name}", self._args.get("task", "eyetracking")
        stem = folder / f"{session}_task-{task}"
        start = start_of(recording, (each.first for each in found.values()))
        write_tables(recording, tables, stem, task, start, steps)
        write_eye_events(recording, stem.with_name(f"{stem.name}_recording-{tables[-1].label}"), task)
        write_task_events(recording, stem, task, start)
        when = wall_clock(recording, start)
        date = when.isoformat(timespec="microseconds").replace("+00:00", "Z") if when else None
        scans = [(f"beh/{path.name}", date) for path in sorted(folder.glob("*_physio.tsv.gz"))]
        (target / f"{session}_scans.tsv").write_bytes(tsv_bytes(("filename", "acq_time"), scans))
        steps.finish()

    def complete(self, output: Path) -> None:
        """Write the description of the dataset, and a row for each participant that has none."""
        complete_dataset(output)

    def _subject(self, recording: Recording) -> str:
        names = (recording.user_info.get("name", ""), recording.info.recording_name)
        known = (self._args.get("subject"), *map(_bids_label, names))
        return next(filter(None, known), "unknown")


def _bids_label(text: str) -> str:
    """Return the letters and digits of a text; empty if it has none.

    Accents are left out. What is lost otherwise, as it is no ASCII or too long, becomes a number behind it, so that
    different texts stay different.
    """
    plain = unicodedata.normalize("NFKD", text)
    kept = "".join(char for char in plain if char.isascii() and char.isalnum())
    if len(kept) <= _LONGEST and not any(char.isalnum() and not char.isascii() for char in plain):
        return kept
    return f"{kept[: _LONGEST - 8]}{zlib.crc32(text.encode(errors='replace')):08x}"
