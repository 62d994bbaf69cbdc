"""How near followers keep to their leader over a real network stack and a link that is slow, uneven and lossy.

    sudo .venv/bin/python tests/bench/bench_link.py [--json] [--profiles loop wired wifi queued] [--ppm 0 20 50]
        [--runs 3] [--seconds 62] [--jobs 2] [--cases table steps gone busy]

Needs root, gcc and TAP devices. Leader and followers run in two network namespaces of their own, joined by
``linkemu.c``; each end is a process (``link_ends.py``). All followers of a run share its link: ours over TCP on a plain
leader (`ours`), ours by datagrams on our leader (`ours-udp`), Pupil Capture's, the same with its formula corrected,
the same on a leader of ours that compensates, and LSL's ``time_correction`` if pylsl is installed. A leader's clock
that is `ppm` fast stands for a follower's that is slow.

Errors in us from 10 s on, the median over the runs; `first` is the first usable clock, `250us` the time since which the
error stays below, both in s; `bound` is the share of instants within the stated bound, the least of all runs (Capture:
its jitter; LSL states none); `back` counts how often Pupil time ran backwards, of a million reads a run of ours.

Other cases, at 50 ppm: `steps`, the leader steps by -4 ms and later by +3 s; `gone`, the link is down for 3 s, later
the leader is killed and held over for 60 s; `busy`, two spinning threads in the follower's process, on the loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gazed_timesync import host_now
from gazed_timesync.namespace_testing import Namespace, namespaces_refused
from gazed_timesync.sync.testing import Figures

HERE = Path(__file__).parent
# To the leader and back: shape, base, jitter (us), loss, stalls a second, least, most (us); and whether in order.
PROFILES = {
    "loop": None,
    "wired": ("any", "uniform:1000:500:0:0:0:0", "uniform:1000:500:0:0:0:0"),
    "wifi": ("any", "uniform:5000:3000:0.01:0:0:0", "uniform:5000:3000:0.01:0:0:0"),
    "queued": ("fifo", "gamma:1200:4000:0.01:0.1:20000:90000", "exp:1200:1500:0.01:0.1:20000:90000"),
}
FOLLOWERS = ("ours", "ours-udp", "capture", "corrected", "compensated", "lsl")
# Most: median us, 95 % us, first clock s, below 250 us since s; ratio to Capture's median at 20 and 50 ppm, to
# corrected Capture's at 50 ppm, to LSL's; and of a compensated Capture to Capture at 0 ppm.
TARGETS = {
    "loop": (5, 20, 0.5, 1, 0.05, 0.05, 0.2, np.inf),
    "wired": (30, 80, 0.5, 1, 0.03, 0.15, 0.3, 0.15),
    "wifi": (100, 300, 1, 10, 0.03, 0.25, 0.3, 0.15),
    "queued": (200, 500, 1.5, 30, 0.05, 0.25, 0.4, np.inf),
}
SMALL_AT_S, LARGE_AT_S = 20.0, 35.0
DOWN_S, UP_S, KILLED_S = 20.0, 23.0, 32.0
HOLDOVER_US = {"wired": 150.0, "wifi": 300.0}
LSL_CONFIGURATION = "[lab]\nKnownPeers = {%s}\n[ports]\nIPv6 = disable\n[log]\nlevel = -3\n"


@dataclass(frozen=True)
class Trial:
    """One run of one link."""

    case: str
    profile: str
    ppm: float
    seed: int
    seconds: float
    followers: tuple[str, ...]


class Link:
    """Two namespaces and what joins them; for `loop`, one namespace alone."""

    def __init__(self, trial: Trial, emulator: Path, made: contextlib.ExitStack) -> None:
        self.leader_space = self.follower_space = made.enter_context(Namespace())
        self.address = "127.0.0.1"
        shape = PROFILES[trial.profile]
        if shape is None:
            return
        self.follower_space = made.enter_context(Namespace())
        self.address = "10.99.0.1"
        spaces = (self.follower_space, self.leader_space)
        words = [word for end, space in enumerate(spaces) for word in (str(space.fd), f"link{end}")]
        process = subprocess.Popen(
            [emulator, *words, str(trial.seed), *shape],
            stdout=subprocess.PIPE,
            pass_fds=[space.fd for space in spaces],
        )
        made.callback(_end, process)
        if not process.stdout or process.stdout.readline() != b"ready\n":
            raise SystemExit("linkemu did not start")
        for end, space in enumerate(spaces):
            space.run("ip", "addr", "add", f"10.99.0.{2 - end}/24", "dev", f"link{end}")
            space.run("ip", "link", "set", f"link{end}", "up")

    def set(self, state: str) -> None:
        """Let the leader's end go down or up."""
        self.leader_space.run("ip", "link", "set", "link1", state)


