"""``gazed view``: a real daemon and a recording in a viewer, on the loopback and nowhere else."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

pytest.importorskip("rerun")

from gazed.testing import small_daemon, wait_for
from gazed.trial import Trial
from gazed_bus.errors import PortInUse
from gazed_plugins.rerun.calls import Chunk, read_chunks, to_ns
from gazed_plugins.rerun.program import free_port
from gazed_plugins.rerun.viewer_files import FILES, viewer_files
from gazed_recorder.testing import make_recording

GAZED = [sys.executable, "-m", "gazed", "view"]
FREE = ["--web-port", "0", "--data-port", "0"]


@contextmanager
def viewed(*args: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run ``gazed view`` and yield its process and what it says first; end it, if it did not end by itself."""
    process = subprocess.Popen(
        [*GAZED, *args, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline() or "{}")
    finally:
        process.kill()
        process.communicate()


def refused(*args: str) -> tuple[int, str]:
    """Run ``gazed view`` where it cannot work; return exit code and code of the error."""
    done = subprocess.run([*GAZED, *args, "--json"], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout)["error"]["code"]


def ended(process: subprocess.Popen[str], number: signal.Signals) -> dict[str, Any]:
    """End it by a signal and return what it says last."""
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    found: dict[str, Any] = json.loads(out or "{}")
    return found


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("daemon")
    eye = {"width": 192, "height": 192, "seconds": 2}
    more = {"pupil": {"enabled": True, "options": {"every_nth": 3}}, "plugins": {"start": ["Blink_Detection"]}}
    with small_daemon(folder / "recordings", more=more, eye0=eye, eye1=eye) as trial:
        for name in ("pupil0", "pupil1"):
            wait_for(lambda name=name: trial.remote.status()["plugins"].get(name, {}).get("detected"), 40)
        yield trial


def rows(chunks: list[Chunk], entity: str, column: str) -> dict[int, Any]:
    """Return the value of each row of an entity, by its time in ns; no time may stand twice."""
    batches = [chunk.to_record_batch() for chunk in chunks if chunk.entity_path == entity and not chunk.is_static]
    pairs = [
        pair
        for batch in batches
        for pair in zip(
            batch.column("pupil_time").cast("int64").to_pylist(), batch.column(column).to_pylist(), strict=True
        )
    ]
    found = dict(pairs)
    assert len(found) == len(pairs)
    return found


def test_what_a_daemon_publishes_is_what_is_kept(daemon: Trial, tmp_path: Path) -> None:
    kept = tmp_path / "kept.rrd"
    before = daemon.remote.status()["streams"]
    with (
        viewed("--port", str(daemon.port), "--save", str(kept), "--images", "240", *FREE) as (process, told),
        daemon.remote.subscribe("pupil.0.2d") as pupils,
        daemon.remote.subscribe("frame.world") as images,
    ):
        assert {"url", "data", "recording", "save"} == told.keys()
        published, frames = {}, {}
        sent, end = 0.0, time.monotonic() + 3
        while time.monotonic() < end:
            if not sent and time.monotonic() > end - 1:
                sent = daemon.remote.time()
                daemon.remote.notify("trigger.seen", timestamp=sent, value=7)
            if message := pupils.receive(0.02):
                published[int(to_ns(message.payload["timestamp"]))] = message.payload
            if message := images.receive(0):
                frames[int(to_ns(message.payload["timestamp"]))] = message.raw[0]
        ips = {each.laddr.ip for each in psutil.Process(process.pid).net_connections() if each.status == "LISTEN"}
        shown = ended(process, signal.SIGINT)["shown"]
    assert ips == {"127.0.0.1"}
    assert (shown["lost"], shown["unreadable"]) == ({}, 0)
    chunks = read_chunks(kept)
    curves = {entity: rows(chunks, f"/pupil/{entity}/confidence", "Scalars:scalars") for entity in ("0/2d", "1/2d")}
    # All of both eyes and both methods, each once.
    total = sum(
        len(rows(chunks, f"/pupil/{eye}/{way}/confidence", "Scalars:scalars")) for eye in "01" for way in ("2d", "3d")
    )
    assert total == shown["pupil"]
    first = min(curves["0/2d"])
    expected = {stamp: datum for stamp, datum in published.items() if first <= stamp}
    missing = [stamp for stamp in expected if stamp not in curves["0/2d"] and stamp < max(curves["0/2d"])]
    assert missing == []
    assert len(expected) > 20
    diameters = rows(chunks, "/pupil/0/2d", "gazed.Pupil:diameter")
    for stamp, datum in expected.items():
        if stamp in curves["0/2d"]:
            assert curves["0/2d"][stamp] == [datum["confidence"]]
            assert diameters[stamp] == [datum["diameter"]]
    videos = {name: rows(chunks, f"/{name}/video", "EncodedImage:blob") for name in ("world", "eye0", "eye1")}
    assert {name: len(video) for name, video in videos.items()} == shown["images"]
    both = videos["world"].keys() & frames.keys()
    assert len(both) > 20
    assert all(bytes(videos["world"][stamp][0]) == frames[stamp] for stamp in both)
    notes = rows(chunks, "/notifications", "TextLog:text")
    assert notes[int(to_ns(sent))] == ["trigger.seen\nvalue = 7"]
    # The daemon did not notice.
    after = daemon.remote.status()["streams"]
    for name in ("world", "eye0", "eye1"):
        assert (after[name]["missed"], after[name]["dropped"]) == (before[name]["missed"], before[name]["dropped"])


def test_sigterm_ends_it_in_order_and_images_can_be_left_out(daemon: Trial, tmp_path: Path) -> None:
    kept = tmp_path / "kept.rrd"
    with viewed("--port", str(daemon.port), "--save", str(kept), "--images", "0", *FREE) as (process, _):
        with daemon.remote.subscribe("pupil.0.2d") as pupils:
            for _ in range(10):
                pupils.receive(5)
        shown = ended(process, signal.SIGTERM)["shown"]
    assert (shown["images"], shown["thinned"]) == ({}, 0)
    assert {chunk.entity_path for chunk in read_chunks(kept)} & {"/world/video", "/eye0/video"} == set()
    # The footer is there: the file is whole.
    assert kept.read_bytes()[-16:-4].endswith(b"RRF2FOOT")


def test_a_daemon_that_does_not_answer() -> None:
    assert refused("--port", str(free_port()), *FREE) == (3, "not-reachable")


def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), body


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp("recordings"))


