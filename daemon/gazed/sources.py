"""Asking the sources before the daemon starts: whether their options are right, which device each gets, if all fit.

A process of its own (``python -m gazed.sources``, configuration as JSON on standard input): sources may load numpy,
codecs and drivers, and the supervisor stays without them. A driver that crashes takes nothing else along.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gazed.config import Config
from gazed.errors import ConfigError, DaemonError
from gazed_timesync import GazedError

if TYPE_CHECKING:
    from gazed_capture.source import Source

__all__ = ["ControllerLoad", "StreamPlan", "check_sources", "controller_loads", "plan_streams", "refuse_ambiguous"]

_REFUSED = 2
# Sound systems that hang keep whoever asks them for half a minute.
_PATIENCE_S = 10.0


class StreamPlan(msgspec.Struct, frozen=True):
    """Which device a stream would get now, or why it gets none."""

    stream: str
    source: str
    name: str = ""
    """Of the device; empty if there is none."""
    serial: str = ""
    path: str = ""
    controller: str = ""
    reserves: int = 0
    limit: int = 0
    """As ``gazed_capture.source.Demand``."""
    code: str = ""
    """Of the error; empty where the device can be opened, ``device-problem`` where it is there but cannot."""
    message: str = ""
    hint: str = ""

    @property
    def found(self) -> str:
        """The device in one line."""
        marks = ", ".join(mark for mark in (self.serial, self.path) if mark)
        return f"{self.name} ({marks})" if marks else self.name


class ControllerLoad(msgspec.Struct, frozen=True):
    """What the cameras of one USB controller ask of it, in bytes of each microframe (125 us)."""

    controller: str
    asked: int
    limit: int
    streams: dict[str, int]
    """What each asks."""
    left_out: list[str]
    """The streams that do not fit any more, in the order of the configuration."""

    @property
    def text(self) -> str:
        """The load in one line."""
        asks = ", ".join(f"{stream} {size}" for stream, size in self.streams.items())
        text = f"{self.controller}: {self.asked} of {self.limit} bytes a microframe asked for ({asks})"
        return f"{text}; no room for {', '.join(self.left_out)}" if self.left_out else text


def check_sources(config: Config) -> None:
    """Construct every enabled source once, which opens nothing, and refuse what it refuses.

    Raises:
        ConfigError: a source is not installed, or refuses an option; the message names the stream.
    """
    code, output, errors = _ask(config, "check")
    _pass_on_refusal(code, output)
    if code:
        raise DaemonError(f"checking the sources failed: {errors}")


def plan_streams(config: Config, *, patience_s: float = _PATIENCE_S) -> list[StreamPlan]:
    """Tell for every enabled stream which device it would get now; nothing is opened.

    Raises:
        ConfigError: as ``check_sources``.
        DaemonError: the process that looks died, which a driver may make it do, or has no answer after ``patience_s``;
            the message says so.
    """
    try:
        code, output, errors = _ask(config, "plan", patience_s)
    except subprocess.TimeoutExpired as error:
        raise DaemonError(
            f"looking for the cameras has taken longer than {patience_s:g} s", hint="is the sound system hanging?"
        ) from error
    _pass_on_refusal(code, output)
    if code < 0:
        raise DaemonError(f"looking for the cameras ended with signal {signal.Signals(-code).name}")
    if code:
        raise DaemonError(f"looking for the cameras failed: {errors}")
    return msgspec.json.decode(output, type=list[StreamPlan])


def refuse_ambiguous(plans: Sequence[StreamPlan]) -> None:
    """Refuse a set-up in which chance would decide which camera a stream gets.

    Raises:
        DaemonError: more than one device fits a stream, or two streams get the same; the message lists them.
    """
    owners: dict[tuple[str, str], str] = {}
    for plan in plans:
        if plan.code == "device-ambiguous":
            raise DaemonError(f"streams.{plan.stream}: {plan.message}", hint=plan.hint)
        if plan.path:
            device = (plan.controller, plan.path)
            if other := owners.get(device):
                raise DaemonError(
                    f"streams.{other} and streams.{plan.stream} both take {plan.found}",
                    hint="give each its own serial or path; gazed devices lists the cameras",
                )
            owners[device] = plan.stream


def controller_loads(plans: Sequence[StreamPlan]) -> list[ControllerLoad]:
    """Add up what the cameras ask of each USB controller."""
    loads: dict[str, ControllerLoad] = {}
    for plan in plans:
        if not plan.controller or not plan.reserves:
            continue
        load = loads.get(plan.controller) or ControllerLoad(plan.controller, 0, plan.limit, {}, [])
        taken = sum(size for stream, size in load.streams.items() if stream not in load.left_out)
        left_out = [*load.left_out, plan.stream] if taken + plan.reserves > plan.limit else load.left_out
        streams = {**load.streams, plan.stream: plan.reserves}
        loads[plan.controller] = ControllerLoad(plan.controller, sum(streams.values()), plan.limit, streams, left_out)
    return list(loads.values())


def _pass_on_refusal(code: int, output: bytes) -> None:
    if code == _REFUSED and output:
        refusal = msgspec.json.decode(output, type=dict[str, str])
        raise ConfigError(refusal["message"], hint=refusal["hint"])


def _ask(config: Config, what: str, patience_s: float | None = None) -> tuple[int, bytes, str]:
    command = [sys.executable, "-m", "gazed.sources", what]
    given = config.to_json().encode()
    done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=patience_s)
    # Drivers of cameras print what they like; the answer is the last line.
    lines = done.stdout.splitlines()
    return done.returncode, lines[-1] if lines else b"", done.stderr.decode(errors="replace").strip()[-500:]


def _main(argv: list[str]) -> int:
    from gazed_capture.source import make_source

    config = Config.from_json(sys.stdin.buffer.read())
    sources: dict[str, Source] = {}
    for name, stream in config.enabled_streams.items():
        try:
            sources[name] = make_source(stream.source, name, stream.options)
        except GazedError as error:
            _answer({"message": f"streams.{name}: {error.message.removeprefix(f'{name}: ')}", "hint": error.hint})
            return _REFUSED
    if argv[1] == "plan":
        _answer([_plan(name, config.streams[name].source, source) for name, source in sources.items()])
    return 0


def _plan(stream: str, kind: str, source: Source) -> StreamPlan:
    try:
        demand = source.find()
    except GazedError as error:
        message = error.message.removeprefix(f"{stream}: ")
        return StreamPlan(stream, kind, code=error.code, message=message, hint=error.hint)
    device = demand.device
    return StreamPlan(
        stream, kind, device.name, device.serial, device.path, device.controller, demand.reserves, demand.limit,
        code="device-problem" if device.problem else "", message=device.problem,
    )  # fmt: skip


def _answer(value: object) -> None:
    sys.stdout.write(f"\n{msgspec.json.encode(value).decode()}\n")


if __name__ == "__main__":
    sys.exit(_main(sys.argv))
