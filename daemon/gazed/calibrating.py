"""Calibrating with a running daemon: each step returns when the gaze mapper has done it, or said why not."""

from __future__ import annotations

from typing import Any, Literal

from gazed.errors import DaemonError
from gazed_bus.errors import RequestRefused
from gazed_bus.remote import Remote
from gazed_plugins.gaze.answers import ANSWERS, REFUSED, await_answer
from gazed_plugins.gaze.errors import CalibrationFailed, UnknownCalibration

__all__ = ["Mode", "begin", "finish", "load", "require_mapper"]

Mode = Literal["calibration", "validation"]

_ANSWER_S = 3.0
_RESULT_S = 130.0
_HMD = "GazerHMD3D"


def require_mapper(remote: Remote) -> None:
    """Make sure that there is somebody who calibrates.

    Raises:
        DaemonError: the gaze mapper does not run.
    """
    state = remote.status()["processes"].get("gaze", {}).get("state", "not enabled")
    if state != "ready":
        hint = "gazed status shows why" if state != "not enabled" else (
            "start the daemon with --set pupil.enabled=true --set gaze.enabled=true"
        )  # fmt: skip
        raise DaemonError(f"the daemon's gaze mapper is {state}", hint=hint)


def begin(remote: Remote, mode: Mode, **fields: Any) -> None:
    """Start to collect; ``fields`` are ``choreography``, ``gazer`` and ``name``, for this run only.

    Raises:
        DaemonError: there is no gaze mapper, or it gives no answer.
        PluginError: the mapper died.
        CalibrationFailed: it refuses, and says why.
        RequestRefused: it did not start, as something else is being collected.
    """
    require_mapper(remote)
    with remote.subscribe(*ANSWERS) as heard:
        remote.notify(f"{mode}.should_start", **fields)
        answer = await_answer(heard, _ANSWER_S, f"{mode}.started", REFUSED)
        if answer is None:
            raise _no_answer()
        if answer["subject"] == REFUSED:
            raise RequestRefused(
                f"the {mode} did not start: {answer['reason']}", reason="busy", hint="to end it: gazed calibrate stop"
            )


def finish(remote: Remote, mode: Mode) -> dict[str, Any]:
    """End the collecting, and return what was computed: the notification ``accuracy.result``.

    Of a head-mounted display no accuracy can be told: the notification is ``calibration.successful``.

    Raises:
        DaemonError: there is no gaze mapper, or it gives no answer.
        PluginError: the mapper died.
        CalibrationFailed: nothing came of it; the reason is the mapper's.
        RequestRefused: nothing is being collected.
    """
    require_mapper(remote)
    with remote.subscribe(*ANSWERS) as heard:
        remote.notify(f"{mode}.should_stop")
        answer = await_answer(heard, _ANSWER_S, "calibration.stopped", "validation.stopped", REFUSED)
        if answer is None:
            raise _no_answer()
        if answer["subject"] == REFUSED:
            then = "to end it: gazed calibrate stop" if answer["running"] else f"gazed {_command(mode)} start"
            raise RequestRefused(answer["reason"], reason="not-calibrating", hint=then)
        result = await_answer(heard, _RESULT_S, "calibration.successful", "accuracy.result")
        if result and result["subject"] == "calibration.successful" and result["gazer_class_name"] != _HMD:
            result = await_answer(heard, _ANSWER_S, "accuracy.result")
        if result is None:
            raise DaemonError(f"the {mode} gave no result within {_RESULT_S:g} s", hint="see the daemon's log")
        return result


def load(remote: Remote, name: str) -> dict[str, Any]:
    """Map with a stored calibration from now on; return the notification ``calibration.loaded``.

    Raises:
        DaemonError: there is no gaze mapper, or it gives no answer.
        PluginError: the mapper died.
        UnknownCalibration: the daemon's machine has none of that name.
    """
    require_mapper(remote)
    with remote.subscribe(*ANSWERS) as heard:
        remote.notify("calibration.should_load", name=name)
        try:
            loaded = await_answer(heard, _ANSWER_S, "calibration.loaded")
        except CalibrationFailed as error:
            raise UnknownCalibration(error.reason, hint=error.hint) from error
        if loaded is None:
            raise _no_answer()
        return loaded


def _no_answer() -> DaemonError:
    return DaemonError(f"the gaze mapper did not answer within {_ANSWER_S:g} s", hint="gazed status")


def _command(mode: Mode) -> str:
    return {"calibration": "calibrate", "validation": "validate"}[mode]
