"""A folder may come from anywhere: whatever is in it, nothing outside is opened and errors are ours."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazed_recorder.errors import DamagedFile, NotARecording
from gazed_recorder.layout import log_names, stream_parts
from gazed_recorder.manifest import Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.repair import repair
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_classic import make_classic_recording
from gazed_recorder.verify import verify
from gazed_timesync import GazedError

SECRET = b"what is outside is nobody's business"


def use(folder: Path) -> None:
    """Ask for everything; anything else than our own errors comes through."""
    try:
        recording = Recording(folder)
    except GazedError:
        return
    assert all(isinstance(sentence, str) for sentence in recording.missing)
    steps: list[Callable[[], Any]] = [
        lambda: recording.duration, lambda: recording.clock, lambda: recording.user_info, lambda: recording.logs,
        lambda: recording.pupil, lambda: recording.gaze, lambda: recording.annotations, lambda: recording.offline,
        lambda: recording.correlate(recording.gaze), lambda: [*recording.sound()],
        lambda: Recording(folder, offline=True).logs,
    ]  # fmt: skip
    for stream in recording.streams:
        steps += [
            lambda stream=stream: recording.timestamps(stream),
            lambda stream=stream: [*recording.frames(stream)],
            lambda stream=stream: recording.intrinsics(stream),
        ]
    with suppress(GazedError):
        for log in recording.logs:
            steps += [
                lambda log=log: recording.table(log),
                lambda log=log: [*recording.data(log)],
                lambda log=log: [*recording.batches(log, rows=7)],
                lambda log=log: recording.timestamps(log),
            ]
    for step in steps:
        with suppress(GazedError):
            step()


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("templates")
    return [
        *(make_classic_recording(root / version, version, seconds=0.1) for version in ("0.7.4", "0.9.0", "1.7", "3.5")),
        make_recording(root, frames=4, datums=5),
        make_recording(root, frames=4, datums=5, closed=False),
    ]


def mutated(data: st.DataObject, content: bytes) -> bytes:
    kind = data.draw(st.sampled_from(["cut", "junk", "bytes", "delete"]))
    if kind == "junk" or not content:
        return data.draw(st.binary(max_size=64))
    at = data.draw(st.integers(0, min(len(content) - 1, 400)) | st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:at]
    if kind == "delete":
        return content[:at] + content[at + data.draw(st.integers(1, 9)) :]
    extreme = st.sampled_from(
        [b"\x00", b"\xff", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x7f" * 8]
    )
    return content[:at] + data.draw(extreme | st.binary(min_size=1, max_size=4)) + content[at + 1 :]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files(templates: list[Path], tmp_path: Path, data: st.DataObject) -> None:
    template = data.draw(st.sampled_from(templates))
    folder = tmp_path / "mutated"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
        path = folder / name
        path.write_bytes(mutated(data, path.read_bytes()))
    use(folder)


KEYS = st.sampled_from([
    "timestamp", "topic", "id", "norm_pos", "base_data", "base", "subject", "ellipse", "sphere", "circle_3d", "method",
    "gaze_normals_3d", "label", "name", "center", "type", "resolution", "data",
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=3) | st.builds(msgpack.ExtType, st.sampled_from([5, 13]), st.binary(max_size=4))
    | st.sampled_from([msgpack.ExtType(13, msgpack.packb({"id": 1, "timestamp": 2.0})), msgpack.Timestamp(1, 1)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.integers(0, 1), inner, max_size=6),
    max_leaves=15,
)  # fmt: skip
DATUMS = st.lists(st.dictionaries(KEYS, VALUES, max_size=8) | VALUES, max_size=12)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(logs=st.dictionaries(st.sampled_from(["pupil", "gaze", "notify", "fixations", "blinks", "other"]), DATUMS))
def test_datums_of_any_shape(tmp_path: Path, logs: dict[str, list[Any]]) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for name, datums in {"notify": [], **logs}.items():
        (new / f"{name}.pldata").write_bytes(b"".join(msgpack.packb(["t", msgpack.packb(each)]) for each in datums))
    names = {"pupil": "pupil_positions", "gaze": "gaze_positions", "notify": "notifications"}
    content = msgpack.packb({names.get(name, name): datums for name, datums in logs.items()})
    (old / "pupil_data").write_bytes(content)
    (old / "info.csv").write_text("key,value\nRecording Name,x\nCapture Software Version,1.7\n")
    use(new)
    use(old)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["duration_s", "start_time_system_s", "start_time_synced_s", "recording_software_name",
                         "recording_software_version", "meta_version", "recording_uuid", "streams", "clock"]), inner,
    ),
))  # fmt: skip
def test_descriptions_of_any_shape(tmp_path: Path, content: Any) -> None:
    np.save(tmp_path / "world_timestamps.npy", np.arange(3.0))
    (tmp_path / "world.mp4").write_bytes(b"")
    for name in ("info.player.json", "manifest.json"):
        (tmp_path / name).write_text(json.dumps(content))
        use(tmp_path)
        (tmp_path / name).unlink()


@pytest.mark.parametrize("start", [1e300, -1e300, 10**400, 4e9, True, "1.5", "one", None, [1], float("nan")])
def test_start_times_of_any_kind(tmp_path: Path, start: Any) -> None:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.1, videos=False)
    info = json.loads((folder / "info.player.json").read_text())
    (folder / "info.player.json").write_text(json.dumps({**info, "start_time_system_s": start}))
    use(folder)
    if start in (True, "1.5"):
        assert Recording(folder).to_unix(1000.0) == pytest.approx(float(start))


BOMBS = {
    "a map of four billion": b"\xdf\xff\xff\xff\xff",
    "a list of four billion": b"\x81\xafpupil_positions\xdd\xff\xff\xff\xff",
    "a text of four gigabytes": b"\x81\xdb\xff\xff\xff\xff",
    "lists in lists": b"\x81\xafpupil_positions\x91" + b"\x91" * 100_000,
    "maps in maps": b"\x81\xafpupil_positions\x91" + b"\x81\xa1a" * 100_000,
    "a datum of four gigabytes": b"\x81\xafpupil_positions\x91\x81\xa1a\xc6\xff\xff\xff\xff",
    "packed maps in packed maps": b"\x81\xafpupil_positions\x91"
    + msgpack.packb({"a": msgpack.ExtType(13, b"\xc7" * 9)}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_msgpack_bombs(tmp_path: Path, name: str) -> None:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.1, videos=False)
    (folder / "pupil_data").write_bytes(BOMBS[name])
    use(folder)
    (folder / "pupil_data").unlink()
    for payload in (BOMBS[name], b"\x91" * 2000, msgpack.packb({"timestamp": 1.0, "x": msgpack.ExtType(13, b"\x81")})):
        (folder / "gaze.pldata").write_bytes(msgpack.packb(["gaze", payload]) * 3)
        use(folder)
    for head in (b"\x92\xdb\xff\xff\xff\xff", b"\x92\xa1g\xc6\xff\xff\xff\xff", b"\x92" * 1000):
        (folder / "gaze.pldata").write_bytes(head)
        use(folder)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.mark.parametrize("kind", ["3.5", "1.7", "gazed"])
def test_links_that_lead_out_are_not_followed(tmp_path: Path, kind: str) -> None:
    make: Callable[[Path], Path] = (
        make_recording if kind == "gazed" else lambda root: make_classic_recording(root, kind)
    )
    other, folder = make(tmp_path / "other"), make(tmp_path / "mine")
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != ".lock")
    for name in names:
        (folder / name).unlink()
        (folder / name).symlink_to(other / name)
    (folder / "offline_data").symlink_to(tmp_path / "other", target_is_directory=True)
    with pytest.raises(NotARecording, match="nor anything else of a recording"):
        Recording(folder)
    assert (stream_parts(folder), log_names(folder)) == ({}, [])
    # One file that is really there makes it a recording, of that file only.
    kept = "world.mp4"
    (folder / kept).unlink()
    shutil.copy(other / kept, folder / kept)
    recording = Recording(folder)
    assert (recording.streams, recording.logs, recording.manifest) == ((), (), None)
    assert recording.offline.logs == {}
    told = [sentence for sentence in recording.missing if "leads out of the recording" in sentence]
    assert [sentence.split()[0] for sentence in told] == sorted({*names, "offline_data"} - {kept})


def test_links_inside_a_recording_and_to_one_are_followed(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.2)
    (folder / "store").mkdir()
    for name in ("world.mp4", "world_timestamps.npy", "pupil.pldata"):
        (folder / name).rename(folder / "store" / name)
        (folder / name).symlink_to(Path("store") / name)
    (tmp_path / "link").symlink_to(folder)
    for path in (folder, tmp_path / "link"):
        recording = Recording(path)
        assert recording.missing == ()
        assert len([*recording.world]) == 6
        assert len(recording.pupil) > 0


def test_links_in_a_circle_pipes_and_folders_are_no_files(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "3.5", seconds=0.2)
    for name in ("world.mp4", "gaze.pldata", "user_info.csv", "eye0.mp4"):
        (folder / name).unlink()
    (folder / "world.mp4").symlink_to("world.mp4")
    os.mkfifo(folder / "gaze.pldata")
    os.mkfifo(folder / "user_info.csv")
    (folder / "eye0.mp4").mkdir()
    use(folder)
    recording = Recording(folder)
    assert recording.streams == ("eye1",)
    assert "gaze" not in recording.logs
    assert recording.user_info == {}
    assert sum("or no file" in sentence for sentence in recording.missing) == 3
    os.mkfifo(folder / "manifest.json")
    (folder / "info.player.json").unlink()
    os.mkfifo(folder / "info.player.json")
    assert Recording(folder).manifest is None


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "", "a/b", "a\\b", "x\0y"])
def test_names_in_a_manifest_lead_nowhere(tmp_path: Path, outside: Path, name: str) -> None:
    folder = make_recording(tmp_path)
    content = json.loads((folder / "manifest.json").read_bytes())
    part = content["streams"]["world"]["parts"][0]["file"]
    for where in ("parts", "files", "streams"):
        evil = json.loads(json.dumps(content))
        if where == "parts":
            evil["streams"]["world"]["parts"][0]["file"] = name
        elif where == "files":
            evil["files"][name] = evil["files"][part]
        else:
            evil["streams"][name] = evil["streams"]["world"]
        (folder / "manifest.json").write_text(json.dumps(evil))
        with pytest.raises(DamagedFile, match="is the name of nothing in a recording"):
            Manifest.load(folder)
        with pytest.raises(DamagedFile, match="is the name of nothing in a recording"):
            Recording(folder)
        assert not verify(folder).ok
    assert repair(folder).repaired
    assert Recording(folder).missing == ()
    assert outside.read_bytes() == SECRET


def test_repair_does_not_write_through_links(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    for name in ("pupil.pldata", "world.mp4", "gaze_timestamps.npy", "eye0_frames.npy"):
        target = tmp_path / f"outside {name}"
        target.write_bytes(SECRET)
        (folder / name).unlink()
        (folder / name).symlink_to(target)
    repair(folder)
    for target in tmp_path.glob("outside *"):
        assert target.read_bytes() == SECRET, target
