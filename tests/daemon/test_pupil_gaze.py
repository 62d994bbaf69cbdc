"""Pupils and gaze in a whole daemon: detected, calibrated over the bus, mapped, recorded; and what dies comes back."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import msgpack
import numpy as np
import pytest
import zmq

pytest.importorskip("pye3d.detector_3d")
pytest.importorskip("pupil_detectors")

from gazed import Recording
from gazed.testing import pid_of, small_daemon, wait_for
from gazed.trial import Trial
from gazed_bus.client import Subscriber
from gazed_plugins.gaze.offline import map_recording
from gazed_plugins.pupil.offline import detect_recording
from gazed_plugins.pupil.settings import PupilSettings
from gazed_recorder.manifest import Manifest
from gazed_recorder.verify import verify

EYE = {"width": 192, "height": 192, "seconds": 6}


def tables(folder: Path) -> dict[str, Any]:
    return {
        "pupil": {"enabled": True, "options": {"every_nth": 2}},
        "gaze": {"enabled": True, "gazer": "Gazer2D", "folder": str(folder)},
        "plugins": {"start": ["Blink_Detection", "Fixation_Detector"]},
    }


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("daemon")
    world = {"width": 640, "height": 360, "seconds": 6}
    with small_daemon(
        folder / "recordings", more=tables(folder / "calibrations"), world=world, eye0=EYE, eye1=EYE
    ) as trial:
        for name in ("pupil0", "pupil1"):
            wait_for(lambda name=name: detected(trial, name))
        for name in ("gaze", "marker", "Blink_Detection", "Fixation_Detector"):
            pid_of(trial, name)
        yield trial


def plugin(daemon: Trial, name: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.remote.status()["plugins"].get(name, {})
    return found


def detected(daemon: Trial, name: str) -> int:
    return int(plugin(daemon, name).get("detected", 0))


def test_eyes_are_seen_through_the_camera_that_the_daemon_knows(daemon: Trial) -> None:
    wait_for(lambda: plugin(daemon, "pupil1").get("camera") == "stream")
    with daemon.remote.subscribe("pupil.") as pupils:
        seen = {(message := pupils.receive(5)).topic: message.payload for _ in range(40)}
    assert set(seen) == {"pupil.0.2d", "pupil.0.3d", "pupil.1.2d", "pupil.1.3d"}
    for topic, datum in seen.items():
        assert (datum["topic"], datum["id"]) == (topic, int(topic[6]))
    wait_for(lambda: plugin(daemon, "pupil0")["per_s"] > 5)
    skipped = plugin(daemon, "pupil0")["skipped"]["every_nth"]
    assert skipped > 0


def next_topic(heard: Subscriber) -> str:
    message = heard.receive(0.5)
    return message.topic if message else ""


@dataclass(frozen=True)
class Recorded:
    """A recording of pupils, gaze of both gazers, blinks, fixations, annotations and notifications."""

    folder: Path
    said: list[dict[str, Any]]
    """The notifications of the calibration that Pupil Remote's letters started and ended."""
    gaze: list[dict[str, Any]]
    """What was published after it."""


@pytest.fixture(scope="module")
def recorded(daemon: Trial) -> Recorded:
    remote = daemon.remote
    folder = Path(remote.start("calibration").rec_path)
    with zmq.Context() as context, context.socket(zmq.REQ) as client:
        client.connect(f"tcp://127.0.0.1:{daemon.port}")

        def ask(letter: str) -> None:
            client.send_string(letter)
            assert client.recv_string() == "OK"

        with remote.subscribe("notify.calibration.", "notify.accuracy.") as heard, remote.subscribe("gaze.") as gaze:
            said: list[dict[str, Any]] = []

            def until(subject: str) -> bool:
                message = heard.receive(0.5)
                said.extend([message.payload] if message else [])
                return any(note["subject"] == subject for note in said)

            ask("C")
            wait_for(lambda: plugin(daemon, "gaze")["references"] > 45)
            # A second start while one runs, and a stop when none does, change nothing.
            ask("C")
            wait_for(lambda: plugin(daemon, "gaze")["references"] > 90)
            ask("c")
            ask("c")
            wait_for(lambda: until("accuracy.result"), 40)
            published = [gaze.receive(10).payload for _ in range(60)]
        setup = next(note for note in said if note["subject"] == "calibration.setup.v2")
        with remote.subscribe("gaze.3d.") as gaze:
            remote.notify("start_plugin", name="Gazer3D", args={"calib_data": setup["calib_data"]})
            kinds: set[str] = set()
            wait_for(lambda: kinds.add(next_topic(gaze)) or {"gaze.3d.01."} < kinds - {""}, 40)
    remote.annotate("stimulus", trial=3)
    remote.notify("trigger.seen", record=True, value=7)
    wait_for(lambda: {"blinks", "fixations"} <= remote.status()["streams"].keys())
    remote.stop()
    return Recorded(folder, said, published)


