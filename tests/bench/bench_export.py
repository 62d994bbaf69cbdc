"""What each exporter takes in time and memory for one long recording.

    python tests/bench/bench_export.py [--seconds 3600] [--formats csv,nwb] [--json]

The recording has pupils (2D and 3D) and gaze of two eyes at ``--rate`` Hz and the videos of three cameras, whose images
are small. Each format is exported in a process of its own; memory is the peak RSS of that process or a child of it.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gazed_plugins.export.exporter import format_names
from gazed_plugins.export.run import export_recording
from gazed_recorder.reader import Recording
from gazed_recorder.testing_rich import make_rich_recording


def export_one(folder: Path, to: str, output: Path) -> dict[str, float]:
    """Export in this process and tell what it took."""
    begun, cpu = time.perf_counter(), time.process_time()
    done = Path(export_recording(folder, to, output).path)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    files = [path for path in done.rglob("*") if path.is_file()] if done.is_dir() else [done]
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert own
    # rusage of this process would have the peak of its parent in it; a child shares most of what it has with us.
    peak = max(int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    return {
        "s": took,
        "cpu_s": cpu,
        "peak_mb": peak,
        "files": len(files),
        "mb": sum(f.stat().st_size for f in files) / 1e6,
    }


def main() -> None:
    """Make the recording, and export it in every format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--formats", default=",".join(format_names()))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(export_one(Path(args.one[0]), args.one[1], Path(args.one[2]))))
        return
    with tempfile.TemporaryDirectory() as root:
        folder = make_rich_recording(Path(root) / "recordings", seconds=args.seconds, rate=args.rate, classic=False)
        recording = Recording(folder)
        result: dict[str, object] = {
            "seconds": args.seconds,
            "datums": {name: len(recording.timestamps(name)) for name in ("pupil", "gaze")},
            "frames": {name: len(recording.timestamps(name)) for name in recording.streams},
        }
        if not args.json:
            print(result)
        for to in args.formats.split(","):
            command = [sys.executable, __file__, "--one", str(folder), to, str(Path(root) / to)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = json.loads(done.stdout) if not done.returncode else {"error": done.stderr.strip().splitlines()[-1]}
            result[to] = found
            if not args.json:
                print(
                    f"{to:14}",
                    *(f"{name} {value:.1f}" if value != str(value) else value for name, value in found.items()),
                )
        if args.json:
            print(json.dumps(result))


if __name__ == "__main__":
    main()
