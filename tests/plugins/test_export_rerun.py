"""The format rerun: what went in comes out again, to the nanosecond and to the bit."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("rerun")

from rerun.chunk import RrdReader

from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.events import blink_events, fixation_events
from gazed_plugins.export.rerun_file import RerunExporter
from gazed_plugins.export.run import export_recording
from gazed_plugins.export.testing import check_exporter
from gazed_plugins.images import bgr_jpeg
from gazed_plugins.rerun.calls import Chunk, read_chunks, read_ids, to_ns
from gazed_recorder.errors import DamagedFile
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table
from gazed_recorder.testing import make_recording
from gazed_recorder.testing_rich import make_rich_recording


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with two blinks: one of both eyes, and the next one's beginning."""
    return make_rich_recording(tmp_path_factory.mktemp("recordings"), seconds=5.0)


@pytest.fixture(scope="module")
def recording(folder: Path) -> Recording:
    return Recording(folder)


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(export_recording(folder, "rerun", tmp_path_factory.mktemp("out")).path)


@pytest.fixture(scope="module")
def chunks(exported: Path) -> list[Chunk]:
    return read_chunks(exported)


def rows_of(chunks: list[Chunk], entity: str) -> dict[str, Any]:
    """Return the rows of an entity as columns; times in ns."""
    batches = [chunk.to_record_batch() for chunk in chunks if chunk.entity_path == entity and not chunk.is_static]
    names = [name for name in batches[0].schema.names if name != "rerun.controls.RowId"]
    found = {}
    for name in names:
        parts = [batch.column(name) for batch in batches]
        found[name] = [
            value
            for part in parts
            for value in (part.to_pylist() if name.count(":") else part.cast("int64").to_pylist())
        ]
    return found


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    folder = make_rich_recording(tmp_path / "recordings", seconds=1.0)
    check_exporter(RerunExporter, {}, folder, tmp_path / "all")
    check_exporter(RerunExporter, {"videos": False, "ellipses": False, "datums": False}, folder, tmp_path / "little")


def test_ids_and_properties_are_the_recordings(recording: Recording, exported: Path, chunks: list[Chunk]) -> None:
    assert exported.name == "rich-000.rrd"
    assert read_ids(exported) == ("gazed", recording.info.recording_uuid)
    (info,) = (chunk for chunk in chunks if chunk.entity_path == "/__properties/gazed")
    told = {name: value[0][0] for name, value in info.to_record_batch().to_pydict().items() if name[0] != "r"}
    assert told["start_pupil_time_ns"] == 100_000_000_000
    assert told["start_unix_ns"] == round(recording.info.start_time_system_s * 1e9)
    assert told["duration_s"] == recording.duration


def times_are(rows: dict[str, Any], recording: Recording, stamps: NDArray[np.float64]) -> None:
    assert rows["pupil_time"] == to_ns(stamps).tolist()
    assert rows["unix"] == recording.clock.to_unix_ns(stamps).tolist()
    assert rows["world_frame"] == recording.world.nearest(stamps).tolist()


@pytest.mark.parametrize("stream", ["world", "eye0", "eye1"])
def test_videos_are_the_jpegs_that_were_recorded(recording: Recording, chunks: list[Chunk], stream: str) -> None:
    frames = list(recording.frames(stream))
    rows = rows_of(chunks, f"/{stream}/video")
    assert [bytes(blob) for (blob,) in rows["EncodedImage:blob"]] == [frame.jpeg for frame in frames]
    assert set(map(tuple, rows["EncodedImage:media_type"])) == {("image/jpeg",)}
    times_are(rows, recording, recording.timestamps(stream))


def same(found: list[Any], wanted: NDArray[Any]) -> None:
    """Compare values one by one and bit by bit; NaN is NaN."""
    if wanted.dtype == object:
        assert [value for (value,) in found] == wanted.tolist()
    else:
        values = np.array(found).ravel()
        assert values.dtype == wanted.dtype
        assert values.tobytes() == wanted.tobytes()


def pupils(recording: Recording, eye: int, method: str) -> Table:
    table = recording.pupil
    topics = np.array([topic.endswith(method) for topic in table["topic"]])
    return table[(table["eye_id"] == eye) & topics]


@pytest.mark.parametrize("method", ["2d", "3d"])
@pytest.mark.parametrize("eye", [0, 1])
def test_every_number_of_the_pupils_is_there(recording: Recording, chunks: list[Chunk], eye: int, method: str) -> None:
    table = pupils(recording, eye, method)
    rows = rows_of(chunks, f"/pupil/{eye}/{method}")
    times_are(rows, recording, table["timestamp"])
    names = [name for name in table.columns if name != "timestamp"]
    assert {name for name in rows if ":" in name} == {f"gazed.Pupil:{name}" for name in names}
    for name in names:
        same(rows[f"gazed.Pupil:{name}"], table[name])
    curves = {"confidence", "diameter"} | ({"diameter_3d"} if method == "3d" else set())
    for name in curves:
        rows = rows_of(chunks, f"/pupil/{eye}/{method}/{name}")
        times_are(rows, recording, table["timestamp"])
        known = np.isfinite(table[name])
        assert [len(row) for row in rows["Scalars:scalars"]] == known.astype(int).tolist()
        assert [row[0] for row in rows["Scalars:scalars"] if row] == table[name][known].tolist()