class End:
    """A process at an end of the link; its first line of output tells that it is ready, its last what it found."""

    def __init__(self, space: Namespace, name: str, options: dict[str, Any], made: contextlib.ExitStack) -> None:
        with space.entered():
            self._process = subprocess.Popen(
                [sys.executable, HERE / "link_ends.py", name, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"LSLAPICFG": options["lsl"], "OPENBLAS_NUM_THREADS": "1"},
                text=True,
            )
        made.callback(_end, self._process)
        self.name = name

    def line(self) -> Any:
        """Return the next line that it prints."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early")
        return json.loads(line)

    def begin(self, host: int) -> None:
        """Tell it when to begin."""
        assert self._process.stdin
        self._process.stdin.write(f"{host}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def run(trial: Trial, emulator: Path) -> dict[str, Any]:
    """Return what each follower of a run saw."""
    with contextlib.ExitStack() as made:
        folder = made.enter_context(tempfile.TemporaryDirectory())
        link = Link(trial, emulator, made)
        lsl = Path(folder, "lsl_api.cfg")
        lsl.write_text(LSL_CONFIGURATION % link.address)
        steps = [(SMALL_AT_S, -4e-3), (LARGE_AT_S, 3.0)] if trial.case == "steps" else []
        options = {"ppm": trial.ppm, "steps": steps, "seconds": trial.seconds, "lsl": str(lsl)}
        options["spinning"] = 2 if trial.case == "busy" else 0
        leader = End(link.leader_space, "leader", options, made)
        ports = leader.line()
        names = [name for name in trial.followers if name != "lsl" or ports["lsl"]]
        options |= {"address": link.address, "ports": ports}
        ends = {name: End(link.follower_space, name, options, made) for name in names}
        for end in ends.values():
            end.line()
        begin = host_now() + 500_000_000
        for end in (leader, *ends.values()):
            end.begin(begin)
        if trial.case == "gone":
            for at_s, act in ((DOWN_S, "down"), (UP_S, "up"), (KILLED_S, "kill")):
                time.sleep(max(0.0, at_s - (host_now() - begin) / 1e9))
                leader.kill() if act == "kill" else link.set(act)
        return {name: end.line() for name, end in ends.items()}


def table(found: list[tuple[Trial, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each link, clock error and follower: the middle of its runs."""
    for profile, ppm in dict.fromkeys((trial.profile, trial.ppm) for trial, _ in found):
        runs = [seen for trial, seen in found if (trial.profile, trial.ppm) == (profile, ppm)]
        for name in runs[0]:
            each = [Figures.of(seen[name]["rows"], 10.0, seen[name]["backwards"]) for seen in runs]
            middle = Figures._make(float(np.median(column)) for column in zip(*each, strict=True))
            yield {
                "link": profile,
                "ppm": ppm,
                "follower": name,
                **{key: round(value, 4) for key, value in middle._asdict().items()},
                "inside_bound": round(min(one.inside_bound for one in each), 5),
                "backwards": sum(one.backwards for one in each),
                "reads": sum(seen[name]["reads"] for seen in runs),
                "steps": max(seen[name]["rows"][-1][3] for seen in runs),
                "cpu_s": round(float(np.median([seen[name]["cpu_s"] for seen in runs])), 2),
            }


