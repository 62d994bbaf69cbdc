"""Records of Pupil's formats, byte by byte: what is published becomes exactly these bytes, and is read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from gazed_bus.codec import add_sequence, encode
from gazed_plugins.gaze.registry import load_gazer
from gazed_plugins.gaze.testing import WORLD
from gazed_recorder.classic import write_pupil_data
from gazed_recorder.datalog import PldataReader, unpack_datum
from gazed_recorder.datums import DatumWriter
from gazed_timesync import PupilTime

PUPIL: dict[str, Any] = {
    "id": 0,
    "topic": "pupil.0.2d",
    "method": "2d c++",
    "norm_pos": [0.5, 0.25],
    "diameter": 20.0,
    "confidence": 1.0,
    "timestamp": 1.5,
    "ellipse": {"center": [96.0, 144.0], "axes": [16.0, 20.0], "angle": -45.0},
}
MODEL = {"coef_": [[0.5, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0, 0.0, 0.0]], "intercept_": [0.25, 0.25]}
PARAMS = {"left_model": {}, "right_model": MODEL, "binocular_model": {}}
REFERENCE = {"norm_pos": [0.5, 0.5], "screen_pos": [640.0, 360.0], "timestamp": 1.5}
SETUP = {
    "subject": "calibration.setup.v2",
    "gazer_class_name": "Gazer2D",
    "timestamp": 2.0,
    "record": True,
    "version": 2,
    "calib_data": {"ref_list": [REFERENCE], "pupil_list": [PUPIL]},
}
RESULT = {
    "subject": "calibration.result.v2",
    "gazer_class_name": "Gazer2D",
    "timestamp": 2.5,
    "record": True,
    "version": 2,
    "params": PARAMS,
}
# Made after the specification of msgpack, without msgpack itself.
PUPIL_RECORD = bytes.fromhex(
    "92aa707570696c2e302e3264c4c388a2696400a5746f706963aa707570696c2e302e3264a66d6574686f64a6326420632b2ba86e6f726d5f"
    "706f7392cb3fe0000000000000cb3fd0000000000000a86469616d65746572cb4034000000000000aa636f6e666964656e6365cb3ff00000"
    "00000000a974696d657374616d70cb3ff8000000000000a7656c6c6970736583a663656e74657292cb4058000000000000cb406200000000"
    "0000a46178657392cb4030000000000000cb4034000000000000a5616e676c65cbc046800000000000"
)
GAZE_RECORD = bytes.fromhex(
    "92aa67617a652e32642e302ec5012385a86e6f726d5f706f7392cb3fe0000000000000cb3fd8000000000000a5746f706963aa67617a652e"
    "32642e302eaa636f6e666964656e6365cb3ff0000000000000a974696d657374616d70cb3ff8000000000000a9626173655f646174619188"
    "a2696400a5746f706963aa707570696c2e302e3264a66d6574686f64a6326420632b2ba86e6f726d5f706f7392cb3fe0000000000000cb3f"
    "d0000000000000a86469616d65746572cb4034000000000000aa636f6e666964656e6365cb3ff0000000000000a974696d657374616d70cb"
    "3ff8000000000000a7656c6c6970736583a663656e74657292cb4058000000000000cb4062000000000000a46178657392cb403000000000"
    "0000cb4034000000000000a5616e676c65cbc046800000000000"
)
SETUP_RECORD = bytes.fromhex(
    "92bb6e6f746966792e63616c6962726174696f6e2e73657475702e7632c501b087a77375626a656374b463616c6962726174696f6e2e7365"
    "7475702e7632b067617a65725f636c6173735f6e616d65a747617a65723244a974696d657374616d70cb4000000000000000a67265636f72"
    "64c3a776657273696f6e02aa63616c69625f6461746182a87265665f6c6973749183a86e6f726d5f706f7392cb3fe0000000000000cb3fe0"
    "000000000000aa73637265656e5f706f7392cb4084000000000000cb4076800000000000a974696d657374616d70cb3ff8000000000000aa"
    "707570696c5f6c6973749188a2696400a5746f706963aa707570696c2e302e3264a66d6574686f64a6326420632b2ba86e6f726d5f706f73"
    "92cb3fe0000000000000cb3fd0000000000000a86469616d65746572cb4034000000000000aa636f6e666964656e6365cb3ff00000000000"
    "00a974696d657374616d70cb3ff8000000000000a7656c6c6970736583a663656e74657292cb4058000000000000cb4062000000000000a4"
    "6178657392cb4030000000000000cb4034000000000000a5616e676c65cbc046800000000000a5746f706963bb6e6f746966792e63616c69"
    "62726174696f6e2e73657475702e7632"
)
RESULT_RECORD = bytes.fromhex(
    "92bc6e6f746966792e63616c6962726174696f6e2e726573756c742e7632c5014487a77375626a656374b563616c6962726174696f6e2e72"
    "6573756c742e7632b067617a65725f636c6173735f6e616d65a747617a65723244a974696d657374616d70cb4004000000000000a6726563"
    "6f7264c3a776657273696f6e02a6706172616d7383aa6c6566745f6d6f64656c80ab72696768745f6d6f64656c82a5636f65665f9296cb3f"
    "e0000000000000cb0000000000000000cb0000000000000000cb0000000000000000cb0000000000000000cb000000000000000096cb0000"
    "000000000000cb3fe0000000000000cb0000000000000000cb0000000000000000cb0000000000000000cb0000000000000000aa696e7465"
    "72636570745f92cb3fd0000000000000cb3fd0000000000000af62696e6f63756c61725f6d6f64656c80a5746f706963bc6e6f746966792e"
    "63616c6962726174696f6e2e726573756c742e7632"
)


def record(folder: Path, *messages: tuple[str, dict[str, Any]]) -> None:
    """Take messages as they come over the bus, numbered, into a recording."""
    writer = DatumWriter(folder, {})
    for number, (topic, payload) in enumerate(messages):
        writer.take(topic, add_sequence(bytes(encode(topic, payload)[1]), 7, number), PupilTime(9.0))
    writer.close()


@pytest.mark.parametrize(
    ("name", "topic", "payload", "golden"),
    [
        ("pupil", "pupil.0.2d", PUPIL, PUPIL_RECORD),
        ("notify", "notify.calibration.setup.v2", SETUP, SETUP_RECORD),
        ("notify", "notify.calibration.result.v2", RESULT, RESULT_RECORD),
    ],
)
def test_what_is_published_is_recorded_as_pupil_records_it(
    tmp_path: Path, name: str, topic: str, payload: dict[str, Any], golden: bytes
) -> None:
    record(tmp_path, (topic, payload))
    assert (tmp_path / f"{name}.pldata").read_bytes() == golden
    assert np.load(tmp_path / f"{name}_timestamps.npy").tolist() == [payload["timestamp"]]
    ((label, packed),) = PldataReader(tmp_path / f"{name}.pldata")
    assert (label.decode(), unpack_datum(packed)) == (topic, {**payload, "topic": topic})


def test_gaze_by_recorded_parameters(tmp_path: Path) -> None:
    (tmp_path / "golden.pldata").write_bytes(RESULT_RECORD)
    ((_, packed),) = PldataReader(tmp_path / "golden.pldata")
    gazer = load_gazer("Gazer2D", unpack_datum(packed)["params"], WORLD)
    (gaze,) = gazer.map([PUPIL])
    record(tmp_path, (gaze["topic"], gaze))
    assert (tmp_path / "gaze.pldata").read_bytes() == GAZE_RECORD
    assert gazer.params == PARAMS


def test_the_classic_file(tmp_path: Path) -> None:
    record(tmp_path, ("pupil.0.2d", PUPIL), ("notify.calibration.result.v2", RESULT))
    write_pupil_data(tmp_path)
    pupil, result = PUPIL_RECORD[len(b"\x92\xaapupil.0.2d\xc4\xc3") :], RESULT_RECORD[1 + 29 + 3 :]
    golden = b"\x83\xafpupil_positions\x91" + pupil + b"\xaegaze_positions\x90\xadnotifications\x91" + result
    assert (tmp_path / "pupil_data").read_bytes() == golden


def test_maps_that_pupil_player_keeps_packed() -> None:
    assert unpack_datum(bytes.fromhex("81a161d60d81a16201")) == {"a": {"b": 1}}
    packed = msgpack.packb({"base_data": [msgpack.ExtType(13, GAZE_RECORD[1 + 11 + 3 :])]})
    (gaze,) = unpack_datum(packed)["base_data"]
    assert gaze["base_data"] == [PUPIL]
    other = msgpack.ExtType(12, b"?")
    assert unpack_datum(msgpack.packb({"a": other})) == {"a": other}


def test_maps_packed_in_maps_without_end_are_refused() -> None:
    packed = msgpack.packb({})
    for _ in range(5000):
        packed = msgpack.packb({"a": msgpack.ExtType(13, packed)})
    with pytest.raises(ValueError, match="8 deep"):
        unpack_datum(packed)