def test_a_recording_is_exported_and_served_with_its_viewer(folder: Path) -> None:
    with viewed(str(folder), "--web-port", "0") as (process, told):
        file = Path(told["file"])
        assert file == folder / "exports" / f"{folder.parent.name}-{folder.name}.rrd"
        (source,) = parse_qs(urlsplit(told["url"]).query)["url"]
        status, headers, body = asked(source)
        assert (status, body) == (200, file.read_bytes())
        assert headers["X-Content-Type-Options"] == "nosniff"
        base = told["url"].partition("?")[0]
        for name in FILES:
            assert asked(base + name)[::2] == (200, (viewer_files() / name).read_bytes())
        assert asked(told["url"], "HEAD")[::2] == (200, b"")
        ips = {each.laddr.ip for each in psutil.Process(process.pid).net_connections() if each.status == "LISTEN"}
        assert ips == {"127.0.0.1"}
        assert ended(process, signal.SIGINT) == {}
    # The second time it is there already.
    changed = file.stat().st_mtime_ns
    with viewed(str(folder), "--web-port", "0") as (process, again):
        assert again["file"] == told["file"]
        ended(process, signal.SIGTERM)
    assert file.stat().st_mtime_ns == changed


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[str]:
    from gazed_plugins.export.run import export_recording
    from gazed_plugins.rerun.viewer import WebViewer

    with WebViewer(recording=Path(export_recording(folder, "rerun", folder.parent / "out").path)) as viewer:
        yield viewer.url.partition("?")[0]