def judged(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each figure that has a target, with the target."""
    medians = {(row["link"], row["ppm"], row["follower"]): row["median_us"] for row in rows}
    for row in rows:
        link, ppm, name = key = row["link"], row["ppm"], row["follower"]
        most = dict(zip(("median_us", "p95_us", "first_clock_s", "below_250us_s"), TARGETS[link], strict=False))
        by_capture, by_corrected, by_lsl, compensated = TARGETS[link][4:]
        ratios = {}
        if name in ("ours", "ours-udp"):
            for figure, limit in most.items():
                yield _judged(key, figure, row[figure], limit)
            yield _judged(key, "outside_bound", 1 - row["inside_bound"], 0.001)
            yield _judged(key, "backwards", row["backwards"], 0)
            ratios = {"lsl": by_lsl}
            ratios |= {"capture": by_capture} if ppm else {}
            ratios |= {"corrected": by_corrected} if ppm == 50 else {}
        elif name == "compensated" and not ppm and compensated < np.inf:
            ratios = {"capture": compensated}
        for other, limit in ratios.items():
            if (link, ppm, other) in medians:
                yield _judged(key, f"median / {other}", row["median_us"] / medians[link, ppm, other], limit)


def _judged(key: tuple[str, float, str], figure: str, value: float, most: float) -> dict[str, Any]:
    link, ppm, name = key
    value = round(float(value), 4)
    return {
        "link": link, "ppm": ppm, "follower": name, "figure": figure, "value": value, "most": most,
        "met": value <= most,
    }  # fmt: skip


def _settled(rows: list[Any], begin_s: float, until_s: float, below_s: float) -> float:
    """Return how long after ``begin_s`` the error was below for good, or infinity."""
    between = [(at, abs(error)) for at, error, *_ in rows if begin_s < at < until_s]
    wrong = [at for at, error in between if error >= below_s]
    return np.inf if wrong and wrong[-1] == between[-1][0] else (wrong[-1] - begin_s if wrong else 0.0)


def others(found: list[tuple[Trial, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the figures of the other cases, each with its target, the middle of the runs."""
    for case, profile in dict.fromkeys((trial.case, trial.profile) for trial, _ in found):
        runs = [seen for trial, seen in found if (trial.case, trial.profile) == (case, profile)]
        for name in dict.fromkeys(name for seen in runs for name in seen):
            all_figures = [dict(_figures(case, profile, name, seen[name])) for seen in runs if name in seen]
            for figure in all_figures[0]:
                values = [each[figure][0] for each in all_figures]
                one = _judged((profile, 50.0, name), f"{case}: {figure}", np.median(values), all_figures[0][figure][1])
                yield one | {"worst": round(float(max(values)), 4)}


def _figures(case: str, profile: str, name: str, seen: dict[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    rows = seen["rows"]
    ours = name.startswith("ours")
    if case == "steps":
        yield "-4 ms to 0.25 ms, s", (_settled(rows, SMALL_AT_S, LARGE_AT_S, 250e-6), np.inf)
        yield "+3 s to 1 ms, s", (_settled(rows, LARGE_AT_S, np.inf, 1e-3), 1.5 if ours else np.inf)
        jumps = [at for at, kind in seen["events"] if kind == "stepped" and at > LARGE_AT_S]
        if ours:
            yield "+3 s to the jump, s", (jumps[0] - LARGE_AT_S if jumps else np.inf, 1.5)
    elif case == "gone":
        held = [row for row in rows if row[0] > KILLED_S]
        down = [abs(row[1]) for row in rows if DOWN_S < row[0] < KILLED_S]
        yield "3 s down, most us", (max(down) * 1e6, np.inf)
        if ours:
            states = [(at, kind) for at, kind in seen["events"] if DOWN_S < at < KILLED_S]
            back = [at for at, kind in states if kind == "LOCKED" and at > UP_S]
            # Three seconds without an answer are just not enough for some to give the leader up.
            never = 0.0 if all(kind != "HOLDOVER" for _, kind in states) else np.inf
            yield "up to LOCKED, s", (back[0] - UP_S if back else never, 3.0)
            yield "outside the bound", (float(np.mean([abs(row[1]) > row[2] for row in rows])), 0.001)
        yield "60 s of holdover, us", (abs(held[-1][1]) * 1e6, HOLDOVER_US.get(profile, np.inf) if ours else np.inf)
    else:
        late = [abs(row[1]) * 1e6 for row in rows if row[0] >= 10]
        yield "median us", (float(np.median(late)), 5.0 if ours else np.inf)
        yield "p95 us", (float(np.percentile(late, 95)), np.inf)


def trials(options: argparse.Namespace) -> list[Trial]:
    """Return all runs that are asked for."""
    found = [
        Trial("table", profile, ppm, seed, options.seconds, FOLLOWERS)
        for seed in range(options.runs)
        for ppm in options.ppm
        for profile in options.profiles
        if "table" in options.cases
    ]
    for case, seconds in (("steps", 47.0), ("gone", KILLED_S + 60.0)):
        found += [
            Trial(case, profile, 50.0, seed, seconds, FOLLOWERS[:4])
            for seed in range(options.runs)
            for profile in options.profiles
            if profile != "loop" and case in options.cases
        ]
    return found + [
        Trial("busy", "loop", 50.0, seed, 32.0, (name,))
        for name in FOLLOWERS[:4]
        for seed in range(options.runs)
        if "busy" in options.cases
    ]


def show(rows: list[dict[str, Any]], targets: list[dict[str, Any]]) -> None:
    """Print both tables."""
    print("link    ppm follower       median      p95    worst |  first   250us |   bound  back |  cpu s")
    for row in rows:
        print(
            f"{row['link']:7} {row['ppm']:3.0f} {row['follower']:11} {row['median_us']:9.2f} {row['p95_us']:8.2f} "
            f"{row['worst_us']:8.2f} | {row['first_clock_s']:6.2f} {row['below_250us_s']:7.2f} | "
            f"{row['inside_bound']:7.4f} {row['backwards']:5} | {row['cpu_s']:6.2f}"
        )
    print("\nlink    ppm follower    figure                          value      most")
    for one in targets:
        verdict = "" if one["most"] == np.inf else "met" if one["met"] else "MISSED"
        print(
            f"{one['link']:7} {one['ppm']:3.0f} {one['follower']:11} {one['figure']:26} {one['value']:10.4f} "
            f"{one['most']:9.3f} {verdict}" + (f" (worst {one['worst']})" if "worst" in one else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=list(PROFILES))
    parser.add_argument("--ppm", nargs="+", type=float, default=[0.0, 20.0, 50.0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=62.0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with a link of its own")
    parser.add_argument("--cases", nargs="+", choices=("table", "steps", "gone", "busy"), default=["table"])
    options = parser.parse_args()
    if refused := namespaces_refused():
        raise SystemExit(f"bench_link {refused}")
    with tempfile.TemporaryDirectory() as folder:
        emulator = Path(folder, "linkemu")
        subprocess.run(["gcc", "-O2", "-o", emulator, HERE / "linkemu.c", "-lm"], check=True)
        asked = trials(options)
        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(zip(asked, pool.map(lambda trial: run(trial, emulator), asked), strict=True))
    rows = list(table([each for each in found if each[0].case == "table"]))
    targets = [*judged(rows), *others([each for each in found if each[0].case != "table"])]
    if options.json:
        # JSON has no infinity.
        plain = json.dumps({"rows": rows, "targets": targets}).replace("Infinity", "null")
        print(plain)
    else:
        show(rows, targets)


if __name__ == "__main__":
    main()
