"""The configuration: ``default.toml``, then a profile, then a file, then flags; typed, checked, frozen.

Each layer is checked on its own, so that an error names the file and the full key. Settings never come from the last
run. ``Config.to_toml`` is what each recording keeps as ``gazed.toml``.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from gazed.errors import ConfigError
from gazed.toml import encode_toml
from gazed_bus.frame import FrameFormat, is_stream_name

__all__ = [
    "Config",
    "DaemonConfig",
    "FramePublishingConfig",
    "GazeConfig",
    "PluginsConfig",
    "PupilConfig",
    "RecorderConfig",
    "StreamConfig",
    "config_root",
    "load_config",
    "merge_tables",
    "parse_setting",
    "profile_names",
]

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Tree = dict[str, Any]


class DaemonConfig(msgspec.Struct, frozen=True):
    """``[daemon]``: where the network ports are. Port 0 asks for a free one."""

    listen: str
    port: Port
    pub_port: Port
    sub_port: Port


class RecorderConfig(msgspec.Struct, frozen=True):
    """``[recorder]``: where and how recordings are written. ``root`` is absolute; 1 MB is 1,000,000 bytes."""

    root: str
    session_name: str
    mode: Literal["jpeg", "h264", "mpeg4"]
    floor_mb: Annotated[int, msgspec.Meta(ge=1)]
    warn_mb: Annotated[int, msgspec.Meta(ge=1)]
    lane_buffer_mb: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    start_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=2.5)]
    user_info: dict[str, str]


class StreamConfig(msgspec.Struct, frozen=True):
    """``[streams.NAME]``: one camera. ``options`` belong to the source, which checks them."""

    source: Annotated[str, msgspec.Meta(min_length=1)]
    enabled: bool = True
    options: dict[str, Any] = {}


class PupilConfig(msgspec.Struct, frozen=True):
    """``[pupil]``: a pupil detector for each eye camera. ``options`` are the settings of ``Pupil_Detector``."""

    enabled: bool
    options: dict[str, Any]


class GazeConfig(msgspec.Struct, frozen=True):
    """``[gaze]``: calibration and gaze mapping, the arguments of ``Gaze_Mapper``."""

    enabled: bool
    gazer: Literal["Gazer3D", "Gazer2D", "GazerHMD3D"]
    choreography: Literal["marker", "network", "hmd"]
    min_calibration_confidence: Annotated[float, msgspec.Meta(ge=0, le=1)]
    calibration: str
    folder: str


class PluginsConfig(msgspec.Struct, frozen=True):
    """``[plugins]``: the plugins that may be started, and those of them that run from the start.

    ``arguments`` of a plugin are those that it is started with, by its name; each plugin checks its own.
    """

    enabled: tuple[str, ...]
    start: tuple[str, ...]
    arguments: dict[str, dict[str, Any]]


class FramePublishingConfig(msgspec.Struct, frozen=True):
    """``[frame_publishing]``: the format of the ``frame.*`` topics."""

    format: FrameFormat


class Config(msgspec.Struct, frozen=True):
    """The effective configuration of one daemon."""

    daemon: DaemonConfig
    recorder: RecorderConfig
    streams: dict[str, StreamConfig]
    pupil: PupilConfig
    gaze: GazeConfig
    plugins: PluginsConfig
    frame_publishing: FramePublishingConfig

    @property
    def enabled_streams(self) -> dict[str, StreamConfig]:
        """The cameras that are switched on, in the order of the configuration."""
        return {name: stream for name, stream in self.streams.items() if stream.enabled}

    def to_dict(self) -> Tree:
        """Return the configuration as plain tables."""
        tree: Tree = msgspec.to_builtins(self)
        return tree

    def to_toml(self) -> str:
        """Return the configuration as TOML that ``load_config`` reads back to the same."""
        return encode_toml(self.to_dict())

    def to_json(self) -> str:
        """Return the configuration as one JSON object."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Config:
        """Read back what ``to_json`` wrote, in a process started by this one."""
        return msgspec.json.decode(text, type=cls)


def config_root() -> Path:
    """Return the folder that holds ``default.toml``: inside the wheel, or ``config/`` of a checkout."""
    here = Path(__file__).resolve().parent
    packaged = here / "config"
    return packaged if packaged.is_dir() else here.parents[1] / "config"


def profile_names() -> list[str]:
    """Return the names of the profiles that come with gazed, sorted."""
    return sorted(path.stem for path in (config_root() / "profiles").glob("*.toml"))


def load_config(
    profile: str | None = None, file: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Merge default, profile, file and overrides (nested tables, as in TOML) into one configuration.

    Tables are merged key by key; ``options`` start afresh where a layer names another source.

    Raises:
        ConfigError: a file cannot be read, or a key is unknown, of the wrong type or out of range.
    """
    tree: Tree = {}
    for label, layer in _layers(profile, file, overrides or {}):
        _check_table(layer, Config, (), label)
        for name, stream in layer.get("streams", {}).items():
            before = tree["streams"].setdefault(name, {}) if tree else {}
            if stream.get("source", before.get("source")) != before.get("source"):
                before.pop("options", None)
            if "source" not in before | stream:
                raise ConfigError(f"{label}: streams.{name}.source is missing", hint="sources: gazed devices")
        merge_tables(tree, layer)
    return _settled(msgspec.convert(tree, Config))


def parse_setting(text: str) -> Tree:
    """Turn ``KEY=VALUE`` with a dotted key into nested tables; a value that is no TOML is a string.

    Raises:
        ConfigError: there is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text}: wanted KEY=VALUE", hint="as in --set daemon.port=50021")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    return dict(parsed)


