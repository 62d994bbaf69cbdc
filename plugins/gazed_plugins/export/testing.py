"""The contract of an exporter as a test."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path, PurePath
from shutil import copytree
from typing import Any

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.exporter import Exporter
from gazed_recorder.reader import Recording
from gazed_timesync import GazedError

__all__ = ["check_exporter", "tree_of"]

_HEAVY = {
    "dask", "datafusion", "distributed", "duckdb", "h5netcdf", "h5py", "hdmf", "matplotlib", "movement", "ndx_pose",
    "netCDF4", "pandas", "pyarrow", "pynwb", "rerun", "scipy", "sleap_io", "tables", "xarray",
}  # fmt: skip
_LABEL = "session_A-000"
_PATIENCE_S = 60.0


def check_exporter(
    kind: type[Exporter], args: Mapping[str, Any], folder: Path, output: Path, *, offline: bool = False
) -> Path:
    """Hold an exporter against the protocol of ``gazed_plugins.export.exporter``; return the export that it wrote.

    It is written three times: here; from a copy of the recording, by another process with another working folder, time
    zone and hash seed; and there once more where no file may become as large as its largest, as on a full disk.
    (Libraries that cannot bear that, such as HDF5, write to memory, and the exporter the bytes.)

    Args:
        kind: the class of the exporter, which another process can import.
        args: arguments it takes, as JSON has them.
        folder: a recording that it can export.
        output: a folder for what is written, empty or not there yet.
        offline: as for ``Recording``.

    Raises:
        AssertionError: the exporter breaks the protocol; the text says where.
    """
    _require(bool(inspect.getdoc(kind)), "an exporter has a docstring: it is what users read about the format")
    _require(isinstance(kind.extra, str), "extra is the name of an optional extra, or empty")
    _refuses(lambda: kind({**args, "no_such_argument": 1}))
    before = tree_of(folder, times=True)
    recording = Recording(folder, offline=offline)
    exporter = kind(args)
    name = _check_name(exporter, kind(args), recording)
    place = output / "export"
    target = place / name
    _write(exporter, recording, target)
    _check_missing_folder(exporter, recording, output / "missing" / PurePath(name).name)
    _require(tree_of(folder, times=True) == before, "the recording is unchanged")
    written = tree_of(target)
    copied = copytree(folder, output / "copied" / folder.name)
    _in_another_process(kind, args, copied, output, name, offline)
    _require_same(tree_of(output / "again" / name), written)
    exporter.complete(place)
    completed = tree_of(place)
    kind(args).complete(place)
    _require(tree_of(place) == completed, "complete() twice gives the same bytes")
    _require(tree_of(target) == written, "complete() leaves the exports of recordings as they are")
    return target


def tree_of(path: Path, *, times: bool = False) -> dict[str, tuple[str, int]]:
    """Return what is at and below ``path``: for each file its checksum (of a folder: empty), by its relative path.

    With ``times``, when each file was changed last goes with it, in ns.

    Raises:
        AssertionError: there is something that is neither a file nor a folder, or nothing at all.
    """
    found = {}
    _require(path.exists(), f"{path.name} is there")
    for each in sorted([path, *path.rglob("*")]):
        _require(not each.is_symlink() and (each.is_file() or each.is_dir()), f"{each.name} is a file or a folder")
        digest = hashlib.sha256(each.read_bytes()).hexdigest() if each.is_file() else ""
        changed = each.stat().st_mtime_ns if times and each.is_file() else 0
        found[each.relative_to(path).as_posix()] = (digest, changed)
    return found


def _check_name(exporter: Exporter, another: Exporter, recording: Recording) -> str:
    name = exporter.name(recording, _LABEL)
    path = PurePath(name)
    _require(bool(path.parts), "name() is not empty")
    _require(not path.is_absolute() and ".." not in path.parts, f"name() stays in the output folder, found {name!r}")
    _require("\\" not in name and name.isprintable(), f"name() is safe in file names, found {name!r}")
    _require(another.name(recording, _LABEL) == name, "name() is the same each time")
    _require(exporter.name(recording, "another-001") != name, "name() tells recordings of different labels apart")
    return name


def _write(exporter: Exporter, recording: Recording, target: Path) -> None:
    """Write into a folder of its own, and check what was told meanwhile and what is there afterwards."""
    told: list[tuple[int, int]] = []
    target.parent.mkdir(parents=True)
    exporter.write(recording, target, lambda done, total: told.append((done, total)))
    there = sorted(path.name for path in target.parent.iterdir())
    _require(there == [target.name], f"write() makes its target and nothing beside it, found {there}")
    _require(bool(told), "write() tells its progress")
    _require(all(0 <= done <= total for done, total in told), f"progress is from 0 to the total, found {told[:20]}")
    done = [each[0] for each in told]
    _require(done == sorted(done), f"progress never goes back, found {done[:20]}")
    _require(told[-1][0] == told[-1][1], f"progress ends at the total, found {told[-1]}")


def _check_missing_folder(exporter: Exporter, recording: Recording, target: Path) -> None:
    _fails(lambda: exporter.write(recording, target, _silent), "into a folder that is not there")
    _require(not target.parent.exists(), "write() does not make the folder of its target")


def _in_another_process(
    kind: type[Exporter], args: Mapping[str, Any], folder: Path, output: Path, name: str, offline: bool
) -> None:
    work = output / "elsewhere"
    work.mkdir()
    task = {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "args": dict(args),
        "folder": str(folder.absolute()),
        "target": str((output / "again" / name).absolute()),
        "full": str((output / "full" / PurePath(name).name).absolute()),
        "offline": offline,
    }
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    path = os.pathsep.join(each for each in sys.path if each)
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import _again; _again()", json.dumps(task)],
            cwd=work,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path, "TZ": "XYZ-11:30"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(
            f"in another process: not done after {_PATIENCE_S:g} s; a full disk may hang it"
        ) from error
    _require(done.returncode == 0, f"in another process: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    _require(not list(work.iterdir()), "write() leaves nothing in the working folder")


def _again() -> None:
    """Run in the other process; the task is its argument."""
    task = json.loads(sys.argv[1])
    module = import_module(task["module"])
    heavy = sorted(_HEAVY & {name.partition(".")[0] for name in sys.modules})
    _require(not heavy, f"heavy packages are imported inside functions, found {', '.join(heavy)} at import")
    recording = Recording(task["folder"], offline=task["offline"])
    exporter: Exporter = getattr(module, task["name"])(task["args"])
    target = Path(task["target"])
    _write(exporter, recording, target)
    largest = max(path.stat().st_size for path in (target, *target.rglob("*")) if path.is_file())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = Path(task["full"])
    full.parent.mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, unlimited[1]))
    try:
        _fails(lambda: exporter.write(recording, full, _silent), "where there is no room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    left = {path.name for path in full.parent.iterdir()} - {full.name}
    _require(not left, f"a write() that fails leaves nothing beside its target, found {sorted(left)}")


def _fails(do: Callable[[], object], where: str) -> None:
    try:
        do()
    except (OSError, GazedError):
        return
    except Exception as error:
        raise AssertionError(f"write() {where} raises OSError or a GazedError, found {error!r}") from error
    raise AssertionError(f"write() {where} raises OSError")


def _refuses(make: Callable[[], object]) -> None:
    try:
        make()
    except PluginArgument as error:
        _require("no_such_argument" in error.message, "the refusal of an unknown argument must name it")
    else:
        raise AssertionError("an unknown argument must be refused with PluginArgument")


def _require_same(found: dict[str, tuple[str, int]], wanted: dict[str, tuple[str, int]]) -> None:
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    _require(not names, f"the same recording gives the same bytes, everywhere; these differ: {', '.join(names[:20])}")


def _require(truth: bool, text: str) -> None:
    if not truth:
        raise AssertionError(text)


def _silent(_done: int, _total: int) -> None:
    pass
