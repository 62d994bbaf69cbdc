"""Memory over time: a daemon records for minutes; early on, a subscriber to everything stalls for a minute.

python tests/bench/bench_soak.py [--minutes 5] [--profile simulated] [--json]

``growth_mb_per_hour`` is the slope of a line through each process's memory (PSS) after the stall; ``stalled_mb`` is the
most that the broker grew by while the subscriber stood still.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import psutil

from gazed.config import load_config
from gazed.trial import Trial
from gazed_recorder.manifest import Manifest
from gazed_recorder.verify import verify

STALL_FROM, STALL_TO = 20.0, 80.0
SAMPLE_S = 5.0
STALLED = (
    "import sys; from gazed_bus.remote import Remote\n"
    "with Remote('127.0.0.1', int(sys.argv[1])) as remote, remote.subscribe() as everything:\n"
    "    print('ready', flush=True); sys.stdin.read()\n"
)


def memory_mb(pids: dict[str, int]) -> dict[str, float]:
    return {name: psutil.Process(pid).memory_full_info().pss / 1e6 for name, pid in pids.items()}


def soak(profile: str, minutes: float) -> dict[str, object]:
    config = load_config(profile)
    with tempfile.TemporaryDirectory(prefix="gazed-soak-") as scratch:
        config = msgspec.structs.replace(config, recorder=msgspec.structs.replace(config.recorder, root=scratch))
        with Trial(config) as daemon:
            processes = daemon.remote.status()["processes"]
            pids = {"supervisor": daemon.process} | {name: process["pid"] for name, process in processes.items()}
            folder = Path(daemon.remote.start("soak").rec_path)
            begun = time.monotonic()
            samples: list[tuple[float, dict[str, float]]] = []
            stalled: subprocess.Popen[bytes] | None = None
            while (now := time.monotonic() - begun) < minutes * 60:
                if stalled is None and STALL_FROM <= now < STALL_TO:
                    command = [sys.executable, "-c", STALLED, str(daemon.port)]
                    stalled = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                if stalled is not None and now >= STALL_TO:
                    stalled.kill()
                samples.append((now, memory_mb(pids)))
                time.sleep(SAMPLE_S)
            if stalled is not None:
                stalled.wait()
            daemon.remote.stop()
        proof = verify(folder, deep=False)
        manifest = Manifest.load(folder)
        quiet = [(at, memory) for at, memory in samples if at > STALL_TO + 10]
        during = [memory["broker"] for at, memory in samples if STALL_FROM <= at < STALL_TO]
        before = [memory["broker"] for at, memory in samples if at < STALL_FROM]
        return {
            "minutes": minutes,
            "memory_mb": {name: round(samples[-1][1][name], 1) for name in pids},
            "growth_mb_per_hour": {
                name: round(float(np.polyfit([at for at, _ in quiet], [m[name] for _, m in quiet], 1)[0]) * 3600, 1)
                for name in pids
            },
            "stalled_mb": round(max(during) - before[-1], 1),
            "streams": {
                name: {"received": report.received, "written": report.written, "dropped": report.dropped}
                for name, report in manifest.streams.items()
                if report.kind == "video"
            },
            "verified": proof.ok,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--profile", default="simulated")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = soak(arguments.profile, arguments.minutes)
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
