"""Arguments of plugins in the configuration: tried beforehand, and kept when a plugin is started again."""

import datetime
import os
import signal
from pathlib import Path

import psutil
import pytest

from gazed.config import load_config
from gazed.errors import ConfigError
from gazed.plugin_check import check_plugins
from gazed.testing import pid_of, small_daemon, wait_for

ENABLED = ["Time_Sync", "Pupil_Groups", "Blink_Detection"]


def check(arguments, enabled=ENABLED):
    check_plugins(load_config(overrides={"plugins": {"enabled": enabled, "arguments": arguments}}))


def test_right_arguments_pass_and_survive_the_toml_of_a_recording(tmp_path):
    arguments = {"Time_Sync": {"base_bias": 5, "node_name": "lab"}, "Blink_Detection": {"history_length": 0.3}}
    check(arguments)
    check({})
    config = load_config(overrides={"plugins": {"enabled": ENABLED, "arguments": arguments}})
    (tmp_path / "gazed.toml").write_text(config.to_toml())
    assert load_config(file=tmp_path / "gazed.toml") == config


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"Time_Sync": {"base_bia": 1}}, r"plugins\.arguments\.Time_Sync: .*no argument 'base_bia'"),
        ({"Time_Sync": {"base_bias": -1}}, r"plugins\.arguments\.Time_Sync: base_bias is a number from"),
        ({"Time_Sync": {"base_bias": float("nan")}}, r"plugins\.arguments\.Time_Sync: .*as JSON has them"),
        ({"Pupil_Groups": {"name": ""}}, r"plugins\.arguments\.Pupil_Groups: name is a string"),
        (
            {"Pupil_Groups": {"name": datetime.date(2020, 1, 1)}},
            r"plugins\.arguments\.Pupil_Groups: .*JSON",
        ),
        ({"Blink_Detection": {"history_length": "long"}}, r"plugins\.arguments\.Blink_Detection: history_length is"),
    ],
)
def test_wrong_arguments_are_refused_by_the_name_of_their_key(arguments, wanted):
    with pytest.raises(ConfigError, match=wanted):
        check(arguments)


def test_plugins_that_are_not_installed_are_refused():
    with pytest.raises(ConfigError, match=r"plugins\.enabled: no plugin 'Time_Sink' is installed") as caught:
        check({}, ["Time_Sync", "Time_Sink"])
    assert "Time_Sync" in caught.value.hint


def test_a_plugin_that_dies_has_its_arguments_again_and_the_network_may_give_others(tmp_path: Path):
    plugins = {"start": ["Blink_Detection"], "arguments": {"Blink_Detection": {"history_length": 0.3}}}

    def given(pid):
        return psutil.Process(pid).cmdline()[-1]

    with small_daemon(tmp_path, more={"plugins": plugins}) as daemon:
        first = pid_of(daemon, "Blink_Detection")
        assert given(first) == '{"history_length": 0.3}'
        os.kill(first, signal.SIGKILL)
        second = wait_for(lambda: (pid := pid_of(daemon, "Blink_Detection")) != first and pid)
        assert given(second) == '{"history_length": 0.3}'
        daemon.remote.notify("stop_plugin", name="Blink_Detection")
        wait_for(lambda: daemon.remote.status()["processes"]["Blink_Detection"]["state"] == "stopped")
        more = {"onset_confidence_threshold": 0.4}
        daemon.remote.notify("start_plugin", name="Blink_Detection", args=more)
        third = pid_of(daemon, "Blink_Detection")
        assert given(third) == '{"history_length": 0.3, "onset_confidence_threshold": 0.4}'
