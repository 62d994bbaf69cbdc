import math
import threading

import pytest

from gazed_timesync import ClockError, ClockHeld, HostNs, LocalClock, PupilTime, host_now


def test_it_is_monotonic_time_at_first():
    before = host_now()
    assert before / 1e9 <= LocalClock().now() <= host_now() / 1e9


def test_a_jump_and_a_rate_hold_from_their_time_on():
    clock = LocalClock()
    clock.jump_to(PupilTime(5.0), at=HostNs(10**9))
    clock.set_rate(1e-3, at=HostNs(2 * 10**9))
    assert clock.to_pupil(HostNs(0)) == 0.0
    assert clock.to_pupil(HostNs(2 * 10**9)) == 6.0
    assert clock.to_pupil(HostNs(3 * 10**9)) == 7.001
    assert clock.to_host(PupilTime(7.001)) == 3 * 10**9
    assert clock.to_host(PupilTime(5.5)) == 1_500_000_000
    assert (clock.steps, clock.rate) == (1, 1e-3)


def test_a_clock_that_is_held_refuses_to_jump_and_to_run_off():
    clock = LocalClock()
    clock.hold()
    with pytest.raises(ClockHeld):
        clock.jump_to(PupilTime(0.0))
    with pytest.raises(ClockHeld):
        clock.set_rate(2e-3)
    clock.set_rate(1e-3)
    clock.release()
    clock.jump_to(PupilTime(0.0))
    assert clock.steps == 1


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -6e-3])
def test_what_is_out_of_range_is_refused(wrong):
    with pytest.raises(ClockError):
        LocalClock().set_rate(wrong)
    with pytest.raises(ClockError):
        LocalClock().jump_to(PupilTime(wrong * 1e300))


def test_readers_in_other_threads_never_see_it_run_backwards():
    clock, done, worst = LocalClock(), threading.Event(), []

    def read():
        last, least = clock.now(), 0.0
        while not done.is_set():
            now = clock.now()
            least, last = min(least, now - last), now
        worst.append(least)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(2000):
        clock.set_rate(5e-3 if turn % 2 else -5e-3)
    done.set()
    for reader in readers:
        reader.join()
    assert worst == [0.0, 0.0]
