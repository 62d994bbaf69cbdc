"""The supervisor: starts every process of the daemon, restarts what dies, and ends all in good order.

It imports no numpy, OpenCV or PyAV, and touches no frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from gazed.analysis import plan_analysis
from gazed.config import Config, StreamConfig
from gazed.processes import ManagedProcess
from gazed.status import PLUGIN_HOST, StatusReport
from gazed_bus.client import Publisher, Pusher, Subscriber
from gazed_bus.log import BusHandler
from gazed_bus.rundir import RunDir
from gazed_timesync import PupilClock

__all__ = ["Supervisor"]

_STATUS_S = 0.5
_RECORDER_GRACE_S = 7.0
_GRACE_S = 1.5
# Signals come in pairs, to the process and to its group: only one that comes later is somebody who will not wait.
_IMPATIENT_S = 1.0
_FORMATS = ("jpeg", "yuv", "bgr", "gray")
_FRAME_PUBLISHER = "Frame_Publisher"
_ALWAYS_ON = ("Annotation_Capture", "Recorder")
_NOTIFICATIONS = (
    "notify.eye_process.should_", "notify.start_plugin", "notify.stop_plugin", "notify.start_eye_plugin",
    "notify.stop_eye_plugin", "notify.frame_publishing.set_format", "notify.meta.should_doc",
)  # fmt: skip
_log = logging.getLogger(__name__)


class Supervisor:
    """One life of the daemon: ``run`` returns its exit code."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._run = RunDir.create()
        self._clock = PupilClock.create(self._run.clock)
        self._processes: dict[str, ManagedProcess] = {}
        self._streams: dict[str, StreamConfig] = config.enabled_streams
        self._format: str = config.frame_publishing.format
        self._plugin_arguments: dict[str, str] = {}
        self._status = StatusReport(self._processes)
        self._stop = asyncio.Event()
        self._publisher = Publisher(self._run.pub)
        self._pusher = Pusher(self._run.push)
        self._listening = False
        self._signal_at = 0.0
        self._log_handler: BusHandler | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Start everything, keep it running until a signal comes, and end it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        listener = threading.Thread(target=self._listen, args=(loop,), name="notifications")
        try:
            broker = self._add("broker", "gazed_bus.broker", self._broker_arguments)
            ready = await self._until_ready(broker)
            if self._stop.is_set():
                return 0
            if not ready:
                return broker.last_exit or 1
            self._log_handler = BusHandler(self._run.push)
            logging.getLogger().addHandler(self._log_handler)
            self._listening = True
            listener.start()
            self._add("recorder", "gazed_recorder.process", self._recorder_arguments)
            for stream in self._streams:
                self._add_camera(stream)
            if self._format != "jpeg":
                self._start_plugin(_FRAME_PUBLISHER, {"format": self._format})
            await self._until_ready(self._processes["recorder"])
            # After the cameras: what computes takes its time to load, and nobody waits for it.
            self._add_analysis()
            for name in self._config.plugins.start:
                self._start_plugin(name, {})
            ports = broker.info
            _log.info("gazed is ready: Pupil Remote on %s:%s", self._config.daemon.listen, ports["port"])
            _sd_notify(f"READY=1\nSTATUS=listening on {self._config.daemon.listen}:{ports['port']}")
            while not self._stop.is_set():
                self._publish_status()
                _sd_notify("WATCHDOG=1")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _STATUS_S)
            return 0
        finally:
            await self._shut_down()
            self._listening = False
            if listener.ident:
                await asyncio.to_thread(listener.join)
            if self._log_handler:
                logging.getLogger().removeHandler(self._log_handler)
                self._log_handler.close()
            self._publisher.close()
            self._pusher.close()
            self._clock.close()
            self._run.remove()

    async def _until_ready(self, process: ManagedProcess) -> bool:
        """Wait for the first ``ready`` of a process; false if it dies, or the daemon is to end, before that."""
        ready, ends = asyncio.ensure_future(process.wait_ready()), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({ready, ends}, return_when=asyncio.FIRST_COMPLETED)
        ends.cancel()
        return not ready.cancel() and ready.result()

    # --- processes --------------------------------------------------------------------------------------------------

    def _add(self, name: str, module: str, arguments: Any) -> ManagedProcess:
        process = self._processes.get(name)
        if process is None:
            process = self._processes[name] = ManagedProcess(name, module, arguments, self._run, self._on_change)
        process.start()
        return process

    def _broker_arguments(self) -> list[str]:
        # A restarted broker takes the ports of the first one, so that every peer finds it again.
        known = self._processes["broker"].info
        wanted = self._config.daemon
        ports = {name: known.get(name, getattr(wanted, name)) for name in ("port", "pub_port", "sub_port")}
        arguments = ["--listen", wanted.listen]
        for name, port in ports.items():
            arguments += [f"--{name.replace('_', '-')}", str(port)]
        return arguments

    def _recorder_arguments(self) -> list[str]:
        recorder = self._config.recorder
        settings = {
            "root": recorder.root,
            "streams": list(self._streams),
            "mode": recorder.mode,
            "session_name": recorder.session_name,
            "floor_bytes": recorder.floor_mb * 1_000_000,
            "warn_bytes": recorder.warn_mb * 1_000_000,
            "start_timeout_s": recorder.start_timeout_s,
            "user_info": recorder.user_info,
            "config": self._config.to_toml(),
        }
        return [json.dumps(settings)]

    def _add_camera(self, stream: str) -> None:
        def arguments() -> list[str]:
            camera = self._config.streams[stream]
            settings = {
                "stream": stream,
                "source": camera.source,
                "options": camera.options,
                "publish": self._format,
                "lane_buffer_bytes": self._config.recorder.lane_buffer_mb * 1_000_000,
            }
            return [json.dumps(settings)]

        self._add(stream, "gazed_capture.camera", arguments)

    def _add_analysis(self) -> None:
        """Start what the configuration asks for and does not run yet."""
        for name, plan in plan_analysis(self._config, self._streams).items():
            command = [plan.plugin, json.dumps(plan.arguments)]
            self._add(name, PLUGIN_HOST, lambda command=command: command)

    def _on_change(self, process: ManagedProcess) -> None:
        _log.info("%s: %s", process.name, process.state)
        if process.name.startswith("eye") and process.state in ("ready", "stopped"):
            what = "started" if process.state == "ready" else "stopped"
            self._notify(f"eye_process.{what}", eye_id=int(process.name[3:]))
            if what == "started":
                self._notify("frame_publishing.started", format=self._format)
        if process.state in ("restarting", "failed"):
            self._notify("process.died", name=process.name, record=True, **process.describe())
        self._publish_status()

    async def _shut_down(self) -> None:
        _sd_notify("STOPPING=1")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        recorder, broker = self._processes.get("recorder"), self._processes.get("broker")
        # The recorder first: it closes a running recording, and for that it needs the cameras and the bus.
        if recorder:
            await recorder.stop(_RECORDER_GRACE_S)
        others = [process for process in self._processes.values() if process not in (recorder, broker)]
        await asyncio.gather(*(process.stop(_GRACE_S) for process in others))
        if broker:
            await broker.stop(_GRACE_S)

    def _on_signal(self) -> None:
        now = time.monotonic()
        if self._stop.is_set() and now - self._signal_at > _IMPATIENT_S:
            _log.warning("another signal: killing what is left")
            for process in self._processes.values():
                process.kill()
        self._signal_at = now
        self._stop.set()

    # --- notifications ----------------------------------------------------------------------------------------------

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        subscriber = Subscriber(self._run.sub, _NOTIFICATIONS)
        try:
            while self._listening:
                message = subscriber.receive(0.2)
                if message is not None:
                    loop.call_soon_threadsafe(self._on_notification, message.payload)
        finally:
            subscriber.close()

    def _on_notification(self, body: Mapping[str, Any]) -> None:
        subject = body.get("subject")
        if not isinstance(subject, str) or self._stop.is_set():
            return
        if subject.startswith("eye_process.should_start"):
            self._switch_eye(body, on=True)
        elif subject.startswith("eye_process.should_stop"):
            self._switch_eye(body, on=False)
        elif subject in ("start_plugin", "start_eye_plugin"):
            self._start_plugin(body.get("name"), body.get("args"))
        elif subject in ("stop_plugin", "stop_eye_plugin"):
            self._stop_plugin(body.get("name"))
        elif subject == "frame_publishing.set_format":
            self._set_format(body.get("format"))
        elif subject == "meta.should_doc":
            self._notify("meta.doc", actor="supervisor", doc=Supervisor.__doc__)

    def _switch_eye(self, body: Mapping[str, Any], *, on: bool) -> None:
        subject = str(body["subject"])
        eye = body.get("eye_id", subject.rpartition(".")[2])
        name = f"eye{eye}"
        if name not in self._config.streams:
            _log.error("%s: there is no %s in the configuration", subject, name)
            return
        if on:
            self._streams[name] = self._config.streams[name]
            self._add_camera(name)
            self._add_analysis()
        elif name in self._streams:
            del self._streams[name]
            for process in (name, f"pupil{name[3:]}"):
                if process in self._processes:
                    self._spawn(self._processes[process].stop(_GRACE_S))
        # The recorder must know before the next command which streams a recording has.
        self._publish_status()

    def _start_plugin(self, name: object, arguments: object) -> None:
        if name in _ALWAYS_ON:
            _log.info("%s is always on", name)
            return
        if self._is_for_the_mapper(name):
            return
        installed = {entry.name for entry in entry_points(group="gazed.plugins")}
        allowed = installed & set(self._config.plugins.enabled)
        if not isinstance(name, str) or name not in allowed:
            _log.error("start_plugin: %r is not one of the enabled plugins: %s", name, ", ".join(sorted(allowed)))
            return
        try:
            given = arguments if isinstance(arguments, Mapping) else {}
            text = json.dumps({**self._config.plugins.arguments.get(name, {}), **given})
        except (TypeError, ValueError) as error:
            _log.error("start_plugin: the arguments of %s are no JSON: %s", name, error)
            return
        running = self._processes.get(name)
        if running and running.runs and text != self._plugin_arguments.get(name):
            # Taken now, they would come into force when it dies.
            _log.error("start_plugin: %s runs already, with other arguments; stop_plugin ends it", name)
            return
        self._plugin_arguments[name] = text
        self._add(name, PLUGIN_HOST, lambda: [name, self._plugin_arguments[name]])

    def _is_for_the_mapper(self, name: object) -> bool:
        """Tell whether this is a plugin of Pupil Capture's whose part the gaze mapper has, which listens itself."""
        is_its = isinstance(name, str) and ("Gazer" in name or name.endswith("ChoreographyPlugin"))
        return is_its and self._config.gaze.enabled

    def _stop_plugin(self, name: object) -> None:
        if self._is_for_the_mapper(name):
            return
        if isinstance(name, str) and name in self._plugin_arguments:
            self._spawn(self._processes[name].stop(_GRACE_S))
        else:
            _log.error("stop_plugin: %r is not running", name)

    def _set_format(self, wanted: object) -> None:
        if wanted not in _FORMATS:
            _log.error("frame_publishing.set_format: %r is not one of %s", wanted, ", ".join(_FORMATS))
            return
        self._format = str(wanted)
        self._spawn(self._restart_frame_publisher())

    async def _restart_frame_publisher(self) -> None:
        running = self._processes.get(_FRAME_PUBLISHER)
        if running:
            await running.stop(_GRACE_S)
        if self._format != "jpeg":
            self._start_plugin(_FRAME_PUBLISHER, {"format": self._format})
        self._notify("frame_publishing.started", format=self._format)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _notify(self, subject: str, **fields: Any) -> None:
        self._pusher.notify({"subject": subject, "timestamp": self._clock.now(), **fields})

    def _publish_status(self) -> None:
        body = {
            "timestamp": self._clock.now(),
            **self._status.body(self._streams),
            "listen": self._config.daemon.listen,
            "frame_format": self._format,
            "clock": {"rate_ppm": self._clock.rate * 1e6, "steps": self._clock.steps, "held": self._clock.held},
        }
        self._publisher.send("gazed.status", body)
        # These two act on it, so they get it where nobody else can speak.
        for name in ("broker", "recorder"):
            if process := self._processes.get(name):
                process.tell(body)


def _sd_notify(message: str) -> None:
    """Tell systemd how the service is doing, if it asked (``NOTIFY_SOCKET``; sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        try:
            notify.sendto(message.encode(), address)
        except OSError as error:
            _log.warning("systemd cannot be told %r: %s", message, error)
