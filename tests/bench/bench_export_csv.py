"""What the exporter ``csv`` costs beside a plain one, for 10 minutes of two eyes at 120 Hz.

    python tests/bench/bench_export_csv.py [--seconds 600] [--runs 3] [--json]

Each way is a process of its own: ``plain`` writes Pupil Player's two tables one row after the other (``plain_csv.py``),
``two tables`` is the exporter's layout ``classic`` (the same two tables, and the Unix times beside them), ``all
tables`` its layout ``player`` without videos. Seconds, of the clock and of the processor, are the best of all runs,
without the start of Python; memory is the most that a run took (peak RSS). A gaze datum comes with every eye image, as
Pupil Capture has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgpack
import plain_csv

from gazed_plugins.export.player.exporter import CsvExporter
from gazed_plugins.export.player.tables import world_times
from gazed_recorder.datalog import DatumLog, PldataReader
from gazed_recorder.reader import Recording
from gazed_recorder.testing_rich import make_rich_recording

WAYS = {
    "plain": {},
    "two tables": {"layout": "classic", "videos": False},
    "all tables": {"videos": False},
}
RATE = 120.0


def peak_mb() -> float:
    """Return the most memory that this process had; getrusage counts that of the one which started it, too."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def run(way: str, folder: Path, target: Path) -> dict[str, float]:
    """Export in one way."""
    begun, cpu = time.perf_counter(), time.process_time()
    if way == "plain":
        target.mkdir()
        plain_csv.write_tables(folder, target, world_times(Recording(folder)))
    else:
        CsvExporter(WAYS[way]).write(Recording(folder), target, lambda _done, _total: None)
    taken = {"s": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu}
    return {**taken, "mb": peak_mb()}


def measure(way: str, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own."""
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--target", f"{target}/export"]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
    return json.loads(done.stdout)


def make(root: Path, seconds: float) -> tuple[Path, dict[str, int]]:
    """Make the recording; return its folder and how many datums it has."""
    folder = make_rich_recording(root, seconds=seconds, rate=RATE, videos=False, classic=False)
    path = folder / "gaze.pldata"
    datums = [msgpack.unpackb(payload) for _, payload in PldataReader(path)]
    for name in ("gaze.pldata", "gaze_timestamps.npy"):
        (folder / name).unlink()
    log = DatumLog(folder, "gaze")
    for datum in datums:
        for later in (0.0, 0.5 / RATE):
            stamp = datum["timestamp"] + later
            log.append(datum["topic"], stamp, msgpack.packb({**datum, "timestamp": stamp}))
    log.close()
    return folder, {name: len(Recording(folder).timestamps(name)) for name in ("pupil", "gaze")}


def check(folder: Path, root: Path) -> None:
    """Make sure that both write the same bytes."""
    run("plain", folder, root / "plain")
    run("all tables", folder, root / "ours")
    for name in ("pupil_positions.csv", "gaze_positions.csv"):
        assert (root / "plain" / name).read_bytes() == (root / "ours" / name).read_bytes(), name


def main() -> None:
    """Make the recording, and export it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(run(args.way, args.folder, args.target)))
        return
    with tempfile.TemporaryDirectory() as root:
        folder, counts = make(Path(root) / "recording", args.seconds)
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(args.runs):
            for way, found in runs.items():
                found.append(measure(way, folder))
        check(folder, Path(root))
    best: dict[str, Any] = {
        way: {
            "s": min(r["s"] for r in found),
            "cpu_s": min(r["cpu_s"] for r in found),
            "mb": max(r["mb"] for r in found),
        }
        for way, found in runs.items()
    }
    ratios = {key: best["plain"][key] / best["two tables"][key] for key in ("s", "cpu_s")}
    result = {**counts, **best, "two_tables_times_faster": ratios}
    if args.json:
        print(json.dumps(result))
        return
    print(f"{counts['pupil']} pupils, {counts['gaze']} gaze")
    for way in WAYS:
        print(f"{way:12} {best[way]['s']:7.2f} s {best[way]['cpu_s']:7.2f} s CPU {best[way]['mb']:6.0f} MB")
    print(f"two tables: {ratios['s']:.1f} times as fast as plain, {ratios['cpu_s']:.1f} by CPU")


if __name__ == "__main__":
    main()