def test_a_calibration_by_letters_gives_gaze_and_all_of_it_is_recorded(daemon: Trial, recorded: Recorded) -> None:
    declined = [note["what"] for note in recorded.said if note["subject"] == "calibration.refused"]
    assert declined == ["calibration.should_start", "calibration.should_stop"]
    subjects = [note["subject"] for note in recorded.said if note["subject"] != "calibration.refused"]
    assert [subject for subject in subjects if ".should_" not in subject] == [
        "calibration.started", "calibration.stopped", "calibration.setup.v2", "calibration.successful",
        "calibration.result.v2", "accuracy.result",
    ]  # fmt: skip
    assert verify(recorded.folder).problems == []
    recording = Recording(recorded.folder)
    stamps = {log: recording.timestamps(log) for log in ("pupil", "gaze", "notify")}
    assert len(stamps["pupil"]) > 100
    for datum in recorded.gaze:
        assert datum["topic"].startswith("gaze.2d.")
    assert set(np.isin([datum["timestamp"] for datum in recorded.gaze], stamps["gaze"])) == {True}
    frames = np.concatenate([recording.timestamps("eye0"), recording.timestamps("eye1")])
    inside = [stamp for stamp in stamps["pupil"] if frames.min() <= stamp <= frames.max()]
    assert np.isin(inside, frames).all()
    wait_for(lambda: plugin(daemon, "gaze")["gazer"] == "Gazer3D")
    assert len(list((recorded.folder.parents[2] / "calibrations").glob("Gazer[23]D-*.calib"))) == 2


NUMBER, PAIR, TRIPLE = float, [float] * 2, [float] * 3
ELLIPSE = {"center": PAIR, "axes": PAIR, "angle": NUMBER}
PUPIL_2D = {
    "id": int, "topic": str, "method": str, "norm_pos": PAIR, "diameter": NUMBER, "confidence": NUMBER,
    "timestamp": NUMBER, "ellipse": ELLIPSE,
}  # fmt: skip
PUPIL_3D = {
    **PUPIL_2D, "location": PAIR, "sphere": {"center": TRIPLE, "radius": NUMBER}, "projected_sphere": ELLIPSE,
    "circle_3d": {"center": TRIPLE, "normal": TRIPLE, "radius": NUMBER}, "diameter_3d": NUMBER, "theta": NUMBER,
    "phi": NUMBER, "model_confidence": NUMBER,
}  # fmt: skip
GAZE_2D = {"topic": str, "norm_pos": PAIR, "confidence": NUMBER, "timestamp": NUMBER, "base_data": list}
GAZE_3D = {**GAZE_2D, "eye_center_3d": TRIPLE, "gaze_normal_3d": TRIPLE, "gaze_point_3d": TRIPLE}
BOTH = {"0": TRIPLE, "1": TRIPLE}
FIXATION = {
    "topic": str, "norm_pos": PAIR, "dispersion": NUMBER, "method": str, "base_data": list, "timestamp": NUMBER,
    "duration": NUMBER, "confidence": NUMBER, "id": int,
}  # fmt: skip
BLINK = {
    "topic": str, "type": str, "confidence": NUMBER, "base_data": list, "timestamp": NUMBER, "record": bool,
}  # fmt: skip
SHAPES: dict[str, list[dict[str, Any]]] = {
    r"pupil\.[01]\.2d": [PUPIL_2D],
    r"pupil\.[01]\.3d": [PUPIL_3D],
    r"gaze\.2d\.(0|1|01)\.": [GAZE_2D],
    r"gaze\.3d\.[01]\.": [GAZE_3D],
    r"gaze\.3d\.01\.": [{**GAZE_2D, "eye_centers_3d": BOTH, "gaze_normals_3d": BOTH, "gaze_point_3d": TRIPLE}],
    r"fixations": [FIXATION, {**FIXATION, "gaze_point_3d": TRIPLE}],
    r"blinks": [BLINK],
    r"annotation": [{"topic": str, "label": str, "timestamp": NUMBER, "duration": NUMBER, "trial": int}],
}
"""What Pupil Core's datums consist of, by topic."""


def shape(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: shape(each, key) for key, each in value.items() if key != "gate"}
    return [shape(each) for each in value] if isinstance(value, list) and name != "base_data" else type(value)


