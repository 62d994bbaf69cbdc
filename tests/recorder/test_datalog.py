from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazed_bus.errors import MessageError
from gazed_recorder.datalog import DatumLog, PldataReader, check_datum, log_name, repair_log
from gazed_recorder.errors import DamagedFile

GOLDEN = bytes.fromhex(
    "92 aa 67617a652e32642e302e c4 39 83 a5746f706963 aa67617a652e32642e302e a974696d657374616d70 cb3ff8000000000000"
    "aa636f6e666964656e6365 cb3ff0000000000000"
)


def datum(timestamp: float, topic: str = "gaze.2d.0.", **more: Any) -> bytes:
    return bytes(msgpack.packb({"topic": topic, "timestamp": timestamp, **more}))


def write(folder: Path, count: int, name: str = "gaze", size: int = 0) -> list[bytes]:
    payloads = [datum(float(index), filler=bytes(size)) for index in range(count)]
    log = DatumLog(folder, name)
    for index, payload in enumerate(payloads):
        log.append("gaze.2d.0.", float(index), payload)
    log.close()
    return payloads


def stamps(folder: Path, name: str = "gaze") -> list[float]:
    return [float(value) for value in np.load(folder / f"{name}_timestamps.npy")]


def test_the_bytes_are_those_of_pupil_core(tmp_path: Path) -> None:
    log = DatumLog(tmp_path, "gaze")
    log.append("gaze.2d.0.", 1.5, datum(1.5, confidence=1.0))
    log.close()
    assert (tmp_path / "gaze.pldata").read_bytes() == GOLDEN
    assert stamps(tmp_path) == [1.5]
    assert np.load(tmp_path / "gaze_timestamps.npy").dtype == np.dtype("<f8")


@pytest.mark.parametrize("size", [0, 200, 255, 256, 65_535, 65_536, 1_000_000])
def test_every_length_reads_back_with_msgpack_itself(tmp_path: Path, size: int) -> None:
    payloads = write(tmp_path, 2, size=size)
    raw = (tmp_path / "gaze.pldata").read_bytes()
    assert list(msgpack.Unpacker(io.BytesIO(raw), use_list=True)) == [["gaze.2d.0.", each] for each in payloads]
    assert raw == b"".join(msgpack.packb(["gaze.2d.0.", each]) for each in payloads)
    assert [record for _, record in PldataReader(tmp_path / "gaze.pldata")] == payloads


def test_an_empty_log_is_two_readable_files(tmp_path: Path) -> None:
    DatumLog(tmp_path, "notify").close()
    assert (tmp_path / "notify.pldata").read_bytes() == b""
    assert np.load(tmp_path / "notify_timestamps.npy").shape == (0,)
    assert repair_log(tmp_path, "notify").count == 0


def test_a_log_that_was_killed_while_it_was_made_goes_on(tmp_path: Path) -> None:
    (tmp_path / "gaze.pldata").touch()
    write(tmp_path, 2)
    assert stamps(tmp_path) == [0.0, 1.0]


def test_what_is_flushed_is_on_disk_while_the_log_is_open(tmp_path: Path) -> None:
    log = DatumLog(tmp_path, "gaze")
    log.append("gaze.2d.0.", 1.0, datum(1.0))
    assert log.count == 0
    log.flush()
    assert (log.count, stamps(tmp_path), PldataReader(tmp_path / "gaze.pldata").count) == (1, [1.0], 0)
    assert len(list(PldataReader(tmp_path / "gaze.pldata"))) == 1
    log.sync()
    log.append(b"gaze.2d.0.", 2.0, datum(2.0))
    log.close()
    log.close()
    assert stamps(tmp_path) == [1.0, 2.0]


def test_much_data_flushes_itself(tmp_path: Path) -> None:
    log = DatumLog(tmp_path, "gaze")
    for index in range(40):
        log.append("gaze.2d.0.", float(index), datum(float(index), filler=bytes(10_000)))
    assert log.count > 20
    log.close()