def merge_tables(base: Tree, layer: Mapping[str, Any]) -> None:
    """Lay ``layer`` over ``base``, table by table."""
    for key, value in layer.items():
        if isinstance(value, Mapping):
            if not isinstance(base.get(key), dict):
                base[key] = {}
            merge_tables(base[key], value)
        else:
            base[key] = value


def _layers(profile: str | None, file: Path | None, overrides: Mapping[str, Any]) -> Iterator[tuple[str, Tree]]:
    yield "default.toml", _read(config_root() / "default.toml")
    if profile is not None:
        if profile not in profile_names():
            raise ConfigError(
                f"no profile {profile!r}{_nearest(profile, profile_names())}",
                hint=f"profiles: {', '.join(profile_names())}; a file of your own: --config FILE",
            )
        yield f"profile {profile}", _read(config_root() / "profiles" / f"{profile}.toml")
    if file is not None:
        yield str(file), _read(file)
    yield "command line", dict(overrides)


def _read(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="gazed config show prints a complete file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _check_table(table: Mapping[str, Any], kind: type[msgspec.Struct], path: tuple[str, ...], label: str) -> None:
    hints = get_type_hints(kind, include_extras=True)
    for key, value in table.items():
        where = (*path, key)
        if key not in hints:
            raise ConfigError(
                f"{label}: unknown key {'.'.join(where)}{_nearest(key, hints, path)}",
                hint="gazed config show prints every key",
            )
        if key == "streams":
            _check_streams(value, label)
        elif where == ("plugins", "arguments"):
            for name, arguments in _as_table(value, where, label).items():
                _as_table(arguments, (*where, name), label)
        elif isinstance(hints[key], type) and issubclass(hints[key], msgspec.Struct):
            _check_table(_as_table(value, where, label), hints[key], where, label)
        else:
            _check_value(value, hints[key], where, label)


def _check_streams(value: object, label: str) -> None:
    for name, stream in _as_table(value, ("streams",), label).items():
        if not is_stream_name(name):
            raise ConfigError(f"{label}: streams.{name}: a stream is called world, eye0 to eye9, or audio")
        _check_table(_as_table(stream, ("streams", name), label), StreamConfig, ("streams", name), label)


def _as_table(value: object, path: tuple[str, ...], label: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{label}: {'.'.join(path)}: wanted a table, found {value!r}")
    return value


def _check_value(value: object, kind: Any, path: tuple[str, ...], label: str) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        wanted = f"wanted one of {', '.join(map(repr, choices))}" if choices else str(error).replace("`", "")
        raise ConfigError(f"{label}: {'.'.join(path)}: {wanted}, found {value!r}") from error


def _nearest(key: str, known: Mapping[str, Any] | list[str], path: tuple[str, ...] = ()) -> str:
    found = get_close_matches(key, list(known), 1, 0.5)
    return f"; did you mean {'.'.join((*path, found[0]))}?" if found else ""


def _settled(config: Config) -> Config:
    """Check what concerns more than one key, and make the root absolute."""
    try:
        config.to_json()
    except UnicodeEncodeError as error:
        raise ConfigError(f"command line: {error.object!r}: wanted text in UTF-8") from error
    try:
        ipaddress.IPv4Address(config.daemon.listen)
    except ValueError:
        raise ConfigError(
            f"daemon.listen: wanted an IPv4 address, found {config.daemon.listen!r}",
            hint="127.0.0.1 for this machine only, 0.0.0.0 for the whole network",
        ) from None
    ports = [port for port in (config.daemon.port, config.daemon.pub_port, config.daemon.sub_port) if port]
    if len(set(ports)) != len(ports):
        raise ConfigError(f"daemon.port, pub_port and sub_port must differ, found {ports}")
    if config.recorder.warn_mb < config.recorder.floor_mb:
        raise ConfigError(
            f"recorder.warn_mb is {config.recorder.warn_mb}: wanted at least recorder.floor_mb = "
            f"{config.recorder.floor_mb}"
        )
    for key, names in (("start", config.plugins.start), ("arguments", config.plugins.arguments)):
        for name in names:
            if name not in config.plugins.enabled:
                near = _nearest(name, list(config.plugins.enabled))
                raise ConfigError(
                    f"plugins.{key}: {name} is not one of plugins.enabled{near}",
                    hint="add it there, too: what may be started",
                )
    if not config.enabled_streams:
        raise ConfigError("streams: all are disabled; wanted at least one with enabled = true")
    root = str(_absolute(config.recorder.root))
    return msgspec.structs.replace(config, recorder=msgspec.structs.replace(config.recorder, root=root))


def _absolute(root: str) -> Path:
    if not root or "\0" in root:
        raise ConfigError(f"recorder.root is {root!r}: wanted a folder")
    if root == "~" or root.startswith("~/"):
        home = os.environ.get("HOME", "")
        # A service may have no home, or one that does not exist.
        if not home or not Path(home).is_dir() or not os.access(home, os.W_OK):
            return Path.cwd() / root[2:]
    return Path(root).expanduser().absolute()