def test_every_number_of_gaze_is_there(recording: Recording, chunks: list[Chunk]) -> None:
    table = recording.gaze
    rows = rows_of(chunks, "/gaze")
    times_are(rows, recording, table["timestamp"])
    for name in table.columns:
        if name != "timestamp":
            same(rows[f"gazed.Gaze:{name}"], table[name])
    curve = rows_of(chunks, "/gaze/norm_pos")["Scalars:scalars"]
    same(curve, np.column_stack([table["norm_pos_x"], table["norm_pos_y"]]))
    drawn = rows_of(chunks, "/world/gaze")["Points2D:positions"]
    width, height = recording.world.size
    for row, drew in enumerate(drawn):
        assert bool(drew) == (table["confidence"][row] >= 0.6), row
        if drew:
            x, y = table["norm_pos_x"][row] * width + 0.5, (1 - table["norm_pos_y"][row]) * height + 0.5
            assert drew[0] == pytest.approx([x, y], abs=1e-3)


def test_ellipses_lie_on_the_pupils_edge(recording: Recording, chunks: list[Chunk]) -> None:
    table = pupils(recording, 0, "2d")
    lines = rows_of(chunks, "/eye0/pupil_2d")["LineStrips2D:strips"]
    assert len(lines) == len(table)
    row = next(row for row, line in enumerate(lines) if line and abs(table["ellipse_angle"][row]) > 5)
    line = np.array(lines[row][0])
    assert line.shape == (17, 2)
    assert line[0] == pytest.approx(line[-1], abs=1e-4)
    turn = np.radians(table["ellipse_angle"][row])
    centred = line - [table["ellipse_center_x"][row] + 0.5, table["ellipse_center_y"][row] + 0.5]
    along, across = centred @ [np.cos(turn), np.sin(turn)], centred @ [-np.sin(turn), np.cos(turn)]
    halves = table["ellipse_axis_a"][row] / 2, table["ellipse_axis_b"][row] / 2
    assert (along / halves[0]) ** 2 + (across / halves[1]) ** 2 == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["blink", "fixation"])
def test_events_are_states(recording: Recording, chunks: list[Chunk], name: str) -> None:
    spans = {"blink": blink_events, "fixation": fixation_events}[name](recording)
    rows = rows_of(chunks, f"/{name}s")
    changes = list(zip(rows["pupil_time"], rows["StateChange:state"], strict=True))
    assert [time for time, state in changes if state == [name]] == to_ns(spans["timestamp"]).tolist()
    ends = to_ns(spans["timestamp"] + spans["duration"]).tolist()
    assert [time for time, state in changes if not state] == ends
    assert rows["pupil_time"] == sorted(rows["pupil_time"])


def test_annotations_and_notifications_are_texts(recording: Recording, chunks: list[Chunk]) -> None:
    rows = rows_of(chunks, "/annotations")
    assert rows["pupil_time"] == to_ns(recording.annotations["timestamp"]).tolist()
    texts = [text for (text,) in rows["TextLog:text"]]
    assert texts[0].startswith("trial 0")
    assert any(text.startswith("Knopf gedrückt") and "side" in text for text in texts)
    rows = rows_of(chunks, "/notifications")
    assert rows["pupil_time"] == to_ns(recording.notifications["timestamp"]).tolist()
    assert [text.partition("\n")[0] for (text,) in rows["TextLog:text"]] == recording.notifications["subject"].tolist()


def test_a_signal_can_be_asked_for_alone(recording: Recording, exported: Path) -> None:
    reader = RrdReader(exported)
    lazy = reader.store(store=reader.recordings()[0])
    entity = "/pupil/1/2d/confidence"
    found = lazy.stream().filter(content=entity).collect().reader(index="pupil_time", contents=entity).to_pandas()
    table = pupils(recording, 1, "2d")
    assert found["pupil_time"].astype("int64").tolist() == to_ns(table["timestamp"]).tolist()
    assert found[f"{entity}:Scalars:scalars"].explode().tolist() == table["confidence"].tolist()


def views(exported: Path) -> set[str]:
    batches = [chunk.to_record_batch().to_pydict() for chunk in read_chunks(exported, blueprint=True)]
    named = [batch.get("ViewBlueprint:display_name", []) for batch in batches]
    return {name for names in named for (name,) in names}


def test_views_show_what_is_there(exported: Path, folder: Path, tmp_path: Path) -> None:
    plots = {"confidence", "diameter, px", "diameter, mm", "gaze", "events", "log"}
    assert views(exported) == {"world", "eye0", "eye1"} | plots
    without = {"videos": False, "ellipses": False, "datums": False}
    little = Path(export_recording(folder, "rerun", tmp_path, args=without).path)
    # Gaze is drawn over nothing.
    assert views(little) == {"world", "eye0", "eye1"} | plots
    entities = {chunk.entity_path for chunk in read_chunks(little)}
    assert entities & {"/world/video", "/eye0/video", "/eye0/pupil_2d", "/pupil/0/2d", "/gaze"} == set()
    assert {"/pupil/0/2d/confidence", "/gaze/norm_pos", "/world/gaze"} <= entities
    assert little.stat().st_size < exported.stat().st_size / 3


