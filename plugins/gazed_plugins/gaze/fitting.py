"""Fitting and measuring in a process of their own: they take seconds, and live mapping must not wait for them.

``python -m gazed_plugins.gaze.fitting`` reads one job from its standard input to the end, a msgpack map, and writes
the answer. It is started when the collecting starts, so that its libraries are loaded when the job comes; it ends with
its parent, whose end closes the pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgpack
import msgspec

from gazed_plugins.gaze.accuracy import measure
from gazed_plugins.gaze.camera import Camera, read_camera
from gazed_plugins.gaze.errors import CalibrationFailed
from gazed_plugins.gaze.matching import Datum
from gazed_plugins.gaze.registry import load_gazer, make_gazer
from gazed_plugins.gaze.store import Calibration, save_calibration
from gazed_timesync import GazedError

__all__ = ["Worker", "WorkerProcess", "camera_map", "solve"]

_TIMEOUT_S = 120.0
_NICE = 5


def camera_map(camera: Camera | None) -> dict[str, Any] | None:
    """Return a camera as ``read_camera`` reads it."""
    if camera is None:
        return None
    return {
        "camera_matrix": camera.matrix.tolist(),
        "dist_coefs": camera.distortion.tolist(),
        "cam_type": camera.kind,
        "resolution": [camera.width, camera.height],
    }


def solve(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job and return its answer, or ``{"error": {reason, hint}}``.

    A job has ``gazer``, ``camera`` (a ``camera_map``), ``refs`` and ``pupils`` (packed datums). To fit: also
    ``min_confidence``, ``eye_translations`` and, to have it stored, ``folder`` and ``calibration`` (a map of what is
    known of it); the answer has ``params``, ``accuracy`` on the data themselves, and ``name`` or ``not_stored``.
    To measure: ``params``; the answer has ``accuracy``.
    """
    try:
        return _solve(job)
    except CalibrationFailed as error:
        return {"error": {"reason": error.reason, "hint": error.hint}}
    except GazedError as error:
        return {"error": {"reason": error.message, "hint": error.hint}}
    except Exception as error:  # noqa: BLE001 - whatever a fit stumbles over is the reason of its failure
        return {"error": {"reason": f"{type(error).__name__}: {error}", "hint": "calibrate again"}}


def _solve(job: Mapping[str, Any]) -> dict[str, Any]:
    camera, refs = None, list(job["refs"])
    if job["camera"] is not None:
        camera = read_camera(job["camera"], *job["camera"]["resolution"])
    pupils: list[Datum] = [msgpack.unpackb(packed) for packed in job["pupils"]]
    if "params" in job:
        gazer = load_gazer(job["gazer"], job["params"], camera)
        return {"accuracy": _accuracy(gazer.map_all(pupils), refs, camera)}
    gazer = make_gazer(job["gazer"], camera, job["eye_translations"])
    params = gazer.fit({"ref_list": refs, "pupil_list": pupils}, job["min_confidence"])
    answer: dict[str, Any] = {"params": params, "accuracy": _accuracy(gazer.map_all(pupils), refs, camera)}
    known = job["calibration"]
    if known is not None:
        data = {"ref_list": refs, "pupil_list": pupils}
        content = {**known, "params": params, "calib_data": data, "accuracy": answer["accuracy"]}
        calibration = msgspec.convert(content, Calibration)
        try:
            answer["name"] = save_calibration(calibration, Path(job["folder"]))
        except (OSError, TypeError, ValueError) as error:
            answer["not_stored"] = str(error)
    return answer


def _accuracy(gaze: Iterable[Datum], refs: Sequence[Datum], camera: Camera | None) -> dict[str, Any] | None:
    if camera is None or not all("norm_pos" in ref for ref in refs):
        return None
    return measure(gaze, refs, camera).as_dict()


class Worker(Protocol):
    """Computes one job."""

    def start(self, job: Mapping[str, Any]) -> None:
        """Give it the job, once."""

    def answer(self) -> dict[str, Any] | None:
        """Return the answer once it is there."""

    def close(self) -> None:
        """End it, done or not."""


class WorkerProcess:
    """A ``Worker`` that is such a process, seen from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gazed_plugins.gaze.fitting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._thread: threading.Thread | None = None
        self._answer: dict[str, Any] | None = None

    def start(self, job: Mapping[str, Any]) -> None:
        """Give it the job, once."""
        packed: bytes = msgpack.packb(job)
        self._thread = threading.Thread(target=self._run, args=(packed,), name="fitting")
        self._thread.start()

    def _run(self, packed: bytes) -> None:
        try:
            out, _ = self._process.communicate(packed, _TIMEOUT_S)
            self._answer = msgpack.unpackb(out)
        except (subprocess.TimeoutExpired, OSError, ValueError, msgpack.UnpackException):
            self._process.kill()
            self._process.wait()
            code = self._process.returncode
            reason = f"The process that computes it gave no answer within {_TIMEOUT_S:g} s, or ended (code {code})."
            self._answer = {"error": {"reason": reason, "hint": "see the log; is there enough memory?"}}

    def answer(self) -> dict[str, Any] | None:
        """Return the answer once it is there."""
        return self._answer

    def close(self) -> None:
        """End the process, done or not."""
        self._process.kill()
        if self._thread is not None:
            self._thread.join()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def main() -> None:
    """Do the one job."""
    # Ctrl-C reaches every process of a terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    with suppress(ImportError):
        import scipy.optimize
        import scipy.sparse  # noqa: F401 - loaded while the data are still being collected
    packed = sys.stdin.buffer.read()
    if packed:
        sys.stdout.buffer.write(msgpack.packb(solve(msgpack.unpackb(packed))))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
