"""Recordings through the real daemon: every process, socket, codec and file."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import msgpack
import numpy as np
import pytest
import zmq

from gazed.testing import pid_of, small_daemon, wait_for
from gazed.trial import Trial
from gazed_bus.errors import RequestRefused
from gazed_recorder.datalog import PldataReader
from gazed_recorder.manifest import Manifest
from gazed_recorder.verify import verify

STREAMS = {"world", "eye0", "eye1"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    root = tmp_path_factory.mktemp("recordings")
    with small_daemon(root) as trial:
        trial.root = root  # type: ignore[attr-defined]
        yield trial


def frames_on_disk(daemon: Trial, stream: str, wanted: int) -> None:
    wait_for(lambda: daemon.remote.status()["streams"][stream]["written"] >= wanted)


def assert_sound(folder: str | Path) -> Manifest:
    proof = verify(Path(folder))
    assert proof.problems == []
    manifest = Manifest.load(Path(folder))
    for name, report in manifest.streams.items():
        assert report.received == report.written + sum(report.dropped.values()) + report.lost, name
    return manifest


def test_start_returns_when_every_stream_is_on_disk_and_stop_when_all_is_closed(daemon: Trial) -> None:
    started = daemon.remote.start("session one", user_info={"name": "P07"})
    folder = Path(started.rec_path)
    for stream in STREAMS:
        assert len(np.load(folder / f"{stream}_timestamps.npy")) > 0
        with av.open(str(folder / f"{stream}.mp4")) as video:
            assert next(video.decode(video=0)).width > 0
    acknowledged = daemon.remote.annotate("stimulus", trial=3)
    assert acknowledged.rec_path == started.rec_path
    frames_on_disk(daemon, "world", 20)
    stopped = daemon.remote.stop()
    assert stopped.rec_path == started.rec_path
    manifest = assert_sound(folder)
    assert manifest.state == "complete"
    assert {name for name, report in manifest.streams.items() if report.kind == "video"} == STREAMS
    assert all(manifest.streams[name].dropped == {} for name in STREAMS)
    [(topic, payload)] = PldataReader(folder / "annotation.pldata")
    assert topic == b"annotation"
    datum = msgpack.unpackb(payload)
    assert (datum["label"], datum["trial"], datum["timestamp"]) == ("stimulus", 3, acknowledged.timestamp)
    assert "seq" not in datum
    assert json.loads((folder / "info.player.json").read_text())["meta_version"] == "2.3"
    assert "P07" in (folder / "user_info.csv").read_text()


def test_presentation_times_and_counts_agree_in_every_reader(daemon: Trial) -> None:
    folder = Path(daemon.remote.start("times").rec_path)
    frames_on_disk(daemon, "eye0", 60)
    daemon.remote.stop()
    for stream in STREAMS:
        stamps = np.load(folder / f"{stream}_timestamps.npy")
        assert (np.diff(stamps) > 0).all()
        with av.open(str(folder / f"{stream}.mp4")) as video:
            pts = [frame.pts * frame.time_base for frame in video.decode(video=0)]
        assert np.allclose(np.array(pts, float), stamps - stamps[0], atol=1.1e-6)
        capture = cv2.VideoCapture(str(folder / f"{stream}.mp4"))
        assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == len(stamps)
        count = 0
        while capture.read()[0]:
            count += 1
        assert count == len(stamps)
        capture.release()


def test_pupil_remote_letters_start_and_stop(daemon: Trial) -> None:
    context = zmq.Context()
    ask = context.socket(zmq.REQ)
    ask.connect(f"tcp://127.0.0.1:{daemon.port}")

    def say(text: str) -> str:
        ask.send_string(text)
        return ask.recv_string()

    with daemon.remote.subscribe("notify.recording.") as heard:
        assert say("R letters") == "OK"
        subjects = []
        while "recording.started" not in subjects:
            subjects.append(heard.receive(5).payload["subject"])
        assert say("T 100.0") != "Timesync successful."
        before = float(say("t"))
        assert say("r") == "OK"
        while "recording.stopped" not in subjects:
            message = heard.receive(5)
            subjects.append(message.payload["subject"])
        folder = message.payload["rec_path"]
        assert folder.endswith("/letters/000/")
        assert say("r") == "OK"
        while "recording.failed" not in subjects:
            message = heard.receive(5)
            subjects.append(message.payload["subject"])
        assert "no recording" in message.payload["reason"]
    assert float(say("t")) >= before
    assert say("T 100.0") == "Timesync successful."
    assert 100 <= float(say("t")) < 160
    ask.close(0)
    context.term()
    assert_sound(folder)


def test_refusals_have_a_reason_and_leave_nothing(daemon: Trial) -> None:
    with pytest.raises(RequestRefused) as refused:
        daemon.remote.stop()
    assert refused.value.reason == "not-recording"
    with pytest.raises(RequestRefused) as refused:
        daemon.remote.annotate("nobody listens")
    assert refused.value.reason == "not-recorded"
    started = daemon.remote.start("twice")
    with pytest.raises(RequestRefused) as refused:
        daemon.remote.start("twice")
    assert refused.value.reason == "already-recording"
    assert started.rec_path.rstrip("/") in refused.value.message
    daemon.remote.stop()
    assert [path.name for path in Path(started.rec_path).parent.iterdir()] == ["000"]


@pytest.mark.parametrize("name", ["../../outside", "/etc/gazed", "a/../../b", "\x00\n", "x" * 4000, "..", "🙂 ok"])
def test_a_name_from_outside_stays_inside_the_root(daemon: Trial, name: str) -> None:
    started = daemon.remote.start(name)
    daemon.remote.stop()
    assert Path(started.rec_path).resolve().is_relative_to(daemon.root.resolve())


def test_recordings_are_numbered_and_never_overwritten(daemon: Trial) -> None:
    paths = []
    for _ in range(2):
        paths.append(daemon.remote.start("numbered").rec_path)
        daemon.remote.stop()
    assert [Path(path).name for path in paths] == ["000", "001"]


@pytest.mark.parametrize("mode", ["h264", "mpeg4"])
def test_smaller_files_hold_every_frame_too(daemon: Trial, mode: str) -> None:
    folder = daemon.remote.start(mode, mode=mode).rec_path
    frames_on_disk(daemon, "world", 15)
    daemon.remote.stop()
    manifest = assert_sound(folder)
    assert {manifest.streams[name].parts[0].codec for name in STREAMS} == {mode}


def test_without_eyes_only_the_world_is_recorded(daemon: Trial) -> None:
    folder = daemon.remote.start("world only", record_eye=False).rec_path
    daemon.remote.stop()
    assert not (Path(folder) / "eye0.mp4").exists()
    assert_sound(folder)


def test_an_eye_process_is_switched_off_and_on(daemon: Trial) -> None:
    with daemon.remote.subscribe("notify.eye_process.") as heard:
        daemon.remote.notify("eye_process.should_stop.1", eye_id=1)
        while heard.receive(5).payload.get("subject") != "eye_process.stopped":
            pass
        wait_for(lambda: "eye1" not in daemon.remote.status()["streams"])
        folder = daemon.remote.start("one eye").rec_path
        daemon.remote.stop()
        assert not (Path(folder) / "eye1.mp4").exists()
        daemon.remote.notify("eye_process.should_start.1", eye_id=1)
        while heard.receive(10).payload.get("subject") != "eye_process.started":
            pass
    wait_for(lambda: daemon.remote.status()["streams"]["eye1"].get("state") == "streaming")


@pytest.mark.parametrize(("wanted", "size"), [("bgr", 96 * 96 * 3), ("gray", 96 * 96), ("yuv", 96 * 96 * 2)])
def test_frames_are_published_in_the_format_asked_for(daemon: Trial, wanted: str, size: int) -> None:
    try:
        with daemon.remote.subscribe("frame.eye.0") as frames:
            daemon.remote.notify("frame_publishing.set_format", format=wanted)

            def matching() -> bool:
                message = frames.receive(1)
                return message is not None and message.payload["format"] == wanted and len(message.raw[0]) == size

            wait_for(matching)
    finally:
        daemon.remote.notify("frame_publishing.set_format", format="jpeg")
        wait_for(lambda: daemon.remote.status()["processes"]["Frame_Publisher"]["state"] == "stopped")


def test_frames_as_jpeg_are_the_camera_s_own_bytes(daemon: Trial) -> None:
    with daemon.remote.subscribe("frame.world") as frames:
        message = frames.receive(5)
    assert message.payload["format"] == "jpeg"
    assert (message.payload["width"], message.payload["height"]) == (320, 240)
    assert cv2.imdecode(np.frombuffer(message.raw[0], np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)


def test_status_estimates_what_an_hour_takes(daemon: Trial) -> None:
    status = wait_for(lambda: status if (status := daemon.remote.status())["gb_per_hour"] else None)
    assert status["gb_per_hour"] == pytest.approx(
        sum(status["streams"][name]["bytes_per_s"] for name in STREAMS) * 3.6e-6
    )
    assert status["streams"]["eye0"]["fps"] > 0
    assert status["free_gb"] > 0


def test_every_actor_tells_what_it_is(daemon: Trial) -> None:
    with daemon.remote.subscribe("notify.meta.doc") as heard:
        daemon.remote.notify("meta.should_doc")
        actors: set[str] = set()
        wait_for(
            lambda: actors.add(heard.receive(5).payload["actor"]) or actors >= {"recorder", "supervisor", *STREAMS}
        )


def test_datums_from_other_programs_are_recorded(daemon: Trial) -> None:
    folder = Path(daemon.remote.start("datums").rec_path)
    for number in range(50):
        now = daemon.remote.time()
        datum = {"timestamp": now, "confidence": 1.0, "norm_pos": [0.5, 0.5], "id": number % 2}
        daemon.remote.send(f"pupil.{number % 2}.2d", datum)
        daemon.remote.send("gaze.2d.01.", datum)
    daemon.remote.notify("trigger.seen", record=True, value=7)
    daemon.remote.send("pupil.0.2d", {"no": "timestamp"})
    daemon.remote.annotate("done")
    daemon.remote.stop()
    manifest = assert_sound(folder)
    assert manifest.streams["pupil"].written == 50
    assert manifest.streams["pupil"].dropped == {"unreadable": 1}
    assert manifest.streams["gaze"].written == 50
    with (folder / "pupil_data").open("rb") as file:
        classic = msgpack.unpack(file, strict_map_key=False)
    assert len(classic["pupil_positions"]) == len(classic["gaze_positions"]) == 50
    assert [datum["subject"] for datum in classic["notifications"]] == ["trigger.seen"]


def test_a_broker_that_is_killed_comes_back_on_the_same_ports(daemon: Trial) -> None:
    folder = daemon.remote.start("broker").rec_path
    ports = daemon.remote.status()["ports"]
    os.kill(pid_of(daemon, "broker"), signal.SIGKILL)

    def back() -> bool:
        try:
            status = daemon.remote.status()
        except Exception:  # noqa: BLE001 - whatever a dead broker does to a client
            return False
        return status["processes"]["broker"]["restarts"] == 1 and status["ports"] == ports

    wait_for(back)
    daemon.remote.annotate("still here")
    daemon.remote.stop()
    manifest = assert_sound(folder)
    assert all(manifest.streams[name].dropped == {} and manifest.streams[name].gap_count == 0 for name in STREAMS)


def test_a_missing_camera_is_named_within_two_seconds(tmp_path: Path) -> None:
    cables = tmp_path / "cables"
    cables.mkdir()
    with small_daemon(tmp_path / "recordings", cables=cables) as daemon:
        (cables / "eye1").touch()
        wait_for(lambda: daemon.remote.status()["streams"]["eye1"]["state"] == "lost")
        begun = time.monotonic()
        with pytest.raises(RequestRefused) as refused:
            daemon.remote.start("incomplete")
        assert time.monotonic() - begun < 2.5
        assert refused.value.reason == "no-frames"
        assert "eye1 (lost)" in refused.value.message
        wait_for(lambda: not list((tmp_path / "recordings").rglob("manifest.json")))
        (cables / "eye1").unlink()
        wait_for(lambda: daemon.remote.status()["streams"]["eye1"]["state"] == "streaming")
        folder = daemon.remote.start("complete").rec_path
        daemon.remote.stop()
        assert_sound(folder)
