"""Each call of the Rerun SDK, held against what can be read back: it says which one a new version breaks."""

from __future__ import annotations

import http.client
import io
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rerun")

import psutil
import rerun.blueprint as rrb

from gazed_plugins.rerun import calls, rrd_format
from gazed_plugins.rerun.blueprint import blueprint_chunks, views_of
from gazed_plugins.rerun.calls import LiveRecording, Times
from gazed_plugins.rerun.program import free_port, rerun_program, silent_environment
from gazed_plugins.rerun.rrd import write_rrd

NS = np.array([0, 1, 9_007_199_254_740_993, 1_772_323_200_123_456_789], np.int64)
"""Times that a float64 of seconds, or of nanoseconds, cannot hold."""


def read_back(tmp_path: Path, columns: calls.Columns, times: Times | None = None) -> dict[str, list[Any]]:
    """Write rows of an entity and return its columns as they are in the file."""
    chunk = calls.static("/it", columns) if times is None else calls.chunk("/it", times, columns)
    path = tmp_path / "it.rrd"
    calls.write_chunks(path, "some id", [chunk])
    (found,) = calls.read_chunks(path)
    assert found.entity_path == "/it"
    return found.to_record_batch().to_pydict()


def four(columns: calls.Columns, tmp_path: Path) -> dict[str, list[Any]]:
    return read_back(tmp_path, columns, Times(np.arange(4)))


def test_times_are_whole_nanoseconds_on_three_timelines(tmp_path: Path) -> None:
    times = Times(NS, NS[::-1].copy(), np.array([7, 8, 9, 2**40]))
    path = tmp_path / "it.rrd"
    calls.write_chunks(path, "some id", [calls.chunk("/it", times, calls.scalars(np.zeros(4)))])
    (found,) = calls.read_chunks(path)
    batch = found.to_record_batch()
    kinds = {name: str(batch.schema.field(name).type) for name in found.timeline_names}
    assert kinds == {"pupil_time": "duration[ns]", "unix": "timestamp[ns]", "world_frame": "int64"}
    for name, wanted in (("pupil_time", times.pupil), ("unix", times.unix), ("world_frame", times.frame)):
        assert wanted is not None
        assert batch.column(name).cast("int64").to_pylist() == wanted.tolist()


def test_seconds_become_the_nearest_nanosecond() -> None:
    assert calls.to_ns([0.1, 12345.678901234, 1772323200.5]).tolist() == [
        100_000_000, 12_345_678_901_234, 1_772_323_200_500_000_000,
    ]  # fmt: skip


def test_times_of_some_rows() -> None:
    some = Times(NS, None, np.arange(4)).at(np.array([2, 0]))
    assert (some.pupil.tolist(), some.unix, len(some)) == ([NS[2], 0], None, 2)
    assert some.frame is not None
    assert some.frame.tolist() == [2, 0]


def test_scalars(tmp_path: Path) -> None:
    values = np.array([0.1, np.nan, -np.inf, 5e-324])
    found = four(calls.scalars(values), tmp_path)["Scalars:scalars"]
    assert np.array(found).ravel().tobytes() == values.tobytes()


def test_scalars_that_are_not_known_are_none(tmp_path: Path) -> None:
    known = np.array([True, False, True, False])
    assert four(calls.scalars(np.arange(4.0), known), tmp_path)["Scalars:scalars"] == [[0.0], [], [2.0], []]


def test_several_scalars_a_row(tmp_path: Path) -> None:
    pairs = np.arange(8.0).reshape(4, 2)
    assert four(calls.scalars(pairs), tmp_path)["Scalars:scalars"] == pairs.tolist()
    known = np.array([False, True, True, False])
    found = four(calls.scalars(pairs, known), tmp_path)["Scalars:scalars"]
    assert found == [[], [2.0, 3.0], [4.0, 5.0], []]


def test_points_and_lines_are_there_or_not(tmp_path: Path) -> None:
    shown = np.array([False, True, False, True])
    places = np.arange(8.0).reshape(4, 2)
    assert four(calls.points(places, shown), tmp_path)["Points2D:positions"] == [[], [[2, 3]], [], [[6, 7]]]
    lines = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    found = four(calls.strips(lines, shown), tmp_path)["LineStrips2D:strips"]
    assert found == [[], [lines[1].tolist()], [], [lines[3].tolist()]]


