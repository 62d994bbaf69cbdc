import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gazed_timesync import ClockPair, HostNs, UnixNs, host_now, read_clock_pair
from gazed_timesync.relations import UnixWatch, read_relations
from gazed_timesync.unix_quality import NtpState, read_kernel_clock, read_ntp_state


def test_a_clock_pair_is_bracketed() -> None:
    before = host_now()
    pair = read_clock_pair()
    assert before <= pair.host <= host_now()
    assert 0 <= pair.error_ns < 1_000_000_000
    assert abs(pair.unix - time.time_ns()) < 10_000_000_000


@pytest.mark.parametrize("step_ns", [-3_600_000_000_000, -1_100_000, 1_100_000, 1_000_000_000])
def test_somebody_who_sets_the_unix_clock_is_noticed_once(step_ns: int) -> None:
    def pair(second: int, step: int = 0) -> ClockPair:
        return ClockPair(HostNs(second * 10**9), UnixNs(1_700_000_000_000_000_000 + second * 10**9 + step), 70)

    watch = UnixWatch(pair(0))
    assert [watch.step_ns(pair(1)), watch.step_ns(pair(2, 900_000)), watch.step_ns(pair(3))] == [0, 0, 0]
    assert watch.step_ns(pair(4, step_ns)) == step_ns
    assert watch.step_ns(pair(5, step_ns)) == 0


def test_every_clock_that_is_here_is_related_with_its_bound(tmp_path: Path) -> None:
    (tmp_path / "ptp0").symlink_to("/nowhere")
    (tmp_path / "ptp1").touch()
    (tmp_path / "system" / "ptp1").mkdir(parents=True)
    (tmp_path / "system" / "ptp1" / "clock_name").write_text("a card\n")
    before = time.time_ns() - time.monotonic_ns()
    relations = {relation.clock: relation for relation in read_relations(tmp_path, tmp_path / "system")}
    assert [*relations] == ["unix", "raw", "lsl", "ptp0", "ptp1"]
    unix, raw = relations["unix"], relations["raw"]
    assert unix.offset_ns is not None
    assert abs(unix.offset_ns - before) < 10_000_000
    assert raw.offset_ns is not None
    assert 0 < raw.error_ns < 10_000_000
    # Neither a missing device nor a file that is no clock stops the others.
    assert (relations["ptp0"].offset_ns, relations["ptp1"].offset_ns) == (None, None)
    assert "No such file" in relations["ptp0"].note
    assert "ptp1: " in relations["ptp1"].note


def test_the_clock_of_lsl_is_measured_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(__version__="1.2", local_clock=lambda: time.monotonic_ns() / 1e9 + 5)
    monkeypatch.setitem(sys.modules, "pylsl", fake)
    lsl = next(relation for relation in read_relations(tmp_path) if relation.clock == "lsl")
    assert lsl.offset_ns == pytest.approx(5e9, abs=lsl.error_ns + 1000)
    assert lsl.note == "pylsl 1.2"
    monkeypatch.setitem(sys.modules, "pylsl", None)
    lsl = next(relation for relation in read_relations(tmp_path) if relation.clock == "lsl")
    assert (lsl.offset_ns, lsl.note.partition("; ")[2]) == (0, "not measured: needs gazed[lsl]")


def test_the_kernel_tells_how_well_its_clock_is_kept() -> None:
    kernel = read_kernel_clock()
    assert isinstance(kernel.synchronised, bool)
    assert kernel.estimated_error_s >= 0
    assert 0 <= kernel.max_error_s <= 3600
    assert abs(kernel.freq_ppm) <= 500


_TRACKING = "C0A80001,ntp.lab,3,1700000000.1,0.000012,-0.00001,0.00002,-12.3,0.001,0.02,0.0010,0.0002,64.2,{}\n"


@pytest.mark.parametrize(
    ("chrony", "systemd", "wanted"),
    [
        (_TRACKING.format("Normal"), "", NtpState("chrony", True, "ntp.lab", 0.000012, 0.000712)),
        (_TRACKING.format("Not synchronised"), "", NtpState("chrony", False, "ntp.lab", 0.000012, 0.000712)),
        ("506 Cannot talk to daemon", "NTP=yes\nNTPSynchronized=yes\n", NtpState("systemd", True)),
        (_TRACKING.replace("0.000012", "x"), "NTP=no\nNTPSynchronized=no\n", NtpState("systemd", False)),
        ("", "", None),
        ("", "nonsense", None),
    ],
)
def test_what_an_ntp_program_says(chrony: str, systemd: str, wanted: NtpState | None) -> None:
    found = read_ntp_state(lambda command: chrony if command[0] == "chronyc" else systemd)
    if wanted is None or wanted.bound_s is None:
        assert found == wanted
    else:
        assert found is not None
        assert (found.program, found.synchronised, found.server) == (wanted.program, wanted.synchronised, wanted.server)
        assert found.bound_s == pytest.approx(wanted.bound_s)


def test_this_machine_is_asked_without_an_error() -> None:
    read_ntp_state()
