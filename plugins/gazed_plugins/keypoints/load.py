"""Reading keypoints from files: of programs for pose estimation with ``movement``, and numpy's and netCDF's without.

``movement`` changes the process that imports it (it logs into the home folder, and takes warnings away), and some of
its formats bring programs along. It works in a process of its own, with a home of its own, that gives back arrays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import MissingExtra
from gazed_plugins.keypoints.errors import NotKeypoints
from gazed_plugins.keypoints.pickles import refuse_programs
from gazed_plugins.keypoints.tracks import Tracks

__all__ = ["SOFTWARE", "load_arrays", "load_tracks"]

SOFTWARE = ("DeepLabCut", "SLEAP", "LightningPose", "Anipose", "NWB", "netCDF", "numpy")
"""What can be read: the names that ``movement`` has for its formats, its own netCDF, and numpy's arrays."""

_LARGEST = 1 << 31
_NPZ = ("position", "confidence", "keypoints", "individuals", "times")
_OTHER_NAMES = {
    "position_array": "position",
    "confidence_array": "confidence",
    "keypoint_names": "keypoints",
    "individual_names": "individuals",
    "timestamps": "times",
}


def load_tracks(path: str | Path, software: str, *, pose_estimation: str = "PoseEstimation") -> Tracks:
    """Read a file of keypoints.

    Args:
        path: the file.
        software: the program that wrote it, one of ``SOFTWARE``. ``numpy`` is an ``.npy`` of positions of shape
            (frames, axes, keypoints) or (frames, axes, keypoints, individuals), as ``movement`` has them; or an
            ``.npz`` of ``position`` and, if known, ``confidence`` (frames, keypoints[, individuals]), ``keypoints`` and
            ``individuals`` (names), ``times`` (s).
        pose_estimation: of an NWB file, the name of the ``PoseEstimation`` in its module ``behavior``.

    Raises:
        PluginArgument: there is no such software.
        MissingExtra: a package that it takes is not installed.
        NotKeypoints: the file is not what was said.
        UnsafeFile: reading it would run a program in it.
        OSError: it cannot be opened.
    """
    path = Path(path).expanduser()
    if software not in SOFTWARE:
        raise PluginArgument(f"keypoints come from {', '.join(SOFTWARE)}, got {shown(software)}")
    with path.open("rb"):
        pass
    if software == "numpy":
        return _of_numpy(path)
    if software == "netCDF":
        return _of_netcdf(path)
    arrays = load_arrays(path, software, pose_estimation)
    keypoints, individuals = (tuple(map(str, arrays[name].tolist())) for name in ("keypoints", "individuals"))
    return Tracks(arrays["position"], arrays["confidence"], keypoints, individuals, software, arrays.get("times"))


def load_arrays(path: Path, software: str, pose_estimation: str = "PoseEstimation") -> dict[str, NDArray[Any]]:
    """Have ``movement`` read a file; return the arrays of its dataset by name, as ``reader.read``.

    Raises:
        MissingExtra, NotKeypoints, UnsafeFile: as ``load_tracks``.
    """
    if find_spec("movement") is None:
        raise MissingExtra(
            f"reading {software} needs gazed[movement], but movement is not installed",
            hint="pip install 'gazed[movement]'",
        )
    if software == "DeepLabCut" and path.suffix == ".h5":
        refuse_programs(path)
    with tempfile.TemporaryDirectory(prefix="gazed-keypoints-") as work:
        out = Path(work) / "tracks.npz"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "gazed_plugins.keypoints.reader",
                str(path.absolute()),
                software,
                str(out),
                pose_estimation,
            ],
            env={**os.environ, "HOME": work, "PYTHONWARNINGS": "ignore"},
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0 or not out.exists():
            raise NotKeypoints(f"{path}: not read as {software}: {_reason(done.stdout, done.returncode)}")
        return _arrays(out)


def _reason(told: bytes, code: int) -> str:
    try:
        return str(json.loads(told.splitlines()[-1])["error"])
    except (ValueError, LookupError, TypeError):
        return f"the process that reads it died with exit code {code}"


def _of_numpy(path: Path) -> Tracks:
    found = _arrays(path)
    unknown = [name for name in found if name not in _NPZ]
    if unknown or "position" not in found:
        raise NotKeypoints(
            f"{path}: holds the arrays {shown(sorted(found))}, wanted position and, if known, {', '.join(_NPZ[1:])}"
        )
    position = _floats(path, "position", found["position"], (3, 4))
    if position.ndim == 3:
        position = position[..., np.newaxis]
    shape = position.shape
    confidence = np.full((shape[0], *shape[2:]), np.nan)
    if "confidence" in found:
        confidence = _floats(path, "confidence", found["confidence"], (2, 3))
        confidence = confidence[..., np.newaxis] if confidence.ndim == 2 else confidence
    keypoints = _names(found, "keypoints", "keypoint", shape[2])
    individuals = _names(found, "individuals", "id", shape[3])
    times = _floats(path, "times", found["times"], (1,)) if "times" in found else None
    return Tracks(position, confidence, keypoints, individuals, "numpy", times)


def _names(found: dict[str, NDArray[Any]], name: str, stem: str, count: int) -> tuple[str, ...]:
    return tuple(map(str, np.ravel(found[name]).tolist() if name in found else [f"{stem}_{n}" for n in range(count)]))


def _of_netcdf(path: Path) -> Tracks:
    for package in ("xarray", "h5netcdf"):
        if find_spec(package) is None:
            raise MissingExtra(
                f"reading netCDF needs gazed[export], but {package} is not installed",
                hint="pip install 'gazed[export]'",
            )
    import xarray as xr

    try:
        with xr.open_dataset(path, engine="h5netcdf", phony_dims="access") as dataset:
            dims = ("keypoint", "individual") if "keypoint" in dataset.dims else ("keypoints", "individuals")
            position = dataset["position"].transpose("time", "space", *dims).to_numpy()
            confidence = dataset["confidence"].transpose("time", *dims).to_numpy()
            keypoints, individuals = (tuple(map(str, dataset[dim].to_numpy().tolist())) for dim in dims)
            times = dataset["time"].to_numpy() if dataset.attrs.get("time_unit") == "seconds" else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotKeypoints(f"{path}: no dataset of poses of movement's: {error!r:.300}") from error
    return Tracks(
        _floats(path, "position", position, (4,)),
        _floats(path, "confidence", confidence, (3,)),
        keypoints,
        individuals,
        "netCDF",
        None if times is None else _floats(path, "time", times, (1,)),
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npy`` or ``.npz``, by movement's names or ours."""
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > _LARGEST:
                raise NotKeypoints(f"{path}: holds {size} bytes, wanted at most {_LARGEST}")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"position": loaded}
        with loaded:
            return {_OTHER_NAMES.get(name, name): loaded[name] for name in loaded.files}
    except OSError as error:
        raise NotKeypoints(f"{path}: no array of numpy's: {error}") from error
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        # What numpy says of it is how to unpickle it, which is just what must not be done.
        raise NotKeypoints(
            f"{path}: no array of numpy's, or one of Python objects", hint="wanted .npy or .npz"
        ) from error


def _floats(path: Path, name: str, array: NDArray[Any], dimensions: tuple[int, ...]) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu" or array.ndim not in dimensions:
        wanted = " or ".join(map(str, dimensions))
        raise NotKeypoints(f"{path}: {name} is {array.ndim}-D of {array.dtype}, wanted {wanted}-D of numbers")
    return array.astype(np.float64)
