import json
import re
import socket

from click.testing import CliRunner

from gazed.cli import main
from gazed_bus.testing import running_bus
from gazed_timesync import PupilTime


def run(*arguments):
    result = CliRunner().invoke(main, ["clock", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_clocks_of_a_running_daemon():
    with running_bus() as bus:
        bus.clock.jump_to(PupilTime(1000.0))
        sync = {"state": "LOCKED", "leader": "lab", "participants": 1, "offset_s": 0.0, "bound_s": 1e-5}
        clock = {"rate_ppm": 12.5, "steps": 1, "held": True}
        bus.broker.show({"clock": clock, "plugins": {"Time_Sync": sync}})
        port = bus.broker.ports.port
        found = json.loads(run("--port", port, "--json"))
        text = run("--port", port)
        truth = bus.clock.to_pupil(found["host_ns"]) - found["host_ns"] / 1e9
    pupil = found["pupil"]
    assert abs(pupil["offset_s"] - truth) <= pupil["error_s"] + 1e-6
    assert (pupil["rate_ppm"], pupil["steps"], pupil["held"]) == (12.5, 1, True)
    assert "rate +12.500 ppm, 1 steps, held by a recording" in text
    assert "sync    LOCKED, leader: lab    to go: +0.0 us  within: 10.0 us    others: 1" in text
    assert pupil["time_sync"]["leader"] == "lab"


def test_the_clocks_of_pupil_capture_or_of_a_daemon_that_is_just_starting():
    with running_bus() as bus:
        found = json.loads(run("--port", bus.broker.ports.port, "--json"))["pupil"]
        assert sorted(found) == ["address", "error_s", "offset_s"]
        assert re.search(r"pupil   host [+-]0\.0000", run("--port", bus.broker.ports.port))


def test_the_clocks_of_a_machine_without_a_daemon():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        text = run("--port", probe.getsockname()[1])
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert [*lines][:5] == ["host", "pupil", "unix", "raw", "lsl"]
    assert "did not answer" in lines["pupil"]
    assert "+-" in lines["unix"]
    assert {"kernel", "ntp"} <= lines.keys()
