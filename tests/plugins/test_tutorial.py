"""The tutorial "Get data out": its script runs from end to end, and its page says what the script says."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("rerun")
pytest.importorskip("matplotlib")

import pandas as pd
from matplotlib import image

from gazed_plugins.export.events import blink_events
from gazed_plugins.rerun.calls import Chunk, read_chunks, read_ids, to_ns
from gazed_plugins.rerun.program import free_port, rerun_program, silent_environment
from gazed_recorder.reader import Recording
from gazed_recorder.testing_rich import make_rich_recording

PLACE = Path(__file__).parents[2] / "plugins" / "tutorials"
PAGE = PLACE / "get_data_out.md"
RATE = 120.0


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PLACE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tutorial = load("get_data_out")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return Recording(make_rich_recording(tmp_path_factory.mktemp("recordings"), seconds=10.0, rate=RATE))


@pytest.fixture(scope="module")
def output(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes, started as a newcomer starts it."""
    output = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-W", "error", str(PLACE / "get_data_out.py"), str(recording.path), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "RERUN_STRICT": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.strip().splitlines()) == 1 + len(blink_events(recording))
    return output


@pytest.fixture(scope="module")
def base(output: Path) -> Path:
    return output / "rich-000.rrd"


def test_the_signal_is_the_recorded_one(recording: Recording, base: Path) -> None:
    confidence = tutorial.load_signal(base)
    pupil = recording.pupil
    mine = (pupil["eye_id"] == 0) & np.array([topic.endswith("2d") for topic in pupil["topic"]])
    assert confidence.index.astype("int64").tolist() == to_ns(pupil["timestamp"][mine]).tolist()
    assert confidence.tolist() == pupil["confidence"][mine].tolist()


def test_the_blinks_are_the_true_ones(recording: Recording, base: Path) -> None:
    blinks = tutorial.find_blinks(tutorial.is_closed(tutorial.load_signal(base)))
    truth = blink_events(recording)
    assert len(blinks) == len(truth) == 3
    sample = 1 / RATE
    starts, stops = (blinks[name].dt.total_seconds().to_numpy() for name in ("start", "stop"))
    assert np.abs(starts - truth["timestamp"]).max() <= 1.5 * sample
    assert np.abs(stops - truth["timestamp"] - truth["duration"]).max() <= 1.5 * sample
    assert (blinks["duration"] == blinks["stop"] - blinks["start"]).all()


def series(values: list[Any], step_ms: float = 8.0) -> pd.Series:
    index = pd.to_timedelta(np.arange(len(values)) * step_ms, "ms")
    return pd.Series(values, index, float)


def ms(times: pd.Series) -> list[float]:
    return [float("nan") if pd.isna(time) else time / pd.Timedelta("1ms") for time in times]


def test_short_dips_are_no_blinks_and_edges_stay_where_they_are() -> None:
    values = [0.9] * 20 + [0.0] * 4 + [0.9] * 20 + [0.0] * 10 + [0.9] * 20
    blinks = tutorial.find_blinks(tutorial.is_closed(series(values)))
    assert (ms(blinks["start"]), ms(blinks["stop"])) == ([44 * 8.0], [54 * 8.0])


def test_what_is_not_known_is_neither_open_nor_closed_and_no_change() -> None:
    nan = float("nan")
    values = [0.9] * 20 + [nan] * 10 + [0.9] * 20 + [0.0] * 10 + [nan] * 3 + [0.0] * 10 + [0.9] * 20
    closed = tutorial.is_closed(series(values))
    assert closed.isna().tolist() == np.isnan(values).tolist()
    changes = tutorial.find_changes(closed)
    assert (ms(changes.index), changes.tolist()) == ([0.0, 50 * 8.0, 73 * 8.0], [False, True, False])


def test_a_blink_at_either_end_is_known_by_half() -> None:
    blinks = tutorial.find_blinks(tutorial.is_closed(series([0.0] * 10 + [0.9] * 20 + [0.0] * 10)))
    assert (str(ms(blinks["start"])), str(ms(blinks["stop"]))) == (f"[nan, {30 * 8.0}]", f"[{10 * 8.0}, nan]")


def test_no_data_are_no_blinks() -> None:
    nothing = tutorial.is_closed(series([float("nan")] * 5))
    assert len(tutorial.find_changes(nothing)) == len(tutorial.find_blinks(nothing)) == 0
    assert tutorial.split_at_gaps(nothing) == []


def test_lines_are_not_drawn_over_gaps() -> None:
    signal = pd.concat([series([1, 2, float("nan"), 4]), series([5, 6]).shift(freq="1s")])
    assert [part.tolist() for part in tutorial.split_at_gaps(signal)] == [[1, 2], [4], [5, 6]]


