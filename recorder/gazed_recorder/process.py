"""The recorder process: takes frames from the lane and datums from the bus, and does what notifications ask.

Started by the supervisor as ``python -m gazed_recorder.process '<RecorderSettings as JSON>'``. While a recording runs,
its folder stands in ``<run directory>/recording``; a recorder that finds it there goes on with that recording.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from gazed_bus.child import Child
from gazed_bus.client import Pusher, Subscriber
from gazed_bus.codec import decode
from gazed_bus.errors import MessageError
from gazed_bus.frame import is_stream_name
from gazed_bus.lane import Ended, Hello, LaneReceiver
from gazed_bus.rundir import RunDir
from gazed_recorder.course import Course
from gazed_recorder.datums import RECORDED_TOPICS
from gazed_recorder.errors import DiskFull
from gazed_recorder.outcome import complete, describe, echo, failure, refusal
from gazed_recorder.repair import repair_unfinished
from gazed_recorder.session import RecorderSettings, Session, StartRequest
from gazed_recorder.space import free_bytes
from gazed_timesync import GazedError, PupilClock, host_now

__all__ = ["Recorder"]

_TICK_S = 0.05
_GATHER_S = 0.008
_CAMERA_SILENT_S = 1.6
_STOP_WAIT_S = 2.0
# The supervisor gives the recorder seven seconds to end; what the end can do without is left out before that.
_CLOSE_S = 4.0
_BATCH = 200
_MOST_WAITING = 32
_CONTROL = ("notify.recording.should_", "notify.meta.should_doc")
_log = logging.getLogger(__name__)


class _Camera(NamedTuple):
    hello: Hello
    seen: float


class Recorder:
    """At most one recording at a time. ``turn`` does one step of the loop and never waits longer than a tick."""

    def __init__(self, settings: RecorderSettings, run: RunDir, clock: PupilClock) -> None:
        self._settings = settings
        self._clock = clock
        self._root = Path(settings.root)
        self._pointer = run.path / "recording"
        self._lane = LaneReceiver(run.lane)
        self._bus = Subscriber(run.sub, [*RECORDED_TOPICS, *_CONTROL], hwm=100_000)
        self._pusher = Pusher(run.push)
        self._poller = zmq.Poller()
        self._poller.register(self._lane.socket, zmq.POLLIN)
        self._poller.register(self._bus.socket, zmq.POLLIN)
        self._cameras: dict[bytes, _Camera] = {}
        self._streams = list(settings.streams)
        self._session: Session | None = None
        self._course = Course("")
        self._commands: deque[Mapping[str, Any]] = deque()
        self._deadline = 0.0
        self._finishing: list[threading.Thread] = []
        self._ticked = 0.0
        self._warned_full = False
        self._closed_by = math.inf
        self._unreadable = 0
        if self._pointer.exists():
            self._resume()
        else:
            clock.release()
        self._repairing = threading.Thread(target=self._repair_left_over, name="repair", daemon=True)
        self._repairing.start()

    def turn(self) -> None:
        """Wait for frames, datums or the next tick, and handle what came."""
        if self._poller.poll(int(_TICK_S * 1000)):
            # Nothing here is urgent; others, who just got the same frame, are in a hurry.
            time.sleep(_GATHER_S)
        self._take_frames()
        self._take_datums()
        if (now := time.monotonic()) - self._ticked >= _TICK_S:
            self._ticked = now
            self._tick(now)

    def expect(self, status: Mapping[str, Any]) -> None:
        """Take over from the supervisor's status which streams a recording is to have."""
        if "streams" in status:
            self._streams = [name for name in status["streams"] if is_stream_name(name)]

    def stats(self) -> dict[str, Any]:
        """Return what the supervisor shows in ``gazed status``."""
        session = self._session
        return {
            "recording": str(session.folder) if session and self._course.started else None,
            "streams": session.stats() if session else {},
            "bytes": session.bytes_written if session else 0,
            "finishing": len(self._finishing),
            "free_bytes": free_bytes(self._root) if self._root.exists() else None,
        }

    def close(self) -> None:
        """Close a running recording in good order and end."""
        self._closed_by = time.monotonic() + _CLOSE_S
        if self._session and not self._course.started:
            self._give_up(refusal("the daemon ends", "daemon-ended", "start it again: gazed run"))
        self._stop("daemon ended", {})
        while self._session:
            self.turn()
        for thread in self._finishing:
            thread.join()
        self._pusher.close()
        self._bus.close()
        self._lane.close()

    # --- frames -----------------------------------------------------------------------------------------------------

    def _take_frames(self) -> None:
        session = self._session
        touched: set[bytes] = set()
        for _ in range(_BATCH):
            match self._lane.receive():
                case None:
                    break
                case Hello() as hello:
                    self._cameras[hello.identity] = _Camera(hello, time.monotonic())
                    self._invite(hello)
                case Ended() as ended:
                    if session and ended.session == session.number:
                        session.camera_ended(ended)
                        self._lane.done(ended.identity, ended.session)
                case (identity, header, payload):
                    if session is None or header.session != session.number or identity not in session.cameras:
                        continue
                    touched.add(identity)
                    if self._warned_full:
                        session.refuse_frame(identity, header, "disk")
                        continue
                    try:
                        session.take_frame(identity, header, payload.buffer)
                    except OSError as error:
                        self._disk_trouble(error)
        if session:
            for identity in touched:
                self._lane.confirm(identity, session.confirmed_ns(session.cameras[identity]))

    def _invite(self, hello: Hello) -> None:
        """Ask a camera for its frames, unless there is no recording, or one that it is part of already."""
        session = self._session
        if session is None or hello.info is None:
            return
        if hello.identity in session.cameras:
            session.infos[hello.stream] = hello.info
            return
        away = hello.state not in ("streaming", "silent") and hello.session != session.number
        if away or (hello.stream.startswith("eye") and not self._course.eyes):
            return
        after_ns = session.join(hello.identity, hello.stream, hello.info)
        self._lane.start(hello.identity, session.number, after_ns)
        if self._course.stop_reason is not None:
            # It may hold frames that it kept for a recorder that has died.
            self._lane.stop(hello.identity, session.number)

    # --- datums and commands ----------------------------------------------------------------------------------------

    def _take_datums(self) -> None:
        for _ in range(_BATCH * 5):
            frames = self._bus.receive_packed(0)
            if frames is None:
                break
            try:
                self._take_datum(str(frames[0], "utf-8"), bytes(frames[1]))
            except (MessageError, UnicodeDecodeError) as error:
                self._unreadable += 1
                # A flood must not fill the log: 1, 2, 4, 8, …
                if self._unreadable & (self._unreadable - 1) == 0:
                    _log.warning("%d messages on the bus were left out, the last: %s", self._unreadable, error)

    def _take_datum(self, topic: str, packed: bytes) -> None:
        if topic.startswith(_CONTROL):
            self._on_command(decode([topic.encode(), packed]).payload)
            return
        if self._session and not self._warned_full:
            try:
                self._session.datums.take(topic, packed, self._clock.now())
            except OSError as error:
                self._disk_trouble(error)
        elif topic.startswith("annotation"):
            self._ignore_annotation(packed)

    def _on_command(self, body: Mapping[str, Any]) -> None:
        subject = body.get("subject")
        if subject == "meta.should_doc":
            self._notify("meta.doc", actor="recorder", doc=Recorder.__doc__)
        elif subject not in ("recording.should_start", "recording.should_stop"):
            return
        elif len(self._commands) < _MOST_WAITING:
            self._commands.append(body)
            self._obey()
        else:
            self._fail(body, refusal(f"{_MOST_WAITING} commands are waiting already", "busy", "ask again later"))

    def _obey(self) -> None:
        """Do what was asked for, one after the other: while a recording starts or stops, the next command waits."""
        while self._commands and not (self._session and self._course.changing):
            body = self._commands.popleft()
            if body["subject"] == "recording.should_start":
                self._start(body)
            elif self._session:
                self._stop("requested", body)
            else:
                self._fail(body, refusal("no recording is running", "not-recording", "gazed record start"))

    def _ignore_annotation(self, packed: bytes) -> None:
        body = decode([b"annotation", packed]).payload
        if isinstance(body.get("label"), str):
            reason = "no recording is running"
            fields = {"label": body["label"], "timestamp": body.get("timestamp"), "reason": reason}
            self._notify("annotation.ignored", **fields)

    # --- start ------------------------------------------------------------------------------------------------------

    def _start(self, request: Mapping[str, Any]) -> None:
        try:
            wanted = StartRequest.parse(request)
            if self._session:
                running = f"a recording is running already: {self._session.folder}"
                raise refusal(running, "already-recording", "stop it first: gazed record stop")
            if wanted.expires_ns is not None and host_now() > wanted.expires_ns:
                raise refusal("whoever asked for the recording has given up", "expired", "ask again")
            if self._closed_by < math.inf:
                raise refusal("the daemon ends", "daemon-ended", "start it again: gazed run")
            streams = [name for name in self._streams if wanted.record_eye or not name.startswith("eye")]
            self._session = Session.begin(self._settings, self._clock, wanted, streams)
        except (GazedError, OSError) as error:
            if self._session is None:
                self._clock.release()
            self._fail(request, error)
            return
        self._course = Course(str(self._session.folder), echo(request), bool(wanted.record_eye))
        self._course.save(self._pointer)
        self._warned_full = False
        self._session.datums.forgive_losses(self._bus.lost)
        self._deadline = time.monotonic() + self._settings.start_timeout_s * 0.9
        for camera in self._cameras.values():
            if time.monotonic() - camera.seen < _CAMERA_SILENT_S:
                self._invite(camera.hello)

    def _check_started(self, now: float) -> None:
        session, course = self._session, self._course
        if session is None or course.started or course.stop_reason is not None:
            return
        if not session.missing:
            course.started = True
            course.save(self._pointer)
            self._notify("recording.started", **describe(session), **course.request)
        elif now > self._deadline:
            states = {camera.hello.stream: camera.hello.state for camera in self._cameras.values()}
            what = ", ".join(f"{name} ({states.get(name, 'no process')})" for name in session.missing)
            hint = "gazed status shows each stream; gazed devices what is connected"
            silent = f"no frame within {self._settings.start_timeout_s} s from: {what}"
            self._give_up(refusal(silent, "no-frames", hint))

    def _give_up(self, error: Exception) -> None:
        self._fail(self._course.request, error)
        self._stop("start failed", {})

    # --- stop -------------------------------------------------------------------------------------------------------

    def _stop(self, reason: str, request: Mapping[str, Any]) -> None:
        """Ask the cameras for what they hold; ``_check_stopped`` closes the files once it is there."""
        course = self._course
        if self._session is None or course.stop_reason is not None:
            return
        course.stop_reason = reason
        course.request = {**course.request, **echo(request)}
        course.save(self._pointer)
        self._deadline = time.monotonic() + _STOP_WAIT_S
        for identity in self._session.cameras:
            self._lane.stop(identity, self._session.number)

    def _check_stopped(self, now: float) -> None:
        session, course = self._session, self._course
        if session is None or course.stop_reason is None:
            return
        for identity in session.cameras:
            camera = self._cameras.get(identity)
            if camera is None or now - camera.seen > _CAMERA_SILENT_S:
                session.leave(identity)
        if not session.all_ended and now < self._deadline:
            return
        session.datums.note_losses(self._bus.lost)
        for identity in session.cameras:
            self._lane.done(identity, session.number)
        session.end(course.stop_reason)
        self._session = None
        self._pointer.unlink(missing_ok=True)
        self._clock.release()
        # Closing an hour of video takes longer than this loop may be silent.
        work = (session, course, self._pusher.sibling(), self._clock, lambda: time.monotonic() > self._closed_by)
        thread = threading.Thread(target=complete, args=work, name="finish")
        self._finishing.append(thread)
        thread.start()

    # --- always -----------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._cameras = {name: camera for name, camera in self._cameras.items() if now - camera.seen < 10}
        self._finishing = [thread for thread in self._finishing if thread.is_alive()]
        session = self._session
        if session is None:
            return
        try:
            session.datums.note_losses(self._bus.lost)
            annotations, drops = session.tick()
        except (DiskFull, OSError) as error:
            self._disk_trouble(error)
        else:
            for annotation in annotations:
                fields = {"label": annotation.label, "timestamp": annotation.timestamp}
                self._notify("annotation.recorded", **fields, rec_path=f"{session.folder}/")
            for stream, count in drops.items():
                report = session.manifest.streams[stream]
                _log.warning("%s: %d dropped: %s", stream, count, report.dropped)
                self._notify("recording.dropped", stream=stream, count=count, dropped=report.dropped)
        for identity, stream in session.cameras.items():
            self._lane.confirm(identity, session.confirmed_ns(stream))
        self._check_started(now)
        self._check_stopped(now)
        self._obey()

    def _disk_trouble(self, error: Exception) -> None:
        """Stop in good order; what is on disk stays, what still comes is counted as dropped."""
        if self._warned_full:
            return
        self._warned_full = True
        _log.error("the recording is stopped: %s", error)
        if self._session and self._course.changing and self._course.stop_reason is None:
            self._give_up(error)
        self._stop(f"disk: {error}", {})

    def _fail(self, request: Mapping[str, Any], error: Exception) -> None:
        _log.error("recording.failed: %s", error)
        self._notify("recording.failed", **failure(error), **echo(request))

    def _notify(self, subject: str, **fields: Any) -> None:
        self._pusher.notify({"subject": subject, "timestamp": self._clock.now(), **fields})

    def _resume(self) -> None:
        try:
            self._course = Course.load(self._pointer)
            self._session = Session.resume(Path(self._course.folder), self._settings, self._clock)
        except (GazedError, OSError, msgspec.DecodeError) as error:
            _log.exception("%s cannot be gone on with", self._course.folder or self._pointer)
            self._pointer.unlink()
            self._clock.release()
            self._fail(self._course.request, error)
            return
        _log.warning("going on with %s", self._course.folder)
        waits = self._settings.start_timeout_s if self._course.stop_reason is None else _STOP_WAIT_S
        self._deadline = time.monotonic() + waits

    def _repair_left_over(self) -> None:
        for folder, result in repair_unfinished(self._root):
            _log.warning("%s was cut off: %s; lost: %s", folder, "; ".join(result.actions), result.lost or "nothing")
            for problem in result.problems:
                _log.error("%s: %s", folder, problem)


def main(argv: list[str]) -> None:
    """Run the recorder until the daemon ends."""
    settings = msgspec.json.decode(argv[1], type=RecorderSettings)
    with Child.start("recorder") as child:
        recorder = Recorder(settings, child.run, child.clock)
        try:
            child.ready()
            gc.collect()
            gc.freeze()
            while not child.stopping:
                recorder.expect(child.told)
                recorder.turn()
                child.beat(recorder.stats)
        finally:
            recorder.close()


if __name__ == "__main__":
    main(sys.argv)