def test_the_page_may_load_from_itself_only(page: str) -> None:
    _, headers, body = asked(page)
    policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self' blob: data:"
    assert "unsafe-inline" not in policy["script-src"]
    assert policy["script-src"].count("sha256-") == body.count(b"<script>")
    assert not any(word in "; ".join(policy.values()) for word in ("http", "*", "rerun.io", "google"))


def test_live_data_are_the_only_other_place() -> None:
    from gazed_plugins.rerun.viewer import WebViewer

    with WebViewer(live="rerun+http://127.0.0.1:9876/proxy") as viewer:
        _, headers, _ = asked(viewer.url.partition("?")[0])
        assert "connect-src 'self' blob: data: http://127.0.0.1:9876;" in headers["Content-Security-Policy"]
        assert asked(viewer.url.partition("?")[0] + "recording.rrd")[0] == 404


@pytest.mark.parametrize(
    "path",
    ["nothing", "../../etc/passwd", "%2e%2e/etc/passwd", "recording.rrd/", "sw.js", "//etc/passwd", "index.html/x"],
)
def test_nothing_else_is_served(page: str, path: str) -> None:
    assert asked(page + path)[0] == 404


@pytest.mark.parametrize("host", ["rerun.io", "127.0.0.1.nip.io:80", "evil.example:9090", ""])
def test_pages_of_other_names_get_nothing(page: str, host: str) -> None:
    for path in ("", "recording.rrd"):
        assert asked(page + path, Host=host)[0] == 403


def test_a_port_that_is_taken_is_told(page: str) -> None:
    from gazed_plugins.rerun.viewer import WebViewer

    with pytest.raises(PortInUse, match="taken by another program"):
        WebViewer(urlsplit(page).port or 0)


def test_it_can_be_asked_for_by_name(page: str) -> None:
    port = urlsplit(page).port
    assert asked(page, Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_takes_nothing(page: str, method: str) -> None:
    assert asked(page, method)[0] == 501


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    assert refused(str(tmp_path)) == (2, "not-a-recording")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert refused(str(tmp_path / "notes.txt")) == (2, "usage")


WITHOUT = """
import importlib.metadata, sys
found = importlib.metadata.version
def version(name):
    if name == "rerun-sdk":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
from gazed.cli import main
main(["view", "--json"])
"""


def test_without_the_sdk_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False, timeout=60)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "missing-extra")
    assert "gazed[rerun]" in error["hint"]


def test_nothing_is_left_at_home(folder: Path, tmp_path: Path) -> None:
    """Neither the SDK nor its program, which hands out the viewer, makes a note of its use there."""
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "c"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with viewed(str(folder), "--web-port", "0", **home) as (process, _):
        ended(process, signal.SIGINT)
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert left == {"cache"}
    (stored,) = (tmp_path / "cache" / "gazed").iterdir()
    assert {path.name for path in stored.iterdir()} == set(FILES)


@pytest.mark.browser
def test_a_browser_shows_what_the_daemon_publishes(daemon: Trial, tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    script = Path(__file__).parents[2] / "plugins" / "tutorials" / "render.py"
    spec = importlib.util.spec_from_file_location("render", script)
    assert spec is not None
    assert spec.loader is not None
    render = sys.modules["render"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    if render.chromium() is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from matplotlib import image

    with viewed("--port", str(daemon.port), "--images", "2", *FREE) as (process, told):
        seen = render.see(told["url"], tmp_path / "picture.png", live_s=30.0)
        ended(process, signal.SIGINT)
    assert seen.errors == []
    ours = (told["url"].partition("?")[0], told["data"].removeprefix("rerun+").rpartition("/")[0])
    assert {url for url in seen.answered if not url.startswith(ours)} == set()
    world = image.imread(tmp_path / "picture.png")[100:420, 20:600, :3]
    assert world.std() > 0.1, "no image of the world camera"
