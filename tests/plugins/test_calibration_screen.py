"""Calibrating on a screen: which target when, what is said, what it looks like, and all of it with a real mapper."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import pytest

from gazed_bus.client import Publisher
from gazed_bus.remote import Remote
from gazed_bus.testing import await_subscriber, running_bus
from gazed_plugins.gaze.errors import CalibrationFailed, ChoreographyRefused
from gazed_plugins.gaze.plugin import GazeMapper
from gazed_plugins.gaze.screen import NINE, Step, Targets, calibrate_on_screen, draw
from gazed_plugins.gaze.testing import InlineWorker, pupil_datums, target_at
from gazed_plugins.host import Host
from gazed_plugins.marker.circle import CircleDetector


def run(targets: Targets, rate: float = 50.0) -> list[Step]:
    steps = [targets.step(100.0)]
    while not steps[-1].done:
        steps.append(targets.step(100.0 + len(steps) / rate))
    return steps


def test_every_target_is_a_dot_first_and_then_a_marker() -> None:
    steps = run(Targets(dot_s=0.5, marker_s=1.0))
    shown = list(dict.fromkeys((step.place, step.marker) for step in steps if step.place))
    assert shown == [(place, marker) for place in NINE for marker in (False, True)]
    assert sum(step.marker for step in steps) == pytest.approx(9 * 50, abs=9)


def test_the_marker_says_the_rest() -> None:
    steps = run(Targets("validation", options={"gazer": "Gazer2D"}))
    start = {"subject": "validation.should_start", "choreography": "marker", "gazer": "Gazer2D"}
    assert [step.messages for step in steps if step.messages] == [[start], [{"subject": "validation.should_stop"}]]
    assert steps[-1].messages


def test_places_are_sent_where_no_camera_sees_them() -> None:
    steps = run(Targets(choreography="network", dot_s=0.5, marker_s=1.0))
    refs, stop = steps[-1].messages
    assert stop == {"subject": "calibration.should_stop"}
    assert refs["subject"] == "calibration.add_ref_data"
    assert [ref["norm_pos"] for ref in refs["ref_data"][::50]] == [list(place) for place in NINE]
    expected = [100.0 + row / 50.0 for row, step in enumerate(steps) if step.marker]
    assert [ref["timestamp"] for ref in refs["ref_data"]] == expected


def test_an_end_before_its_time_is_said_once() -> None:
    targets = Targets()
    assert targets.end().messages == []
    targets = Targets()
    targets.step(1.0)
    assert targets.end().messages == [{"subject": "calibration.should_stop"}]
    assert targets.end() == Step(done=True)


@pytest.mark.parametrize("place", [(0.15, 0.85), (0.5, 0.5), (0.853, 0.149)])
def test_the_marker_is_one_that_the_world_camera_finds(place: tuple[float, float]) -> None:
    image = draw((1280, 720), Step(place, marker=True))
    (marker,) = CircleDetector().detect(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    assert marker.kind == "Ref"
    assert (marker.center[0] + 0.5) / 1280 == pytest.approx(place[0], abs=1e-3)
    assert 1 - (marker.center[1] + 0.5) / 720 == pytest.approx(place[1], abs=1e-3)
    dot = draw((1280, 720), Step(place, marker=False))
    assert CircleDetector().detect(cv2.cvtColor(dot, cv2.COLOR_BGR2GRAY)) == []
    assert draw((1280, 720), Step()).min() == 255


class InlineMapper(GazeMapper):
    """Computes without another process."""

    worker = InlineWorker


class Watched:
    """A window in front of synthetic eyes, which follow what it shows."""

    size = (640, 360)

    def __init__(self, eyes: Publisher, clock, patience: int = 10_000) -> None:
        self.eyes, self.clock, self.patience = eyes, clock, patience
        self.targets: Targets | None = None
        self.shown = 0

    def show(self, image) -> bool:
        self.shown += 1
        dark = cv2.moments(255 - cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        if dark["m00"]:
            place = (dark["m10"] / dark["m00"] / 640, 1 - dark["m01"] / dark["m00"] / 360)
            # The screen takes the middle of the field of view.
            target = target_at((0.3 + 0.4 * place[0], 0.3 + 0.4 * place[1]))
            for datum in pupil_datums(0, target, float(self.clock.now())):
                self.eyes.send(datum["topic"], datum)
        threading.Event().wait(0.01)
        return self.shown < self.patience


@pytest.mark.parametrize("ending", ["result", "failure", "refusal", "broken off"])
def test_all_of_it_with_a_mapper(tmp_path: Path, ending: str) -> None:
    with running_bus() as bus:
        host = Host("Gaze_Mapper", InlineMapper, {"folder": str(tmp_path)}, bus.run, bus.clock)
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                host.turn()
                host.sources[0].poll(10)

        thread = threading.Thread(target=work)
        with Remote(port=bus.broker.ports.port) as remote, Publisher(bus.run.pub) as eyes:
            thread.start()
            try:
                window = Watched(eyes, bus.clock, 30 if ending == "broken off" else 10_000)
                gazer = "Gazer9" if ending == "failure" else "Gazer2D"
                options = {"gazer": gazer, "name": "on screen"}
                targets = Targets(choreography="network", options=options, dot_s=0.05, marker_s=0.15)
                if ending == "result":
                    result = calibrate_on_screen(remote, targets, window)
                    assert (result["gazer_class_name"], result["name"]) == ("Gazer2D", "on screen")
                    assert len(result["targets"]) == 9
                    assert result["accuracy"]["degrees"] < 3
                elif ending == "failure":
                    with pytest.raises(CalibrationFailed, match="no gazer 'Gazer9'"):
                        calibrate_on_screen(remote, targets, window)
                elif ending == "refusal":
                    remote.notify("calibration.should_start")
                    with pytest.raises(ChoreographyRefused, match="did not start: a calibration runs") as refusal:
                        calibrate_on_screen(remote, targets, window)
                    assert refusal.value.hint
                else:
                    with pytest.raises(ChoreographyRefused, match="broken off"):
                        calibrate_on_screen(remote, targets, window)
                if ending in ("result", "broken off"):
                    await_subscriber(eyes, "pupil.0.3d", present=False)
            finally:
                over.set()
                thread.join()
                host.close()
