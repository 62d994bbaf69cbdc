"""Runs calibrations and validations one after the other, and tells of each step as Pupil Capture does.

Subjects in their order: ``calibration.started``, ``.stopped``, ``.setup.v2``, then ``.successful``, ``.result.v2`` and
our ``accuracy.result``, or ``.failed``; ``validation.started``, ``.stopped``, ``.data``, then ``accuracy.result``, or
our ``validation.failed``. Pupil Capture also sends itself ``start_plugin`` with all the data; here nobody needs that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgpack

from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.choreography import Choreography, Mode, Plan
from gazed_plugins.gaze.fitting import Worker, WorkerProcess, camera_map
from gazed_plugins.gaze.gazer import NO_DATA, NO_REFERENCES
from gazed_plugins.gaze.live import LiveMapper
from gazed_plugins.gaze.matching import Datum

__all__ = ["Calibrator", "Fitted"]

_MOST_WAITING = 4
_MANY_UNCERTAIN = 0.2
_log = logging.getLogger(__name__)

Note = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration that succeeded."""

    gazer: str
    params: dict[str, Any]
    references: Sequence[Datum]
    name: str
    """Under which it was stored; empty if it could not be."""
    notes: list[Note]
    """Its notifications ``calibration.setup.v2``, ``calibration.result.v2`` and, if it was measured, its accuracy's."""


@dataclass(frozen=True, slots=True)
class _Job:
    plan: Plan
    references: list[Datum]
    pupils: list[bytes]
    """What is fitted to, and published."""
    around: list[bytes]
    """What a validation measures with."""
    min_confidence: float


