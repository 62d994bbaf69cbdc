"""Make the pictures of get_data_out.md anew: ``python render.py RECORDING``, with a recording of ``gazed demo``.

Chromium (``apt-get install chromium``, Playwright) draws the viewer without a screen; what would leave this machine is
refused by the page's own rules.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright
from rerun.chunk import RrdReader

from gazed_plugins.rerun.viewer import WebViewer

__all__ = ["Seen", "chromium", "see"]

HERE = Path(__file__).parent
SIZE = {"width": 1280, "height": 780}
LOADED_S = 180.0
SETTLED_S = 8.0
# Where the viewer has its button for a pause and its bar of time, in a window of that size.
PAUSE, BAR = (27, 766), (301, 1073)
# WebGL without a graphics card.
FLAGS = (
    "--ignore-gpu-blocklist",
    "--enable-unsafe-swiftshader",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--no-sandbox",
)


@dataclass
class Seen:
    """What a page did."""

    loaded: bool = False
    """Whether all of the recording has arrived."""
    answered: list[str] = field(default_factory=list)
    """The addresses that answered."""
    refused: list[str] = field(default_factory=list)
    """The addresses that the page's rules kept it from."""
    errors: list[str] = field(default_factory=list)
    """What it said had gone wrong, other than that."""


def chromium() -> str | None:
    """Return where Chromium is; ``None`` if it is not installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def see(url: str, picture: Path, *, click: Sequence[tuple[float, float]] = (), live_s: float | None = None) -> Seen:
    """Open a page of the viewer, click on some places, and take a picture; return what the page did.

    It waits until all of the recording has arrived; ``live_s`` seconds for live data, which never have.
    """
    seen = Seen()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.on("console", lambda message: _hear(message, seen))
        page.on("requestfinished", lambda request: seen.answered.append(request.url))
        page.on("requestfailed", lambda request: _note(request, seen))
        page.goto(f"{url}&renderer=webgl&theme=dark")
        _wait(page, seen, live_s)
        for place in click:
            page.mouse.click(*place)
            page.wait_for_timeout(1000 * SETTLED_S)
        page.screenshot(path=picture)
        browser.close()
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)
    return seen


def _wait(page: Page, seen: Seen, live_s: float | None) -> None:
    waited, most = 0.0, LOADED_S if live_s is None else live_s
    while not seen.loaded and waited < most:
        page.wait_for_timeout(500)
        waited += 0.5
    page.wait_for_timeout(1000 * SETTLED_S)


def _hear(message: ConsoleMessage, seen: Seen) -> None:
    seen.loaded = seen.loaded or "has finished" in message.text
    # A request that was refused is told three times over.
    if message.type == "error" and "Security Policy" not in message.text and "Failed to fetch" not in message.text:
        seen.errors.append(message.text)


def _note(request: Request, seen: Seen) -> None:
    (seen.refused if request.failure == "csp" else seen.errors).append(request.url)


def second_blink(path: Path) -> float:
    """Return where on the bar of time the eye is closed for the second time, from 0 to 1."""
    reader = RrdReader(path)
    (recording,) = reader.recordings()
    chunks = reader.stream(store=recording).filter(has_timeline="pupil_time").to_chunks()
    times = [chunk.to_record_batch().column("pupil_time").cast("int64").to_numpy() for chunk in chunks]
    begin, end = min(each.min() for each in times), max(each.max() for each in times)
    (changes,) = (each for each, chunk in zip(times, chunks, strict=True) if chunk.entity_path == "/analysis/eye")
    # It begins open.
    return float((changes[3:5].mean() - begin) / (end - begin))


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        subprocess.run([sys.executable, HERE / "get_data_out.py", told.recording, output], check=True)
        shutil.copyfile(output / "plot.png", HERE / "get_data_out_plot.png")
        merged = output / "merged.rrd"
        with WebViewer(recording=merged) as viewer:
            # Pause, then the place on the bar of time where the eye is closed for the second time.
            place = (BAR[0] + (BAR[1] - BAR[0]) * second_blink(merged), PAUSE[1])
            see(viewer.url, HERE / "get_data_out_viewer.png", click=[PAUSE, place])


if __name__ == "__main__":
    main()
