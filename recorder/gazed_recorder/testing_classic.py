"""Recordings as versions of Pupil Capture wrote them, for tests of whatever reads recordings.

Each has the same wearer, in the files, keys and types of its time; Pupil Capture itself was not at work. Source: the
history of its formats.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import time
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgpack
import numpy as np

from gazed_bus.intrinsics import dummy_intrinsics, pack_intrinsics
from gazed_recorder.datalog import DatumLog
from gazed_recorder.testing_datums import EYE_SIZE, WORLD_SIZE, Wearer
from gazed_recorder.testing_pickle import python2_pickle

__all__ = ["CLASSIC_VERSIONS", "START_SYNCED", "START_SYSTEM", "make_classic_recording", "make_video"]

CLASSIC_VERSIONS = ("0.7.0", "0.7.4", "0.8.2", "0.9.0", "0.9.4", "1.3", "1.7", "1.8", "3.5")
"""The versions there are; between two of them something changed on disk."""
START_SYNCED = 1000.0
"""Pupil time of the start, s. Before 1.3 no file tells it."""
START_SYSTEM = 1_458_831_600.25
"""Unix time of the start, s."""
_NEW_3D = {"projected_sphere": "projectedSphere", "model_confidence": "modelConfidence", "model_id": "modelID",
           "circle_3d": "circle3D", "diameter_3d": "diameter_3D"}  # fmt: skip
_SYSTEM = {"User": "pupil", "Platform": "Linux", "Machine": "lab", "Release": "3.13.0", "Version": "#1 SMP"}
_UUID = "3361ce29-b43d-44fc-9f2f-1861ae0f2a5b"

Datum = dict[str, Any]


def make_classic_recording(
    root: Path,
    version: str = "1.7",
    *,
    seconds: float = 2.0,
    rate: float = 60.0,
    eyes: tuple[int, ...] = (0, 1),
    parts: int = 1,
    videos: bool = True,
) -> Path:
    """Make a recording as a version of Pupil Capture did; return its folder, ``<root>/2016_03_24/000``.

    Args:
        root: a folder for recordings.
        version: one of ``CLASSIC_VERSIONS``.
        seconds: how long.
        rate: frames a second of the eye cameras; the world camera has 30.
        eyes: those that have a camera; 0 is the right one.
        parts: files of each video.
        videos: whether there are videos.
    """
    folder = root / "2016_03_24" / "000"
    folder.mkdir(parents=True)
    number = _number(version)
    wearer = Wearer(START_SYNCED + 0.1, seconds, rate, eyes, ("2d", "3d") if number >= (2,) else ("3d",), 0.0)
    world = START_SYNCED + 0.1 + np.arange(round(seconds * 30)) / 30
    if videos:
        make_video(folder, "world", world, WORLD_SIZE, parts)
        for eye in eyes:
            make_video(folder, f"eye{eye}", wearer.eye_times(eye, 0, wearer.frames), EYE_SIZE, parts)
    data = _as_written(number, _modern_data(wearer, number))
    if number < (1, 8):
        (folder / "pupil_data").write_bytes(_pupil_data(number, data))
    else:
        for name, datums in data.items():
            _log(folder, name, datums)
    _write_camera(folder, number)
    _write_info(folder, version, seconds + 0.2, len(world))
    return folder


def make_video(folder: Path, stem: str, times: Any, size: tuple[int, int], parts: int = 1) -> None:
    """Write a video of gray images in so many parts, with the timestamps ``times`` (n,) in s, as Pupil Capture does."""
    for part, numbers in enumerate(np.array_split(np.arange(len(times)), parts)):
        name = f"{stem}_{part:03d}" if part else stem
        with av.open(folder / f"{name}.mp4", "w") as container:
            track = container.add_stream("mjpeg", rate=30)
            track.width, track.height, track.pix_fmt = *size, "yuvj422p"
            track.time_base = Fraction(1, 65535)
            track.codec_context.time_base = Fraction(1, 65535)
            for number in numbers.tolist():
                gray = np.full((size[1], size[0]), 40 + number * 7 % 180, np.uint8)
                frame = av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuvj422p")
                frame.pts = int((times[number] - START_SYNCED) * 65535)
                frame.time_base = Fraction(1, 65535)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
        np.save(folder / f"{name}_timestamps.npy", np.asarray(times, np.float64)[numbers])


def _number(version: str) -> tuple[int, ...]:
    if version not in CLASSIC_VERSIONS:
        raise ValueError(f"version {version!r}: there are {', '.join(CLASSIC_VERSIONS)}")
    return tuple(int(part) for part in version.split("."))


def _modern_data(wearer: Wearer, number: tuple[int, ...]) -> dict[str, list[Datum]]:
    """Return the datums by their logs, as the newest version writes them; the same pupil is the same object."""
    data: dict[str, list[Datum]] = {"pupil": [], "gaze": []}
    for pupils, gaze in wearer.datums():
        data["pupil"] += [msgpack.unpackb(packed) for _, _, packed in pupils]
        data["gaze"] += [msgpack.unpackb(packed) for _, _, packed in gaze]
    known = {(each["id"], each["timestamp"], each["method"]): each for each in data["pupil"]}
    for each in data["gaze"]:
        each["base_data"] = [known[base["id"], base["timestamp"], base["method"]] for base in each["base_data"]]
    data["notify"] = [
        {"subject": "recording.started", "rec_path": "/recordings/2016_03_24/000", "timestamp": START_SYNCED},
        {"subject": "annotation", "label": "looked left", "duration": 0.0, "timestamp": START_SYNCED + 0.5},
        {"subject": "annotation", "label": "gedrückt", "duration": 0.1, "timestamp": START_SYNCED + 1.0, "trial": 2},
    ]
    if number >= (0, 9, 2):
        setup = {
            "subject": "calibration.calibration_data",
            "calibration_method": "3d",
            "timestamp": START_SYNCED - 60.0,
        }
        reference = {"norm_pos": [0.5, 0.5], "screen_pos": [640, 360], "timestamp": START_SYNCED - 61.0}
        data["notify"].insert(0, {**setup, "pupil_list": data["pupil"][:3], "ref_list": [reference], "record": True})
    if number >= (0, 9, 4):
        data["fixations"] = [msgpack.unpackb(packed) for _, _, packed in wearer.fixations()]
        data["blinks"] = [msgpack.unpackb(packed) for _, _, packed in wearer.blinks()]
    return data


def _as_written(number: tuple[int, ...], data: dict[str, list[Datum]]) -> dict[str, list[Datum]]:
    """Turn the datums into those of a version, under the names that it gave them."""
    if number < (2,):
        for pupil in data["pupil"]:
            _old_pupil(pupil, number)
    for gaze in data["gaze"]:
        _old_gaze(gaze, number)
    for note in data["notify"]:
        if number >= (1, 8):
            note["topic"] = f"notify.{note['subject']}"
    if number >= (1, 9):
        data["annotation"] = [note for note in data["notify"] if note["subject"] == "annotation"]
        data["notify"] = [note for note in data["notify"] if note["subject"] != "annotation"]
        for note in data["annotation"]:
            note["topic"] = note.pop("subject")
    if number >= (1, 8):
        return data
    stamps = np.array([each["timestamp"] for each in data["gaze"]])
    for fixation in data.get("fixations", ()):
        rows = np.searchsorted(stamps, [when for _, when in fixation["base_data"]]).clip(0, len(stamps) - 1)
        base = [data["gaze"][row] for row in rows.tolist()]
        fixation |= {"topic": "fixation", "method": "gaze", "base_data": base}
    for blink in data.get("blinks", ()):
        blink["topic"] = "blink"
    names = {"pupil": "pupil_positions", "gaze": "gaze_positions", "notify": "notifications"}
    return {names.get(name, name): datums for name, datums in data.items()}


def _old_pupil(pupil: Datum, number: tuple[int, ...]) -> None:
    pupil["method"] = "3d c++"
    if "sphere" in pupil:
        pupil |= {"model_id": 1, "model_birth_timestamp": START_SYNCED}
        pupil["sphere"]["radius"] = 12.0
    if number < (0, 8, 6):
        del pupil["topic"]
    else:
        pupil["topic"] = f"pupil.{pupil['id']}" if number >= (1, 8) else "pupil"
    if number < (0, 7, 4):
        pupil["method"] = "3D c++"
        for new in pupil.keys() & _NEW_3D.keys():
            pupil[_NEW_3D[new]] = pupil.pop(new)


def _old_gaze(gaze: Datum, number: tuple[int, ...]) -> None:
    if number < (3,):
        for key in ("eye_centers_3d", "gaze_normals_3d"):
            if key in gaze:
                gaze[key] = {int(eye): value for eye, value in gaze[key].items()}
    if number < (1, 5):
        gaze["topic"] = gaze["topic"].rstrip(".").replace(".01", ".2")
    if number < (0, 8, 6):
        # In place of 3-D gaze a polynomial, whose results are numpy's numbers.
        x, y = gaze["norm_pos"]
        base = {"norm_pos": (np.float64(x), np.float64(y)), "confidence": gaze["confidence"]}
        old = base | {"timestamp": gaze["timestamp"], "base": gaze["base_data"]}
        gaze.clear()
        gaze.update(old)


def _pupil_data(number: tuple[int, ...], data: Mapping[str, list[Datum]]) -> bytes:
    if number < (0, 9):
        return python2_pickle(dict(data))
    packed: bytes = pickle.dumps(dict(data), protocol=4) if number < (0, 9, 4) else msgpack.packb(data)
    return packed


def _log(folder: Path, name: str, datums: Iterable[Datum]) -> None:
    log = DatumLog(folder, name)
    for datum in datums:
        log.append(datum["topic"], datum["timestamp"], msgpack.packb(datum))
    log.close()


def _write_camera(folder: Path, number: tuple[int, ...]) -> None:
    model = {**dummy_intrinsics(*WORLD_SIZE), "cam_type": "radial"}
    if number >= (0, 9, 14):
        (folder / "world.intrinsics").write_bytes(pack_intrinsics(model, *WORLD_SIZE))
        return
    old = {"camera_name": "Pupil Cam1 ID2", "resolution": WORLD_SIZE}
    arrays = {key: np.array(model[key], np.float64) for key in ("camera_matrix", "dist_coefs")}
    if number < (0, 9):
        content = python2_pickle(old | arrays)
    else:
        lists = old | {key: array.tolist() for key, array in arrays.items()}
        content = pickle.dumps(lists, protocol=4) if number < (0, 9, 4) else msgpack.packb(lists)
    (folder / "camera_calibration").write_bytes(content)


def _write_info(folder: Path, version: str, duration: float, frames: int) -> None:
    number = _number(version)
    system = ", ".join(f"{key}: {value}" for key, value in _SYSTEM.items())
    if number >= (1, 16):
        info = {
            "duration_s": duration, "meta_version": "2.3", "min_player_version": "2.0", "recording_name": "2016_03_24",
            "recording_software_name": "Pupil Capture", "recording_software_version": "3.5.8",
            "recording_uuid": _UUID, "start_time_synced_s": START_SYNCED, "start_time_system_s": START_SYSTEM,
            "system_info": system,
        }  # fmt: skip
        (folder / "info.player.json").write_text(json.dumps(info, indent=4, sort_keys=True))
    else:
        rows = _info_rows(number, version, system, duration, frames)
        (folder / "info.csv").write_bytes(_key_value(number, rows))
    (folder / "user_info.csv").write_bytes(_key_value(number, {"name": "P 1", "additional_field": "a, b"}))


def _info_rows(number: tuple[int, ...], version: str, system: str, duration: float, frames: int) -> dict[str, str]:
    begun = time.localtime(START_SYSTEM)
    rows = {
        "Recording Name": "2016_03_24",
        "Start Date": time.strftime("%d.%m.%Y", begun),
        "Start Time": time.strftime("%H:%M:%S", begun),
    }
    if number >= (1, 3):
        rows |= {"Start Time (System)": str(START_SYSTEM), "Start Time (Synced)": str(START_SYNCED)}
    rows |= {
        "Duration Time": time.strftime("%H:%M:%S", time.gmtime(duration)),
        "World Camera Frames": str(frames),
        "World Camera Resolution": "{}x{}".format(*WORLD_SIZE),
        "Capture Software Version": f"{version}-12",
    }
    if number >= (0, 9, 1):
        rows["Data Format Version"] = version
    return rows | (_SYSTEM if number < (0, 7, 6) else {"System Info": system})


def _key_value(number: tuple[int, ...], rows: Mapping[str, str]) -> bytes:
    if number < (0, 8, 2):
        return "".join(f"{key}\t{value}\n" for key, value in rows.items()).encode()
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_NONE, escapechar="\\").writerows([("key", "value"), *rows.items()])
    return text.getvalue().encode()
