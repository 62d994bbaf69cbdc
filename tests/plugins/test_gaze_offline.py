"""Gaze of a recording anew: the same as live, beside what was recorded, as Pupil Player keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from gazed_plugins.errors import PluginError
from gazed_plugins.gaze.errors import CalibrationFailed, UnknownCalibration, UnknownGazer
from gazed_plugins.gaze.offline import map_recording
from gazed_plugins.gaze.registry import load_gazer, make_gazer
from gazed_plugins.gaze.store import Calibration, player_id, save_calibration
from gazed_plugins.gaze.testing import WORLD, pupil_datums, session, target_at
from gazed_recorder.datalog import DatumLog, PldataReader
from gazed_recorder.testing import make_recording

LOOK = [(0.3, 0.4), (0.6, 0.6)]


def fill(folder: Path, name: str, datums: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    log = DatumLog(folder, name)
    for datum in datums:
        log.append(datum["topic"], datum["timestamp"], msgpack.packb(datum))
    log.close()


def note(subject: str, timestamp: float, **fields: Any) -> dict[str, Any]:
    return {"topic": f"notify.{subject}", "subject": subject, "timestamp": timestamp, "record": True, **fields}


def looking(start: float = 102.0) -> list[dict[str, Any]]:
    stamps = [start + row / 120 for row in range(60)]
    return [
        datum
        for row, stamp in enumerate(stamps)
        for eye in (0, 1)
        for datum in pupil_datums(eye, target_at(LOOK[row // 30]), stamp + 0.002 * eye)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording without pupils or calibration, whose world camera is that of the synthetic eyes."""
    folder = make_recording(tmp_path / "r", datums=0)
    (folder / "manifest.json").unlink()
    entry = {"camera_matrix": WORLD.matrix.tolist(), "dist_coefs": [WORLD.distortion.tolist()], "cam_type": "radial"}
    size = "(64, 48)"
    scale = np.diag([64 / 1280, 48 / 720, 1.0])
    entry["camera_matrix"] = (scale @ WORLD.matrix).tolist()
    intrinsics = {"version": 1, size: {**entry, "resolution": [64, 48]}}
    (folder / "world.intrinsics").write_bytes(msgpack.packb(intrinsics))
    return folder


@pytest.fixture
def recorded(folder: Path) -> Path:
    data = session(start=99.0)
    for ref in data["ref_list"]:
        ref["screen_pos"] = [ref["norm_pos"][0] * 64, (1 - ref["norm_pos"][1]) * 48]
    params = make_gazer("Gazer2D", WORLD).fit(data)
    fill(
        folder,
        "notify",
        [
            note("calibration.setup.v2", 101.0, gazer_class_name="Gazer2D", calib_data=data, version=2),
            note("calibration.result.v2", 101.5, gazer_class_name="Gazer2D", params=params, version=2),
            note("validation.data", 101.7, gazer_class_name="Gazer2D", gazer_params=params, **data),
        ],
    )
    fill(folder, "pupil", looking())
    return folder


def gaze_of(path: str) -> list[dict[str, Any]]:
    return [msgpack.unpackb(payload) for _, payload in PldataReader(Path(path))]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_gaze_is_what_live_mapping_would_give(recorded: Path) -> None:
    before = files(recorded)
    calls: list[tuple[int, int]] = []
    result = map_recording(recorded, progress=lambda done, total: calls.append((done, total)))
    gazer = load_gazer("Gazer2D", make_gazer("Gazer2D", WORLD).fit(session(start=99.0)), WORLD)
    gaze = gaze_of(result.path)
    assert gaze == list(gazer.map_all(looking()))
    assert (result.gazer, result.calibration, result.source) == ("Gazer2D", "Recorded Calibration", "pupil.pldata")
    assert (result.pupils, result.gaze, calls[-1]) == (240, 120, (240, 240))
    assert gaze[20]["norm_pos"] == pytest.approx(LOOK[0], abs=0.02)
    assert gaze[-1]["norm_pos"] == pytest.approx(LOOK[1], abs=0.02)
    after = files(recorded)
    assert {name: after[name] for name in before} == before


def test_the_accuracy_is_told(recorded: Path) -> None:
    result = map_recording(recorded)
    assert result.leave_one_out is not None
    assert len(result.leave_one_out["targets"]) == 9
    (validation,) = result.validations
    assert validation["accuracy"]["degrees"] < 0.3 < result.leave_one_out["accuracy"]["degrees"] + 0.3