def test_images(tmp_path: Path) -> None:
    jpegs = [bytes([number]) * (number + 1) for number in range(4)]
    found = four(calls.images(jpegs), tmp_path)
    assert [bytes(blob) for (blob,) in found["EncodedImage:blob"]] == jpegs
    assert found["EncodedImage:media_type"] == [["image/jpeg"]] * 4


def test_packets_of_a_video(tmp_path: Path) -> None:
    samples, keys = [b"\0\0\0\1a", b"b", b"", b"d"], [True, False, False, True]
    found = four(calls.packets(samples, keys), tmp_path)
    assert [bytes(blob) for (blob,) in found["VideoStream:sample"]] == samples
    assert [bool(key) for (key,) in found["VideoStream:is_keyframe"]] == keys
    assert read_back(tmp_path, calls.video_codec())["VideoStream:codec"] == [[0x61766331]]  # avc1


def test_texts_and_states(tmp_path: Path) -> None:
    lines = ["a", "Knopf gedrückt", "", "two\nlines"]
    found = four(calls.texts(lines), tmp_path)
    assert (found["TextLog:text"], found["TextLog:level"]) == ([[line] for line in lines], [["INFO"]] * 4)
    found = four(calls.states(["blink", None, "blink", None]), tmp_path)
    assert found["StateChange:state"] == [["blink"], [], ["blink"], []]


def test_datums(tmp_path: Path) -> None:
    values = np.array([0.1, np.nan, 2.0, -0.0])
    texts = np.array(["2d c++", None, "", "é"], object)
    columns = {"confidence": values, "eye_id": np.array([0, -1, 1, 0]), "method": texts}
    found = four(calls.datums("gazed.Pupil", columns), tmp_path)
    assert np.array(found["gazed.Pupil:confidence"]).ravel().tobytes() == values.tobytes()
    assert found["gazed.Pupil:eye_id"] == [[0], [-1], [1], [0]]
    assert found["gazed.Pupil:method"] == [["2d c++"], [None], [""], ["é"]]


def test_styles(tmp_path: Path) -> None:
    red, green = (255, 0, 0), (0, 255, 0)
    found = read_back(tmp_path, calls.series_style(["x", "y"], [red, green]))
    assert (found["SeriesLines:names"], found["SeriesLines:colors"]) == ([["x", "y"]], [[0xFF0000FF, 0x00FF00FF]])
    found = read_back(tmp_path, calls.point_style(red, 5.0))
    assert (found["Points2D:colors"], found["Points2D:radii"]) == ([[0xFF0000FF]], [[-5.0]])
    found = read_back(tmp_path, calls.ellipse_style(green, 2.0))
    assert (found["LineStrips2D:colors"], found["LineStrips2D:radii"]) == ([[0x00FF00FF]], [[-1.0]])
    found = read_back(tmp_path, calls.state_style({"open": green, "closed": red}))
    assert found["StateConfiguration:values"] == [["open", "closed"]]
    assert found["StateConfiguration:colors"] == [[0x00FF00FF, 0xFF0000FF]]


def test_properties(tmp_path: Path) -> None:
    path = tmp_path / "it.rrd"
    calls.write_chunks(path, "some id", calls.properties("Ünï", int(NS[3]), {"uuid": "7", "start_ns": int(NS[2])}))
    found = {chunk.entity_path: chunk for chunk in calls.read_chunks(path)}
    info = found["/__properties"].to_record_batch()
    assert info.column("RecordingInfo:name").to_pylist() == [["Ünï"]]
    assert info.column("RecordingInfo:start_time").to_pylist() == [[NS[3]]]
    assert found["/__properties/gazed"].to_record_batch().column("start_ns").to_pylist() == [[NS[2]]]


def test_what_is_wrong_raises_and_is_not_only_warned_of() -> None:
    with pytest.raises(Exception, match=r"strips|shape|expected"):
        calls.strips(np.zeros((2, 3), np.float32), np.ones(2, np.bool_))


