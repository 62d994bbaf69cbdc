"""How fast an hour of pupils becomes columns, and what it takes in memory, beside plain msgpack.

    python tests/bench/bench_reader.py [--seconds 3600] [--json]

Each way is a process of its own: ``index`` finds the datums, ``plain-index`` reads each packed datum into a list (as
Pupil Player does), ``plain`` unpacks each one into a map, ``columns`` is ``Recording.pupil``, ``batches`` passes over
all of it in tables of 65,536 rows. Seconds are the best of three runs, memory is the most a run took (peak RSS).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgpack

from gazed_recorder.reader import Recording
from gazed_recorder.reading.packed import index_pldata
from gazed_recorder.testing_rich import make_rich_recording

WAYS = ("index", "columns", "batches", "plain-index", "plain")


def run(way: str, folder: Path) -> int:
    """Read the pupils in one way; return how many there are."""
    path = folder / "pupil.pldata"
    match way:
        case "index":
            return len(index_pldata(path))
        case "columns":
            return len(Recording(folder).pupil)
        case "batches":
            return sum(len(table) for table in Recording(folder).batches("pupil"))
        case "plain-index":
            with path.open("rb") as file:
                return len([payload for _, payload in msgpack.Unpacker(file, use_list=False)])
    with path.open("rb") as file:
        packed = msgpack.Unpacker(file, use_list=False)
        return len([msgpack.unpackb(payload, use_list=False, strict_map_key=False) for _, payload in packed])


def peak_mb() -> float:
    """Return the most memory that this process had; rusage would have that of its parent in it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def measure(way: str, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, "--folder", str(folder)], capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Make the hour, and read it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        begun = time.perf_counter()
        count = run(args.way, args.folder)
        seconds = time.perf_counter() - begun
        print(json.dumps({"s": seconds, "mb": peak_mb(), "n": count}))
        return
    with tempfile.TemporaryDirectory() as root:
        folder = make_rich_recording(
            Path(root), seconds=args.seconds, rate=200.0, methods=("3d",), videos=False, classic=False
        )
        size = (folder / "pupil.pldata").stat().st_size / 1e6
        found = {way: [measure(way, folder) for _ in range(3)] for way in WAYS}
    assert len({each["n"] for runs in found.values() for each in runs}) == 1
    best = {way: {"s": min(r["s"] for r in runs), "mb": max(r["mb"] for r in runs)} for way, runs in found.items()}
    result = {
        "datums": found["plain"][0]["n"],
        "pldata_mb": size,
        **best,
        "columns_times_faster_than_plain": best["plain"]["s"] / best["columns"]["s"],
        "columns_part_of_plain_memory": best["columns"]["mb"] / best["plain"]["mb"],
        "columns_part_of_plain_index_memory": best["columns"]["mb"] / best["plain-index"]["mb"],
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{result['datums']} datums, {size:.0f} MB")
    for way in WAYS:
        print(f"{way:12} {best[way]['s']:7.2f} s {best[way]['mb']:8.0f} MB")
    print(f"columns: {result['columns_times_faster_than_plain']:.1f} times as fast as plain msgpack")


if __name__ == "__main__":
    main()