def test_pupil_player_finds_it(recorded: Path) -> None:
    mappers = recorded / "offline_data" / "gaze_mappers.msgpack"
    mappers.parent.mkdir()
    theirs = ["their-id", "Default Gaze Mapper", "c", [0, 5], [0, 5], 5.0, 0.0, 0.0, True, "", "", ""]
    mappers.write_bytes(msgpack.packb({"version": 1, "data": [theirs]}))
    first = map_recording(recorded)
    second = map_recording(recorded)
    assert first == second
    content = msgpack.unpackb(mappers.read_bytes())
    assert content["version"] == 1
    kept, ours = content["data"]
    assert kept == theirs
    assert (len(ours), ours[2], ours[3]) == (12, player_id("101.5"), [0, 11])
    place = recorded / "offline_data" / "gaze-mappings"
    stem = f"{ours[1]}-{ours[0]}".replace(" ", "_")
    assert sorted(path.name for path in place.iterdir()) == [f"{stem}.pldata", f"{stem}_timestamps.npy"]
    topics = {topic for topic, _ in PldataReader(place / f"{stem}.pldata")}
    assert topics == {b"gaze"}
    stamps = np.load(place / f"{stem}_timestamps.npy")
    assert stamps.tolist() == [datum["timestamp"] for datum in gaze_of(first.path)]
    assert np.all(np.diff(stamps) >= 0)


def test_another_gazer_is_fitted_to_the_same_data(recorded: Path) -> None:
    two = map_recording(recorded)
    three = map_recording(recorded, gazer="Gazer3D")
    assert {datum["topic"] for datum in gaze_of(three.path)} == {"gaze.3d.0.", "gaze.3d.01."}
    assert two.path != three.path
    with pytest.raises(UnknownGazer, match="NeonGazer3D"):
        map_recording(recorded, gazer="NeonGazer3D")


def test_a_later_detection_is_preferred(recorded: Path) -> None:
    offline = recorded / "offline_data"
    fill(offline, "offline_pupil", looking()[:100])
    assert map_recording(recorded).source == "pupil.pldata"
    (offline / "offline_pupil.meta").write_bytes(b"")
    result = map_recording(recorded)
    assert (result.source, result.pupils) == ("offline_data/offline_pupil.pldata", 100)


def test_a_stored_calibration_by_name(folder: Path, tmp_path: Path) -> None:
    fill(folder, "pupil", looking())
    store = tmp_path / "calibrations"
    params = make_gazer("Gazer2D", WORLD).fit(session())
    known = {"unique_id": "u", "gazer_class_name": "Gazer2D", "date": "2026-03-01T10:00:00", "timestamp": 1.0}
    save_calibration(Calibration(name="S1", params=params, calib_data={}, **known), store)
    with pytest.raises(UnknownCalibration, match="holds no calibration"):
        map_recording(folder)
    with pytest.raises(UnknownCalibration, match="'S9'"):
        map_recording(folder, calibration="S9", calibrations=store)
    result = map_recording(folder, calibration="S1", calibrations=store)
    assert (result.gaze, result.leave_one_out, result.validations) == (120, None, [])
    with pytest.raises(CalibrationFailed, match="no data to fit Gazer3D to"):
        map_recording(folder, calibration="S1", calibrations=store, gazer="Gazer3D")


def test_what_is_not_closed_or_has_no_pupils_is_refused(tmp_path: Path, recorded: Path) -> None:
    with pytest.raises(PluginError, match="is not closed"):
        map_recording(make_recording(tmp_path / "open", closed=False))
    (recorded / "pupil.pldata").unlink()
    with pytest.raises(PluginError, match="holds no pupils"):
        map_recording(recorded)


def test_a_list_of_mappers_that_cannot_be_read_is_left_alone(recorded: Path) -> None:
    mappers = recorded / "offline_data" / "gaze_mappers.msgpack"
    mappers.parent.mkdir()
    for content in (b"\xc1", msgpack.packb({"version": 2, "data": []}), msgpack.packb([])):
        mappers.write_bytes(content)
        with pytest.raises(PluginError, match="cannot be read"):
            map_recording(recorded)
        assert mappers.read_bytes() == content


def test_what_others_sent_meanwhile_is_left_out(recorded: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = map_recording(recorded)
    data = session(start=99.0)
    for ref in data["ref_list"]:
        ref["screen_pos"] = [ref["norm_pos"][0] * 64, (1 - ref["norm_pos"][1]) * 48]
    params = make_gazer("Gazer2D", WORLD).fit(data)
    spoilt = {"ref_list": [{"timestamp": 99.0}, *data["ref_list"]], "pupil_list": [{"id": 0}, *data["pupil_list"]]}
    fill(
        recorded,
        "notify",
        [
            note("calibration.setup.v2", 102.0, gazer_class_name=["x"], calib_data={}),
            note("calibration.setup.v2", 102.0, gazer_class_name="Gazer2D", calib_data=spoilt, version=2),
            note("calibration.result.v2", 102.1, gazer_class_name="Gazer2D", params=params, version=2),
            note("validation.data", 102.2, gazer_class_name="Gazer2D", ref_list=[1, {}], pupil_list=3),
            note("validation.data", 102.3, gazer_class_name="Gazer2D", **{**spoilt, "pupil_list": [None, 1]}),
        ],
    )
    found = map_recording(recorded)
    assert found.calibration == "Recorded Calibration 2"
    assert found.leave_one_out == wanted.leave_one_out
    assert [validation["accuracy"]["total"] > 0 for validation in found.validations] == [True, False]
    assert "2 of its data are not well formed" in caplog.text
