"""The configuration: layers, refusals that name file and key, and the way to TOML and back."""

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed.config import Config, config_root, load_config, parse_setting, profile_names
from gazed.errors import ConfigError
from gazed.toml import encode_toml


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults_are_complete_and_loopback():
    config = load_config()
    assert config.daemon.listen == "127.0.0.1"
    assert config.daemon.port == 50020
    assert list(config.streams) == ["world", "eye0", "eye1", "audio"]
    assert list(config.enabled_streams) == ["world", "eye0", "eye1"]
    assert Path(config.recorder.root).is_absolute()


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_loads(profile):
    assert load_config(profile).enabled_streams


def test_every_default_key_is_commented():
    lines = (config_root() / "default.toml").read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("[") and line != "[streams.eye0]" and line != "[streams.eye1]":
            assert lines[number - 1].startswith("#") or lines[number + 1].startswith("#"), line


def test_later_layers_win(tmp_path):
    file = write(tmp_path / "lab.toml", "[daemon]\nport = 1\nlisten = '0.0.0.0'\n[streams.eye1]\nenabled = false\n")
    config = load_config("simulated-200hz", file, {"daemon": {"port": 2}})
    assert (config.daemon.port, config.daemon.listen) == (2, "0.0.0.0")  # noqa: S104
    assert config.streams["eye0"].options["fps"] == 200
    assert list(config.enabled_streams) == ["world", "eye0", "audio"]


def test_options_are_merged_for_one_source_and_replaced_by_another():
    assert load_config(overrides={"streams": {"eye0": {"options": {"fps": 60}}}}).streams["eye0"].options == {
        "width": 400,
        "height": 400,
        "fps": 60,
    }
    other = {"streams": {"eye0": {"source": "file", "options": {"path": "x"}}}}
    assert load_config(overrides=other).streams["eye0"].options == {"path": "x"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[deamon]\n", "unknown key deamon; did you mean daemon?"),
        ("[daemon]\nprot = 1", "unknown key daemon.prot; did you mean daemon.port?"),
        ("[streams.eye0]\nsorce = 'x'", "unknown key streams.eye0.sorce; did you mean streams.eye0.source?"),
        ("[daemon]\nport = 'x'", "daemon.port: Expected int, got str, found 'x'"),
        ("[daemon]\nport = 70000", "daemon.port: Expected int <= 65535"),
        ("[recorder]\nstart_timeout_s = nan", "recorder.start_timeout_s"),
        ("[recorder]\nmode = 'avi'", "recorder.mode: wanted one of 'jpeg', 'h264', 'mpeg4', found 'avi'"),
        ("[streams.left]\nsource = 'x'", "streams.left: a stream is called world, eye0 to eye9, or audio"),
        ("[streams.eye2]\nenabled = true", "streams.eye2.source is missing"),
        ("streams = 3", "streams: wanted a table, found 3"),
        ("[gaze]\ngazer = 'Gazer4D'", "gaze.gazer: wanted one of 'Gazer3D', 'Gazer2D', 'GazerHMD3D', found 'Gazer4D'"),
        ("[gaze]\nmin_calibration_confidence = 2", "gaze.min_calibration_confidence"),
        ("daemon = 3", "daemon: wanted a table, found 3"),
        ("[daemon", "not TOML"),
    ],
)
def test_refusals_name_file_key_and_remedy(tmp_path, text, wanted):
    with pytest.raises(ConfigError) as caught:
        load_config(file=write(tmp_path / "lab.toml", text))
    assert str(tmp_path / "lab.toml") in caught.value.message
    assert wanted in caught.value.message


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ({"daemon": {"listen": "lab-pc"}}, "daemon.listen: wanted an IPv4 address, found 'lab-pc'"),
        ({"daemon": {"listen": "::1"}}, "daemon.listen: wanted an IPv4 address"),
        ({"daemon": {"pub_port": 5, "sub_port": 5}}, "must differ"),
        ({"recorder": {"floor_mb": 10, "warn_mb": 5}}, "recorder.warn_mb is 5"),
        ({"recorder": {"root": ""}}, "recorder.root is '': wanted a folder"),
        ({"recorder": {"root": "a\0b"}}, "wanted a folder"),
        ({"recorder": {"session_name": "\udcff"}}, "wanted text in UTF-8"),
        ({"plugins": {"start": ["Blink"]}}, "plugins.start: Blink is not one of plugins.enabled"),
        ({"plugins": {"arguments": {"Time_Sync": {}}}}, "plugins.arguments: Time_Sync is not one of plugins.enabled"),
        ({"plugins": {"arguments": {"Time_Sync": 3}}}, "plugins.arguments.Time_Sync: wanted a table, found 3"),
        ({"plugins": {"arguments": [1]}}, r"plugins.arguments: wanted a table, found \[1\]"),
        ({"streams": {name: {"enabled": False} for name in ("world", "eye0", "eye1")}}, "all are disabled"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(overrides, wanted):
    with pytest.raises(ConfigError, match=wanted):
        load_config(overrides=overrides)


def test_a_missing_file_and_profile_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no-such\.toml: No such file"):
        load_config(file=tmp_path / "no-such.toml")
    with pytest.raises(ConfigError, match=r"no profile .simulatd.; did you mean simulated\?"):
        load_config("simulatd")


def test_without_a_home_recordings_go_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for home in ("", str(tmp_path / "none")):
        monkeypatch.setenv("HOME", home)
        assert load_config().recorder.root == str(tmp_path / "recordings")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_config().recorder.root == str(tmp_path / "recordings")


def test_effective_configuration_reads_back_to_the_same(tmp_path):
    config = load_config("simulated-200hz", None, {"recorder": {"user_info": {"odd key": 'a"\\\n\x7fé'}}})
    assert load_config(file=write(tmp_path / "effective.toml", config.to_toml())) == config
    assert Config.from_json(config.to_json()) == config


def test_settings_from_the_command_line():
    assert parse_setting("daemon.port=5") == {"daemon": {"port": 5}}
    assert parse_setting("streams.world.options.path=/a b") == {"streams": {"world": {"options": {"path": "/a b"}}}}
    for bad in ("port", "=3", "daemon..port=3"):
        with pytest.raises(ConfigError, match="wanted KEY=VALUE"):
            parse_setting(bad)


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.dates(),
)
keys = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8)


@given(st.dictionaries(keys, values))
def test_toml_round_trip(tree):
    assert tomllib.loads(encode_toml(tree)) == tree


def test_toml_keeps_nan_and_refuses_none():
    assert math.isnan(tomllib.loads(encode_toml({"a": math.nan}))["a"])
    with pytest.raises(TypeError, match="None has no form in TOML"):
        encode_toml({"a": None})