def put_video(folder: Path, codec: str, options: dict[str, str]) -> list[bytes]:
    """Give a recording another world video of as many frames; return its packets."""
    target = folder / "world.mp4"
    count = len(Recording(folder).timestamps("world"))
    with av.open(target, "w") as container:
        stream = container.add_stream(codec, Fraction(30), options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(count):
            image = np.full((96, 128, 3), 40 + number, np.uint8)
            image[:, number : number + 20] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    with av.open(target) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def exported_world(folder: Path, tmp_path: Path) -> dict[str, Any]:
    return rows_of(read_chunks(export_recording(folder, "rerun", tmp_path / "out").path), "/world/video")


def small_copy(folder: Path, tmp_path: Path) -> Path:
    names = (
        "info.player.json",
        "manifest.json",
        "clock.pldata",
        "clock_timestamps.npy",
        "world_timestamps.npy",
        "world.mp4",
    )
    copied = tmp_path / "h" / "000"
    copied.mkdir(parents=True)
    for name in names:
        shutil.copy(folder / name, copied)
    return copied


ZEROLATENCY = {"preset": "ultrafast", "tune": "zerolatency", "g": "30"}


def test_h264_goes_in_as_it_was_recorded(folder: Path, tmp_path: Path) -> None:
    copied = small_copy(folder, tmp_path)
    packets = put_video(copied, "libx264", ZEROLATENCY)
    rows = exported_world(copied, tmp_path)
    samples = [bytes(blob) for (blob,) in rows["VideoStream:sample"]]
    assert rows["pupil_time"] == to_ns(Recording(copied).timestamps("world")).tolist()
    # Lengths before the units became start codes, and key frames carry their parameters; the picture data are the same.
    for packet, sample in zip(packets, samples, strict=True):
        assert sample.startswith(b"\0\0\0\1")
        assert sample.endswith(packet[4:][-20:])
    keys = [bool(key) for (key,) in rows["VideoStream:is_keyframe"]]
    assert keys == [number % 30 == 0 for number in range(len(samples))]
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for sample in samples for frame in decoder.decode(av.Packet(sample))] + decoder.decode(None)
    with av.open(copied / "world.mp4") as container:
        recorded = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == len(recorded)
    for frame, wanted in zip(frames, recorded, strict=True):
        assert np.array_equal(frame.to_ndarray(format="gray"), wanted)


@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {}), ("libx264", {"bf": "2", "g": "30"})])
def test_what_viewers_do_not_take_becomes_jpegs(
    folder: Path, tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    copied = small_copy(folder, tmp_path)
    put_video(copied, codec, options)
    rows = exported_world(copied, tmp_path)
    jpegs = [bytes(blob) for (blob,) in rows["EncodedImage:blob"]]
    recorded = list(Recording(copied).frames("world"))
    assert rows["pupil_time"] == to_ns(Recording(copied).timestamps("world")).tolist()
    for jpeg, frame in zip(jpegs, recorded, strict=True):
        difference = bgr_jpeg(jpeg).astype(int) - frame.bgr
        assert np.abs(difference).mean() < 1


def test_a_video_that_ends_early_is_told(folder: Path, tmp_path: Path) -> None:
    copied = small_copy(folder, tmp_path)
    put_video(copied, "libx264", ZEROLATENCY)
    stamps = np.load(copied / "world_timestamps.npy")
    np.save(copied / "world_timestamps.npy", np.append(stamps, stamps[-1] + 1))
    with pytest.raises(DamagedFile, match=r"world\.mp4"):
        export_recording(copied, "rerun", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.rrd"))


def test_videos_in_parts(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, parts=3, frames=10)
    rows = rows_of(read_chunks(export_recording(folder, "rerun", tmp_path / "out").path), "/eye0/video")
    recording = Recording(folder)
    assert [bytes(blob) for (blob,) in rows["EncodedImage:blob"]] == [frame.jpeg for frame in recording.frames("eye0")]
    assert rows["pupil_time"] == to_ns(recording.timestamps("eye0")).tolist()


def test_a_torn_recording_is_exported_up_to_its_end(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, closed=False)
    rows = rows_of(read_chunks(export_recording(folder, "rerun", tmp_path / "out").path), "/pupil/-1/2d/confidence")
    assert len(rows["pupil_time"]) == 20


def test_nothing_to_export(tmp_path: Path) -> None:
    folder = make_recording(tmp_path, streams=(), datums=0)
    with pytest.raises(NothingToExport):
        export_recording(folder, "rerun", tmp_path / "out")


@pytest.mark.parametrize("value", [1, "yes", None])
def test_options_are_true_or_false(value: Any) -> None:
    with pytest.raises(PluginArgument, match="videos is true or false"):
        RerunExporter({"videos": value})


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(PluginArgument) as caught:
        RerunExporter({"video": True})
    assert caught.value.hint == "did you mean videos?"
