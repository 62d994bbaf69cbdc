"""The supervisor: readiness, restarts, budget, refusals, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgpack
import psutil
import pytest
import zmq

from gazed.processes import ManagedProcess
from gazed.testing import pid_of, small_daemon, wait_for
from gazed.trial import Trial
from gazed_bus.errors import NotReachable
from gazed_bus.remote import Remote
from gazed_bus.rundir import RunDir


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with small_daemon(tmp_path_factory.mktemp("recordings")) as trial:
        yield trial


def test_systemd_hears_that_the_daemon_is_ready_and_that_it_stops(tmp_path: Path, monkeypatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with small_daemon(tmp_path / "recordings"):
            assert systemd.recv(1000).startswith(b"READY=1\nSTATUS=listening on 127.0.0.1:")
            assert systemd.recv(1000) == b"WATCHDOG=1"
        while systemd.recv(1000) != b"STOPPING=1":
            pass


def test_nothing_is_left_when_the_daemon_ends(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        family = psutil.Process(daemon.process).children(recursive=True)
        run = Path(family[0].environ()["GAZED_RUN"])
        assert run.exists()
    assert not any(process.is_running() for process in family)
    assert not run.exists()


def test_no_window_or_numerical_library_in_the_supervisor(daemon: Trial) -> None:
    loaded = Path(f"/proc/{daemon.process}/maps").read_text()
    for library in ("numpy", "cv2", "libav", "libGL", "libX11", "Qt"):
        assert library not in loaded


def test_it_listens_on_this_machine_only(daemon: Trial) -> None:
    family = [psutil.Process(daemon.process), *psutil.Process(daemon.process).children(recursive=True)]
    listening = [
        connection.laddr
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert daemon.port in {address.port for address in listening}
    assert daemon.remote.status()["listen"] == "127.0.0.1"


def test_a_taken_port_is_named_and_ends_the_start_with_its_own_code(daemon: Trial, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gazed", "run", "--port", str(daemon.port), "--recordings", str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 4
    assert str(daemon.port) in second.stderr
    assert "--port" in second.stderr
    assert daemon.remote.time() > 0


def test_unknown_plugins_and_garbage_notifications_change_nothing(daemon: Trial) -> None:
    before = daemon.remote.status()["processes"]
    with daemon.remote.subscribe("logging.error") as log:
        for body in (
            {"name": "No_Such_Plugin"},
            {"name": "os.system", "args": {"command": "true"}},
            {"name": None},
            {"name": ["Frame_Publisher"]},
            {"name": "Frame_Publisher\x00"},
        ):
            daemon.remote.notify("start_plugin", **body)
            assert "is not one of the enabled plugins" in log.receive(5).payload["msg"]
        daemon.remote.notify("start_plugin", name="Frame_Publisher", args={"format": b"\x00"})
        assert "are no JSON" in log.receive(5).payload["msg"]
        daemon.remote.notify("frame_publishing.set_format", format="exe")
        assert log.receive(5) is not None
        daemon.remote.notify("eye_process.should_start.7", eye_id=7)
        assert log.receive(5) is not None
        daemon.remote.notify("eye_process.should_stop", eye_id={"a": 1})
        assert log.receive(5) is not None
    after = daemon.remote.status()["processes"]
    assert {name: process["pid"] for name, process in after.items()} == {
        name: process["pid"] for name, process in before.items()
    }


def test_other_arguments_for_a_plugin_that_runs_change_nothing_even_when_it_dies(daemon: Trial) -> None:
    daemon.remote.notify("start_plugin", name="Blink_Detection")
    first = pid_of(daemon, "Blink_Detection")
    with daemon.remote.subscribe("logging.error") as log:
        daemon.remote.notify("start_plugin", name="Blink_Detection", args={"history_length": "long"})
        assert "runs already, with other arguments" in log.receive(5).payload["msg"]
    os.kill(first, signal.SIGKILL)
    assert wait_for(lambda: (pid := pid_of(daemon, "Blink_Detection")) != first and pid)
    daemon.remote.notify("stop_plugin", name="Blink_Detection")
    wait_for(lambda: daemon.remote.status()["processes"]["Blink_Detection"]["state"] == "stopped")


def test_an_eye_that_is_switched_off_and_on_at_once_is_on(daemon: Trial) -> None:
    first = pid_of(daemon, "eye1")
    for _ in range(2):
        daemon.remote.notify("eye_process.should_stop.1", eye_id=1)
        daemon.remote.notify("eye_process.should_start.1", eye_id=1)
    wait_for(lambda: pid_of(daemon, "eye1") != first)
    wait_for(lambda: daemon.remote.status()["streams"]["eye1"]["state"] == "streaming")
    assert daemon.remote.status()["processes"]["eye1"]["restarts"] == 0


def test_ten_thousand_hostile_messages_leave_the_daemon_as_it_was(daemon: Trial) -> None:
    before = daemon.remote.status()["processes"]
    context = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)
    ask = context.socket(zmq.DEALER)
    ask.connect(f"tcp://127.0.0.1:{daemon.port}")
    publish = context.socket(zmq.PUB)
    publish.connect(f"tcp://127.0.0.1:{daemon.remote.status()['ports']['pub_port']}")
    deep = b"\x91" * 2000 + b"\xc0"
    bodies = [
        b"", b"\xff", b"\xc1", b"notify.", b"{", b'{"request": []}', b'{"request": "start", "session_name": 7}', deep,
        msgpack.packb({1: 2}), msgpack.packb({"subject": 5}), msgpack.packb([1, 2]), b"\xdf\xff\xff\xff\xff", b"T nan",
        b"R" + b"\xf0\x9f" * 50, os.urandom(64), msgpack.packb({"subject": "recording.should_start", "mode": "exe"}),
        msgpack.packb({"subject": "recording.should_start", "user_info": 7, "record_eye": "yes"}),
        msgpack.packb({"timestamp": "now", "topic": 3}), msgpack.packb({"streams": {"../../x": 1, 5.5: 2}}),
    ]  # fmt: skip
    topics = [
        b"notify.recording.should_start", b"pupil.0.2d", b"annotation", b"gazed.status", b"\xff\x00", b"frame.world",
        b"notify.eye_process.should_stop", b"delayed_notify.x", b"notify.meta.should_doc", b"\x01", b"",
    ]  # fmt: skip
    for number in range(10_000):
        body = bodies[number % len(bodies)]
        topic = topics[number // 7 % len(topics)]
        if number % 3 == 0:
            ask.send_multipart([b"", body])
        elif number % 3 == 1:
            ask.send_multipart([b"", topic, body, b"extra"])
        else:
            publish.send_multipart([topic, body] if number % 5 else [topic])
        if number % 500 == 0:
            assert daemon.remote.time() > 0
            while ask.poll(0):
                ask.recv_multipart()
    assert daemon.remote.time() > 0
    context.destroy(linger=0)
    wait_for(lambda: daemon.remote.status()["recording"] is None)
    after = daemon.remote.status()["processes"]
    assert {name: after[name]["pid"] for name in before} == {name: before[name]["pid"] for name in before}
    folder = daemon.remote.start("after the storm").rec_path
    daemon.remote.stop()
    assert Path(folder).exists()


def supervise(module: str, arguments: list[str], until, timeout: float = 20) -> ManagedProcess:
    """Run one managed process until a condition holds, and end it."""

    async def live() -> ManagedProcess:
        run = RunDir.create()
        try:
            process = ManagedProcess("tested", module, lambda: arguments, run)
            process.start()
            async with asyncio.timeout(timeout):
                while not until(process):
                    await asyncio.sleep(0.01)
            await process.stop(1.0)
            return process
        finally:
            run.remove()

    return asyncio.run(live())


def test_a_crash_loop_uses_up_its_budget_and_is_then_left_alone_for_a_while() -> None:
    process = supervise("this_module_does_not_exist", [], lambda process: process.state == "failed")
    assert process.restarts == 6
    assert process.last_exit == 1
    assert process.state == "stopped"


def test_a_daemon_that_is_ended_while_it_starts_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gazed", "run", "--port", "0", "--recordings", str(tmp_path)]
    with subprocess.Popen([*command, "--profile", "simulated"]) as starting:
        daemon = psutil.Process(starting.pid)

        def has_broker() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):  # a child that has ended meanwhile
                return any("gazed_bus.broker" in child.cmdline() for child in daemon.children())
            return False

        try:
            wait_for(has_broker, 60)
            starting.terminate()
            assert starting.wait(20) == 0
        finally:
            starting.kill()


def test_a_daemon_that_is_gone_is_reported_as_such() -> None:
    with Remote("127.0.0.1", 1, timeout=0.2) as remote, pytest.raises(NotReachable) as error:
        remote.time()
    assert "127.0.0.1:1" in error.value.message


def test_a_process_that_keeps_dying_is_counted_and_shown(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        with daemon.remote.subscribe("notify.process.died") as heard:
            for deaths in (1, 2):
                os.kill(pid_of(daemon, "eye1"), signal.SIGKILL)
                payload = heard.receive(5).payload
                assert (payload["name"], payload["restarts"], payload["last_exit"]) == ("eye1", deaths, -9)
                wait_for(
                    lambda deaths=deaths: (
                        daemon.remote.status()["processes"]["eye1"]["restarts"] == deaths
                        and daemon.remote.status()["streams"]["eye1"]["state"] == "streaming"
                    )
                )
