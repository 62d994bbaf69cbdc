"""The format ``rerun``: a whole recording in one ``.rrd`` file, which Rerun's viewer shows and its SDK reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from gazed_plugins.arguments import refuse_unknown, shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.steps import Steps
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording

__all__ = ["RerunExporter"]

_OPTIONS = ("videos", "ellipses", "datums")
_EVENTS = ("blinks", "fixations", "annotation", "notify")


class RerunExporter:
    """One file for Rerun's viewer and its SDK: videos, gaze over the world, pupils over the eyes, curves, events.

    JPEGs and H.264 go into it as they were recorded; MPEG-4, and H.264 with frames out of order, become JPEGs. All is
    on the timelines ``pupil_time`` and ``unix``, both in whole nanoseconds, and ``world_frame``, the nearest frame of
    the world camera. Views of it are embedded. The recording keeps its UUID; the application is ``gazed``.

    Arguments, all true or false: ``videos``; ``ellipses``, the pupils over the eyes; ``datums``, every number of pupils
    and gaze as it was recorded. True if not given.
    """

    extra: ClassVar[str] = "rerun"
    dataset: ClassVar[str] = ""

    def __init__(self, args: Mapping[str, Any]) -> None:
        refuse_unknown("rerun", "argument", args, _OPTIONS)
        for name, value in args.items():
            if not isinstance(value, bool):
                raise PluginArgument(f"rerun: {name} is true or false, got {shown(value)}")
        self._options = {name: args.get(name, True) for name in _OPTIONS}

    def name(self, recording: Recording, label: str) -> str:  # noqa: ARG002 - other formats name by what is in it
        """Return the name of the file."""
        return f"{label}.rrd"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """Write the file, as the protocol has it.

        Raises:
            ExportError: the installed SDK writes files of another form than this was written for.
        """
        from gazed_plugins.rerun.blueprint import blueprint_chunks, views_of
        from gazed_plugins.rerun.entities import styled
        from gazed_plugins.rerun.recording import entities_of, id_of, recording_chunks
        from gazed_plugins.rerun.rrd import write_rrd

        counted = [name for name in recording.logs if name in ("pupil", "gaze")]
        counted += recording.streams if self._options["videos"] else ()
        total = sum(len(recording.timestamps(name)) for name in counted)
        if not total and not any(len(recording.timestamps(name)) for name in _EVENTS if name in recording.logs):
            raise NothingToExport(f"{recording.path} has neither videos nor data", hint=f"gazed info {recording.path}")
        steps = Steps(progress, total)
        chunks = recording_chunks(recording, **self._options, advance=steps.advance)
        views = views_of(entities_of(recording, videos=self._options["videos"]))
        write_rrd(target, id_of(recording), styled(chunks), blueprint_chunks(views))
        steps.finish()

    def complete(self, output: Path) -> None:
        """Do nothing: each file stands for itself."""