def test_an_existing_log_goes_on(tmp_path: Path) -> None:
    write(tmp_path, 3)
    log = DatumLog(tmp_path, "gaze")
    assert log.count == 3
    log.append("gaze.2d.0.", 9.0, datum(9.0))
    log.close()
    assert stamps(tmp_path) == [0.0, 1.0, 2.0, 9.0]
    assert len(list(PldataReader(tmp_path / "gaze.pldata"))) == 4


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 500), rows=st.integers(0, 6), partial=st.integers(0, 7), known=st.integers(0, 6))
def test_a_log_torn_anywhere_keeps_every_whole_record(
    tmp_path: Path, cut: int, rows: int, partial: int, known: int
) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    payloads = write(tmp_path, 6, size=20)
    data, array = tmp_path / "gaze.pldata", tmp_path / "gaze_timestamps.npy"
    raw = data.read_bytes()
    data.write_bytes(raw[:cut])
    header = len(array.read_bytes()) - 48
    array.write_bytes(array.read_bytes()[: header + rows * 8 + partial])
    whole = min(cut, len(raw)) // (len(raw) // 6)
    result = repair_log(tmp_path, "gaze", (known, known * len(raw) // 6))
    assert result.count == whole
    assert result.cut == min(cut, len(raw)) - whole * (len(raw) // 6)
    assert result.lost == max(0, rows - whole)
    assert stamps(tmp_path) == [float(index) for index in range(whole)]
    assert [payload for _, payload in PldataReader(data)] == payloads[:whole]
    before = data.read_bytes(), array.read_bytes()
    assert repair_log(tmp_path, "gaze").cut == 0
    assert (data.read_bytes(), array.read_bytes()) == before


@pytest.mark.parametrize("harm", ["missing", "empty", "garbage", "other values"])
def test_timestamps_are_rebuilt_from_the_data(tmp_path: Path, harm: str) -> None:
    write(tmp_path, 4)
    array = tmp_path / "gaze_timestamps.npy"
    match harm:
        case "missing":
            array.unlink()
        case "empty":
            array.write_bytes(b"")
        case "garbage":
            array.write_bytes(b"\x93NUMPY\x01\x00\xff\xff" + bytes(200))
        case _:
            np.save(array, np.zeros(4))
    repair_log(tmp_path, "gaze")
    assert stamps(tmp_path) == [0.0, 1.0, 2.0, 3.0]


def test_zeros_behind_the_end_are_a_torn_end(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with (tmp_path / "gaze.pldata").open("ab") as file:
        file.write(bytes(5000))
    assert repair_log(tmp_path, "gaze").cut == 5000


def test_damage_in_the_middle_is_told_and_nothing_is_cut(tmp_path: Path) -> None:
    write(tmp_path, 3)
    path = tmp_path / "gaze.pldata"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] = 0x17
    path.write_bytes(raw)
    with pytest.raises(DamagedFile, match=r"gaze\.pldata: no record at byte \d+, after 1 good"):
        repair_log(tmp_path, "gaze")
    with pytest.raises(DamagedFile):
        DatumLog(tmp_path, "gaze")
    assert path.read_bytes() == raw


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
def test_random_bytes_never_do_more_than_raise(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.pldata"
    path.write_bytes(raw)
    reader = PldataReader(path)
    try:
        taken = sum(1 for _ in reader)
    except DamagedFile:
        return
    assert reader.count == taken
    assert reader.end + reader.torn == len(raw)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=r"gone\.pldata"):
        list(PldataReader(tmp_path / "gone.pldata"))


def test_a_full_disk_leaves_whole_records_and_exact_accounts(tmp_path: Path) -> None:
    code = """
import pathlib, resource, signal, sys
from gazed_recorder.datalog import DatumLog
import msgpack
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
log = DatumLog(pathlib.Path(sys.argv[1]), "gaze")
failed = 0
for index in range(200):
    log.append("g", float(index), msgpack.packb({"topic": "g", "timestamp": float(index), "x": bytes(1000)}))
    if index % 10 == 9:
        try:
            log.flush()
        except OSError:
            failed += 1
log.close()
assert failed > 5, failed
assert log.count + log.dropped == 200, (log.count, log.dropped)
print(log.count)
"""
    run = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    count = int(run.stdout)
    assert count == 90
    reader = PldataReader(tmp_path / "gaze.pldata")
    assert len(list(reader)) == count == len(stamps(tmp_path))
    assert reader.torn == 0


def test_a_datum_beyond_16_mib_is_refused(tmp_path: Path) -> None:
    log = DatumLog(tmp_path, "gaze")
    with pytest.raises(MessageError, match="16777216"):
        log.append("gaze", 0.0, bytes(1 << 25))
    log.close()


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("pupil.0.3d", "pupil"),
        ("gaze.3d.01.", "gaze"),
        ("notify.recording.started", "notify"),
        ("annotation", "annotation"),
        ("fixations", "fixations"),
        ("surfaces.desk top", "surfaces"),
        ("head_pose", "head_pose"),
        ("../../etc", "_"),
        ("World.x", "data_world"),
        ("eye0", "data_eye0"),
        ("audio", "data_audio"),
        ("", "_"),
        ("a/b\x00c" * 50, None),
    ],
)
def test_topics_go_to_logs(topic: str, name: str | None) -> None:
    found = log_name(topic)
    assert found == name or (name is None and len(found) == 64)


@given(st.text())
def test_any_topic_makes_a_plain_file_name(topic: str) -> None:
    assert log_name(topic).encode().replace(b"_", b"").replace(b"-", b"").isalnum() or set(log_name(topic)) <= {
        "_",
        "-",
    }


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({"topic": "a"}),
        msgpack.packb({"topic": "a", "timestamp": float("nan")}),
        msgpack.packb({"topic": "a", "timestamp": True}),
        msgpack.packb({"topic": 1, "timestamp": 1.0}),
        msgpack.packb({"topic": "a", "timestamp": 1.0, "deep": {1: 2}}),
        msgpack.packb({"topic": "a", "timestamp": 1.0}) + b"\0",
        b"\x83" + msgpack.packb({"topic": "a", "timestamp": 1.0})[1:] + b"\xa1x\xa1\xff",
        b"\x83" + msgpack.packb({"topic": "a", "timestamp": 1.0})[1:] + b"\xa1x" + b"\x91" * 5000,
    ],
)
def test_what_some_reader_could_not_unpack_is_no_datum(payload: bytes) -> None:
    with pytest.raises(MessageError):
        check_datum(payload)


def test_check_datum_tells_topic_and_timestamp() -> None:
    assert check_datum(datum(2, "pupil.0.2d")) == ("pupil.0.2d", 2.0)