class Calibrator:
    """One run collects at a time; what was collected is computed in its turn, in another process.

    ``notify`` sends a notification, ``now`` tells Pupil time; ``folder`` is where calibrations are stored, ``worker``
    makes what computes.
    """

    def __init__(
        self,
        notify: Callable[[Note], None],
        now: Callable[[], float],
        folder: Path,
        worker: Callable[[], Worker] = WorkerProcess,
    ) -> None:
        self.run: Choreography | None = None
        """What is being collected."""
        self.recording = ""
        """The folder of the recording that runs, for what is stored."""
        self._notify = notify
        self._now = now
        self._folder = folder
        self._make_worker = worker
        self._jobs: deque[_Job] = deque()
        self._worker: Worker | None = None
        self._working: tuple[_Job, Note] | None = None
        self._stop_asked = False

    @property
    def waiting(self) -> int:
        """Runs that are being computed, or wait for it."""
        return len(self._jobs) + (self._working is not None)

    def start(self, plan: Plan, size: tuple[int, int], min_confidence: float) -> None:
        """Begin to collect; ``size`` is that of the world image."""
        if self._worker is None:
            self._worker = self._make_worker()
        self.run = Choreography(plan, size, min_confidence)
        self._stop_asked = False
        self._notify({"subject": f"{plan.mode}.started"})

    def see_markers(self, message: Mapping[str, Any]) -> None:
        """Take the circle markers of a world image; the stop marker asks for the end, as a client would."""
        if self.run is not None and self.run.add_markers(message) and not self._stop_asked:
            self._stop_asked = True
            self._notify({"subject": f"{self.run.plan.mode}.should_stop"})

    def stop(self) -> None:
        """End the collecting; what comes of it is told by ``poll``."""
        run, self.run = self.run, None
        if run is None:
            return
        self._notify({"subject": f"{run.plan.mode}.stopped"})
        if run.plan.mode == "calibration" and run.uncertain >= _MANY_UNCERTAIN:
            _log.warning(
                "calibration: %.0f %% of the pupils take no part, their confidence is below %.2f: look at the eyes",
                100 * run.uncertain,
                run.min_confidence,
            )
        self._queue(_Job(run.plan, run.references, run.pupils(), run.pupils_around(), run.min_confidence))

    def fit(self, plan: Plan, references: list[Datum], pupils: list[bytes], min_confidence: float) -> None:
        """Fit to data that were collected elsewhere; the pupil datums are packed."""
        self._queue(_Job(plan, references, pupils, [], min_confidence))

    def _queue(self, job: _Job) -> None:
        if self.waiting >= _MOST_WAITING:
            self.fail(
                job.plan.mode, job.plan.gazer, f"{self.waiting} others are still being computed.", "wait for them"
            )
        else:
            self._jobs.append(job)

    def fail(self, mode: Mode, gazer: str, reason: str, hint: str = "") -> None:
        """Tell that a calibration or validation came to nothing."""
        _log.error("%s failed: %s%s", mode, reason, f" ({hint})" if hint else "")
        self._announce(f"{mode}.failed", gazer, reason=reason, hint=hint)

    def poll(self, camera: Camera, live: LiveMapper | None) -> Fitted | None:
        """Go on with what waits; return a calibration when one has just succeeded.

        ``camera`` is the world camera, ``live`` what maps at present: it is what a validation measures.
        """
        fitted = None
        if self._working is not None and self._worker is not None:
            answer = self._worker.answer()
            if answer is not None:
                (job, note), self._working = self._working, None
                self._drop_worker()
                fitted = self._finish(job, note, answer)
        if self._working is None and self._jobs:
            self._begin(self._jobs.popleft(), camera, fitted, live)
        if self._worker is not None and self._working is None and self.run is None:
            self._drop_worker()
        return fitted

    def _begin(self, job: _Job, camera: Camera, fitted: Fitted | None, live: LiveMapper | None) -> None:
        gazer = job.plan.gazer
        data = {"ref_list": job.references, "pupil_list": [msgpack.unpackb(packed) for packed in job.pupils]}
        request: dict[str, Any] = {"camera": camera_map(camera), "refs": job.references, "pupils": job.pupils}
        if job.plan.mode == "validation":
            active = fitted or live
            if active is None:
                self.fail("validation", gazer, "There is no calibration to validate.", "calibrate first")
                return
            gazer, request["params"], request["pupils"] = active.gazer, active.params, job.around
            note = self._announce("validation.data", gazer, gazer_params=active.params, **data)
        else:
            known = {
                "name": job.plan.name,
                "unique_id": str(uuid4()),
                "gazer_class_name": gazer,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "timestamp": self._now(),
                "recording": self.recording,
                "min_confidence": job.min_confidence,
                "eye_translations": job.plan.eye_translations,
            }
            request |= {"calibration": known, "folder": str(self._folder), "min_confidence": job.min_confidence}
            request["eye_translations"] = job.plan.eye_translations
            if job.plan.kind == "hmd":
                request["camera"] = None
            note = self._announce("calibration.setup.v2", gazer, calib_data=data, version=2)
        self._working = (job, note)
        if self._worker is None:
            self._worker = self._make_worker()
        self._worker.start({"gazer": gazer, **request})

    def _finish(self, job: _Job, setup: Note, answer: Mapping[str, Any]) -> Fitted | None:
        mode, gazer = job.plan.mode, str(setup["gazer_class_name"])
        if "error" in answer:
            self.fail(mode, gazer, **answer["error"])
            return None
        if mode == "validation":
            if not answer["accuracy"]["accuracy"]["total"]:
                self.fail(
                    mode, gazer, NO_DATA if job.references else NO_REFERENCES, "let both eyes and the marker be seen"
                )
                return None
            self._tell_accuracy(mode, gazer, answer["accuracy"])
            return None
        self._announce("calibration.successful", gazer)
        result = self._announce("calibration.result.v2", gazer, params=answer["params"], version=2)
        name = answer.get("name", "")
        if name:
            _log.info("calibrated %s, stored as %s", gazer, name)
        else:
            _log.error("calibrated %s, but it could not be stored: %s", gazer, answer["not_stored"])
        stored = {"name": name} if name else {"name": "", "not_stored": answer["not_stored"]}
        notes = [setup, result]
        if answer["accuracy"] is not None:
            told = self._tell_accuracy(mode, gazer, answer["accuracy"], **stored)
            notes.append({**told, "repeated": True})
        return Fitted(gazer, answer["params"], job.references, name, notes)

    def _tell_accuracy(self, mode: Mode, gazer: str, accuracy: Note, **fields: Any) -> Note:
        """Publish how accurate gaze was; of a calibration's own data it is the best case."""
        note = self._announce("accuracy.result", gazer, data=mode, **accuracy, **fields)
        score, precision = accuracy["accuracy"], accuracy["precision"]
        if score["degrees"] is None:
            _log.warning("%s: no gaze came near any of its %d references", mode, len(accuracy["targets"]))
            return note
        _log.info(
            "%s of %s: accuracy %.2f degrees (%d of %d samples), precision %s degrees, %d targets",
            mode,
            gazer,
            score["degrees"],
            score["used"],
            score["total"],
            "unknown" if precision["degrees"] is None else f"{precision['degrees']:.2f}",
            len(accuracy["targets"]),
        )
        return note

    def _announce(self, subject: str, gazer: str, **fields: Any) -> Note:
        note = {"subject": subject, "gazer_class_name": gazer, "timestamp": self._now(), "record": True, **fields}
        self._notify(note)
        return note

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def close(self) -> None:
        """Give up what is under way."""
        self._jobs.clear()
        self._drop_worker()
