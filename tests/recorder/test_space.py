from __future__ import annotations

from pathlib import Path

import pytest

from gazed_recorder.errors import DiskFull
from gazed_recorder.space import RESERVE, DiskGuard, Reserve, estimate_gb_per_hour, free_bytes


def test_above_both_levels_nothing_is_said(tmp_path: Path) -> None:
    space = DiskGuard(tmp_path, 0, 0).check()
    assert space.free > 0
    assert not space.low


def test_below_the_warning_it_is_low(tmp_path: Path) -> None:
    assert DiskGuard(tmp_path, 0, 1 << 62).check().low


def test_below_the_floor_it_is_refused_with_both_figures(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"has \d+ MB free, wanted at least 4611686018427 MB") as full:
        DiskGuard(tmp_path, 1 << 62, 1 << 62).check()
    assert "recorder.floor_mb" in full.value.hint


def test_a_reserve_takes_real_room_and_gives_it_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    reserve.hold(1 << 20)
    reserve.hold(1 << 22)
    reserve.hold(1 << 20)
    assert (tmp_path / RESERVE).stat().st_blocks * 512 >= 1 << 22
    reserve.release()
    reserve.release()
    assert list(tmp_path.iterdir()) == []


def test_a_reserve_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    with pytest.raises(DiskFull, match=r"\.reserve: no room for"):
        reserve.hold(free_bytes(tmp_path) * 1000)
    reserve.release()


def test_the_estimate_is_in_gb_an_hour() -> None:
    assert estimate_gb_per_hour({"world": 4_000_000.0, "eye0": 1_000_000.0}) == 18.0
