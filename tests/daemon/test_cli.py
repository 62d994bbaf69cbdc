"""The command line: one JSON object, errors with hint and exit code, and nothing that needs a home or a screen."""

import errno
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
    assert checked == {"ok": True, "streams": ["world", "eye0", "eye1", "audio"]}


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
    assert {"file", "simulated", "uvc", "v4l2", "microphone"} <= set(listed["sources"])
    assert {"Simulated world camera", "Simulated microphone"} <= {device["name"] for device in listed["devices"]}
    # A machine without a sound system has no microphones and says why.
    assert set(listed["problems"]) <= {"microphone"}
    assert "installed sources: file, microphone, network" in run("devices").output


@pytest.mark.parametrize("command", [["status"], ["record", "stop"]])
def test_without_a_daemon_commands_say_so_with_exit_code_3(command, nobody):
    result = run(*command, "--port", nobody, "--json")
    assert result.exit_code == 3
    assert one_object(result)["error"]["code"] == "not-reachable"


def test_waiting_for_a_daemon_that_does_not_come_ends(nobody):
    result = run("status", "--port", nobody, "--wait", 0.1)
    assert result.exit_code == 1
    assert "not ready after 0.1 s: the daemon does not answer" in result.stderr


def test_a_name_that_is_not_utf8_is_shown_and_never_a_traceback(tmp_path):
    for environment in ({"LC_ALL": "C.UTF-8"}, {"PYTHONIOENCODING": "ascii"}):
        name = os.fsencode(tmp_path) + b"/\xffn\xc3\xbcn"
        error = json.loads(start("info", name, "--json", **environment).stdout)["error"]
        assert os.fsencode(error["message"].removesuffix(" is not a folder")) == name
        text = start("info", name, **environment)
        assert text.returncode == 2
        assert text.stderr.startswith(f"error: {tmp_path}/")
        assert len(text.stderr.splitlines()) == 2
    refused = start("config", "show", "--recordings", name)
    assert refused.returncode == 2
    assert refused.stderr.endswith(": wanted text in UTF-8\n")


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
    assert described["software"].startswith("gazed ")
    text = run("info", recording).output
    assert f"{described['duration_s']} s\n" in text
    assert f"{described['size_mb']} MB\n" in text
    assert "verified" in run("verify", recording, "--quick").output


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_name_that_the_terminal_lacks_can_be_shown(command, recording):
    folder = recording.rename(recording.with_name("\u00fc\u4e2d"))
    done = start(command, folder, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_a_damaged_recording_fails_with_exit_code_6(recording):
    with (recording / "world.mp4").open("r+b") as video:
        video.seek(2000)
        video.write(b"damaged!")
    result = run("verify", recording, "--json")
    assert result.exit_code == 6
    assert one_object(result)["ok"] is False
    assert "NOT verified" in run("verify", recording).output


@pytest.mark.parametrize("command", ["info", "verify", "repair"])
@pytest.mark.parametrize("name", ["none", "file", "x" * 5000])
def test_what_is_no_folder_is_named(command, name, tmp_path):
    (tmp_path / "file").touch()
    result = run(command, tmp_path / name, "--json")
    assert result.exit_code == 2
    assert one_object(result)["error"]["message"] == f"{tmp_path / name} is not a folder"


@pytest.mark.parametrize("command", ["info", "verify", "repair"])
def test_a_folder_that_is_no_recording_is_named(command, tmp_path):
    result = run(command, tmp_path, "--json")
    assert result.exit_code == 2
    error = one_object(result)["error"]
    assert error["code"] == "not-a-recording"
    assert error["message"].startswith(f"{tmp_path} holds n")


def test_repair_that_cannot_help_does_not_advise_itself(tmp_path):
    for name in ("manifest.json", "info.player.json"):
        (tmp_path / name).write_text("{}")
    result = run("repair", tmp_path)
    assert result.exit_code == 6
    assert "hint: beyond repair" in result.stderr


def test_wrong_usage_is_one_object_too():
    result = run("verify", "--json")
    assert result.exit_code == 2
    error = one_object(result)["error"]
    assert (error["code"], error["message"]) == ("usage", "Missing argument 'DIR'.")
    assert error["hint"].endswith("verify --help")
    assert run("verify").stdout == ""


def test_what_the_system_refuses_is_no_traceback(recording, monkeypatch):
    def refuse(_folder):
        raise PermissionError(errno.EACCES, "Permission denied", "/secret/world.mp4")

    monkeypatch.setattr("gazed.summary.describe", refuse)
    result = run("info", recording)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: /secret/world.mp4: Permission denied\nhint: ")


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
    assert len(done.stderr.splitlines()) == 2
    assert "is taken by another program" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_run_on_an_address_of_another_machine_is_refused(tmp_path):
    done = start("run", "--listen", "203.0.113.7", "--recordings", str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: daemon.port: port 50020 on 203.0.113.7 cannot be had: ")
    assert len(done.stderr.splitlines()) == 2