def test_the_plot_is_drawn(output: Path) -> None:
    picture = image.imread(output / "plot.png")[..., :3]
    assert picture.shape[:2] == (360, 1000)
    flat = (picture.reshape(-1, 3) * 255).round().astype(int)
    colors = {tuple(color) for color in np.unique(flat, axis=0).tolist()}
    # Red and green marks, the blue line and the shade of orange.
    assert {(214, 39, 40), (44, 160, 44), (31, 119, 180)} <= colors
    assert (flat[:, 0] - flat[:, 2] > 60).sum() > 2000


def entities(chunks: list[Chunk]) -> set[str]:
    return {chunk.entity_path for chunk in chunks}


ADDED = {"/analysis/eye", "/analysis/log", "/analysis/closed", "/eye0/closed"}


def test_results_are_a_layer_of_the_same_recording(base: Path, output: Path) -> None:
    layer = output / "analysis.rrd"
    assert read_ids(layer) == read_ids(base)
    assert entities(read_chunks(layer)) == ADDED
    assert not entities(read_chunks(base)) & ADDED


def column(chunks: list[Chunk], entity: str, name: str) -> list[tuple[int, Any]]:
    batches = [chunk.to_record_batch() for chunk in chunks if chunk.entity_path == entity and not chunk.is_static]
    times = [time for batch in batches for time in batch.column("pupil_time").cast("int64").to_pylist()]
    return list(zip(times, (value for batch in batches for value in batch.column(name).to_pylist()), strict=True))


def check_results(chunks: list[Chunk], base: Path) -> None:
    """Check what was logged against what was computed."""
    closed = tutorial.is_closed(tutorial.load_signal(base))
    changes = tutorial.find_changes(closed)
    times = changes.index.astype("int64").tolist()
    names = ["closed" if each else "open" for each in changes]
    assert column(chunks, "/analysis/eye", "StateChange:state") == [(t, [n]) for t, n in zip(times, names, strict=True)]
    texts = [(time, [f"eye {name}"]) for time, name in zip(times, names, strict=True)]
    assert column(chunks, "/analysis/log", "TextLog:text") == texts
    dots = column(chunks, "/eye0/closed", "Points2D:positions")
    assert [(time, bool(dot)) for time, dot in dots] == list(zip(times, changes.tolist(), strict=True))
    curve = column(chunks, "/analysis/closed", "Scalars:scalars")
    assert [value for _, (value,) in curve] == closed.astype(float).tolist()


def test_one_file_has_the_recording_the_results_and_views_of_both(base: Path, output: Path) -> None:
    merged = output / "merged.rrd"
    chunks = read_chunks(merged)
    assert read_ids(merged) == read_ids(base)
    assert entities(chunks) == entities(read_chunks(base)) | ADDED
    check_results(chunks, base)
    assert sum(chunk.num_rows for chunk in chunks) == sum(
        chunk.num_rows for path in (base, output / "analysis.rrd") for chunk in read_chunks(path)
    )
    views = [chunk.to_record_batch().to_pydict() for chunk in read_chunks(merged, blueprint=True)]
    named = {name for view in views for (name,) in view.get("ViewBlueprint:display_name", [])}
    assert named == {"eye 0", "world", "confidence and state", "states", "changes", "table"}


