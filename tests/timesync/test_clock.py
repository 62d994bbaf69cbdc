import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_timesync import ClockError, ClockHeld, HostNs, PupilClock, PupilTime, host_now, read_clock_pair


def test_a_new_clock_shows_monotonic_seconds(clock: PupilClock) -> None:
    before = time.monotonic()
    assert before <= clock.now() <= time.monotonic()
    assert clock.epoch == 0
    assert clock.steps == 0


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
    assert (clock.epoch, clock.steps) == (0, 0)
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


@given(target=st.floats(-1e9, 1e9), later=st.integers(-(10**15), 10**15))
def test_pupil_time_leads_back_to_the_host_time_it_came_from(tmp_path_factory, target: float, later: int) -> None:
    with PupilClock.create(tmp_path_factory.getbasetemp() / "clock") as clock:
        at = host_now()
        clock.jump_to(PupilTime(target), at)
        host = HostNs(at + later)
        pupil = clock.to_pupil(host)
        assert abs(clock.to_host(pupil) - host) <= max(0.5, abs(pupil) * 1e9 * 2**-52)


def test_a_file_that_is_no_clock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClockError, match="No such file"):
        PupilClock(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(ClockError, match="1 bytes"):
        PupilClock(tmp_path / "short")
    (tmp_path / "zero").write_bytes(bytes(64))
    with pytest.raises(ClockError, match="not a gazed clock"):
        PupilClock(tmp_path / "zero")


def test_a_clock_pair_is_bracketed() -> None:
    before = host_now()
    pair = read_clock_pair()
    assert before <= pair.host <= host_now()
    assert 0 <= pair.error_ns < 1_000_000_000
    assert abs(pair.unix - time.time_ns()) < 10_000_000_000
