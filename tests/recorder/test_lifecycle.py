"""The recorder process at every turn of a recording: killed, asked twice, asked too early."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from gazed_bus.codec import decode
from gazed_bus.frame import AUDIO, Frame, StreamInfo
from gazed_bus.lane import LaneSender
from gazed_bus.rundir import RunDir
from gazed_recorder.manifest import Manifest, StreamReport
from gazed_recorder.reader import Recording
from gazed_recorder.testing import SAMPLE_RATE, SIZE, make_sound
from gazed_recorder.verify import verify
from gazed_timesync import HostNs, PupilClock, host_now

JPEG = b"\xff\xd8 a frame"
_LONGEST_S = 10


class Camera:
    """A camera without a device: a frame each time it is asked for one."""

    def __init__(self, stage: Stage, stream: str) -> None:
        self.stream = stream
        self._clock = stage.clock
        self.info = StreamInfo(stream, "test", "camera", "1", 64, 48, 1000.0, "jpeg", "arrival")
        self.lane = LaneSender(stage.run.lane, stream, limit_bytes=1 << 20, context=stage.context)
        self.lane.announce("streaming", self.info)
        self.sequence = 0

    def shoot(self, payload: bytes = JPEG) -> None:
        now = host_now()
        frame = Frame(self.stream, self.sequence, now, now, None, 64, 48, "jpeg", payload)
        self.lane.offer(frame, self._clock.to_pupil(now))
        self.sequence += 1


class Microphone(Camera):
    """The same with sound, whose next block always begins where the last one ended."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, AUDIO)
        samples, channels = SIZE[AUDIO]
        rate = SAMPLE_RATE / samples
        self.info = StreamInfo(
            AUDIO, "test", "card", "1", samples, channels, rate, "pcm", "arrival", sample_rate=SAMPLE_RATE
        )
        self.lane.announce("streaming", self.info)
        self._first_ns = 0

    def shoot(self, payload: bytes = b"") -> None:
        self._first_ns = self._first_ns or host_now()
        at = HostNs(self._first_ns + self.sequence * 1_000_000_000 * self.info.width // SAMPLE_RATE)
        block = payload or make_sound(self.sequence)
        frame = Frame(AUDIO, self.sequence, at, at, None, self.info.width, self.info.height, "pcm", block)
        self.lane.offer(frame, self._clock.to_pupil(at))
        self.sequence += 1


class Stage:
    """A recorder process; the test is its supervisor, its bus and its cameras."""

    def __init__(self, root: Path, run: RunDir, clock: PupilClock, *streams: str) -> None:
        self.run, self.clock = run, clock
        self._settings = json.dumps({"root": str(root), "streams": streams, "floor_bytes": 0, "warn_bytes": 0})
        self.context = zmq.Context()
        self._bus = self.context.socket(zmq.XPUB)
        self._bus.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._bus.bind(run.sub)
        self._heard = self.context.socket(zmq.PULL)
        self._heard.bind(run.push)
        self.cameras = {stream: Microphone(self) if stream == AUDIO else Camera(self, stream) for stream in streams}
        self.process: subprocess.Popen[bytes] | None = None
        self.begin()

    def begin(self) -> None:
        reader, writer = os.pipe()
        environment = {**os.environ, "GAZED_RUN": str(self.run.path), "GAZED_STATUS_FD": str(writer)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gazed_recorder.process", self._settings],
            stdin=subprocess.PIPE, pass_fds=(writer,), env=environment,
        )  # fmt: skip
        os.close(writer)
        with os.fdopen(reader, "rb", 0) as status:
            assert b"ready" in status.read(100)
            self._status = os.dup(status.fileno())
        while self._bus.recv() != b"\x01notify.meta.should_doc":
            pass

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)
        os.close(self._status)

    def tell(self, topic: str, **body: Any) -> None:
        self._bus.send_multipart([topic.encode(), msgpack.packb({"topic": topic, **body})])

    def ask(self, what: str, request: object = None, **fields: Any) -> None:
        self.tell(f"notify.recording.{what}", subject=f"recording.{what}", request=request, **fields)

    def turn(self) -> None:
        for camera in self.cameras.values():
            camera.lane.turn()

    def until(self, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + _LONGEST_S
        while not (seen := look()):
            assert time.monotonic() < deadline, "it did not come to that"
            self.turn()
            self._heard.poll(5)
        return seen

    def said(self) -> dict[str, Any]:
        """Return the next notification about the recording, if there is one."""
        while self._heard.poll(0):
            payload = decode(self._heard.recv_multipart()).payload
            if str(payload.get("subject", "")).startswith("recording."):
                return payload
        return {}

    def hear(self, *wanted: str) -> dict[str, Any]:
        """Return the next notification about the recording, which must be as wanted."""

        payload = self.until(self.said)
        assert (payload["subject"].partition(".")[2], payload.get("request")) == wanted
        return payload

    def start(self, request: str = "start", **fields: Any) -> Path:
        self.ask("should_start", request, **fields)
        eyes = fields.get("record_eye", True)
        wanted = [camera for camera in self.cameras.values() if eyes or not camera.stream.startswith("eye")]
        self.until(lambda: all(camera.lane.recording for camera in wanted))
        for camera in wanted:
            camera.shoot()
        return Path(self.hear("started", request)["rec_path"])

    def close(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            self.kill()
        for camera in self.cameras.values():
            camera.lane.close()
        self.context.destroy(linger=0)


@pytest.fixture
def stage(tmp_path: Path, run_dir: RunDir, clock: PupilClock) -> Iterator[Stage]:
    made = Stage(tmp_path, run_dir, clock, "world", "eye0")
    yield made
    made.close()


@pytest.fixture
def with_sound(tmp_path: Path, run_dir: RunDir, clock: PupilClock) -> Iterator[Stage]:
    made = Stage(tmp_path, run_dir, clock, "world", "eye0", AUDIO)
    yield made
    made.close()


def accounts(folder: Path, stream: str) -> tuple[int, int, dict[str, int], int]:
    report: StreamReport = Manifest.load(folder).streams[stream]
    return report.received, report.written, report.dropped, report.lost


def test_a_recorder_killed_before_the_start_is_complete_still_answers(stage: Stage) -> None:
    world, eye = stage.cameras.values()
    stage.ask("should_start", "a")
    stage.until(lambda: world.lane.recording and eye.lane.recording)
    world.shoot()
    stage.until(lambda: not world.lane.held)
    stage.kill()
    stage.begin()
    eye.shoot()
    folder = Path(stage.hear("started", "a")["rec_path"])
    stage.ask("should_stop", "b")
    stage.hear("stopped", "b")
    assert accounts(folder, "world") == accounts(folder, "eye0") == (1, 1, {}, 0)


def test_a_recorder_killed_before_an_impossible_start_failed_still_says_so(stage: Stage) -> None:
    stage.ask("should_start", "a")
    stage.until(lambda: all(camera.lane.recording for camera in stage.cameras.values()))
    stage.kill()
    stage.begin()
    assert stage.hear("failed", "a")["code"] == "no-frames"


def test_a_recorder_killed_while_stopping_stops(stage: Stage) -> None:
    world, eye = stage.cameras.values()
    folder = stage.start()
    world.shoot()
    stage.ask("should_stop", "b")
    # The eye has not been told yet: the recorder waits for it.
    while world.lane.recording:
        world.lane.socket.poll(10)
        world.lane.turn()
    stage.kill()
    for _ in range(100):
        eye.shoot()
    stage.begin()
    assert stage.hear("stopped", "b")["reason"] == "requested"
    assert accounts(folder, "world") == (2, 2, {}, 0)
    assert accounts(folder, "eye0") == (101, 101, {}, 0)


def test_a_stop_right_after_a_restart_takes_what_the_cameras_held(stage: Stage) -> None:
    folder = stage.start()
    stage.kill()
    for _ in range(100):
        for camera in stage.cameras.values():
            camera.shoot()
    stage.begin()
    stage.ask("should_stop", "b")
    stage.hear("stopped", "b")
    assert accounts(folder, "world") == accounts(folder, "eye0") == (101, 101, {}, 0)


def test_a_source_that_ended_while_no_recorder_was_there_hands_over_what_it_held(stage: Stage) -> None:
    folder = stage.start()
    stage.kill()
    world = stage.cameras["world"]
    for _ in range(10):
        world.shoot()
    world.lane.announce("ended", None)
    stage.begin()
    stage.until(lambda: not world.lane.held)
    stage.ask("should_stop", "b")
    stage.hear("stopped", "b")
    assert accounts(folder, "world") == (11, 11, {}, 0)


def test_a_restarted_recorder_still_leaves_the_eyes_out(stage: Stage) -> None:
    folder = stage.start(record_eye=False)
    stage.kill()
    stage.begin()
    stage.cameras["world"].shoot()
    stage.until(lambda: not stage.cameras["world"].lane.held)
    assert not stage.cameras["eye0"].lane.recording
    stage.ask("should_stop", "b")
    stage.hear("stopped", "b")
    assert "eye0" not in Manifest.load(folder).streams


def test_the_clock_cannot_be_set_while_the_recorder_of_a_recording_is_away(stage: Stage) -> None:
    stage.start()
    stage.kill()
    assert stage.clock.held
    stage.begin()
    assert stage.clock.held
    stage.ask("should_stop", "b")
    stage.hear("stopped", "b")
    assert not stage.clock.held


def test_a_stop_during_the_start_waits_for_it(stage: Stage) -> None:
    stage.ask("should_start", "a")
    stage.ask("should_stop", "b")
    stage.until(lambda: all(camera.lane.recording for camera in stage.cameras.values()))
    for camera in stage.cameras.values():
        camera.shoot()
    stage.hear("started", "a")
    stage.hear("stopped", "b")


def test_a_stop_during_a_start_that_fails_is_answered_too(stage: Stage) -> None:
    stage.ask("should_start", "a")
    stage.ask("should_stop", "b")
    assert stage.hear("failed", "a")["code"] == "no-frames"
    assert stage.hear("failed", "b")["code"] == "not-recording"


def test_a_start_during_the_stop_waits_for_it_and_every_stop_is_answered(stage: Stage) -> None:
    first = stage.start("a")
    stage.ask("should_stop", "b")
    stage.ask("should_stop", "c")
    stage.ask("should_start", "d")
    stage.until(lambda: not any(camera.lane.recording for camera in stage.cameras.values()))
    stage.until(lambda: all(camera.lane.recording for camera in stage.cameras.values()))
    for camera in stage.cameras.values():
        camera.shoot()
    said = sorted((stage.until(stage.said) for _ in range(3)), key=lambda body: body["request"])
    assert [(body["request"], body["subject"]) for body in said] == [
        ("b", "recording.stopped"), ("c", "recording.failed"), ("d", "recording.started"),
    ]  # fmt: skip
    assert said[1]["code"] == "not-recording"
    assert Path(said[2]["rec_path"]) != first


def test_what_nobody_waits_for_any_more_is_not_started(stage: Stage, tmp_path: Path) -> None:
    stage.ask("should_start", "late", expires_ns=host_now() - 1)
    assert stage.hear("failed", "late")["code"] == "expired"
    assert not list(tmp_path.rglob("manifest.json"))


def test_of_two_starts_at_once_the_second_is_refused(stage: Stage) -> None:
    stage.ask("should_start", "a")
    stage.ask("should_start", "b")
    stage.until(lambda: all(camera.lane.recording for camera in stage.cameras.values()))
    for camera in stage.cameras.values():
        camera.shoot()
    stage.hear("started", "a")
    assert stage.hear("failed", "b")["code"] == "already-recording"


def test_a_daemon_that_ends_during_a_start_says_so_and_leaves_no_folder(stage: Stage, tmp_path: Path) -> None:
    stage.ask("should_start", "a")
    stage.until(lambda: all(camera.lane.recording for camera in stage.cameras.values()))
    assert stage.process is not None
    stage.process.terminate()
    assert stage.hear("failed", "a")["code"] == "daemon-ended"
    stage.until(lambda: stage.process is not None and stage.process.poll() is not None)
    stage.end()
    assert not list(tmp_path.glob("*/*"))


def test_a_long_row_of_broken_frames_does_not_stop_the_lane(stage: Stage) -> None:
    folder = stage.start()
    world = stage.cameras["world"]
    for _ in range(600):
        world.shoot(b"noise")
    world.shoot()
    stage.until(lambda: not world.lane.held)
    stage.ask("should_stop", "b")
    stage.hear("stopped", "b")
    assert accounts(folder, "world") == (602, 2, {"corrupt": 600}, 0)


def test_a_number_of_a_request_that_cannot_be_sent_back_harms_nobody(stage: Stage) -> None:
    stage.ask("should_start", {b"not": "a string"})
    stage.until(lambda: all(camera.lane.recording for camera in stage.cameras.values()))
    for camera in stage.cameras.values():
        camera.shoot()
    assert stage.until(stage.said)["subject"] == "recording.started"


def test_a_recording_without_the_eyes_has_sound(with_sound: Stage) -> None:
    folder = with_sound.start(record_eye=False)
    with_sound.ask("should_stop", "b")
    assert with_sound.hear("stopped", "b")["record_eye"] is False
    assert set(Manifest.load(folder).streams) >= {"world", AUDIO}
    assert not (folder / "eye0.mp4").exists()
    assert [block.samples.tobytes() for block in Recording(folder).sound()] == [make_sound(0)]


def test_a_microphone_that_says_nothing_fails_the_start(with_sound: Stage) -> None:
    with_sound.ask("should_start", "a")
    with_sound.until(lambda: all(camera.lane.recording for camera in with_sound.cameras.values()))
    with_sound.cameras["world"].shoot()
    with_sound.cameras["eye0"].shoot()
    failed = with_sound.hear("failed", "a")
    assert failed["code"] == "no-frames"
    assert "from: audio (streaming)" in str(failed)


def test_sound_goes_on_where_a_killed_recorder_stopped(with_sound: Stage) -> None:
    folder = with_sound.start()
    microphone = with_sound.cameras[AUDIO]
    for _ in range(30):
        microphone.shoot()
    with_sound.until(lambda: microphone.lane.held < 15)
    with_sound.kill()
    for _ in range(30):
        microphone.shoot()
    with_sound.begin()
    microphone.shoot()
    with_sound.until(lambda: not microphone.lane.held)
    with_sound.ask("should_stop", "b")
    with_sound.hear("stopped", "b")
    assert accounts(folder, AUDIO) == (62, 62, {}, 0)
    assert [part.file for part in Manifest.load(folder).streams[AUDIO].parts] == ["sound.mp4", "sound_001.mp4"]
    blocks = [block.samples.tobytes() for block in Recording(folder).sound()]
    assert blocks == [make_sound(number) for number in range(62)]
    assert [problem for problem in verify(folder).problems if AUDIO in problem] == []


def test_sound_that_cannot_be_recorded_costs_no_image(with_sound: Stage) -> None:
    folder = with_sound.start()
    for _ in range(20):
        for camera in with_sound.cameras.values():
            camera.shoot(b"noise" if camera.stream == AUDIO else JPEG)
    with_sound.until(lambda: not any(camera.lane.held for camera in with_sound.cameras.values()))
    with_sound.ask("should_stop", "b")
    with_sound.until(lambda: with_sound.said().get("subject") == "recording.stopped")
    assert accounts(folder, "world") == accounts(folder, "eye0") == (21, 21, {}, 0)
    assert accounts(folder, AUDIO) == (21, 1, {"corrupt": 20}, 0)


def test_a_microphone_that_comes_back_at_another_rate_begins_a_part(with_sound: Stage) -> None:
    folder = with_sound.start()
    microphone = with_sound.cameras[AUDIO]
    microphone.lane.announce("streaming", dataclasses.replace(microphone.info, sample_rate=44_100))
    microphone.shoot()
    with_sound.until(lambda: not microphone.lane.held)
    with_sound.ask("should_stop", "b")
    with_sound.hear("stopped", "b")
    assert [block.rate for block in Recording(folder).sound()] == [SAMPLE_RATE, 44_100]
