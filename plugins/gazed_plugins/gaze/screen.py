"""Calibrating on a screen without writing code: nine targets one after the other, in a window that fills the screen.

Each target begins as a dot that draws the eyes, and then is Pupil Core's circle marker (v0.4). With the choreography
``marker`` the world camera must see the screen, and the marker is the reference. With ``network`` the places on the
screen are sent as references: gaze is then mapped onto the screen itself, for a head that does not move.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_bus.remote import Remote
from gazed_plugins.gaze.answers import ANSWERS, REFUSED, await_answer
from gazed_plugins.gaze.errors import ChoreographyRefused

__all__ = ["NINE", "ScreenWindow", "Step", "Targets", "Window", "calibrate_on_screen", "draw"]

Image = NDArray[np.uint8]
Place = tuple[float, float]

NINE: tuple[Place, ...] = tuple((x, y) for y in (0.85, 0.5, 0.15) for x in (0.15, 0.5, 0.85))
"""Norm positions of targets on the screen: x right, y up."""

_LEAD_S = 1.0
_START_S = 5.0
_RESULT_S = 130.0
# Pupil Core's marker: radii of its discs in px for a scale of 1, and their colours (BGR).
_DISCS = ((60, (0, 0, 0)), (38, (255, 255, 255)), (19, (0, 0, 0)), (3, (0, 0, 255)))
_DOT_RADIUS = 6
_PAPER = 255
_SCALE_HEIGHT = 1080
_ESCAPE = 27


@dataclass(frozen=True, slots=True)
class Step:
    """What is due at one instant."""

    place: Place | None = None
    """Where to look; ``None`` for an empty screen."""
    marker: bool = False
    """Whether it is a marker yet, or still the dot before it."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """Notifications to send."""
    done: bool = False


class Targets:
    """Which target is shown when, and what is told of it; knows neither a window nor a daemon.

    Times are Pupil time in seconds. ``dot_s`` is the time that eyes have to get to a target, ``marker_s`` the time for
    which they rest on it.
    """

    def __init__(
        self,
        mode: Literal["calibration", "validation"] = "calibration",
        *,
        choreography: Literal["marker", "network"] = "marker",
        options: Mapping[str, Any] | None = None,
        places: Sequence[Place] = NINE,
        dot_s: float = 0.8,
        marker_s: float = 1.5,
    ) -> None:
        self._mode = mode
        self._choreography = choreography
        self._options = dict(options or {})
        self._places = places
        self._dot_s, self._each_s = dot_s, dot_s + marker_s
        self._begun: float | None = None
        self._ended = False
        self._refs: list[dict[str, Any]] = []

    def step(self, now: float) -> Step:
        """Return what is due at ``now``; to be called once for each image on the screen."""
        if self._begun is None:
            self._begun = now
            start = {"subject": f"{self._mode}.should_start", "choreography": self._choreography, **self._options}
            return Step(messages=[start])
        number, passed = divmod(now - self._begun - _LEAD_S, self._each_s)
        if number < 0:
            return Step()
        if number >= len(self._places):
            return self.end()
        place = self._places[int(number)]
        marker = passed >= self._dot_s
        if marker and self._choreography == "network":
            self._refs.append({"norm_pos": list(place), "timestamp": now})
        return Step(place, marker)

    def end(self) -> Step:
        """Return the last step, now or before its time."""
        messages: list[dict[str, Any]] = []
        if not self._ended and self._begun is not None:
            if self._refs:
                messages.append({"subject": "calibration.add_ref_data", "ref_data": self._refs})
            messages.append({"subject": f"{self._mode}.should_stop"})
        self._ended = True
        return Step(messages=messages, done=True)


def draw(size: tuple[int, int], step: Step) -> Image:
    """Return the image (height, width, 3) of a step, BGR, for a screen of ``size`` (width, height) px."""
    width, height = size
    image = np.full((height, width, 3), _PAPER, np.uint8)
    if step.place is not None:
        scale = height / _SCALE_HEIGHT
        # OpenCV places circles to a 16th of a pixel.
        center = (round(16 * (step.place[0] * width - 0.5)), round(16 * ((1 - step.place[1]) * height - 0.5)))
        for radius, colour in _DISCS if step.marker else ((_DOT_RADIUS, (0, 0, 0)),):
            cv2.circle(image, center, round(16 * radius * scale), colour, -1, cv2.LINE_AA, 4)
    return image


class Window(Protocol):
    """Where the targets are shown."""

    size: tuple[int, int]
    """Width and height in px."""

    def show(self, image: Image) -> bool:
        """Show an image, wait for the screen, and tell whether to go on."""

    def close(self) -> None:
        """Close it."""


class ScreenWindow:
    """A window of OpenCV's that fills the screen; Escape ends it.

    Raises:
        ChoreographyRefused: there is no screen.
    """

    def __init__(self, name: str = "gazed") -> None:
        self._name = name
        _try_window()
        try:
            cv2.namedWindow(name, cv2.WINDOW_NORMAL)
            cv2.setWindowProperty(name, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)
            cv2.imshow(name, np.full((720, 1280, 3), _PAPER, np.uint8))
            cv2.waitKey(500)
            _, _, width, height = cv2.getWindowImageRect(name)
        except cv2.error as error:
            raise ChoreographyRefused(
                f"no window can be opened: {error.err}", hint="run it on the machine with the screen, in its session"
            ) from error
        self.size = (width, height)

    def show(self, image: Image) -> bool:
        """Show an image for about 10 ms; false once Escape was pressed or the window is gone."""
        cv2.imshow(self._name, image)
        pressed = cv2.waitKey(10) & 0xFF
        return pressed != _ESCAPE and cv2.getWindowProperty(self._name, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close it."""
        cv2.destroyWindow(self._name)


def calibrate_on_screen(remote: Remote, targets: Targets, window: Window) -> dict[str, Any]:
    """Show the targets and return the notification ``accuracy.result`` of what came of it.

    Raises:
        CalibrationFailed: it came to nothing; the reason is the mapper's.
        PluginError: the mapper died.
        ChoreographyRefused: it did not start, or it was broken off.
        NotReachable, RequestRefused: the daemon is gone.
    """
    offset = remote.clock_offset().offset_s
    with remote.subscribe(*ANSWERS) as heard:
        for message in targets.step(time.monotonic() + offset).messages:
            remote.notify(**message)
        answer = await_answer(heard, _START_S, "calibration.started", "validation.started", REFUSED)
        if answer is None:
            raise _silence(_START_S)
        if answer["subject"] == REFUSED:
            raise ChoreographyRefused(f"it did not start: {answer['reason']}", hint=answer["hint"])
        going = True
        while True:
            step = targets.step(time.monotonic() + offset) if going else targets.end()
            for message in step.messages:
                remote.notify(**message)
            if step.done:
                break
            going = window.show(draw(window.size, step))
        if not going:
            raise ChoreographyRefused("it was broken off: what was collected so far is computed all the same")
        result = await_answer(heard, _RESULT_S, "accuracy.result")
        if result is None:
            raise _silence(_RESULT_S)
        return result


def _silence(seconds: float) -> ChoreographyRefused:
    return ChoreographyRefused(
        f"the gaze mapper did not answer within {seconds:g} s", hint="is it enabled? See: gazed status"
    )


def _try_window() -> None:
    """Open a window in another process: without a screen, the library ends the process that tries.

    Raises:
        ChoreographyRefused: there is no screen.
    """
    code = "import cv2; cv2.namedWindow('gazed'); cv2.waitKey(1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ChoreographyRefused(
            f"no window can be opened: {said[0]}", hint="run it on the machine with the screen, in its session"
        )