def player_log(folder: Path, name: str) -> list[tuple[str, bytes, dict[str, Any]]]:
    """Read a log as Pupil Player does, and hold every byte of it against what msgpack itself would write."""
    raw = (folder / f"{name}.pldata").read_bytes()
    unpacker = msgpack.Unpacker(use_list=False, strict_map_key=False)
    unpacker.feed(raw)
    records = [(topic, payload, msgpack.unpackb(payload)) for topic, payload in unpacker]
    assert b"".join(msgpack.packb((topic, msgpack.packb(datum))) for topic, _, datum in records) == raw
    stamps = np.load(folder / f"{name}_timestamps.npy")
    assert (stamps.dtype.str, stamps.shape) == ("<f8", (len(records),))
    assert stamps.tolist() == [datum["timestamp"] for _, _, datum in records]
    return records


def player_recording(folder: Path) -> dict[str, list[tuple[str, bytes, dict[str, Any]]]]:
    """Load a folder by the rules by which Pupil Player accepts one, and return its logs."""
    info = json.loads((folder / "info.player.json").read_text())
    assert (info["meta_version"], info["min_player_version"]) == ("2.3", "2.0")
    for key in ("start_time_system_s", "start_time_synced_s", "duration_s"):
        assert type(info[key]) is float, key
    for key in ("recording_uuid", "recording_software_name", "recording_software_version", "system_info"):
        assert isinstance(info[key], str), key
    for stem in ("world", "eye0", "eye1"):
        with av.open(str(folder / f"{stem}.mp4")) as video:
            frames = sum(packet.size > 0 for packet in video.demux(video=0))
            size = video.streams.video[0].width, video.streams.video[0].height
        stamps = np.load(folder / f"{stem}_timestamps.npy")
        assert (stamps.dtype.str, stamps.shape) == ("<f8", (frames,))
        assert (np.diff(stamps) > 0).all()
        cameras = msgpack.unpackb((folder / f"{stem}.intrinsics").read_bytes())
        assert cameras["version"] == 1
        camera = cameras[str(size)]
        assert (np.shape(camera["camera_matrix"]), camera["resolution"]) == ((3, 3), list(size))
        assert (np.shape(camera["dist_coefs"]), camera["cam_type"]) == ((1, 5), "radial")
    assert not list(folder.glob("*_lookup.npy"))
    return {path.stem: player_log(folder, path.stem) for path in folder.glob("*.pldata")}


def test_every_datum_is_pupils_to_the_byte(recorded: Recorded) -> None:
    logs = player_recording(recorded.folder)
    seen = set()
    for name in ("pupil", "gaze", "notify", "annotation", "blinks", "fixations"):
        for topic, _, datum in logs[name]:
            assert topic == datum["topic"]
            if name == "notify":
                assert topic == f"notify.{datum['subject']}"
                assert (type(datum["timestamp"]), datum["record"]) == (float, True)
                continue
            pattern = next(pattern for pattern in SHAPES if re.fullmatch(pattern, topic))
            assert shape(datum) in SHAPES[pattern], topic
            seen.add(pattern)
    assert seen == SHAPES.keys()
    assert {"accuracy.result", "trigger.seen"} <= {note["subject"] for _, _, note in logs["notify"]}


META = {"topic", "subject", "gazer_class_name", "timestamp", "record"}
NOTES = {
    "calibration.setup.v2": {*META, "version", "calib_data"},
    "calibration.successful": META,
    "calibration.result.v2": {*META, "version", "params"},
}
"""What Pupil Core's notifications of a calibration consist of."""
MATRICES = {"binocular_model": {"eye_camera_to_world_matrix0": (4, 4), "eye_camera_to_world_matrix1": (4, 4)}}
ONE_EYE = {"eye_camera_to_world_matrix": (4, 4), "gaze_distance": ()}
PARAMS: dict[str, dict[str, Any]] = {
    "Gazer2D": {
        "binocular_model": {"coef_": (2, 12), "intercept_": (2,)},
        "right_model": {"coef_": (2, 6), "intercept_": (2,)},
        "left_model": {"coef_": (2, 6), "intercept_": (2,)},
    },
    "Gazer3D": {**MATRICES, "right_model": ONE_EYE, "left_model": ONE_EYE},
}


