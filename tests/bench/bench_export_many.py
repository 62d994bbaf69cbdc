"""Exporting many recordings: how much faster several workers are, what a killed one costs, and how memory grows.

    python tests/bench/bench_export_many.py [--json] [--only speed,kill,flat] [--to parquet] [--workers 2]

``speed``: 20 recordings of half an hour (two eyes at 200 Hz, 2-D and 3-D), exported by one process and by
``--workers`` processes, in turn, ``--rounds`` times; wall time of the whole command, starting and ending included (a
cluster takes some seconds to come up), processor time, and the median of the ratios of wall time. ``kill``: the same
once more, but a worker is killed with SIGKILL whenever five more are done. ``flat``: 1,000 recordings of half a second,
by one process and by workers: RSS in MB, medians of samples taken while the first and while the last hundred were
exported, for the command and for its largest worker.

Every run's exports are compared, byte for byte, with those of the first one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import psutil

from gazed_plugins.export.testing import tree_of
from gazed_recorder.testing_rich import make_rich_recording

LABELS = "*[0-9]"
SAMPLE_S = 0.05
MB = 1e6


@dataclass
class Run:
    """One command: how long it took, and samples (exports there, RSS of the command, of the largest worker)."""

    seconds: float = 0.0
    cpu: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)
    samples: list[tuple[int, float, float]] = field(default_factory=list)
    killed: int = 0


def workers_of(command: psutil.Process) -> list[psutil.Process]:
    """Return the processes that export."""
    found = []
    for child in command.children():
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def export(root: Path, output: Path, to: str, workers: int, *, sample: bool = False, kill_every: int = 0) -> Run:
    """Run ``gazed export`` and watch it."""
    run, kill_at = Run(), kill_every
    rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "gazed", "export", str(root), "--to", to, "--output", str(output), "--json"]
    begun, cpu = time.perf_counter(), cpu_of_children()
    told = output.with_suffix(".json").open("w+")
    process = psutil.Popen([*command, "--workers", str(workers)], stdout=told)
    while process.poll() is None:
        if not (sample or kill_every):
            process.wait()
            break
        time.sleep(SAMPLE_S)
        done = sum(1 for path in output.glob(LABELS)) if output.is_dir() else 0
        try:
            alive = workers_of(process)
            largest = max((worker.memory_info().rss for worker in alive), default=0)
            run.samples.append((done, process.memory_info().rss / MB, largest / MB))
            if kill_every and done >= kill_at and alive:
                alive[run.killed % len(alive)].kill()
                run.killed, kill_at = run.killed + 1, done + kill_every
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    run.seconds, run.cpu = time.perf_counter() - begun, cpu_of_children() - cpu
    with told:
        told.seek(0)
        run.told = json.load(told)
    return run


def cpu_of_children() -> float:
    """Return the processor time, s, of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def counts(run: Run) -> dict[str, int]:
    """Return how many were exported, and how many were not."""
    return {name: len(run.told[name]) for name in ("done", "skipped", "failed")}


def recordings(root: Path, count: int, seconds: float, rate: float, distinct: int) -> Path:
    """Make recordings without videos, so many of them different; return the folder they are in."""
    made: list[Path] = []
    for number in range(count):
        session = f"P{number // 10:03d}"
        if number < distinct:
            made.append(
                make_rich_recording(
                    root, seconds=seconds, rate=rate, videos=False, classic=False, session=session, number=number
                )
            )
        else:
            copytree(made[number % distinct], root / session / f"{number % 10:03d}", copy_function=os.link)
    return root


def speed_and_kill(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure both."""
    result: dict[str, Any] = {}
    root = recordings(work / "minutes", args.recordings, args.seconds, 200.0, 2)
    rounds = []
    wanted = None
    for _ in range(args.rounds if "speed" in args.only else 1):
        pair = [export(root, work / f"by{workers}", args.to, workers) for workers in (1, args.workers)]
        trees = [tree_of(work / f"by{workers}") for workers in (1, args.workers)]
        wanted = wanted or trees[0]
        assert all(tree == wanted for tree in trees), "the exports differ"
        assert all(counts(run)["done"] == args.recordings for run in pair)
        rounds.append(
            {
                "serial_s": pair[0].seconds,
                "parallel_s": pair[1].seconds,
                "serial_cpu_s": pair[0].cpu,
                "parallel_cpu_s": pair[1].cpu,
            }
        )
    if "speed" in args.only:
        ratios = [each["serial_s"] / each["parallel_s"] for each in rounds]
        result["speed"] = {"rounds": rounds, "ratio": statistics.median(ratios), "best": max(ratios)}
    if "kill" in args.only:
        run = export(root, work / "killed", args.to, args.workers, kill_every=5)
        assert tree_of(work / "killed") == wanted, "the exports differ"
        result["kill"] = {"killed": run.killed, "seconds": run.seconds, **counts(run)}
    return result


def flat(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure how memory grows over many short recordings."""
    root = recordings(work / "short", args.many, 0.5, 120.0, args.many)
    result: dict[str, Any] = {}
    share = args.many // 10
    wanted = None
    for workers in (1, args.workers):
        run = export(root, work / "flat", args.to, workers, sample=True)
        tree = tree_of(work / "flat")
        wanted = wanted or tree
        assert tree == wanted, "the exports differ"
        parts = {
            "first": [each for each in run.samples if 0 < each[0] <= share],
            "last": [each for each in run.samples if args.many - share < each[0] <= args.many],
        }
        memory = {
            f"{who}_{part}_mb": statistics.median(sample[place] for sample in samples)
            for part, samples in parts.items()
            for place, who in ((1, "command"), (2, "worker"))
        }
        result[f"{workers} workers"] = {"seconds": run.seconds, **counts(run), **memory}
    return result


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="speed,kill,flat")
    parser.add_argument("--to", default="parquet")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recordings", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of each of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=1000)
    args = parser.parse_args()
    result: dict[str, Any] = {"to": args.to, "workers": args.workers, "load": psutil.getloadavg()}
    with tempfile.TemporaryDirectory() as work:
        if "speed" in args.only or "kill" in args.only:
            result |= speed_and_kill(Path(work), args)
        if "flat" in args.only:
            result["flat"] = flat(Path(work), args)
    if args.json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        print(name, json.dumps(figures, indent=2) if isinstance(figures, dict) else figures)


if __name__ == "__main__":
    main()
