"""Latency, loss and throughput of the bus, each peer in a process of its own.

    python tests/bench/bench_bus.py [--json] [--seconds 10]

`rates`: 1 kB datums at 1,200/s and 9,000/s from three publishers to six subscribers (encoded, published, received,
checked for gaps and decoded). `flat_out`: packed 1 kB datums from one publisher to one subscriber without any pause.
`stalled`: a subscriber to everything stops for a while at the full rate of a headset (two eyes at 120 Hz of 20 kB, a
world camera at 30 Hz of 144 kB, 480 datums/s), while another one goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack

from gazed_bus.broker import Broker
from gazed_bus.client import Publisher, Subscriber
from gazed_bus.rundir import RunDir
from gazed_timesync import PupilClock

PAYLOAD: dict[str, Any] = {
    "topic": "pupil.0.3d",
    "circle_3d": {"center": [0.1, 0.2, 0.3], "normal": [0.1, 0.2, 0.3], "radius": 1.5},
    "confidence": 0.98,
    "timestamp": 1234.5678,
    "diameter_3d": 3.1,
    "ellipse": {"center": [101.1, 99.7], "axes": [40.1, 44.2], "angle": 12.3},
    "location": [101.1, 99.7],
    "diameter": 44.2,
    "sphere": {"center": [0.1, 0.2, 35.0], "radius": 10.39},
    "projected_sphere": {"center": [100.1, 100.2], "axes": [120.0, 120.0], "angle": 0.0},
    "theta": 1.1,
    "phi": -1.2,
    "norm_pos": [0.5, 0.5],
    "model_confidence": 1.0,
    "id": 0,
    "method": "pye3d 0.3.0 real-time",
    "filling": "x" * 320,
}


def percentiles(results: list[dict[str, Any]]) -> dict[str, float]:
    values = sorted(value for result in results for value in result["latencies_ms"])
    return {f"p{percent}_ms": values[len(values) * percent // 100] for percent in (50, 99)}


def memory(pid: int) -> int:
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    return int(fields[fields.index("Pss:") + 1]) * 1024


# --- roles: each runs in a process of its own, prints "ready" and then one JSON object --------------------------------


def broker(run: RunDir) -> None:
    serving = Broker(run, PupilClock.create(run.clock), port=0)
    serving.start()
    print(serving.ports.sub_port, flush=True)
    sys.stdin.read()
    print(json.dumps({**serving.stats(), "cpu_s": time.process_time()}))
    serving.close()


def subscriber(endpoint: str, topic: str, packed: bool) -> None:
    """Receive until a message on topic ``end``; report the latencies in ms, the count and the gaps."""
    bus = Subscriber(endpoint, [topic, "end"], hwm=2000)
    print("ready", flush=True)
    latencies: list[float] = []
    count = 0
    while True:
        if packed:
            frames = bus.receive_packed()
            assert frames is not None
            if frames[0] == b"end":
                break
        else:
            message = bus.receive()
            assert message is not None
            if message.topic == "end":
                break
            latencies.append((time.monotonic_ns() - message.payload["sent_ns"]) / 1e6)
        count += 1
    latencies = [round(latency, 3) for latency in latencies[len(latencies) // 20 :]]
    print(json.dumps({"received": count, "lost": sum(bus.lost.values()), "latencies_ms": latencies}))


def publisher(endpoint: str, topic: str, rate: float, seconds: float, size: int) -> None:
    """Publish at ``rate`` per second, or without a pause (0); ``size`` bytes of raw data travel with each message."""
    bus = Publisher(endpoint)
    while not bus.has_subscribers(topic):
        time.sleep(0.001)
    packed, raw = msgpack.packb(PAYLOAD), (os.urandom(size),) if size else ()
    print("ready", flush=True)
    sys.stdin.readline()
    count, start = 0, time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        if not rate:
            for _ in range(100):
                bus.send_packed(topic, packed)
            count += 100
        elif (ahead := start + count / rate - now) > 0:
            time.sleep(ahead)
        else:
            payload = {**PAYLOAD, "sent_ns": time.monotonic_ns()}
            bus.send(topic, {**payload, "__raw_data__": raw} if raw else payload)
            count += 1
    print(json.dumps({"published": count, "seconds": time.monotonic() - start}), flush=True)
    sys.stdin.readline()


# --- scenarios --------------------------------------------------------------------------------------------------------


class Bench:
    """A broker and the processes around it."""

    def __init__(self) -> None:
        self.run = RunDir.create()
        self.broker, port = self.spawn("broker", str(self.run.path))
        self.tcp = f"tcp://127.0.0.1:{port}"

    def spawn(self, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, __file__, "--role", *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    def publish(self, publishers: list[subprocess.Popen[str]]) -> dict[str, float]:
        """Let them all run; return what they published, the seconds, and the broker's use of a core in percent."""
        clock = os.sysconf("SC_CLK_TCK")

        def cpu_ticks() -> int:
            fields = Path(f"/proc/{self.broker.pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        before, began = cpu_ticks(), time.monotonic()
        for process in publishers:
            tell(process)
        results = [json.loads(process.stdout.readline()) for process in publishers]  # type: ignore[union-attr]
        used = 100 * (cpu_ticks() - before) / clock / (time.monotonic() - began)
        published, seconds = sum(item["published"] for item in results), max(item["seconds"] for item in results)
        return {"published": published, "seconds": seconds, "broker_cpu_percent": round(used, 1)}

    def end(self, subscribers: list[subprocess.Popen[str]], publishers: list[subprocess.Popen[str]]) -> list[Any]:
        time.sleep(0.5)
        with Publisher(self.run.pub) as bus:
            while not bus.has_subscribers("end"):
                time.sleep(0.001)
            bus.send("end", {})
        results = [json.loads(process.communicate(timeout=120)[0]) for process in subscribers]
        for process in publishers:
            process.communicate("\n")
        return results

    def close(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self.broker.communicate()[0])
        self.run.remove()
        return stats


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def rates(rate: float, seconds: float) -> dict[str, Any]:
    bench = Bench()
    subscribers = [bench.spawn("subscriber", bench.run.sub, "pupil.", 0)[0] for _ in range(6)]
    publishers = [
        bench.spawn("publisher", bench.run.pub, f"pupil.{number}.3d", rate / 3, seconds, 0)[0] for number in range(3)
    ]
    sent = bench.publish(publishers)
    results = bench.end(subscribers, publishers)
    bench.close()
    return {
        **sent,
        "wanted_rate": rate,
        **percentiles(results),
        "not_received": sum(sent["published"] - item["received"] for item in results),
        "seen_as_gaps": sum(item["lost"] for item in results),
    }


def flat_out(seconds: float) -> dict[str, Any]:
    bench = Bench()
    receiver = bench.spawn("subscriber", bench.run.sub, "pupil.", 1)[0]
    sender = bench.spawn("publisher", bench.run.pub, "pupil.0.3d", 0, seconds, 0)[0]
    sent = bench.publish([sender])
    (result,) = bench.end([receiver], [sender])
    stats = bench.close()
    return {
        **sent,
        "accepted_per_s": round(sent["published"] / sent["seconds"]),
        "received_per_s": round(result["received"] / sent["seconds"]),
        "not_received": sent["published"] - result["received"],
        "seen_as_gaps": result["lost"],
        "cut": stats["cut"],
    }


def stalled(seconds: float) -> dict[str, Any]:
    bench = Bench()
    healthy = bench.spawn("subscriber", bench.tcp, "", 0)[0]
    asleep = bench.spawn("subscriber", bench.tcp, "", 0)[0]
    streams = [("frame.eye.0", 120, 20_000), ("frame.eye.1", 120, 20_000), ("frame.world", 30, 144_000)]
    streams += [("pupil.0.3d", 240, 0), ("pupil.1.3d", 240, 0)]
    # They outlast the stall: a loss shows with the next message.
    publishers = [
        bench.spawn("publisher", bench.run.pub, topic, rate, seconds + 2, size)[0] for topic, rate, size in streams
    ]
    base, peaks = memory(bench.broker.pid), [0]
    for process in publishers:
        tell(process)
    os.kill(asleep.pid, signal.SIGSTOP)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        peaks.append(memory(bench.broker.pid) - base)
    os.kill(asleep.pid, signal.SIGCONT)
    sent = sum(json.loads(process.stdout.readline())["published"] for process in publishers)  # type: ignore[union-attr]
    good, bad = bench.end([healthy, asleep], publishers)
    stats = bench.close()
    return {
        "seconds": seconds,
        "broker_mb": round(max(peaks) / 1e6, 1),
        "cut": stats["cut"],
        "healthy": {"not_received": sent - good["received"], **percentiles([good])},
        "stalled": {"not_received": sent - bad["received"], "seen_as_gaps": bad["lost"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", choices=("rates", "flat_out", "stalled"))
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        match options.role:
            case ["broker", path]:
                broker(RunDir(Path(path)))
            case ["subscriber", endpoint, topic, packed]:
                subscriber(endpoint, topic, packed == "1")
            case ["publisher", endpoint, topic, rate, seconds, size]:
                publisher(endpoint, topic, float(rate), float(seconds), int(size))
        return
    figures: dict[str, Any] = {}
    if options.only in (None, "rates"):
        figures |= {"1200_to_six": rates(1200, options.seconds), "9000_to_six": rates(9000, options.seconds)}
    if options.only in (None, "flat_out"):
        figures |= {"flat_out_to_one": flat_out(options.seconds)}
    if options.only in (None, "stalled"):
        figures |= {"stalled": stalled(options.seconds)}
    if options.json:
        print(json.dumps(figures))
    else:
        for name, values in figures.items():
            print(name, *(f"  {key}: {value}" for key, value in values.items()), sep="\n")


if __name__ == "__main__":
    main()
