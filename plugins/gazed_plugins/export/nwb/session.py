"""What is said of a session in its NWB file: when, with what and by whom it was recorded; its cameras and videos."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from gazed_plugins.export.events import clean_text
from gazed_plugins.export.origins import SIDES
from gazed_plugins.export.session import start_of, wall_clock
from gazed_recorder.reader import Recording

__all__ = ["add_camera", "add_video", "new_file", "zero_of"]

_SUBJECT = {
    "subject": "subject_id",
    "species": "species",
    "sex": "sex",
    "age": "age",
    "subject_description": "description",
}
_IN_FLIGHT_S = 1.0
_TEXTS = ("experimenter", "lab", "institution", "experiment_description")


def zero_of(recording: Recording, firsts: Iterable[float]) -> float:
    """Return the Pupil time in s that is 0 in the file: the start of the recording.

    What was in flight then has its first sample (``firsts``) a little earlier: NWB wants no negative times, so 0 is
    then that.
    """
    found = list(firsts)
    start = start_of(recording, found)
    return min([start, *(first for first in found if start - _IN_FLIGHT_S <= first)])


def new_file(recording: Recording, args: Mapping[str, str], ids: uuid.UUID, zero: float) -> Any:
    """Return an ``NWBFile`` without data, in which Pupil time ``zero`` is 0 s; ``args`` are those of the format."""
    from pynwb import NWBFile
    from pynwb.file import Subject

    info, start = recording.info, wall_clock(recording, zero)
    unknown = "" if start else "; when that was is not known, the date of the session is none"
    when = start or datetime.fromtimestamp(0, UTC)
    software = recording.manifest.software if recording.manifest else ""
    by = software or f"{info.recording_software_name} {info.recording_software_version}"
    content = NWBFile(
        session_description=clean_text(f"Eye tracking with a head-worn eye tracker, recorded by {by}."),
        identifier=str(ids),
        session_start_time=when,
        # A file that is made again is the same: it has the date of what is in it.
        file_create_date=when,
        session_id=clean_text(info.recording_name).replace("/", "_") or None,
        keywords=["eye tracking", "gaze", "pupillometry"],
        notes=f"0 s is Pupil time {zero!r} s{unknown}. The table clock leads from there to Unix time.",
        **{name: args[name] for name in _TEXTS if args.get(name)},
    )
    about = {field: args[name] for name, field in _SUBJECT.items() if args.get(name)}
    name = clean_text(recording.user_info.get("name", "")).replace("/", "_").replace("\\", "_")
    if name:
        about.setdefault("subject_id", name)
    if about:
        content.subject = Subject(**{"sex": "U", **about})
    return content


def add_camera(content: Any, recording: Recording, stream: str) -> Any:
    """Add the camera of ``world``, ``eye0``, … to an ``NWBFile``, with its intrinsics if they are known; return it.

    Raises:
        DamagedFile: its intrinsics cannot be read.
    """
    report = recording.manifest.streams.get(stream) if recording.manifest else None
    info = report.info if report else {}
    model, serial = (clean_text(str(info.get(key) or "")) for key in ("device", "serial"))
    side = f"{SIDES.get(int(stream[3:]), '')} eye".strip() if stream.startswith("eye") else "world"
    parts = [f"Camera of the {side}", model, f"source {info['source']}" if info.get("source") else ""]
    options = {
        "name": f"{stream}_camera",
        "description": clean_text(", ".join(filter(None, parts))) + ".",
        "serial_number": serial or None,
    }
    return content.add_device(_calibrated(recording, stream, options) or _device(options))


def _device(options: dict[str, Any]) -> Any:
    from pynwb.device import Device

    return Device(**options)


def _calibrated(recording: Recording, stream: str, options: dict[str, Any]) -> Any:
    """Return the camera with its intrinsics; ``None`` if nobody has measured them."""
    from ndx_pose import CalibratedCamera

    model: Any = recording.intrinsics(stream) if stream in recording.streams else None
    if model is None or model["cam_type"] == "dummy":
        return None
    width, height = model["resolution"]
    text = f"{options['description']} Intrinsics for {width} x {height} px, OpenCV's {model['cam_type']} model."
    return CalibratedCamera(
        **{**options, "description": text},
        intrinsic_matrix=np.array(model["camera_matrix"], np.float64),
        distortion_coefficients=np.array(model["dist_coefs"], np.float64).ravel(),
    )


def add_video(content: Any, recording: Recording, stream: str, device: Any, zero: float) -> Any:
    """Add a video to an ``NWBFile``, as files beside it, and return it.

    Raises:
        DamagedFile: it cannot be read.
    """
    from hdmf.backends.hdf5 import H5DataIO
    from pynwb.image import ImageSeries

    video = recording.world if stream == "world" else recording.eyes[int(stream[3:])]
    series = ImageSeries(
        name=f"{stream}_video",
        description=f"Video of {stream}, {video.codec}.",
        unit="n.a.",
        format="external",
        external_file=[path.name for path in video.paths],
        starting_frame=np.array(video.starts, np.int32),
        timestamps=H5DataIO(video.timestamps - zero, compression="gzip", shuffle=True),
        dimension=np.array(video.size, np.int32),
        device=device,
    )
    content.add_acquisition(series)
    return series
