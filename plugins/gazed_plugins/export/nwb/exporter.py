"""``nwb``: a whole session in one NWB file, with its videos beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from gazed_plugins.arguments import refuse_unknown, shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.events import clean_text
from gazed_plugins.export.origins import Series, survey
from gazed_plugins.export.session import world_size
from gazed_plugins.export.steps import Steps
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording

__all__ = ["NwbExporter"]

_VIDEOS = ("copy", "link", "none")
_LONGEST = 1000
_DURATION = r"P(?=.)(\d+(\.\d+)?Y)?(\d+(\.\d+)?M)?(\d+(\.\d+)?W)?(\d+(\.\d+)?D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?"
_FORMS = {
    "subject": (r"[^/\\]+", "a text without slashes"),
    "species": (r"[A-Z][a-z]+ [a-z]+|http://purl\.obolibrary\.org/obo/NCBITaxon_\d+", "a name such as Homo sapiens"),
    "sex": (r"[MFOU]", "M, F, O (other) or U (unknown)"),
    "age": (rf"{_DURATION}(/({_DURATION})?)?", "a duration such as P25Y, or a range such as P20Y/P30Y"),
    "subject_description": (r".+", "a text"),
    "experimenter": (r".+", "a name such as Curie, Marie"),
    "lab": (r".+", "a text"),
    "institution": (r".+", "a text"),
    "experiment_description": (r".+", "a text"),
}
_LOGS = ("pupil", "gaze")
_BLOCK = 1 << 23


class NwbExporter:
    """One NWB file (Neurodata Without Borders, schema 2.11) with all of a session, for pynwb, MatNWB and DANDI.

    Pupil sizes are in ``PupilTracking``, gaze and directions in ``EyeTracking``, confidences in
    ``BehavioralTimeSeries``, ellipses as poses (``ndx-pose``; ``movement`` reads them), and blinks, fixations,
    annotations, notifications and clocks in tables of events. What is 2-D and what is 3-D never shares a series. Times
    count from the start of the session; the table ``clock`` leads to Unix time.

    Arguments:
        videos: ``copy`` (as it is if not given) puts the videos beside the file; ``link`` makes them hard links where
            the file system can, which take no room, but are the very files of the recording: who changes one changes
            both; with ``none`` there is a single file without videos.
        subject, species, sex, age, subject_description: of the wearer: the name (as in the recording, if not given),
            ``Homo sapiens``, ``M``, ``F``, ``O`` or ``U``, ``P25Y``, a text. DANDI wants the first four.
        experimenter, lab, institution, experiment_description: texts.
    """

    extra: ClassVar[str] = "nwb"
    dataset: ClassVar[str] = ""

    def __init__(self, args: Mapping[str, Any]) -> None:
        refuse_unknown("nwb", "argument", args, ("videos", *_FORMS))
        self._videos = args.get("videos", "copy")
        if self._videos not in _VIDEOS:
            raise PluginArgument(f"nwb: videos is {', '.join(_VIDEOS)}, got {shown(self._videos)}")
        self._args = {name: _text(name, value) for name, value in args.items() if name != "videos"}

    def name(self, recording: Recording, label: str) -> str:
        """Return ``<label>.nwb``, or the folder ``<label>-nwb`` if videos go with it."""
        return f"{label}-nwb" if self._streams(recording) else f"{label}.nwb"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """Write the file, and copy or link the videos."""
        streams = self._streams(recording)
        files = [path for stream in streams for path in _paths(recording, stream)]
        rows = sum(len(recording.timestamps(log)) for log in _LOGS if log in recording.logs)
        blocks = sum(path.stat().st_size // _BLOCK + 1 for path in files) if self._videos == "copy" else 0
        steps = Steps(progress, 2 * rows + blocks)
        found = survey(recording, steps)
        if not found and not streams and not any(len(recording.timestamps(log)) for log in recording.logs):
            raise NothingToExport(f"{recording.path} has neither videos nor data")
        path = target
        if streams:
            target.mkdir()
            path = target / f"{target.name.removesuffix('-nwb')}.nwb"
        self._write(recording, path, found, streams, steps)
        for file in files:
            _bring(file, target / file.name, self._videos == "link", steps.advance)
        steps.finish()

    def complete(self, output: Path) -> None:
        """Do nothing: each file stands for itself."""

    def _streams(self, recording: Recording) -> list[str]:
        if self._videos == "none":
            return []
        return [stream for stream in recording.streams if len(recording.timestamps(stream))]

    def _write(
        self, recording: Recording, path: Path, found: Mapping[str, Series], streams: list[str], steps: Steps
    ) -> None:
        from gazed_plugins.export.nwb.events import add_events
        from gazed_plugins.export.nwb.file import uuid_of, written_nwb
        from gazed_plugins.export.nwb.series import EmptySeries
        from gazed_plugins.export.nwb.session import add_camera, add_video, new_file, zero_of
        from gazed_plugins.export.nwb.tracking import COLUMNS, add_ellipses, add_series

        firsts = [float(recording.timestamps(stream)[0]) for stream in streams]
        ids, zero = uuid_of(recording), zero_of(recording, [*firsts, *(each.first for each in found.values())])
        content = new_file(recording, self._args, ids, zero)
        steps.advance(0)
        cameras = {}
        for stream in dict.fromkeys(
            (*recording.streams, *(f"eye{each.eye}" for each in found.values() if each.eye >= 0))
        ):
            device = add_camera(content, recording, stream)
            video = add_video(content, recording, stream, device, zero) if stream in streams else None
            cameras[stream] = device, video
        made = EmptySeries(zero)
        if found:
            module = content.create_processing_module("behavior", "Pupils and gaze, as they were recorded.")
            add_series(module, made, found, world_size(recording))
            eyes = [each for each in found.values() if each.log == "pupil"]
            add_ellipses(module, made, eyes, cameras, recording.info)
        add_events(content, recording, zero)
        steps.advance(0)
        with written_nwb(path, content, ids):
            made.fill(recording, COLUMNS, steps)


def _text(name: str, value: object) -> str:
    form, wanted = _FORMS[name]
    if not isinstance(value, str) or len(value) > _LONGEST or not re.fullmatch(form, value, re.DOTALL):
        raise PluginArgument(f"nwb: {name} is {wanted}, got {shown(value)}")
    return clean_text(value)


def _paths(recording: Recording, stream: str) -> tuple[Path, ...]:
    return recording.world.paths if stream == "world" else recording.eyes[int(stream[3:])].paths


def _bring(source: Path, target: Path, link: bool, advance: Callable[[int], None]) -> None:
    """Put a file of a recording to another place: as a hard link, if it is wanted and possible, or as a copy."""
    source = source.resolve()
    if link:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    with source.open("rb") as reading, target.open("xb") as writing:
        while block := reading.read(_BLOCK):
            writing.write(block)
            advance(1)
