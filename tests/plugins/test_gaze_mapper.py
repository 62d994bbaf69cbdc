"""The plugin Gaze_Mapper: calibrations and validations step by step, live gaze, and what it refuses."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gazed_bus.client import Publisher
from gazed_bus.codec import Message
from gazed_bus.remote import Remote
from gazed_bus.testing import Bus, await_subscriber, running_bus
from gazed_plugins.errors import PluginArgument
from gazed_plugins.gaze.plugin import GazeMapper
from gazed_plugins.gaze.registry import make_gazer
from gazed_plugins.gaze.store import list_calibrations
from gazed_plugins.gaze.testing import GRID, WORLD, InlineWorker, pupil_datums, reference, session, target_at
from gazed_plugins.host import Host
from gazed_plugins.testing import FakeContext, check_plugin
from gazed_timesync import PupilTime

STATUS = {
    "topic": "gazed.status",
    "recording": None,
    "streams": {
        "world": {
            "device": "Pupil Cam1 ID2",
            "info": {"width": 1280, "height": 720, "fps": 30.0, "format": "jpeg", "intrinsics": None},
        }
    },
}
GAZE_KEYS_3D = {
    "topic", "norm_pos", "confidence", "timestamp", "base_data",
    "gaze_point_3d", "eye_centers_3d", "gaze_normals_3d",
}  # fmt: skip


def wait_for(truth: Callable[[], Any], step: Callable[[], object] = lambda: None) -> Any:
    end = time.monotonic() + 60
    while not (value := truth()):
        assert time.monotonic() < end, "it never came true"
        step()
        time.sleep(0.005)
    return value


class InlineMapper(GazeMapper):
    """Computes without another process."""

    worker = InlineWorker


class Session:
    """A mapper on a bus that keeps what is said."""

    def __init__(self, folder: Path, kind: type[GazeMapper], **args: Any) -> None:
        self.context = FakeContext()
        self.context.time = PupilTime(100.0)
        self.mapper = kind(self.context, {"folder": str(folder), **args})
        self.say("gazed.status", **STATUS)

    def say(self, topic: str, /, **payload: Any) -> None:
        self.mapper.on_message(Message(topic, payload))

    def notify(self, subject: str, /, **fields: Any) -> None:
        self.say(f"notify.{subject}", subject=subject, **fields)

    @property
    def subjects(self) -> list[str]:
        return [note["subject"] for note in self.context.notified]

    def last(self, subject: str) -> dict[str, Any]:
        return [note for note in self.context.notified if note["subject"] == subject][-1]

    def feed(self, data: dict[str, Any], *, marker: bool) -> None:
        for pupil in data["pupil_list"]:
            self.say(pupil["topic"], **pupil)
        if marker:
            for ref in data["ref_list"]:
                found = {"norm_pos": ref["norm_pos"], "screen_pos": ref["screen_pos"], "kind": "Ref", "size_px": 50.0}
                self.say("marker.circle", timestamp=ref["timestamp"], markers=[found], width=1280, height=720)
        else:
            self.notify("calibration.add_ref_data", ref_data=data["ref_list"])

    def until(self, *subjects: str) -> None:
        wait_for(lambda: set(subjects) & set(self.subjects), self.mapper.on_idle)

    def calibrate(self, data: dict[str, Any] | None = None, **fields: Any) -> None:
        self.notify("calibration.should_start", choreography="network", **fields)
        self.feed(data or session(), marker=False)
        self.notify("calibration.should_stop")
        self.until("calibration.successful", "calibration.failed")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def start(kind: type[GazeMapper] = InlineMapper, **args: Any) -> Session:
        made.append(Session(tmp_path / "calibrations", kind, **args))
        return made[-1]

    yield start
    for one in made:
        one.mapper.close()
        assert one.context.subscriptions == set()


def test_it_keeps_the_contract_of_plugins(tmp_path: Path) -> None:
    messages = [Message("gazed.status", STATUS), Message("notify.calibration.should_start", {})]
    messages += [Message(pupil["topic"], pupil) for pupil in session()["pupil_list"]]
    said = check_plugin(GazeMapper, {"folder": str(tmp_path)}, messages)
    assert [note["subject"] for note in said.notified] == ["calibration.started"]


@pytest.mark.parametrize(
    "args",
    [
        {"gazer": "Gazer9"},
        {"gazer": ["Gazer2D"]},
        {"choreography": "dance"},
        {"min_calibration_confidence": 1.5},
        {"min_calibration_confidence": "high"},
        {"calibration": 5},
        {"folder": 5},
    ],
)
def test_arguments_out_of_range_are_refused(args: dict) -> None:
    with pytest.raises(PluginArgument):
        GazeMapper(FakeContext(), args)


@pytest.mark.parametrize(("gazer", "topic"), [("Gazer2D", "gaze.2d.01."), ("Gazer3D", "gaze.3d.01.")])
def test_a_calibration_by_marker_and_the_gaze_after_it(make: Callable[..., Session], gazer: str, topic: str) -> None:
    one = make(gazer=gazer)
    one.notify("calibration.should_start")
    assert {"pupil.", "marker.circle"} <= one.context.subscriptions
    one.feed(session(), marker=True)
    one.notify("calibration.should_stop")
    one.until("accuracy.result")
    assert one.subjects == [
        "calibration.started",
        "calibration.stopped",
        "calibration.setup.v2",
        "calibration.successful",
        "calibration.result.v2",
        "accuracy.result",
    ]
    meta = {"subject", "topic", "gazer_class_name", "timestamp", "record"}
    setup, success, result = (one.last(f"calibration.{each}") for each in ("setup.v2", "successful", "result.v2"))
    assert set(setup) - {"topic"} == {*meta, "calib_data", "version"} - {"topic"}
    assert set(success) | {"topic"} == meta
    assert set(result) | {"topic"} == {*meta, "params", "version"}
    assert (setup["version"], result["version"], setup["record"], success["record"], result["record"]) == (
        2, 2, True, True, True,
    )  # fmt: skip
    assert setup["gazer_class_name"] == gazer
    assert setup["calib_data"]["ref_list"] == session()["ref_list"]
    assert set(result["params"]) == {"left_model", "right_model", "binocular_model"}
    assert one.last("accuracy.result")["accuracy"]["degrees"] < 0.2
    assert len(one.last("accuracy.result")["targets"]) == 9
    assert one.context.published == []
    method = topic[5:7]
    one.mapper._listen()
    assert one.context.subscriptions >= {f"pupil.0.{method}", f"pupil.1.{method}"}
    assert "pupil." not in one.context.subscriptions
    for eye in (0, 1):
        for datum in pupil_datums(eye, target_at((0.4, 0.6)), 200.0 + 0.002 * eye):
            one.say(datum["topic"], **datum)
    first, second = one.context.published
    assert (first.topic, second.topic) == (f"gaze.{method}.0.", topic)
    assert second.payload["norm_pos"] == pytest.approx([0.4, 0.6], abs=0.01)
    assert [base["topic"] for base in second.payload["base_data"]] == [f"pupil.{eye}.{method}" for eye in (0, 1)]
    if method == "3d":
        assert set(second.payload) == GAZE_KEYS_3D
    assert one.mapper.stats()["mapped"] == 2


def test_each_pupil_is_answered_at_once(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer2D")
    one.calibrate(session(eyes=(0,)))
    for row in range(5):
        datum = pupil_datums(0, target_at((0.4, 0.6)), 200.0 + row / 120)[0]
        one.say(datum["topic"], **datum)
        assert len(one.context.published) == row + 1
        assert one.context.published[-1].payload["timestamp"] == datum["timestamp"]


def test_a_validation_measures_what_maps(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer3D")
    one.calibrate()
    one.until("accuracy.result")
    one.context.notified.clear()
    held_out = [(0.35, 0.4), (0.65, 0.4), (0.35, 0.6), (0.65, 0.6)]
    one.notify("validation.should_start", choreography="network")
    one.feed(session(held_out, start=300.0), marker=False)
    one.notify("validation.should_stop")
    one.until("accuracy.result")
    assert one.subjects == ["validation.started", "validation.stopped", "validation.data", "accuracy.result"]
    data, result = one.last("validation.data"), one.last("accuracy.result")
    wanted = {"subject", "gazer_class_name", "gazer_params", "pupil_list", "ref_list", "timestamp", "record"}
    assert set(data) - {"topic"} == wanted
    assert (data["record"], result["record"], result["data"]) == (True, True, "validation")
    assert 0 < result["accuracy"]["degrees"] < 0.5
    assert [row["norm_pos"] for row in result["targets"]] == [pytest.approx(list(place)) for place in held_out]


def test_the_stop_marker_ends_it_as_a_client_would(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer2D")
    one.notify("calibration.should_start")
    one.feed(session(), marker=True)
    stop = {"norm_pos": [0.5, 0.5], "screen_pos": [640.0, 360.0], "kind": "Stop", "size_px": 50.0}
    for row in range(100):
        one.say("marker.circle", timestamp=200 + row / 30, markers=[stop], width=1280, height=720)
    assert one.subjects == ["calibration.started", "calibration.should_stop"]
    one.notify("calibration.should_stop")
    one.until("calibration.successful")
    assert "marker.circle" not in one.context.subscriptions


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        ({"pupil_list": []}, "Not sufficient pupil data available."),
        ({"ref_list": []}, "Not sufficient reference data available."),
        ({"ref_list": [reference((0.5, 0.5), 9000.0)]}, "Not sufficient data available."),
    ],
)
def test_a_fit_that_fails_says_why(make: Callable[..., Session], keep: dict, reason: str) -> None:
    one = make(gazer="Gazer2D")
    one.calibrate({**session(), **keep})
    assert one.subjects[-4:] == [
        "calibration.started", "calibration.stopped", "calibration.setup.v2", "calibration.failed",
    ]  # fmt: skip
    failed = one.last("calibration.failed")
    assert (failed["reason"], failed["gazer_class_name"], failed["record"]) == (reason, "Gazer2D", True)
    assert set(failed) == {"subject", "topic", "reason", "gazer_class_name", "timestamp", "record", "hint"}
    assert failed["hint"]


def test_many_uncertain_pupils_are_told_of(make: Callable[..., Session], caplog) -> None:
    one = make(gazer="Gazer3D")
    data = session(each=10)
    for row, pupil in enumerate(data["pupil_list"]):
        # 2D and 3D datums take turns; what Gazer3D has no use for does not count.
        pupil["confidence"] = 0.5 if row % 2 == 0 or row % 20 == 1 else 0.95
    one.calibrate(data)
    assert "take no part" not in caplog.text
    for pupil in data["pupil_list"][1::8]:
        pupil["confidence"] = 0.5
    one.calibrate(data)
    assert "calibration: 30 % of the pupils take no part, their confidence is below 0.80" in caplog.text


def test_uncertain_pupils_do_not_count(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer2D")
    one.notify("set_min_calibration_confidence", value=0.97)
    one.calibrate()
    assert one.last("calibration.failed")["reason"] == "Not sufficient pupil data available."
    one.notify("set_min_calibration_confidence", value=0.9)
    one.calibrate()
    one.until("calibration.successful")


def test_a_calibration_is_stored_and_loaded_by_name(make: Callable[..., Session], tmp_path: Path) -> None:
    one = make()
    one.calibrate(gazer="Gazer2D", name="S1")
    (info,) = list_calibrations(tmp_path / "calibrations")
    assert (info.name, info.gazer_class_name) == ("S1", "Gazer2D")
    two = make(calibration="S1")
    told = ["calibration.setup.v2", "calibration.result.v2", "accuracy.result", "calibration.loaded"]
    assert two.subjects == told
    assert two.last("accuracy.result") == {**one.last("accuracy.result"), "repeated": True}
    assert info.accuracy is not None
    assert info.accuracy["accuracy"] == one.last("accuracy.result")["accuracy"]
    assert two.last("calibration.result.v2")["params"] == one.last("calibration.result.v2")["params"]
    three = make()
    three.notify("calibration.should_load", name="S1")
    for session_ in (one, two, three):
        datum = pupil_datums(1, target_at((0.3, 0.6)), 200.0)[0]
        session_.say(datum["topic"], **datum)
    gaze = [session_.context.published[-1].payload for session_ in (one, two, three)]
    assert gaze[0] == gaze[1] == gaze[2]
    three.notify("calibration.should_load", name="S2")
    assert "no calibration 'S2'" in three.last("calibration.failed")["reason"]
    assert three.mapper.stats()["calibration"] == "S1"
    four = make(calibration="S2")
    assert "no calibration 'S2'" in four.last("calibration.failed")["reason"]
    four.notify("calibration.should_start")
    assert four.subjects[-1] == "calibration.started"


def test_a_recording_gets_the_calibration_in_use(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer2D")
    one.notify("recording.started", rec_path="/r/000")
    one.calibrate()
    before = one.context.notified[2:]
    one.context.notified.clear()
    one.context.time = PupilTime(500.0)
    one.notify("recording.started", rec_path="/r/001")
    assert one.context.notified == [before[0], before[2], {**before[3], "repeated": True}]
    assert {note["timestamp"] for note in one.context.notified} == {100.0}


def test_pupils_class_names(make: Callable[..., Session]) -> None:
    one = make()
    params = make_gazer("Gazer2D", WORLD).fit(session())
    one.notify("start_plugin", name="Gazer2D", args={"params": params})
    assert one.mapper.stats()["gazer"] == "Gazer2D"
    one.notify("start_plugin", name="Gazer3D", args={"calib_data": session()})
    one.until("calibration.successful")
    assert one.mapper.stats()["gazer"] == "Gazer3D"
    one.notify("start_plugin", name="SingleMarkerChoreographyPlugin", args={"selected_gazer_class_name": "Gazer2D"})
    one.notify("start_plugin", name="ScreenMarkerChoreographyPlugin")
    one.notify("start_plugin", name="Annotation_Capture")
    assert "calibration.failed" not in one.subjects
    one.notify("start_plugin", name="Gazer2D", args=[5])
    assert one.last("calibration.failed")["reason"] == "the arguments of Gazer2D are no map: [5]"
    one.notify("start_plugin", name="NaturalFeatureChoreographyPlugin", args={})
    assert "no NaturalFeatureChoreographyPlugin" in one.last("calibration.failed")["reason"]
    one.notify("start_plugin", name="NeonGazer3D", args={"params": {}})
    assert "no NeonGazer3D" in one.last("calibration.failed")["reason"]


def test_a_head_mounted_display_as_its_client_asks_for_it(make: Callable[..., Session]) -> None:
    one = make()
    one.notify("start_plugin", name="HMD3DChoreographyPlugin")
    one.notify("calibration.should_start")
    assert "translation_eye0" in one.last("calibration.failed")["reason"]
    one.context.notified.clear()
    one.notify("calibration.should_start", translation_eye0=[20.0, 15.0, -20.0], translation_eye1=[-40.0, 15.0, -20.0])
    data = session()
    for row, ref in enumerate(data["ref_list"]):
        place = target_at(GRID[row // 6], 600.0).tolist()
        data["ref_list"][row] = {"mm_pos": [place[0], -place[1], place[2] / 0.7], "timestamp": ref["timestamp"]}
    one.feed(data, marker=False)
    one.notify("calibration.should_stop")
    one.until("calibration.successful", "calibration.failed")
    assert one.last("calibration.result.v2")["gazer_class_name"] == "GazerHMD3D"
    assert "accuracy.result" not in one.subjects
    for eye in (0, 1):
        datum = pupil_datums(eye, target_at((0.4, 0.6), 600.0), 200.0)[1]
        one.say(datum["topic"], **datum)
    assert set(one.context.published[-1].payload) == GAZE_KEYS_3D
    one.notify("validation.should_start", choreography="marker")
    assert "head-mounted display cannot be validated" in one.last("validation.failed")["reason"]


def test_a_calibration_that_cannot_be_stored_is_used_all_the_same(
    make: Callable[..., Session], tmp_path: Path, caplog
) -> None:
    (tmp_path / "calibrations").write_text("a file where the folder should be")
    one = make(gazer="Gazer2D")
    with caplog.at_level(logging.ERROR):
        one.calibrate()
    one.until("calibration.successful")
    assert "could not be stored" in caplog.text
    assert one.mapper.stats()["gazer"] == "Gazer2D"


def test_gaze_outside_of_the_calibration_is_told(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer2D")
    one.calibrate()
    one.context.time = PupilTime(200.0)
    one.mapper.on_idle()
    for place, expected in (((0.5, 0.5), 0), ((0.1, 0.1), 1)):
        for row in range(20):
            datum = pupil_datums(0, target_at(place), 200.0 + row / 120)[0]
            one.say(datum["topic"], **datum)
        one.context.time = PupilTime(one.context.time + 1)
        for _ in range(5):
            one.mapper.on_idle()
        assert one.subjects.count("gaze.extrapolating") == expected
    note = one.last("gaze.extrapolating")
    assert (note["outside"], note["total"]) == (20, 20)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = [
    None,
    5,
    "x",
    [],
    {},
    [[[]]],
    -1,
    1e308,
    math.nan,
    True,
    b"\0",
    {"a": {"b": []}},
    ["x"] * 10_000,
    nested(600),
    nested(1000),
    "x" * 1_000_000,
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_notifications_change_nothing(make: Callable[..., Session], value: Any) -> None:
    one = make(gazer="Gazer2D")
    params = make_gazer("Gazer2D", WORLD).fit(session())
    one.notify("start_plugin", name="Gazer2D", args={"params": params})
    before = one.mapper.stats()
    for key in ("name", "gazer", "choreography"):
        if value != {} or key != "name":
            one.say("notify.calibration.should_start", **{key: value if value != "x" else 7})
    for subject, keys in {
        "calibration.add_ref_data": ["ref_data"],
        "calibration.should_load": ["name"],
        "set_min_calibration_confidence": ["value"],
        "start_plugin": ["name", "args"],
    }.items():
        for key in keys:
            one.notify(subject, **{"name": "Gazer2D", key: value})
    for args in ("params", "calib_data", "eye_translations"):
        one.notify("start_plugin", name="Gazer2D", args={args: value})
        one.notify("start_plugin", name="GazerHMD3D", args={args: value, "calib_data": {"ref_list": value}})
        one.notify("start_plugin", name="Gazer2D", args={"calib_data": {"ref_list": [], "pupil_list": value}})
    for key in ("width", "intrinsics"):
        info = {**STATUS["streams"]["world"]["info"], key: value}
        one.say("gazed.status", streams={"world": {"info": info, "device": "Pupil Cam1 ID2"}}, recording=value)
    one.say("gazed.status", streams=value)
    one.say("gazed.status", streams={"world": value})
    one.say("marker.circle", markers=value, timestamp=value, width=value, height=value)
    for key in ("id", "timestamp", "confidence", "method", "norm_pos"):
        datum = pupil_datums(0, target_at((0.4, 0.6)), 200.0)[0]
        one.say(datum["topic"], **{**datum, key: value})
    one.say("pupil.0.2d")
    datum = pupil_datums(0, target_at((0.4, 0.6)), 200.0)[0]
    one.notify(
        "start_plugin", name="Gazer2D", args={"calib_data": {"ref_list": [], "pupil_list": [{**datum, "x": value}]}}
    )
    one.say(datum["topic"], **datum, more=value)
    wait_for(lambda: not one.mapper.stats()["computing"], one.mapper.on_idle)
    after = one.mapper.stats()
    for key in ("gazer", "calibration", "world_camera"):
        assert after[key] == before[key]


def test_what_is_not_obeyed_is_told_and_changes_nothing(make: Callable[..., Session]) -> None:
    one = make()

    def refused(subject: str, **fields: Any) -> str:
        one.notify(subject, **fields)
        note = one.context.notified[-1]
        assert (note["subject"], note["what"]) == ("calibration.refused", subject)
        return str(note["reason"])

    assert refused("calibration.should_stop") == "no calibration runs"
    assert refused("calibration.add_ref_data", ref_data=[]) == "no calibration or validation runs"
    assert "from 0 to 1" in refused("set_min_calibration_confidence", value="high")
    one.notify("calibration.should_start")
    assert refused("validation.should_start") == "a calibration runs"
    assert refused("calibration.should_start") == "a calibration runs"
    assert refused("validation.should_stop") == "no validation runs, but a calibration"
    assert "from the marker" in refused("calibration.add_ref_data", ref_data=[])
    assert one.mapper.stats()["collecting"] == "calibration"
    assert one.mapper.stats()["refused"] == 7
    one.say("pupil.0.2d", id=0)
    one.say("marker.circle", markers=3)
    assert one.mapper.stats()["malformed"] == 2


def test_c_of_pupil_remote_ends_a_validation_as_well(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer2D")
    one.calibrate()
    one.notify("validation.should_start", choreography="network")
    one.notify("calibration.should_stop")
    assert one.subjects[-2:] == ["validation.started", "validation.stopped"]


@pytest.mark.parametrize("stored", [True, False])
def test_after_a_crash_it_goes_on_as_before(make: Callable[..., Session], tmp_path: Path, stored: bool) -> None:
    if not stored:
        (tmp_path / "calibrations").write_text("a file where the folder should be")
    one = make()
    one.notify("start_plugin", name="SingleMarkerChoreographyPlugin", args={"selected_gazer_class_name": "Gazer2D"})
    one.notify("set_min_calibration_confidence", value=0.9)
    one.calibrate(name="mine")
    one.context.notified.clear()
    context = FakeContext()
    context.memory = one.context.memory
    two = InlineMapper(context, {"folder": str(tmp_path / "calibrations")})
    assert [note["subject"] for note in context.notified] == [
        "calibration.setup.v2", "calibration.result.v2", "accuracy.result", "calibration.loaded",
    ]  # fmt: skip
    assert context.notified[-1]["name"] == ("mine" if stored else "")
    datum = pupil_datums(0, target_at((0.4, 0.6)), 200.0)[0]
    one.say(datum["topic"], **datum)
    two.on_message(Message(datum["topic"], datum))
    assert context.published == one.context.published[-1:]
    two.on_message(Message("notify.calibration.should_start", {}))
    assert two.stats()["gazer"] == "Gazer2D"
    assert context.remembered()["min_confidence"] == 0.9
    two.close()


def test_nothing_can_be_validated_without_a_calibration(make: Callable[..., Session]) -> None:
    one = make()
    one.notify("validation.should_start")
    assert one.last("validation.failed")["reason"] == "There is no calibration to validate."


def test_a_validation_may_begin_while_the_calibration_is_computed(make: Callable[..., Session]) -> None:
    one = make(gazer="Gazer2D")
    for mode in ("calibration", "validation"):
        one.notify(f"{mode}.should_start", choreography="network")
        one.feed(session(), marker=False)
        one.notify(f"{mode}.should_stop")
    wait_for(lambda: one.subjects.count("accuracy.result") == 2, one.mapper.on_idle)
    assert one.subjects.index("calibration.result.v2") < one.subjects.index("validation.data")


def test_mapping_goes_on_while_a_fit_is_computed(make: Callable[..., Session]) -> None:
    one = make(GazeMapper, gazer="Gazer2D")
    one.notify("start_plugin", name="Gazer2D", args={"params": make_gazer("Gazer2D", WORLD).fit(session())})
    one.notify("calibration.should_start", choreography="network")
    one.feed(session(), marker=False)
    one.notify("calibration.should_stop")
    one.context.published.clear()
    turns = 0
    while "calibration.successful" not in one.subjects:
        assert "calibration.failed" not in one.subjects
        one.mapper.on_idle()
        datum = pupil_datums(0, target_at((0.4, 0.6)), 300.0 + turns / 120)[0]
        one.say(datum["topic"], **datum)
        turns += 1
        time.sleep(0.002)
    assert turns > 10
    assert len(one.context.published) == turns


@pytest.fixture
def bus() -> Iterator[Bus]:
    with running_bus() as bus:
        yield bus


def test_the_whole_sequence_over_a_real_bus(bus: Bus, tmp_path: Path) -> None:
    host = Host("Gaze_Mapper", GazeMapper, {"folder": str(tmp_path), "gazer": "Gazer2D"}, bus.run, bus.clock)
    with Remote(port=bus.broker.ports.port) as remote, Publisher(bus.run.pub) as eyes:
        try:
            with remote.subscribe("notify.calibration.", "gaze.") as heard:
                seen: list[Message] = []

                def turn() -> None:
                    host.turn()
                    while (message := heard.receive(0)) is not None:
                        seen.append(message)

                def said(subject: str) -> Any:
                    return [each.payload for each in seen if each.topic == f"notify.{subject}"]

                wait_for(lambda: said("calibration.started"), lambda: (turn(), remote._ask([b"C"]), time.sleep(0.02)))
                for topic in ("marker.circle", "pupil.0.2d"):
                    await_subscriber(eyes, topic)
                data = session(each=3)
                for ref in data["ref_list"]:
                    marker = {**ref, "kind": "Ref", "size_px": 40.0}
                    message = {"timestamp": ref["timestamp"], "markers": [marker], "width": 1280, "height": 720}
                    eyes.send("marker.circle", message)
                for pupil in data["pupil_list"]:
                    eyes.send(pupil["topic"], pupil)
                wait_for(lambda: host.stats()["pupils"] == len(data["pupil_list"]), turn)
                assert remote._ask([b"c"]) == b"OK"
                wait_for(lambda: said("calibration.result.v2"), turn)
                order = list(dict.fromkeys(each.topic.removeprefix("notify.calibration.") for each in seen))
                # C was sent again and again until somebody listened.
                assert [each for each in order if each != "refused"] == [
                    "should_start", "started", "should_stop", "stopped", "setup.v2", "successful", "result.v2",
                ]  # fmt: skip
                datum = pupil_datums(1, target_at((0.4, 0.6)), 200.0)[0]
                wait_for(
                    lambda: [each for each in seen if each.topic == "gaze.2d.1."],
                    lambda: (eyes.send(datum["topic"], datum), turn()),
                )
                assert seen[-1].payload["base_data"][0] == datum
                assert host.stats()["failed"] == 0
        finally:
            host.close()
