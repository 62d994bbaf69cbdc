"""Folders of every generation of Pupil Capture open through the one ``Recording``, and say the same."""

from __future__ import annotations

import time
from pathlib import Path

import msgpack
import numpy as np
import pytest

from gazed_recorder.errors import DamagedFile, NotARecording
from gazed_recorder.reader import Recording
from gazed_recorder.reading.key_value import read_key_value
from gazed_recorder.reading.recorded_logs import is_before
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_classic import (
    CLASSIC_VERSIONS,
    START_SYNCED,
    START_SYSTEM,
    make_classic_recording,
    make_video,
)
from gazed_recorder.testing_datums import EYE_SIZE, WORLD_SIZE

WITH_TIMES = [version for version in CLASSIC_VERSIONS if not is_before(version, (1, 3))]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    root = tmp_path_factory.mktemp("classic")
    return {
        version: Recording(make_classic_recording(root / version, version, parts=2)) for version in CLASSIC_VERSIONS
    }


@pytest.mark.parametrize("version", CLASSIC_VERSIONS)
def test_videos_in_parts(recordings: dict[str, Recording], version: str) -> None:
    recording = recordings[version]
    assert recording.streams == ("world", "eye0", "eye1")
    assert not recording.has_sound
    assert [path.name for path in recording.world.paths] == ["world.mp4", "world_001.mp4"]
    frames = [*recording.world]
    assert len(frames) == len(recording.timestamps("world")) == 60
    assert (recording.world.size, recording.world.codec) == (WORLD_SIZE, "mjpeg")
    assert abs(int(recording.world[45].gray[5, 5]) - (40 + 45 * 7 % 180)) <= 2
    assert frames[45].timestamp == recording.world[45].timestamp == pytest.approx(START_SYNCED + 0.1 + 45 / 30)
    assert recording.eyes[1].size == EYE_SIZE


@pytest.mark.parametrize("version", CLASSIC_VERSIONS)
def test_pupils_and_gaze_are_the_same_in_all(recordings: dict[str, Recording], version: str) -> None:
    new, old = recordings["3.5"], recordings[version]
    pupil, wanted = old.pupil, new.pupil
    wanted = wanted[np.array([method.startswith("pye3d") for method in wanted["method"]])]
    if version == "3.5":
        pupil = wanted
    else:
        assert set(pupil["topic"]) == {"pupil.0", "pupil.1"}
        assert set(pupil["method"]) == {"3d c++"}
        seen = pupil["confidence"] > 0
        assert (pupil["model_id"][seen] == 1).all()
        assert (pupil["sphere_radius"][seen] == 12.0).all()
    same = [
        "timestamp", "eye_id", "confidence", "norm_pos_x", "norm_pos_y", "diameter", "ellipse_axis_a", "diameter_3d",
        "model_confidence", "circle_3d_normal_z", "projected_sphere_center_x", "theta",
    ]  # fmt: skip
    for name in same:
        np.testing.assert_array_equal(pupil[name], wanted[name], err_msg=name)
    gaze, wanted = old.gaze, new.gaze
    same = ["timestamp", "confidence", "norm_pos_x", "norm_pos_y", "base0_timestamp", "base0_id", "base1_id"]
    if not is_before(version, (0, 9)):
        same += ["gaze_point_3d_z", "eye_center0_3d_x", "gaze_normal1_y"]
    for name in same:
        np.testing.assert_array_equal(gaze[name], wanted[name], err_msg=name)


@pytest.mark.parametrize("version", CLASSIC_VERSIONS)
def test_datums_are_called_as_today(recordings: dict[str, Recording], version: str) -> None:
    recording = recordings[version]
    pupil = next(recording.data("pupil"))
    assert pupil["topic"] == ("pupil.0.2d" if version == "3.5" else "pupil.0")
    if version != "3.5":
        assert {"circle_3d", "diameter_3d", "projected_sphere", "model_id"} <= pupil.keys()
    gaze = next(recording.data("gaze"))
    assert [base["id"] for base in gaze["base_data"]] == [0, 1]
    assert gaze["base_data"][0]["topic"].startswith("pupil.0")
    assert "base" not in gaze
    assert gaze["topic"].split(".")[0] == "gaze"
    for log in recording.logs:
        table = recording.table(log)
        assert sorted(datum["topic"] for datum in recording.data(log)) == sorted(table["topic"])
        assert len(recording.timestamps(log)) == len(table)
        pieces = [*recording.batches(log, rows=50)]
        assert sum(map(len, pieces)) == len(table)
        assert [topic for piece in pieces for topic in piece["topic"]] == [*table["topic"]]


@pytest.mark.parametrize("version", CLASSIC_VERSIONS)
def test_annotations_are_found_where_they_were_then(recordings: dict[str, Recording], version: str) -> None:
    annotations = recordings[version].annotations
    assert [*annotations["label"]] == ["looked left", "gedrückt"]
    assert [*annotations["topic"]] == ["annotation"] * 2
    assert annotations["timestamp"].tolist() == [START_SYNCED + 0.5, START_SYNCED + 1.0]
    assert annotations["duration"].tolist() == [0.0, 0.1]
    subjects = [*recordings[version].notifications["subject"]]
    assert ("annotation" in subjects) == is_before(version, (1, 9))
    assert "recording.started" in subjects
    assert [*recordings[version].notifications["topic"]] == [f"notify.{subject}" for subject in subjects]


