"""The command line: one JSON object, errors with hint and exit code, and nothing that needs a home or a screen."""

import json
import os
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

import gazed
from gazed.cli import main
from gazed_recorder.testing import make_recording


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def one_object(result):
    assert result.stdout.count("\n") == 1, result.stdout
    return json.loads(result.stdout)


@pytest.fixture
def nobody():
    """A port at which nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.fixture
def recording(tmp_path):
    return make_recording(tmp_path)


def test_help_names_every_exit_code_and_command():
    text = run("--help").output
    for code in (0, 1, 2, 3, 4, 5, 6, 7):
        assert f"\n    {code}  " in text
    for command in main.commands:
        assert f"\n  {command} " in text
        assert run(command, "--help").exit_code == 0


def test_version():
    assert one_object(run("version", "--json")) == {"version": gazed.__version__}
    assert run("version").output == f"gazed {gazed.__version__}\n"


def test_config_show_and_check():
    shown = one_object(run("config", "show", "--port", 5, "--set", "recorder.mode=h264", "--json"))
    assert (shown["daemon"]["port"], shown["recorder"]["mode"]) == (5, "h264")
    assert "[streams.eye0]" in run("config", "show").output
    checked = one_object(run("config", "check", "--profile", "simulated", "--json"))
    assert checked == {"ok": True, "streams": ["world", "eye0", "eye1"]}


def test_a_camera_option_that_does_not_exist_is_refused_with_its_stream():
    result = run("config", "check", "--set", "streams.eye1.options.widht=3")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: streams.eye1: ")
    assert "widht" in result.stderr


def test_an_error_is_text_with_a_hint_or_one_object():
    text = run("config", "show", "--profile", "simulatd")
    assert (text.exit_code, text.stdout) == (2, "")
    assert text.stderr.splitlines()[0] == "error: no profile 'simulatd'; did you mean simulated?"
    assert text.stderr.splitlines()[1].startswith("hint: profiles: ")
    error = one_object(run("config", "show", "--profile", "simulatd", "--json"))["error"]
    assert error["code"] == "config"
    assert set(error) == {"code", "message", "hint"}


def test_devices_lists_the_sources():
    listed = one_object(run("devices", "--json"))
    assert {"file", "simulated"} <= set(listed["sources"])
    assert listed["problems"] == {}
    assert "installed sources: file, simulated" in run("devices").output


@pytest.mark.parametrize("command", [["status"], ["record", "stop"]])
def test_without_a_daemon_commands_say_so_with_exit_code_3(command, nobody):
    result = run(*command, "--port", nobody, "--json")
    assert result.exit_code == 3
    assert one_object(result)["error"]["code"] == "not-reachable"


def test_waiting_for_a_daemon_that_does_not_come_ends(nobody):
    result = run("status", "--port", nobody, "--wait", 0.1)
    assert result.exit_code == 1
    assert "not ready after 0.1 s: the daemon does not answer" in result.stderr


def test_user_info_must_be_pairs(nobody):
    result = run("record", "start", "--info", "P01", "--port", nobody)
    assert result.exit_code == 2
    assert "wanted KEY=VALUE" in result.stderr


def test_verify_info_and_repair_of_a_good_recording(recording):
    verified = run("verify", recording, "--json")
    assert verified.exit_code == 0, verified.output
    proof = one_object(verified)
    assert (proof["ok"], proof["problems"]) == (True, [])
    for stream in proof["streams"].values():
        assert {"frames", "timestamps", "gaps", "dropped"} <= set(stream)
    repaired = one_object(run("repair", recording, "--json"))
    assert (repaired["repaired"], repaired["lost"], repaired["problems"]) == (False, {}, [])
    described = one_object(run("info", recording, "--json"))
    assert described["state"] == "complete"
    assert described["streams"]["world"]["count"] == proof["streams"]["world"]["frames"]
    assert run("info", recording).exit_code == 0
    assert "verified" in run("verify", recording, "--quick").output


def test_a_damaged_recording_fails_with_exit_code_6(recording):
    with (recording / "world.mp4").open("r+b") as video:
        video.seek(2000)
        video.write(b"damaged!")
    result = run("verify", recording, "--json")
    assert result.exit_code == 6
    assert one_object(result)["ok"] is False
    assert "NOT verified" in run("verify", recording).output


@pytest.mark.parametrize("command", ["info", "verify", "repair"])
def test_a_folder_that_is_no_recording_is_named(command, tmp_path):
    result = run(command, tmp_path / "none", "--json")
    assert result.exit_code in (2, 6)
    assert str(tmp_path / "none") in result.stdout


def start(*arguments, **environment):
    clean = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        [sys.executable, "-m", "gazed", *arguments], capture_output=True, text=True, env=clean, check=False
    )


def test_it_runs_without_a_home_or_a_screen():
    done = start("config", "show", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recorder"]["root"].endswith("/recordings")


def test_run_refuses_a_wrong_configuration_before_anything_starts():
    done = start("run", "--set", "daemon.prot=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean daemon.port?" in done.stderr


def test_run_on_a_taken_port_ends_with_exit_code_4(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = start("run", "--port", str(other.getsockname()[1]), "--recordings", str(tmp_path))
    assert done.returncode == 4, done.stderr