@contextmanager
def program(home: Path, *args: str, **environment: str) -> Iterator[psutil.Popen]:
    process = psutil.Popen(
        [str(rerun_program()), *args],
        env={**silent_environment(home), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(look: Callable[[], Any], timeout: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not seen within {timeout} s"
        time.sleep(0.03)
    return seen


def listening(process: psutil.Popen) -> list[str]:
    return [each.laddr.ip for each in process.net_connections() if each.status == "LISTEN"]


def test_results_are_logged_into_a_viewer_that_runs(base: Path, tmp_path: Path) -> None:
    port, received = free_port(), tmp_path / "received.rrd"
    url = f"rerun+http://127.0.0.1:{port}/proxy"
    closed = tutorial.is_closed(tutorial.load_signal(base))
    loopback = ["--bind", "127.0.0.1", "--port"]
    with program(tmp_path / "viewer", "--serve-grpc", *loopback, str(port)) as viewer:
        assert set(wait_for(lambda: listening(viewer))) == {"127.0.0.1"}
        with program(tmp_path / "other", url, "--save", str(received), *loopback, str(free_port())) as other:
            assert set(wait_for(lambda: listening(other))) == {"127.0.0.1"}
            tutorial.show_live(url, base, closed)
            wanted = entities(read_chunks(base)) | ADDED
            wait_for(lambda: received.exists() and received.stat().st_size and entities(growing(received)) == wanted)
            chunks = growing(received)
    # One recording, the file's own: it holds both.
    check_results(chunks, base)
    curve = column(chunks, tutorial.SIGNAL, "Scalars:scalars")
    assert [value for _, (value,) in curve] == tutorial.load_signal(base).tolist()


def growing(path: Path) -> list[Chunk]:
    with warnings.catch_warnings():
        # What still grows has no footer.
        warnings.simplefilter("ignore")
        return read_chunks(path)


def test_the_page_says_what_the_script_says() -> None:
    script = (PLACE / "get_data_out.py").read_text()
    lines = {line.strip() for line in script.splitlines()}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 10
    for block in blocks:
        assert block.strip() in script or block.strip() in lines, block


def test_functions_of_the_script_are_on_the_page() -> None:
    page = PAGE.read_text()
    names = set(re.findall(r"^def (\w+)", (PLACE / "get_data_out.py").read_text(), re.MULTILINE)) - {"main", "plot"}
    assert {name for name in names if f"def {name}(" not in page} == set()


def test_links_and_pictures_of_the_page_are_there() -> None:
    page = PAGE.read_text()
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", page) if not target.startswith("http")]
    for target in targets:
        file, _, anchor = target.partition("#")
        assert not file or (PLACE / file).exists(), target
        assert not anchor or f"\n## {anchor.replace('-', ' ')}\n" in page.lower(), target
    pictures = [target for target in targets if target.endswith(".png")]
    assert len(pictures) == 2
    for picture in pictures:
        size = (PLACE / picture).stat().st_size
        assert 20_000 < size < 300_000, (picture, size)


def test_the_times_on_the_page_are_those_of_its_plot() -> None:
    starts = re.findall(r"^\| (\d+):([\d.]+) \| (\d+):([\d.]+) \| (\d+) ms \|$", PAGE.read_text(), re.MULTILINE)
    assert len(starts) == 3
    for minutes, seconds, end_minutes, end_seconds, duration in starts:
        start, end = (60 * int(m) + float(s) for m, s in ((minutes, seconds), (end_minutes, end_seconds)))
        assert end - start == pytest.approx(int(duration) / 1000, abs=1.1e-3)


def software_vulkan() -> str | None:
    return next((str(path) for path in Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json")), None)


@pytest.mark.browser
@pytest.mark.skipif(software_vulkan() is None, reason="no Vulkan in software: apt-get install mesa-vulkan-drivers")
def test_the_signal_comes_right_out_of_a_viewer_and_the_layer_goes_onto_it(
    base: Path, output: Path, tmp_path: Path
) -> None:
    port = free_port()
    url = f"rerun+http://127.0.0.1:{port}/proxy"
    args = ("--headless", "--bind", "127.0.0.1", "--port", str(port), str(base))
    drawn = {"VK_ICD_FILENAMES": software_vulkan() or "", "XDG_RUNTIME_DIR": str(tmp_path)}
    with program(tmp_path / "home", *args, **drawn) as viewer:
        assert set(wait_for(lambda: listening(viewer))) == {"127.0.0.1"}
        wait_for(lambda: tutorial.ViewerClient.connect(url).get_state().recordings)
        assert tutorial.load_from_viewer(url).equals(tutorial.load_signal(base))
        tutorial.add_to_open_file(url, output / "analysis.rrd")
        catalog = tutorial.viewer_catalog(url)
        reader = catalog.datasets()[0].filter_contents(["/analysis/closed"]).reader(index="pupil_time")
        assert len(reader.to_pandas()) == len(tutorial.load_signal(base))


@pytest.mark.browser
def test_the_viewer_shows_the_recording_and_speaks_with_nobody(output: Path, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    render = load("render")
    if render.chromium() is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from gazed_plugins.rerun.viewer import WebViewer

    with WebViewer(recording=output / "merged.rrd") as viewer:
        base = viewer.url.partition("?")[0]
        seen = render.see(viewer.url, tmp_path / "picture.png")
    assert (seen.loaded, seen.errors) == (True, [])
    assert {url for url in seen.answered if not url.startswith(base)} == set()
    # Its makers' telemetry, their news and Google's letters: asked for, and refused by the page's rules.
    hosts = {url.split("/")[2] for url in seen.refused}
    assert "fonts.googleapis.com" in hosts
    picture = image.imread(tmp_path / "picture.png")[..., :3]
    world = picture[420:700, 20:490]
    assert picture.shape[:2] == (780, 1280)
    assert world.std() > 0.1, "no image of the world camera"
    plot = picture[70:280, 560:1270].reshape(-1, 3)
    assert (np.ptp(plot, axis=1) > 0.2).sum() > 500, "no curves"
