from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest

from gazed_recorder.errors import GazedError, NotARecording
from gazed_recorder.manifest import Manifest
from gazed_recorder.mp4_scan import scan
from gazed_recorder.records import FRAME_DTYPE
from gazed_recorder.repair import repair
from gazed_recorder.testing import make_recording
from gazed_recorder.verify import verify


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp("model"), frames=20, parts=2)


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "recording"))


@pytest.mark.parametrize("deep", [True, False])
def test_a_good_recording_passes(folder: Path, deep: bool) -> None:
    told: list[float] = []
    result = verify(folder, deep=deep, progress=told.append)
    assert result.problems == []
    assert result.ok
    counts = {"gaps": 0, "dropped": 0, "lost": 0}
    assert result.streams["world"] == {"frames": 20, "timestamps": 20, **counts}
    assert result.streams["pupil"] == {"frames": 20, "timestamps": 20, **counts}
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_it_changes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    verify(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_files_of_the_user_do_not_matter(folder: Path) -> None:
    (folder / "notes.txt").write_text("left eye")
    (folder / "exports").mkdir()
    (folder / "user_info.csv").write_text("key,value\r\nname,somebody\r\n")
    assert verify(folder).ok


def change_manifest(change: Callable[[Manifest], None]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        manifest = Manifest.load(folder)
        change(manifest)
        manifest.save(folder)

    return harm


def damage_frame(folder: Path) -> None:
    path = folder / "world_001.mp4"
    found = scan(path)
    raw = bytearray(path.read_bytes())
    raw[int(found.offsets[3] + found.sizes[3] // 2)] ^= 0x55
    path.write_bytes(raw)


def shift_time(folder: Path) -> None:
    path = folder / "world_timestamps.npy"
    stamps = np.load(path)
    stamps[4] += 3e-6
    np.save(path, stamps)


def repeat_time(folder: Path) -> None:
    path = folder / "world_timestamps.npy"
    stamps = np.load(path)
    stamps[4] = stamps[3]
    np.save(path, stamps)


def set_nan(folder: Path) -> None:
    path = folder / "eye0_timestamps.npy"
    stamps = np.load(path)
    stamps[2] = np.nan
    np.save(path, stamps)


def change_record(folder: Path) -> None:
    path = folder / "eye0_frames.npy"
    rows = np.load(path)
    rows[5]["host_ns"] += 1
    assert rows.dtype == FRAME_DTYPE
    np.save(path, rows)


def change_datum(folder: Path) -> None:
    path = folder / "gaze.pldata"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"number 7", b"number 8"))


def misplace_part(folder: Path) -> None:
    for name in ("world.mp4", "world_frames.npy", "world_timestamps.npy"):
        (folder / name).rename(folder / f"{name}.away")
    for name in ("world{}.mp4", "world{}_frames.npy", "world{}_timestamps.npy"):
        (folder / name.format("_001")).rename(folder / name.format(""))
        (folder / (name.format("") + ".away")).rename(folder / name.format("_001"))


def shorten_pupil_data(folder: Path) -> None:
    found = msgpack.unpackb((folder / "pupil_data").read_bytes())
    found["gaze_positions"].pop()
    (folder / "pupil_data").write_bytes(msgpack.packb(found))


def int_duration(folder: Path) -> None:
    path = folder / "info.player.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "duration_s": 1}))


def list_key(folder: Path) -> None:
    path = folder / "world.intrinsics"
    path.write_bytes(path.read_bytes().replace(b"(64, 48)", b"[64, 48]"))


def rewrite_intrinsics(**change: object) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = folder / "world.intrinsics"
        found = msgpack.unpackb(path.read_bytes())
        path.write_bytes(msgpack.packb({"version": 1, "(64, 48)": {**found["(64, 48)"], **change}}))

    return harm


def damage_index(folder: Path) -> None:
    path = folder / "eye0.mp4"
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tkhd", scan(path).end) + 44
    raw[at] ^= 1  # the matrix by which players turn the image
    path.write_bytes(raw)


def other_player_info(key: str, value: object) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = folder / "info.player.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}))

    return harm


def append_datum(folder: Path) -> None:
    path = folder / "gaze.pldata"
    unpacker = msgpack.Unpacker()
    unpacker.feed(path.read_bytes())
    unpacker.skip()
    path.write_bytes(path.read_bytes() + path.read_bytes()[: unpacker.tell()])


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "damaged frame": (damage_frame, r"world_001\.mp4: frame 3 is damaged: checksum [0-9a-f]{16}, wanted [0-9a-f]{16}"),
    "shifted time": (shift_time, r"world\.mp4: frame 4 is shown at [\d.]+ s, its timestamp wants [\d.]+ s"),
    "repeated time": (repeat_time, r"world_timestamps\.npy: timestamp 4 .* is not after timestamp 3"),
    "nan": (set_nan, r"eye0_timestamps\.npy: timestamp 2 is nan"),
    "changed record": (change_record, r"eye0_frames\.npy: row 5 is not the record of frame 5"),
    "changed datum": (change_datum, r"gaze\.pldata was changed: xxh3_128"),
    "swapped parts": (misplace_part, r"world_001_timestamps\.npy begins before the end of the part in front"),
    "short pupil_data": (shorten_pupil_data, r"pupil_data: 19 datums under gaze_positions, wanted 20"),
    "int duration": (int_duration, r"info\.player\.json: duration_s is 1, wanted a float"),
    "list key": (list_key, r"world\.intrinsics: key '\[64, 48\]' is not the tuple"),
    "no player info": (lambda f: (f / "info.player.json").unlink(), r"info\.player\.json"),
    "no info.csv": (lambda f: (f / "info.csv").unlink(), r"info\.csv is missing"),
    "no video": (lambda f: (f / "eye0.mp4").unlink(), r"eye0: manifest\.json names the parts"),
    "no timestamps": (lambda f: (f / "world_timestamps.npy").unlink(), r"world_timestamps\.npy: No such file"),
    "no records": (lambda f: (f / "eye0_frames.npy").unlink(), r"eye0_frames\.npy: No such file"),
    "no log": (lambda f: (f / "pupil.pldata").unlink(), r"pupil\.pldata: No such file"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), r"manifest\.json is missing, although gazed wrote"),
    "left over": (lambda f: (f / "pupil_data.writing").touch(), r"pupil_data\.writing was left over"),
    "foreign log": (lambda f: (f / "x.pldata").touch(), r"x_timestamps\.npy: No such file"),
    "not closed": (
        change_manifest(lambda m: setattr(m, "state", "recording")),
        r"manifest\.json: the recording was not closed; run: gazed repair",
    ),
    "accounts": (
        change_manifest(lambda m: setattr(m.streams["world"], "received", 22)),
        r"world: 22 received, but 20 written \+ 0 dropped \+ 0 lost",
    ),
    "count": (
        change_manifest(lambda m: setattr(m.streams["gaze"], "written", 21)),
        r"gaze: 20 on disk, manifest\.json promises 21",
    ),
    "expected": (
        change_manifest(lambda m: m.streams.update(eye1=type(m.streams["world"])(kind="video", expected=True))),
        r"eye1: expected, but nothing of it was recorded",
    ),
    "index": (damage_index, r"eye0\.mp4: its index, from byte \d+ on, is not that of its frames"),
    "other uuid": (
        change_manifest(lambda m: setattr(m, "recording_uuid", "00000000-0000-0000-0000-000000000009")),
        r"info\.player\.json: recording_uuid is '.*7', by manifest\.json it is '.*9'",
    ),
    "other start": (
        other_player_info("start_time_synced_s", 1.0),
        r"info\.player\.json: start_time_synced_s is 1\.0, by manifest\.json it is 100\.0",
    ),
    "no promise": (
        change_manifest(lambda m: m.files.__delitem__("gaze.pldata")),
        r"gaze\.pldata: manifest\.json does not name it among its files",
    ),
    "order of parts": (
        change_manifest(lambda m: m.streams["world"].parts.reverse()),
        r"world: manifest\.json names",
    ),
    "codec": (
        change_manifest(lambda m: setattr(m.streams["world"].parts[0], "codec", "h264")),
        r"world: manifest\.json names the parts \[\('world\.mp4', 10, 'h264'\)",
    ),
    "later format": (
        change_manifest(lambda m: setattr(m, "format", 2)),
        r"manifest\.json: format 2, .* format 1",
    ),
    "gaps": (
        change_manifest(lambda m: setattr(m.streams["world"], "gap_count", 3)),
        r"world: manifest\.json counts 3 gaps and lists 0",
    ),
    "log size": (
        change_manifest(lambda m: setattr(m.streams["gaze"], "size", 7)),
        r"gaze\.pldata: its records take \d+ bytes, manifest\.json promises 7",
    ),
    "appended datum": (append_datum, r"gaze\.pldata: 21 records, 20 timestamps"),
    "other size": (rewrite_intrinsics(resolution=[64, 49]), r"world\.intrinsics: key '\(64, 48\)' is not the tuple"),
    "no model": (rewrite_intrinsics(camera_matrix=[[1.0]]), r"world\.intrinsics: \(64, 48\) is no camera model"),
    "unknown model": (rewrite_intrinsics(cam_type="round"), r"world\.intrinsics: \(64, 48\) is no camera model"),
    "no resolution": (
        lambda f: (f / "world.intrinsics").write_bytes(msgpack.packb({"version": 1})),
        r"world\.intrinsics: has models for \[\], the images are 64x48",
    ),
    "video that players take": (
        lambda f: shutil.copy(f / "world.mp4", f / "world_viz.mp4"),
        r"world_viz\.mp4: players take it for a part of world",
    ),
    "user info": (lambda f: (f / "user_info.csv").write_bytes(b"\xff"), r"user_info\.csv: no UTF-8"),
    "empty user info": (lambda f: (f / "user_info.csv").write_text(""), r"user_info\.csv: begins with ''"),
    "unnamed": (
        change_manifest(lambda m: m.streams.pop("eye0")),  # type: ignore[arg-type, return-value]
        r"manifest\.json does not name stream eye0",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_every_harm_is_found_and_named(folder: Path, harm: str) -> None:
    apply, message = HARMS[harm]
    apply(folder)
    result = verify(folder)
    assert not result.ok
    assert any(re.search(message, problem) for problem in result.problems), result.problems


def test_what_pupil_player_leaves_in_a_recording_without_world_is_no_harm(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=("eye0",))
    (folder / "world.fake").write_bytes(msgpack.packb({"version": 2}))
    assert verify(folder).problems == []


def test_frames_missing_by_number_must_be_accounted_for(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, frames=20, missing=(5, 6, 12))
    assert verify(folder).ok
    manifest = Manifest.load(folder)
    manifest.streams["world"].missed = 2
    manifest.save(folder)
    assert verify(folder).problems == [
        "world: 3 frames are missing by their sequence numbers, manifest.json tells of 2"
    ]


def test_a_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone"):
        with pytest.raises(NotARecording):
            verify(place)


@pytest.mark.parametrize("seed", range(12))
def test_hostile_files_are_problems_not_crashes(model: Path, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    names = sorted(path.name for path in model.iterdir())
    for trial in range(4):
        folder = Path(shutil.copytree(model, tmp_path / str(trial)))
        name = dice.choice(names)
        raw = bytearray((folder / name).read_bytes())
        match dice.randrange(3):
            case 0:
                raw = bytearray(dice.randbytes(dice.randrange(2000)))
            case 1:
                for _ in range(1 + dice.randrange(20)):
                    raw[dice.randrange(len(raw))] = dice.randrange(256)
            case _:
                at = dice.randrange(len(raw))
                raw[at : at + 8] = dice.choice([bytes(8), b"\xff" * 8, b"\x7f\xff\xff\xff" * 2, b"[" * 50_000])
        (folder / name).write_bytes(raw)
        for deep in (True, False):
            result = verify(folder, deep=deep)
            assert result.ok == (not result.problems)
        try:
            repair(folder)
        except GazedError as error:
            assert str(error)  # noqa: PT017 - a refusal is one of two good ends
