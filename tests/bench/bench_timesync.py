"""How near followers keep to their leader, over simulated networks; in simulated time.

    python tests/bench/bench_timesync.py [--json] [--seeds 5] [--seconds 62]

Each row is one network, one error of the follower's crystal, and one follower: ours, the one of Pupil Capture, the same
with its formula corrected, and as it is on a leader of ours that compensates. Errors in us from 10 s on; the median
over the seeds. `first` is the first usable clock, `250us` the time since which the error stays below, both in s;
`bound` is the share of instants within the bound that the follower states (Capture: its jitter), the least of all
seeds; `back` counts how often Pupil time ran backwards. `ratio` is a follower's median by ours.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from gazed_timesync.sync.testing import Figures, Network, Profile, SimulatedLeader, SimulatedPeer, SimulatedSync, World

PROFILES: tuple[Profile, ...] = ("loop", "wired", "wifi", "queued")


def ours(profile: Profile, ppm: float, seed: int, seconds: float) -> Figures:
    return SimulatedSync(World(ppm), SimulatedLeader(), Network(profile, seed), seed=seed).run(seconds).figures()


def peer(corrected: bool, compensated: bool) -> Callable[[Profile, float, int, float], Figures]:
    def run(profile: Profile, ppm: float, seed: int, seconds: float) -> Figures:
        follower = SimulatedPeer(
            World(ppm),
            SimulatedLeader(),
            Network(profile, seed),
            corrected=corrected,
            compensated=compensated,
            seed=seed,
        )
        return follower.run(seconds).figures()

    return run


FOLLOWERS = {
    "ours": ours,
    "capture": peer(corrected=False, compensated=False),
    "corrected": peer(corrected=True, compensated=False),
    "compensated": peer(corrected=False, compensated=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=62)
    options = parser.parse_args()
    rows = []
    for profile in PROFILES:
        for ppm in (0.0, 20.0, 50.0):
            medians = {}
            for name, run in FOLLOWERS.items():
                started = time.process_time()
                found = [run(profile, ppm, seed, options.seconds) for seed in range(options.seeds)]
                spent = (time.process_time() - started) / options.seeds
                middle = Figures._make(float(np.median(each)) for each in zip(*found, strict=True))
                medians[name] = middle.median_us
                row = {"network": profile, "ppm": ppm, "follower": name} | {
                    key: round(value, 4) for key, value in middle._asdict().items()
                }
                row["inside_bound"] = round(min(each.inside_bound for each in found), 5)
                row["backwards"] = max(each.backwards for each in found)
                row["ratio"] = round(middle.median_us / medians["ours"], 2)
                row["cpu_s"] = round(spent, 3)
                rows.append(row)
    if options.json:
        print(json.dumps(rows))
        return
    print("network ppm follower       median      p95    worst |  first   250us |   bound  back |   ratio")
    for row in rows:
        print(
            f"{row['network']:7} {row['ppm']:3.0f} {row['follower']:11} {row['median_us']:9.2f} {row['p95_us']:8.2f} "
            f"{row['worst_us']:8.2f} | {row['first_clock_s']:6.2f} {row['below_250us_s']:7.2f} | "
            f"{row['inside_bound']:7.4f} {row['backwards']:5} | {row['ratio']:7.1f}"
        )


if __name__ == "__main__":
    main()