def test_both_calibrations_are_recorded_with_their_data_and_parameters(recorded: Recorded) -> None:
    notes = [note for _, _, note in player_log(recorded.folder, "notify") if note["subject"] in NOTES]
    assert [(note["gazer_class_name"], note["subject"]) for note in notes] == [
        (gazer, subject) for gazer in PARAMS for subject in NOTES
    ]
    pupils = {payload for _, payload, _ in player_log(recorded.folder, "pupil")}
    for note in notes:
        assert note.keys() == NOTES[note["subject"]]
        if note["subject"] != "calibration.successful":
            assert note["version"] == 2
        if note["subject"] == "calibration.setup.v2":
            assert note["calib_data"].keys() == {"ref_list", "pupil_list"}
            for ref in note["calib_data"]["ref_list"]:
                assert shape(ref) == {"norm_pos": PAIR, "screen_pos": PAIR, "timestamp": NUMBER}
            assert {msgpack.packb(pupil) for pupil in note["calib_data"]["pupil_list"]} <= pupils
        if note["subject"] == "calibration.result.v2":
            shapes = {
                name: {key: np.shape(each) for key, each in model.items()} for name, model in note["params"].items()
            }
            assert shapes == PARAMS[note["gazer_class_name"]]


def test_a_calibration_that_fails_leaves_the_one_before_in_use(daemon: Trial, recorded: Recorded) -> None:
    with daemon.remote.subscribe("notify.calibration.") as heard:
        daemon.remote.notify("calibration.should_start", choreography="network", gazer="Gazer2D")
        wait_for(lambda: plugin(daemon, "gaze")["pupils"] > 10)
        daemon.remote.notify("calibration.should_stop")
        said: list[dict[str, Any]] = []
        while not said or said[-1]["subject"] != "calibration.failed":
            said.append(heard.receive(20).payload)
    assert [note["subject"].partition(".")[2] for note in said if ".should_" not in note["subject"]] == [
        "started", "stopped", "setup.v2", "failed",
    ]  # fmt: skip
    failed = {key: said[-1][key] for key in ("gazer_class_name", "reason", "record")}
    reason = "Not sufficient reference data available."
    assert failed == {"gazer_class_name": "Gazer2D", "reason": reason, "record": True}
    assert plugin(daemon, "gaze")["gazer"] == "Gazer3D"


def test_what_data_rest_on_are_the_recorded_data_themselves(recorded: Recorded) -> None:
    logs = player_recording(recorded.folder)
    pupils = {payload for _, payload, _ in logs["pupil"]}
    # The first window of blinks may reach back to before the recording.
    begin = max({topic: datum["timestamp"] for topic, _, datum in reversed(logs["pupil"])}.values())
    for name in ("gaze", "blinks"):
        for topic, _, datum in logs[name]:
            base = [each for each in datum["base_data"] if each["timestamp"] >= begin]
            assert {msgpack.packb(each) for each in base} <= pupils
            if name == "gaze":
                eyes = "".join(str(each["id"]) for each in base)
                assert eyes == topic.split(".")[2]
                mean = [np.mean([each[key] for each in base]) for key in ("timestamp", "confidence")]
                assert [datum["timestamp"], datum["confidence"]] == pytest.approx(mean, rel=1e-15)
    gaze = {(datum["topic"], datum["timestamp"]) for _, _, datum in logs["gaze"]}
    for _, _, datum in logs["fixations"]:
        assert {tuple(pair) for pair in datum["base_data"]} <= gaze
        assert datum["duration"] == pytest.approx(1000 * (datum["base_data"][-1][1] - datum["timestamp"]))


def test_the_classic_file_holds_the_same_datums(recorded: Recorded) -> None:
    logs = player_recording(recorded.folder)
    with (recorded.folder / "pupil_data").open("rb") as file:
        classic = msgpack.unpack(file)
    names = {"pupil_positions": "pupil", "gaze_positions": "gaze", "notifications": "notify"}
    assert {names.get(key, key): [msgpack.packb(datum) for datum in data] for key, data in classic.items()} == {
        name: [payload for _, payload, _ in records] for name, records in logs.items()
    }


def test_pupil_player_finds_what_was_computed_afterwards(recorded: Recorded) -> None:
    detect_recording(recorded.folder, settings=PupilSettings(every_nth=10))
    map_recording(recorded.folder, calibration="Recorded Calibration")
    offline = recorded.folder / "offline_data"
    meta = msgpack.unpackb((offline / "offline_pupil.meta").read_bytes())
    assert (meta["version"], meta["detection_status"]) == (4, ["complete", "complete"])
    pupils = player_log(offline, "offline_pupil")
    for topic, _, datum in pupils:
        assert topic == datum["topic"]
        assert shape(datum) == {"2d": PUPIL_2D, "3d": PUPIL_3D}[topic[8:]]
        assert datum["method"].startswith("2d c++" if topic.endswith("2d") else "pye3d ")
    mappers = msgpack.unpackb((offline / "gaze_mappers.msgpack").read_bytes())
    assert mappers["version"] == 1
    (mapper,) = mappers["data"]
    assert [type(each) for each in mapper] == [str, str, str, list, list, float, float, float, bool, str, str, str]
    stem = re.sub(r"[^-_a-zA-Z0-9.]", "", f"{mapper[1]}-{mapper[0]}".replace(" ", "_"))
    gaze = player_log(offline / "gaze-mappings", stem)
    known = {payload for _, payload, _ in pupils}
    for topic, _, datum in gaze:
        assert (topic, datum["topic"][:8]) == ("gaze", "gaze.2d.")
        assert {msgpack.packb(each) for each in datum["base_data"]} <= known