@pytest.mark.parametrize("version", [version for version in CLASSIC_VERSIONS if not is_before(version, (0, 9))][1:])
def test_fixations_and_blinks(recordings: dict[str, Recording], version: str) -> None:
    recording = recordings[version]
    assert set(recording.blinks["topic"]) == {"blinks"}
    assert [*recording.blinks["type"]] == ["onset", "offset"]
    assert set(recording.fixations["topic"]) == {"fixations"}
    np.testing.assert_array_equal(recording.fixations["duration"], recordings["3.5"].fixations["duration"])
    assert len(recording.fixations["base_data"][0]) > 2


@pytest.mark.parametrize("version", CLASSIC_VERSIONS)
def test_what_is_known_of_the_recording(recordings: dict[str, Recording], version: str) -> None:
    recording = recordings[version]
    info = recording.info
    assert info.recording_software_name == "Pupil Capture"
    assert info.recording_software_version.startswith(version)
    assert info.system_info == "User: pupil, Platform: Linux, Machine: lab, Release: 3.13.0, Version: #1 SMP"
    assert recording.user_info == {"name": "P 1", "additional_field": "a, b"}
    assert recording.duration == (2.2 if version == "3.5" else 2.0)
    if version in WITH_TIMES:
        assert recording.missing == ()
        assert (info.start_time_system_s, info.start_time_synced_s) == (START_SYSTEM, START_SYNCED)
        assert recording.to_unix(START_SYNCED + 1.0) == pytest.approx(START_SYSTEM + 1.0, abs=1e-6)
    model = recording.intrinsics("world")
    assert model is not None
    assert (model["resolution"], model["cam_type"]) == ([*WORLD_SIZE], "radial")
    assert recording.intrinsics("eye0") is None
    with pytest.raises(NotARecording, match="no stream 'eye7'"):
        Recording(recording.path).timestamps("eye7")


