"""What must not cost a recording: killed and stopped processes, pulled cables, busy and stalled neighbours."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from gazed.testing import pid_of, small_daemon, wait_for
from gazed_bus.errors import RemoteError, RequestRefused
from gazed_recorder.manifest import Manifest
from gazed_recorder.repair import repair
from gazed_recorder.verify import verify

STREAMS = ("world", "eye0", "eye1")
RATES = {"world": 30, "eye0": 60, "eye1": 60}


def record_on(folder: str | Path, frames: int = 15) -> None:
    """Wait until each stream has so many more frames on disk."""
    goal = {stream: len(stamps(folder, stream)) + frames for stream in STREAMS}
    for stream, count in goal.items():
        wait_for(lambda stream=stream, count=count: len(stamps(folder, stream)) >= count)


def assert_sound(folder: str | Path) -> Manifest:
    proof = verify(Path(folder))
    assert proof.problems == []
    return Manifest.load(Path(folder))


def stamps(folder: str | Path, stream: str) -> np.ndarray:
    parts = sorted(Path(folder).glob(f"{stream}*_timestamps.npy"))
    return np.concatenate([np.load(part) for part in parts])


def test_a_killed_recorder_goes_on_in_the_next_part_and_loses_nothing(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("killed recorder").rec_path
        record_on(folder)
        for _ in range(2):
            victim = pid_of(daemon, "recorder")
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda victim=victim: pid_of(daemon, "recorder") != victim)
            wait_for(lambda: daemon.remote.status()["recording"])
            record_on(folder)
        daemon.remote.stop()
        assert {"world.mp4", "world_001.mp4", "world_002.mp4"} <= {path.name for path in Path(folder).iterdir()}
        manifest = assert_sound(folder)
        for stream in STREAMS:
            report = manifest.streams[stream]
            assert (report.dropped, report.lost, report.gap_count) == ({}, 0, 0), stream
            assert np.diff(stamps(folder, stream)).max() < 2.5 / RATES[stream]
        assert any(event["event"] == "recorder-restarted" for event in manifest.events)


def test_a_killed_camera_comes_back_and_the_others_do_not_notice(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("killed camera").rec_path
        record_on(folder)
        os.kill(pid_of(daemon, "eye0"), signal.SIGKILL)
        wait_for(lambda: daemon.remote.status()["processes"]["eye0"]["restarts"] == 1)
        record_on(folder)
        daemon.remote.stop()
        manifest = assert_sound(folder)
        assert manifest.streams["eye0"].gap_count == 1
        assert manifest.streams["eye0"].gaps[0].reason == "camera-restarted"
        for stream in ("world", "eye1"):
            report = manifest.streams[stream]
            assert (report.dropped, report.gap_count, report.missed) == ({}, 0, 0)


def test_a_killed_supervisor_leaves_a_closed_recording_and_no_process(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("killed supervisor").rec_path
        record_on(folder)
        children = psutil.Process(daemon.process).children(recursive=True)
        os.kill(daemon.process, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
        manifest = assert_sound(folder)
        assert manifest.state == "complete"
        assert all(manifest.streams[stream].dropped == {} for stream in STREAMS)


def test_when_all_is_killed_at_once_repair_makes_the_folder_whole(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = Path(daemon.remote.start("power cut").rec_path)
        record_on(folder)
        now = daemon.remote.time()
        processes = [psutil.Process(daemon.process), *psutil.Process(daemon.process).children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=10)
    for stream in STREAMS:
        assert np.load(folder / f"{stream}_timestamps.npy")[-1] > now - 0.5
    assert not verify(folder).ok
    result = repair(folder)
    assert result.repaired
    assert result.problems == []
    assert_sound(folder)
    assert repair(folder).repaired is False
    with small_daemon(tmp_path) as daemon:
        second = Path(daemon.remote.start("power cut").rec_path)
        daemon.remote.stop()
    assert second.name == "001"


def test_the_next_start_repairs_what_was_cut_off(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = Path(daemon.remote.start("cut off").rec_path)
        record_on(folder, 5)
        processes = [psutil.Process(daemon.process), *psutil.Process(daemon.process).children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=10)
    with small_daemon(tmp_path):
        wait_for(lambda: Manifest.load(folder).state == "repaired")
    assert_sound(folder)


@pytest.mark.parametrize("victim", ["broker", "recorder", "eye0"])
def test_a_hung_process_is_replaced_and_the_recording_goes_on(tmp_path: Path, victim: str) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("hung").rec_path
        record_on(folder)
        pid = pid_of(daemon, victim)
        os.kill(pid, signal.SIGSTOP)

        def replaced() -> bool:
            try:
                process = daemon.remote.status()["processes"][victim]
            except RemoteError:
                return False
            return process["restarts"] == 1 and process["state"] == "ready"

        wait_for(replaced)
        record_on(folder)
        daemon.remote.stop()
        manifest = assert_sound(folder)
        for stream in set(STREAMS) - {victim}:
            report = manifest.streams[stream]
            assert (report.dropped, report.lost, report.gap_count) == ({}, 0, 0), stream


def test_what_does_not_fit_the_queue_is_dropped_counted_and_told(tmp_path: Path) -> None:
    big = {"width": 640, "height": 480, "fps": 120}
    with small_daemon(tmp_path, recorder={"lane_buffer_mb": 1}, world=big) as daemon:
        folder = daemon.remote.start("queue full").rec_path
        record_on(folder)
        with daemon.remote.subscribe("notify.recording.dropped") as heard:
            os.kill(pid_of(daemon, "recorder"), signal.SIGSTOP)
            told = heard.receive(15).payload
        assert told["stream"] == "world"
        assert told["dropped"]["queue-full"] > 0
        record_on(folder)
        daemon.remote.stop()
        manifest = assert_sound(folder)
        world = manifest.streams["world"]
        assert set(world.dropped) == {"queue-full"}
        assert world.received == world.written + world.dropped["queue-full"]
        assert sum(gap.frames for gap in world.gaps) == world.dropped["queue-full"] + world.missed
        for stream in ("eye0", "eye1"):
            assert manifest.streams[stream].dropped == {}


def test_ten_pulled_cables_cost_only_the_frames_of_their_own_stream(tmp_path: Path) -> None:
    cables = tmp_path / "cables"
    cables.mkdir()
    with small_daemon(tmp_path / "recordings", cables=cables) as daemon:
        folder = daemon.remote.start("cables").rec_path
        with daemon.remote.subscribe("notify.camera.") as heard:
            for pull in range(10):
                cable = cables / STREAMS[1 + pull % 2]
                begun = time.monotonic()
                cable.touch()
                lost = heard.receive(5).payload
                assert (lost["subject"], lost["stream"]) == ("camera.lost", cable.name)
                assert time.monotonic() - begun < 1.0
                cable.unlink()
                begun = time.monotonic()
                found = heard.receive(5).payload
                assert (found["subject"], found["stream"]) == ("camera.found", cable.name)
                assert time.monotonic() - begun < 3.0
        record_on(folder, 5)
        daemon.remote.stop()
        manifest = assert_sound(folder)
        world = manifest.streams["world"]
        assert (world.dropped, world.gap_count, world.missed) == ({}, 0, 0)
        for stream in ("eye0", "eye1"):
            report = manifest.streams[stream]
            assert report.dropped == {}
            assert report.gap_count == 5
            assert {gap.reason for gap in report.gaps} == {"silence"}
        assert manifest.streams["notify"].written >= 20


def test_a_busy_neighbour_costs_no_frame(tmp_path: Path) -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("busy").rec_path
        neighbours = [subprocess.Popen(spin) for _ in range(psutil.cpu_count() or 2)]
        try:
            record_on(folder, 60)
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
        daemon.remote.stop()
        manifest = assert_sound(folder)
        assert all(manifest.streams[stream].dropped == {} for stream in STREAMS)


def test_a_stalled_subscriber_delays_nobody(tmp_path: Path) -> None:
    stall = (
        "import sys; from gazed_bus.remote import Remote\n"
        "with Remote('127.0.0.1', int(sys.argv[1])) as remote, remote.subscribe() as everything:\n"
        "    print('ready', flush=True); sys.stdin.read()\n"
    )
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("stalled").rec_path
        command = [sys.executable, "-c", stall, str(daemon.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stalled:
            try:
                assert stalled.stdout is not None
                assert stalled.stdout.readline() == b"ready\n"
                with daemon.remote.subscribe("frame.") as frames:
                    for _ in range(200):
                        assert frames.receive(5) is not None
                    assert frames.lost == {}
            finally:
                stalled.kill()
        record_on(folder)
        daemon.remote.stop()
        manifest = assert_sound(folder)
        assert all(manifest.streams[stream].dropped == {} for stream in STREAMS)


def test_sigterm_closes_a_running_recording_in_under_ten_seconds(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("terminated").rec_path
        record_on(folder)
        begun = time.monotonic()
        daemon.close()
        assert time.monotonic() - begun < 10
    assert_sound(folder)


def test_signals_that_come_in_pairs_or_to_the_whole_group_close_a_recording_too(tmp_path: Path) -> None:
    with small_daemon(tmp_path) as daemon:
        folder = daemon.remote.start("terminated twice").rec_path
        record_on(folder)
        os.killpg(daemon.process, signal.SIGTERM)
        os.kill(daemon.process, signal.SIGTERM)
        os.kill(daemon.process, signal.SIGINT)
        daemon.close()
    manifest = assert_sound(folder)
    assert (manifest.state, manifest.stop_reason) == ("complete", "daemon ended")
    assert all(manifest.streams[stream].dropped == {} for stream in STREAMS)


def kill_at_random(tmp_path: Path, trials: int, seed: int) -> None:
    """Kill processes at random moments of recordings; every folder must be whole after a repair."""
    dice = random.Random(seed)
    for trial in range(trials):
        with small_daemon(tmp_path) as daemon:
            folder = Path(daemon.remote.start(f"kill {trial}").rec_path)
            record_on(folder, 3)
            deadline = time.monotonic() + dice.uniform(0.0, 0.6)
            while time.monotonic() < deadline:
                time.sleep(0.001)
            victim = dice.choice(["supervisor", "all", "recorder", *STREAMS])
            tree = [psutil.Process(daemon.process), *psutil.Process(daemon.process).children(recursive=True)]
            if victim == "all":
                for process in tree:
                    process.kill()
            elif victim == "supervisor":
                os.kill(daemon.process, signal.SIGKILL)
            else:
                os.kill(pid_of(daemon, victim), signal.SIGKILL)
                wait_for(lambda name=victim: daemon.remote.status()["processes"][name]["restarts"] == 1)
                record_on(folder, 3)
                daemon.remote.stop()
            if victim in ("all", "supervisor"):
                psutil.wait_procs(tree, timeout=10)
        repair(folder)
        manifest = assert_sound(folder)
        for stream in STREAMS:
            assert manifest.streams[stream].lost <= 0.5 * RATES[stream], (victim, stream)
        shutil.rmtree(folder)


def test_random_kills(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_random_kills(tmp_path: Path) -> None:
    kill_at_random(tmp_path, 50, seed=2)


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("neighbour", [False, True], ids=["alone", "with another writer"])
@pytest.mark.parametrize("floor_mb", [1, 16])
def test_a_full_disk_ends_a_recording_in_good_order(tmp_path: Path, neighbour: bool, floor_mb: int) -> None:
    big = {"width": 640, "height": 480, "fps": 120}
    with small_disk(tmp_path / "disk", 64) as disk:
        with small_daemon(disk / "recordings", recorder={"floor_mb": floor_mb}, world=big) as daemon:
            with daemon.remote.subscribe("notify.recording.") as heard:
                folder = Path(daemon.remote.start("full").rec_path)
                filler = disk / "filler"
                if neighbour:
                    with filler.open("wb") as file:
                        while shutil.disk_usage(disk).free > (floor_mb + 4) << 20:
                            file.write(bytes(1 << 18))
                            file.flush()

                def stopped() -> bool:
                    message = heard.receive(1)
                    return message is not None and message.payload["subject"] == "recording.stopped"

                wait_for(stopped, 60)
            manifest = assert_sound(folder)
            assert manifest.stop_reason.startswith("disk")
            with (disk / "more").open("wb") as file:
                file.truncate(0)
                os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(disk).free - (floor_mb * 500_000)))
            with pytest.raises(RequestRefused) as refused:
                daemon.remote.start("still full")
            assert refused.value.reason == "disk-full"
            assert not list((disk / "recordings").glob("still full/*"))
            shutil.rmtree(folder)
            (disk / "more").unlink()
            filler.unlink(missing_ok=True)
            again = daemon.remote.start("room again").rec_path
            record_on(again, 3)
            daemon.remote.stop()
            assert_sound(again)