def test_ids_of_a_file(tmp_path: Path) -> None:
    calls.write_chunks(tmp_path / "it.rrd", "some id", [calls.static("/it", calls.texts(["x"]))])
    assert calls.read_ids(tmp_path / "it.rrd") == ("gazed", "some id")


def test_a_failure_to_write_is_the_systems(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        calls.write_chunks(tmp_path / "nowhere" / "it.rrd", "id", [])


def test_what_the_chunks_raise_is_raised(tmp_path: Path) -> None:
    def chunks() -> Iterator[calls.Chunk]:
        yield calls.static("/it", calls.texts(["x"]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calls.write_chunks(tmp_path / "it.rrd", "id", chunks())
    with pytest.raises(KeyboardInterrupt):
        write_rrd(tmp_path / "it.rrd", "id", chunks(), blueprint_chunks(views_of(VIEWS)))


VIEWS = {
    "/world/video", "/eye0/video", "/pupil/0/2d/confidence", "/gaze/norm_pos", "/blinks", "/annotations",
    "/pupil/0/3d/diameter_3d",
}  # fmt: skip


def test_views_list_their_entities_by_name() -> None:
    chunks = list(blueprint_chunks(views_of(VIEWS)))
    assert {name for chunk in chunks for name in chunk.timeline_names} == {"blueprint"}
    classes, queries = [], []
    for chunk in chunks:
        found = chunk.to_record_batch().to_pydict()
        classes += [each for (each,) in found.get("ViewBlueprint:class_identifier", [])]
        queries += [line for lines in found.get("ViewContents:query", []) for line in lines]
    assert sorted(classes) == ["2D", "2D", "StateTimeline", "TextLog", "TimeSeries", "TimeSeries", "TimeSeries"]
    assert {line.strip() for line in queries} >= {"/pupil/0/2d/confidence", "/pupil/0/3d/diameter_3d", "/blinks"}
    assert not any("*" in line for line in queries if line.strip() != "$origin/**")


def test_the_same_views_are_the_same_bytes() -> None:
    def plain(views: rrb.Blueprint) -> list[Any]:
        batches = [chunk.to_record_batch() for chunk in blueprint_chunks(views)]
        return [(batch.schema.metadata[b"rerun:entity_path"], batch.columns[1:]) for batch in batches]

    assert plain(views_of(VIEWS)) == plain(views_of(VIEWS))
    assert plain(views_of(VIEWS)) != plain(views_of(VIEWS, window_s=20.0))
    more = rrb.TextDocumentView(origin="/mine")
    assert len(plain(views_of(VIEWS, [more]))) == len(plain(views_of(VIEWS))) + 2


def rows(number: int) -> Iterator[calls.Chunk]:
    for part in range(3):
        for entity in ("/b", "/a"):
            yield calls.chunk(entity, Times(np.arange(5) + 5 * part), calls.scalars(np.arange(5.0) + number))


def test_a_file_holds_recording_and_views_and_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "it.rrd"
    write_rrd(path, "some id", rows(0), blueprint_chunks(views_of(VIEWS)))
    assert calls.read_ids(path) == ("gazed", "some id")
    # The footer is there and tells the truth: rows are found through it.
    from rerun.chunk import RrdReader

    reader = RrdReader(path)
    store = reader.store(store=reader.recordings()[0])
    found = store.stream().filter(content="/a").collect().reader(index="pupil_time", contents="/a").to_pandas()
    assert found["pupil_time"].astype("int64").tolist() == list(range(15))
    assert found["/a:Scalars:scalars"].explode().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0] * 3
    views = calls.read_chunks(path, blueprint=True)
    assert {chunk.entity_path.split("/")[1] for chunk in views} >= {"view", "container", "viewport", "time_panel"}


def test_the_sdks_own_program_finds_nothing_wrong_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "it.rrd"
    write_rrd(path, "some id", rows(0), blueprint_chunks(views_of(VIEWS)))
    command = [str(rerun_program()), "rrd", "verify", str(path)]
    done = subprocess.run(command, env=silent_environment(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, "verified without error" in done.stdout + done.stderr) == (0, True)


def test_a_file_depends_on_nothing_but_what_is_in_it(tmp_path: Path) -> None:
    for name, number in (("one", 0), ("two", 0), ("other", 1)):
        write_rrd(tmp_path / name, "some id", rows(number), blueprint_chunks(views_of(VIEWS)))
    one, two, other = ((tmp_path / name).read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="form"):
        rrd_format.counted_store_info(b"\x0a\x10" + bytes(40), 1)
    with pytest.raises(KeyError):
        rrd_format.manifest_of(b"")
    with pytest.raises(ValueError, match="wire type"):
        rrd_format.manifest_of(b"\x0d\0\0\0\0")


class Client:
    """The SDK's own program, which writes to a file what a live recording sends."""

    def __init__(self, url: str, folder: Path) -> None:
        self.path = folder / "received.rrd"
        command = [str(rerun_program()), url, "--save", str(self.path), "--bind", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, "--port", str(free_port())],
            env=silent_environment(folder / "home"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_for(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not look():
            assert time.monotonic() < deadline, "not seen within 20 s"
            time.sleep(0.02)

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)


def values_in(path: Path) -> list[float]:
    """Return the values of ``/a`` in a file, which may have no footer yet."""
    file = io.BytesIO(path.read_bytes())
    file.seek(rrd_format.FILE_HEADER)
    if not file.read(1):
        return []
    import warnings

    with warnings.catch_warnings():
        # A file that still grows has no footer.
        warnings.simplefilter("ignore")
        chunks = [chunk for chunk in calls.read_chunks(path) if chunk.entity_path == "/a" and not chunk.is_static]
    return sorted(value for chunk in chunks for (value,) in chunk.to_record_batch().to_pydict()["Scalars:scalars"])


def test_a_live_recording_is_sent_to_viewers(tmp_path: Path) -> None:
    from rerun import RecordingStream

    live = LiveRecording("some id", free_port(), views_of(VIEWS))
    client = None
    try:
        listening = {each.laddr.ip for each in psutil.Process().net_connections() if each.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        live.send([calls.chunk("/a", Times(np.arange(5)), calls.scalars(np.arange(5.0)))])
        client = Client(live.url, tmp_path)
        live.send([calls.chunk("/a", Times(np.arange(5, 10)), calls.scalars(np.arange(5.0, 10.0)))])
        # Another program may log into it.
        other = RecordingStream("gazed", recording_id="some id", send_properties=False)
        other.connect_grpc(live.url)
        other.send_chunks([calls.chunk("/a", Times(np.arange(10, 12)), calls.scalars(np.arange(10.0, 12.0)))])
        other.disconnect()
        wanted = list(np.arange(12.0))
        client.wait_for(lambda: client.path.exists() and values_in(client.path) == wanted)
    finally:
        if client is not None:
            client.close()
        live.close()


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        ("http://127.0.0.1:9090", True),
        ("http://localhost:9090", True),
        ("https://evil.example", False),
        ("null", False),
    ],
)
def test_pages_from_elsewhere_may_not_read_a_live_recording(origin: str, may: bool) -> None:
    live = LiveRecording("some id", free_port(), views_of(VIEWS))
    connection = http.client.HTTPConnection(live.url.split("/")[2], timeout=10)
    path = "/rerun.sdk_comms.v1alpha1.MessageProxyService/ReadMessages"
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-grpc-web"}
    try:
        live.send([calls.static("/it", calls.texts(["x"]))])
        connection.request("OPTIONS", path, headers={"Origin": origin, **wanted})
        answer = connection.getresponse()
        answer.read()
        assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is may
        assert answer.headers.get("Access-Control-Allow-Origin") in (origin if may else None, None)
    finally:
        connection.close()
        live.close()


def test_no_thread_of_the_sdk_stays(tmp_path: Path) -> None:
    counts = []
    for number in range(4):
        write_rrd(tmp_path / f"{number}.rrd", "some id", rows(0), blueprint_chunks(views_of(VIEWS)))
        counts.append(psutil.Process().num_threads())
    assert counts[1:] == counts[:1] * 3
