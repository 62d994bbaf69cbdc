import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_timesync import ClockError, ClockHeld, HostNs, PupilClock, PupilTime, Segment, host_now


def test_a_new_clock_shows_monotonic_seconds(clock: PupilClock) -> None:
    before = time.monotonic()
    assert before <= clock.now() <= time.monotonic()
    assert clock.segment == Segment(HostNs(0), 0, 0.0, 0, 0)


def test_a_jump_in_another_process_is_seen_at_once(clock: PupilClock, run_dir) -> None:
    script = "import sys; from pathlib import Path; from gazed_timesync import PupilClock\n"
    script += "with PupilClock(Path(sys.argv[1])) as clock: clock.jump_to(100.5)"
    subprocess.run([sys.executable, "-c", script, str(run_dir.clock)], check=True)
    assert 100.5 <= clock.now() < 200
    assert clock.steps == 1


def test_a_held_clock_refuses_to_jump_and_is_unchanged(clock: PupilClock) -> None:
    clock.hold()
    with pytest.raises(ClockHeld) as refused:
        clock.jump_to(PupilTime(0.0))
    assert refused.value.code == "clock-held"
    assert refused.value.hint
    assert clock.segment.number == 0
    clock.release()
    clock.jump_to(PupilTime(0.0))
    assert clock.steps == 1


@pytest.mark.parametrize("target", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_a_jump_out_of_range_is_refused(clock: PupilClock, target: float) -> None:
    with pytest.raises(ClockError):
        clock.jump_to(PupilTime(target))
    assert clock.steps == 0


@given(target=st.floats(-1e9, 1e9), later=st.integers(0, 10**15))
def test_after_a_jump_time_goes_on_from_the_target(tmp_path_factory, target: float, later: int) -> None:
    path = tmp_path_factory.getbasetemp() / "clock"
    with PupilClock.create(path) as clock:
        at = host_now()
        clock.jump_to(PupilTime(target), at)
        assert clock.to_pupil(HostNs(at + later)) == pytest.approx(target + later / 1e9, abs=1e-6)


@given(target=st.floats(-1e9, 1e9), later=st.integers(0, 10**15))
def test_pupil_time_leads_back_to_the_host_time_it_came_from(tmp_path_factory, target: float, later: int) -> None:
    with PupilClock.create(tmp_path_factory.getbasetemp() / "clock") as clock:
        at = host_now()
        clock.jump_to(PupilTime(target), at)
        host = HostNs(at + later)
        pupil = clock.to_pupil(host)
        assert abs(clock.to_host(pupil) - host) <= max(0.5, abs(pupil) * 1e9 * 2**-52)


def test_what_was_before_a_jump_keeps_its_times(clock: PupilClock) -> None:
    at = host_now()
    clock.jump_to(PupilTime(-3.0), at)
    assert clock.to_pupil(HostNs(at - 1)) == (at - 1) / 1e9
    assert clock.to_pupil(at) == -3.0
    assert clock.segment_at(HostNs(at - 1)).steps == 0
    assert clock.to_host(PupilTime(-4.0)) == at - 10**9


@given(
    rates=st.lists(st.tuples(st.integers(0, 10**10), st.floats(-5e-3, 5e-3)), max_size=80),
    asked=st.lists(st.integers(-(10**10), 10**12), min_size=1),
)
def test_a_rate_bends_time_and_never_breaks_it(tmp_path_factory, rates, asked: list[int]) -> None:
    with PupilClock.create(tmp_path_factory.getbasetemp() / "clock") as clock:
        start = at = host_now()
        clock.jump_to(PupilTime(50.0), start)
        for later, rate in rates:
            at = HostNs(at + later)
            before = clock.segment.pupil_ns_at(at)
            clock.set_rate(rate, at)
            assert clock.segment.pupil_ns_at(at) == before
            assert (clock.rate, clock.steps) == (rate, 1)
        hosts = sorted({HostNs(start + each) for each in asked if each >= 0 or len(rates) < 60})
        stamps = [clock.segment_at(host).pupil_ns_at(host) for host in hosts]
        after = [stamp for host, stamp in zip(hosts, stamps, strict=True) if host >= start]
        assert all(first < second for first, second in pairwise(after))
        for host, stamp in zip(hosts, stamps, strict=True):
            assert clock.to_pupil(host) == stamp / 1e9
            if host >= start:
                assert abs(clock.to_host(clock.to_pupil(host)) - host) <= 2


def test_segments_tells_the_last_63(clock: PupilClock) -> None:
    for count in range(100):
        clock.set_rate(count * 1e-6)
    found = clock.segments()
    assert [segment.number for segment in found] == list(range(38, 101))
    assert found[-1] == clock.segment
    assert [segment.number for segment in clock.segments(after=98)] == [99, 100]
    assert clock.segments(after=100) == []
    assert clock.to_pupil(HostNs(1)) == found[0].to_pupil(HostNs(1))


def test_a_new_rate_is_not_for_times_that_somebody_may_have_read(clock: PupilClock) -> None:
    before = host_now()
    clock.set_rate(1e-3)
    assert clock.segment.host > host_now() - 10**9
    assert clock.segment.host > before
    assert clock.to_pupil(before) == before / 1e9
    first = clock.segment
    clock.set_rate(2e-3, HostNs(before - 10**9))
    assert clock.segment == Segment(first.host, first.pupil_ns, 2e-3, 0, 2)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0051, -0.0051])
