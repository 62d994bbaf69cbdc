"""Exporting many recordings: here, one after the other, or by several processes of this machine or of others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from gazed_plugins.export.errors import ExportError
from gazed_plugins.export.exporter import Exporter
from gazed_plugins.export.find import find_recordings, refuse_same_names
from gazed_plugins.export.outcome import Outcome, export_outcome
from gazed_plugins.export.place import OutputFolder
from gazed_plugins.export.run import ExportJob, complete, make_exporter
from gazed_recorder.errors import DiskFull

__all__ = ["BatchResult", "Step", "Telling", "export_many"]


class Step(msgspec.Struct, frozen=True):
    """How far a batch is."""

    total: int
    """Recordings in all."""
    finished: int
    """Recordings that are done, skipped or failed."""
    recording: str
    """The one that this is about."""
    done: int = 0
    of: int = 0
    """How much of it is done, and how much there is."""
    outcome: Literal["", "done", "skipped", "failed"] = ""
    """How it ended, if it has just done so."""
    error: dict[str, str] = {}


Telling = Callable[[Step], None]


class BatchResult(msgspec.Struct):
    """What ``export_many`` made of each recording, in the order in which they were found."""

    done: dict[str, str] = {}
    """The exports."""
    skipped: dict[str, str] = {}
    """The exports that were there already."""
    failed: dict[str, dict[str, str]] = {}
    """The errors: ``code``, ``message`` and ``hint``."""


def export_many(
    folders: Iterable[str | Path],
    to: str,
    output: str | Path | None = None,
    *,
    args: Mapping[str, Any] | None = None,
    offline: bool | str = False,
    force: bool = False,
    resume: bool = False,
    workers: int = 1,
    scheduler: str = "",
    progress: Telling | None = None,
) -> BatchResult:
    """Export all recordings among and below ``folders``; one that fails does not keep the others.

    What was done stays, however this ends; with ``resume`` another run goes on from there.

    Args:
        folders: recordings, and folders with recordings at any depth.
        to, output, args, offline, force, resume: as ``export_recording`` takes them.
        workers: processes at a time. With one, everything happens in this process. With more, whoever calls this from a
            script does so below ``if __name__ == "__main__"``; needs ``gazed[batch]``.
        scheduler: the address, such as ``tcp://127.0.0.1:8786``, of a dask scheduler whose workers do it instead of
            processes of its own; they see the same folders.
        progress: called now and then, from any thread.

    Raises:
        UnknownFormat, MissingExtra, PluginArgument: the format, or what it is told, is not possible.
        NotARecording: one of the folders is none, or holds no recording.
        SameName: two recordings would be exported under one name.
        UnsafeOutput: the output folder lies where recorded files are.
        NoScheduler: the scheduler cannot be reached, or went away.
        DiskFull: there is no room; the rest was not tried.
        OSError: what stands beside the exports cannot be written.
    """
    place = None if output is None else Path(output).expanduser().absolute()
    job = ExportJob(to, str(place or ""), dict(args or {}), offline, force, resume)
    exporter = make_exporter(job)
    found = find_recordings([Path(folder).expanduser().absolute() for folder in folders], place)
    if place is not None:
        refuse_same_names(found.recordings)
        OutputFolder(place).sweep()
    tally = _Tally([*found.recordings, *found.unreadable], progress or _silent)
    for folder, error in found.unreadable.items():
        tally.add(folder, Outcome(error={"code": "unreadable", "message": f"{folder}: {error.strerror}", "hint": ""}))
    try:
        with closing(_outcomes(job, exporter, found.recordings, workers, scheduler, tally.tell)) as outcomes:
            for folder, outcome in outcomes:
                tally.add(folder, outcome)
    finally:
        _sweep(place, tally.without_export, exporter.dataset)
    result = tally.result()
    if place is not None and (result.done or result.skipped):
        complete(exporter, place)
    return result


def _outcomes(
    job: ExportJob,
    exporter: Exporter,
    recordings: dict[Path, str],
    workers: int,
    scheduler: str,
    tell: Callable[[Path, int, int], None],
) -> Generator[tuple[Path, Outcome], None, None]:
    if scheduler or (workers > 1 and len(recordings) > 1):
        from gazed_plugins.export.cluster import share_out

        yield from share_out(job, exporter, recordings, min(workers, len(recordings)), scheduler, tell)
        return
    for folder, label in recordings.items():
        yield folder, export_outcome(job, exporter, folder, label, lambda done, of: tell(folder, done, of))  # noqa: B023


class _Tally:
    """Counts outcomes, and tells of them."""

    def __init__(self, recordings: list[Path], progress: Telling) -> None:
        self._outcomes: dict[Path, Outcome | None] = dict.fromkeys(recordings)
        self._progress = progress
        self._finished = 0

    @property
    def without_export(self) -> list[Path]:
        """The recordings that are not exported."""
        return [folder for folder, outcome in self._outcomes.items() if outcome is None or outcome.error]

    def tell(self, folder: Path, done: int, of: int) -> None:
        """Tell how much of a recording is done."""
        self._progress(Step(len(self._outcomes), self._finished, str(folder), done, of))

    def add(self, folder: Path, outcome: Outcome) -> None:
        """Take an outcome.

        Raises:
            DiskFull: that is the outcome.
        """
        if outcome.disk_full:
            hint = "make room and start it again with --resume; what was exported is whole"
            raise DiskFull(outcome.error["message"], hint=hint)
        self._outcomes[folder] = outcome
        self._finished += 1
        how: Literal["done", "skipped", "failed"] = (
            "failed" if outcome.error else "skipped" if outcome.skipped else "done"
        )
        self._progress(Step(len(self._outcomes), self._finished, str(folder), 1, 1, outcome=how, error=outcome.error))

    def result(self) -> BatchResult:
        """Return all outcomes."""
        result = BatchResult()
        for folder, outcome in self._outcomes.items():
            if outcome is None:
                raise ExportError(f"nothing was heard of {folder}", hint="start it again with --resume")
            if outcome.error:
                result.failed[str(folder)] = outcome.error
            else:
                (result.skipped if outcome.skipped else result.done)[str(folder)] = outcome.path
        return result


def _sweep(place: Path | None, left: list[Path], dataset: str) -> None:
    """Remove what ended processes have left half-done."""
    if place is not None:
        OutputFolder(place).sweep()
        return
    for folder in left:
        with suppress(ExportError, OSError):
            OutputFolder.of(folder, dataset).sweep()


def _silent(_step: Step) -> None:
    pass