def test_a_client_may_subscribe_to_the_answer_after_it_asked(daemon: Trial) -> None:
    name = "pupil_detector.properties.1.Pye3DPlugin"
    address = f"tcp://127.0.0.1:{daemon.remote.status()['ports']['sub_port']}"

    def asked() -> list[bytes]:
        fields = {"eye_id": 1, "detector_plugin_class_name": "Pye3DPlugin"}
        daemon.remote.notify("pupil_detector.broadcast_properties", **fields)
        with zmq.Context() as context, context.socket(zmq.SUB) as late:
            late.connect(address)
            late.subscribe(f"notify.{name}")
            return late.recv_multipart() if late.poll(1000) else []

    answer = msgpack.unpackb(wait_for(asked)[1])
    assert (answer["subject"], answer["values"]) == (name, {"is_long_term_model_frozen": False})
    assert "delay" not in answer


def test_a_killed_detector_comes_back_and_the_recording_does_not_notice(daemon: Trial, recorded: Recorded) -> None:
    folder = Path(daemon.remote.start("killed detector").rec_path)
    victim = pid_of(daemon, "pupil0")
    with daemon.remote.subscribe("notify.process.died") as died, daemon.remote.subscribe("pupil.0.2d") as pupils:
        os.kill(victim, signal.SIGKILL)
        assert died.receive(10).payload["name"] == "pupil0"
        wait_for(lambda: pid_of(daemon, "pupil0") != victim)
        while pupils.receive(0) is not None:
            pass
        assert pupils.receive(15) is not None
    assert daemon.remote.status()["processes"]["pupil0"]["restarts"] == 1
    daemon.remote.stop()
    assert verify(folder).problems == []
    # It begins with the calibration in use, as Pupil Capture has it.
    notes = [note for _, _, note in player_log(folder, "notify")]
    begin = json.loads((folder / "info.player.json").read_text())["start_time_synced_s"]
    in_use = ["calibration.setup.v2", "calibration.result.v2", "accuracy.result"]
    assert [note["subject"] for note in notes] == [*in_use, "process.died"]
    assert [note["timestamp"] < begin for note in notes] == [True, True, True, False]
    for stream in ("world", "eye0", "eye1"):
        report = Manifest.load(folder).streams[stream]
        assert (report.dropped, report.lost, report.gap_count) == ({}, 0, 0), stream


def test_an_eye_that_is_switched_off_takes_its_detector_along(daemon: Trial) -> None:
    daemon.remote.notify("eye_process.should_stop.1", eye_id=1)
    wait_for(lambda: daemon.remote.status()["processes"]["pupil1"]["state"] == "stopped")
    assert "pupil1" not in daemon.remote.status()["plugins"]
    before = pid_of(daemon, "pupil0")
    daemon.remote.notify("eye_process.should_start.1", eye_id=1)
    pid_of(daemon, "pupil1")
    assert pid_of(daemon, "pupil0") == before
    wait_for(lambda: detected(daemon, "pupil1"))


def test_plugins_of_pupil_capture_that_the_mapper_stands_for_are_no_error(daemon: Trial) -> None:
    with daemon.remote.subscribe("logging.error") as errors, daemon.remote.subscribe("notify.calibration.") as heard:
        daemon.remote.notify("start_plugin", name="ScreenMarkerChoreographyPlugin")
        daemon.remote.notify("start_plugin", name="Gazer2D", args={"params": {}, "calib_data": {}})
        assert heard.receive(10).payload["subject"] == "calibration.failed"
        daemon.remote.notify("stop_plugin", name="Gazer2D")
        daemon.remote.notify("stop_plugin", name="No_Such_Plugin")
        said = [errors.receive(10).payload["msg"] for _ in range(2)]
    assert not any("enabled plugins" in text for text in said)
    assert said[-1] == "stop_plugin: %r is not running"