def test_times_that_no_file_told_before_1_3_are_derived_and_it_is_said(
    recordings: dict[str, Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        recording = Recording(make_classic_recording(tmp_path, "0.7.4"))
    finally:
        monkeypatch.undo()
        time.tzset()
    # Whole seconds, and the first frame comes a tenth of a second after the start.
    assert recording.info.start_time_system_s == int(START_SYSTEM)
    assert recording.info.start_time_synced_s == recording.timestamps("world")[0] == START_SYNCED + 0.1
    synced, system = recording.missing
    assert synced == "info.csv has no 'Start Time (Synced)': the first timestamp, 1000.1, is taken for the start"
    assert "time zone of this machine" in system
    assert recording.to_unix(START_SYNCED) == pytest.approx(START_SYSTEM, abs=1.0)


def test_without_videos_the_first_datum_is_the_start(tmp_path: Path) -> None:
    recording = Recording(make_classic_recording(tmp_path, "0.9.4", videos=False))
    # A notification tells of a calibration a minute before the recording.
    assert recording.info.start_time_synced_s == START_SYNCED - 60
    assert recording.streams == ()


def test_pldata_wins_over_pupil_data(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.5)
    payload = msgpack.packb({"topic": "pupil.0", "timestamp": START_SYNCED, "id": 0})
    (folder / "pupil.pldata").write_bytes(msgpack.packb(["pupil.0", payload]))
    assert Recording(folder).logs == ("pupil",)
    assert len(Recording(folder).pupil) == 1
    # gazed's own have both as well.
    assert Recording(make_recording(tmp_path, datums=5)).logs == ("annotation", "gaze", "notify", "pupil")


def test_keys_of_pupil_data_that_nobody_knows_become_logs_with_safe_names(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.1)
    surface = {"name": "screen", "uid": "1", "timestamp": START_SYNCED, "m_to_screen": [[1.0]]}
    content = {"surfaces": [surface], "../../Evil": [{"timestamp": 1.0}], "world": [{"timestamp": 2.0}], "dt": []}
    (folder / "pupil_data").write_bytes(msgpack.packb(content))
    recording = Recording(folder)
    assert recording.logs == ("_", "data_world", "dt", "surfaces")
    [found] = recording.data("surfaces")
    assert found["topic"] == "surfaces.screen"
    assert [*recording.table("surfaces")["topic"]] == ["surfaces.screen"]
    assert len(recording.table("dt")) == 0
    assert recording.timestamps("data_world").tolist() == [2.0]
    assert len(recording.timestamps("world")) == 3


def test_sound_is_that_of_the_mp4_and_old_wav_files_are_left_alone(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "0.7.4", seconds=0.2)
    for name in ("world.wav", "audio.wav"):
        (folder / name).write_bytes(b"RIFF")
    recording = Recording(folder)
    assert not recording.has_sound
    assert [*recording.sound()] == []


def test_containers_of_early_versions(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "0.7.4", seconds=0.5)
    import av

    for stem, ending in (("world", "mkv"), ("eye0", "avi"), ("eye1", "mjpeg")):
        with av.open(folder / f"{stem}.mp4") as source, av.open(folder / f"{stem}.{ending}", "w") as target:
            track = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = track
                    target.mux(packet)
        (folder / f"{stem}.mp4").unlink()
    recording = Recording(folder)
    assert [recording.world.paths[0].name, recording.eyes[0].paths[0].name] == ["world.mkv", "eye0.avi"]
    for video in (recording.world, *recording.eyes.values()):
        assert len([*video]) == len(video.timestamps)
        assert abs(int(video[9].gray[5, 5]) - (40 + 9 * 7 % 180)) <= 2


def test_times_of_frames_that_go_back_are_kept_and_told(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.5)
    stamps = np.load(folder / "world_timestamps.npy")
    stamps[[4, 8]] = stamps[[8, 4]]
    stamps[10] = stamps[11]  # two at once are allowed
    np.save(folder / "world_timestamps.npy", stamps)
    recording = Recording(folder)
    np.testing.assert_array_equal(recording.timestamps("world"), stamps)
    [told] = recording.missing
    assert told.startswith("world_timestamps.npy goes back in time 2 times")
    assert recording.world.nearest(stamps[[3, 4, 8]]).tolist() == [3, 4, 8]
    nearest = recording.correlate(recording.gaze)
    distance = np.abs(recording.gaze["timestamp"][:, None] - stamps)
    np.testing.assert_allclose(distance[np.arange(len(nearest)), nearest], distance.min(axis=1), atol=1e-12)
    assert set(recording.correlate(recording.gaze, "midpoint").tolist()) <= {-1, *range(len(stamps))}


def test_a_truncated_pupil_data_gives_what_is_whole(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.5, videos=False)
    whole = [*Recording(folder).data("pupil")]
    content = (folder / "pupil_data").read_bytes()
    (folder / "pupil_data").write_bytes(content[: len(content) // 8])
    torn = Recording(folder)
    assert torn.logs == ("pupil",)
    assert 0 < len(torn.pupil) < len(whole)
    assert [*torn.data("pupil")] == whole[: len(torn.pupil)]
    assert torn.missing == ("pupil_data ends too early: what is behind its end is left out",)
    (folder / "pupil_data").write_bytes(b"")
    assert Recording(folder).logs == ()


@pytest.mark.parametrize(
    "content", [b"\xc1" * 40, b"\x93\x01\x02\x03", b"\x81\xa1a\x01", b"\x81\xa1a" + b"\x91" * 5000, b"\x81" * 5000]
)
def test_a_pupil_data_of_something_else_is_damage(tmp_path: Path, content: bytes) -> None:
    folder = make_classic_recording(tmp_path, "1.7", seconds=0.1)
    (folder / "pupil_data").write_bytes(content)
    recording = Recording(folder)
    with pytest.raises(DamagedFile, match="pupil_data"):
        _ = recording.logs
    assert "pupil_data" in recording.missing[0]
    assert len(recording.world) == 3


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b'key,value\r\nRecording Name,a\\,b \\"q\\"\r\nStart Date,24.03.2016\r\n', {"Recording Name": 'a,b "q"'}),
        (b"Recording Name\ta,b\nStart Date\t24.03.2016\n", {"Recording Name": "a,b"}),
        (b"\xef\xbb\xbfkey,value\nRecording Name,b\xfcro\nDuration Time,0,ignored\nalone\n\n", {"Duration Time": "0"}),
        (b"key\tvalue\nRecording Name\tx\n", {"Recording Name": "x"}),
        (b"", {}),
    ],
)
def test_both_forms_of_info_csv(content: bytes, wanted: dict[str, str]) -> None:
    found = read_key_value(content)
    assert {key: found[key] for key in wanted} == wanted
    assert not found.keys() & {"key", "alone"}


def test_info_csv_of_a_recording_that_was_not_stopped(tmp_path: Path) -> None:
    folder = make_classic_recording(tmp_path, "0.7.4", seconds=1.0)
    rows = (folder / "info.csv").read_text().splitlines(keepends=True)
    (folder / "info.csv").write_text("".join(rows[:3]))
    recording = Recording(folder)
    assert np.isnan(recording.info.duration_s)
    assert recording.duration == pytest.approx(1.0, abs=0.05)
    assert any("the recording was not closed" in sentence for sentence in recording.missing)
    (folder / "info.csv").write_bytes(b"\x00\x01\x02")
    with pytest.raises(DamagedFile, match=r"info\.csv: wanted rows such as"):
        Recording(folder)


def test_a_video_alone_is_a_recording(tmp_path: Path) -> None:
    make_video(tmp_path, "world", START_SYNCED + np.arange(5) / 30, (64, 48))
    recording = Recording(tmp_path)
    assert (recording.streams, recording.logs) == (("world",), ())
    assert len(recording.gaze) == 0
    assert recording.duration == pytest.approx(4 / 30)