def test_a_rate_out_of_range_is_refused(clock: PupilClock, rate: float) -> None:
    with pytest.raises(ClockError, match="out of range"):
        clock.set_rate(rate)
    assert clock.rate == 0


def test_a_held_clock_bends_a_little(clock: PupilClock) -> None:
    clock.set_rate(-0.005)
    clock.hold()
    with pytest.raises(ClockHeld, match=r"wanted at most 0\.001"):
        clock.set_rate(0.0011)
    clock.set_rate(-0.001)
    assert clock.rate == -0.001


_READER = """
import sys, time
from pathlib import Path
from gazed_timesync import PupilClock, host_now

with PupilClock(Path(sys.argv[1])) as clock:
    last, reads, torn, backwards, known = -1.0, 0, 0, 0, {}
    print("ready", flush=True)
    while clock.rate != 0.0005:
        for _ in range(200):
            now = clock.now()
            backwards += now < last
            last = now
        reads += 200
        for segment in clock.segments():
            torn += known.setdefault(segment.number, segment) != segment
            before = known.get(segment.number - 1)
            torn += before is not None and before.pupil_ns_at(segment.host) != segment.pupil_ns
        hosts = sorted(host_now() + step for step in range(-9_000_000, 1, 900_000))
        stamps = [clock.to_pupil(host) for host in hosts]
        backwards += stamps != sorted(stamps)
    print(reads, torn, backwards, len(known), flush=True)
"""


def test_readers_in_other_processes_see_no_step_back_and_no_torn_segment(clock: PupilClock, run_dir) -> None:
    command = [sys.executable, "-c", _READER, str(run_dir.clock)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second,
    ):
        assert [reader.stdout.readline() for reader in (first, second)] == ["ready\n"] * 2
        for count in range(1000):
            clock.set_rate((-1) ** count * 0.005)
            time.sleep(0.001)
        clock.set_rate(0.0005)
        for reader in (first, second):
            reads, torn, backwards, known = map(int, reader.stdout.readline().split())
            assert reads > 1000
            assert known > 100
            assert (torn, backwards) == (0, 0)


def test_writers_in_two_processes_take_turns(clock: PupilClock, run_dir) -> None:
    script = "import sys; from pathlib import Path; from gazed_timesync import PupilClock\n"
    script += "with PupilClock(Path(sys.argv[1])) as clock:\n for _ in range(3000): clock.jump_to(100.5)"
    with subprocess.Popen([sys.executable, "-c", script, str(run_dir.clock)]) as other:
        for _ in range(3000):
            clock.set_rate(1e-4)
        assert other.wait() == 0
    assert (clock.segment.number, clock.steps) == (6000, 3000)


def test_a_file_that_is_no_clock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClockError, match="No such file"):
        PupilClock(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(ClockError, match="1 bytes"):
        PupilClock(tmp_path / "short")
    (tmp_path / "zero").write_bytes(bytes(4096))
    with pytest.raises(ClockError, match="not a gazed clock"):
        PupilClock(tmp_path / "zero")
    PupilClock.create(tmp_path / "clock").close()
    with (tmp_path / "clock").open("r+b") as file:
        file.seek(64)
        file.write(b"\x01")
    with pytest.raises(ClockError, match="damaged"):
        PupilClock(tmp_path / "clock")
