"""Recordings to try things out with: one comes with gazed, one is recorded here of a simulated wearer.

Nothing is fetched from a network. They are kept in the user's cache, or in the folder that ``GAZED_SAMPLES`` names,
which a lab may share.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from gazed.errors import DaemonError

__all__ = ["SAMPLES", "Sample", "UnknownSample", "fetch_sample", "samples_folder"]

_ARCHIVE = "tiny.tar.xz"
_REGISTRY = {_ARCHIVE: "sha256:d83153d4f47f7cf10c2686cecd1a4b9148101bf842eb5b4865594fa1219d83cd"}
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One recording."""

    name: str
    what: str
    size_mb: float


class UnknownSample(DaemonError):
    """There is no sample of that name."""

    code = "unknown-sample"
    exit_code = 2


SAMPLES = {
    sample.name: sample
    for sample in (
        Sample("tiny", "4 s of a simulated wearer: world, two eyes, pupils, gaze, a blink, fixations; bundled", 2.5),
        Sample(
            "wearer", "10 s of a simulated wearer at full size, recorded and calibrated here in half a minute", 105.0
        ),
    )
}
"""By name."""


def samples_folder() -> Path:
    """Return the folder that samples are kept in."""
    return Path(_bundle().abspath)


def fetch_sample(name: str, output: Path | None = None, say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder of a sample, made if need be; with ``output``, that of a copy of it in there.

    ``say`` gets a line for each step of what takes long.

    Raises:
        UnknownSample: there is none of that name.
        DaemonError: a copy of it is in ``output`` already.
        GazedError: it could not be recorded.
        OSError: it cannot be written.
    """
    if name not in SAMPLES:
        raise UnknownSample(f"no sample {name!r:.100}", hint=f"there are: {', '.join(SAMPLES)}")
    copy = output / name if output is not None else None
    if copy is not None and copy.exists():
        raise DaemonError(f"{copy} is there already", hint="name another folder with --output")
    folder = _unpacked() if name == "tiny" else _recorded(samples_folder() / name, say)
    if copy is None:
        return folder
    shutil.copytree(folder, copy)
    return copy


def _bundle() -> Any:
    import pooch

    return pooch.create(pooch.os_cache("gazed"), base_url="bundled:", registry=_REGISTRY, env="GAZED_SAMPLES")


def _unpacked() -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    found = _bundle().fetch(_ARCHIVE, processor=pooch.Untar(extract_dir="."), downloader=_take_bundled)
    return next(parent for path in found for parent in Path(path).parents if parent.name == "tiny")


def _take_bundled(_url: str, target: Any, _bundle: Any) -> None:
    with as_file(files("gazed") / "sample_data" / _ARCHIVE) as source:
        shutil.copyfile(source, target)


def _recorded(folder: Path, say: Callable[[str], None]) -> Path:
    """Record the wearer, in a folder beside the target, which appears when it is verified."""
    if folder.exists():
        return folder
    from gazed.config import load_config
    from gazed.demo import run_demo

    making = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    try:
        result = run_demo(load_config("simulated", None, {"recorder": {"root": str(making)}}), _SECONDS, say)
        if not result["verified"]:
            raise DaemonError(f"the recording is not whole: {'; '.join(result['problems'])}", hint="try it again")
        Path(result["recording"]).replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder
