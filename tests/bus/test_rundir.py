import os
import stat
from pathlib import Path

import pytest

from gazed_bus.rundir import RunDir


def test_a_run_directory_is_private_and_short_enough_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    run = RunDir.create()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert len(run.lane) - len("ipc://") < 100
    run.remove()
    assert not run.path.exists()


def test_only_what_killed_daemons_left_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = RunDir.create()
    dead = RunDir.create()
    (dead.path / "pid").write_text("999999999")
    strange = RunDir.create()
    (strange.path / "pid").write_text("not a number")
    new = RunDir.create()
    assert mine.path.exists()
    assert strange.path.exists()
    assert not dead.path.exists()
    assert (mine.path / "pid").read_text() == str(os.getpid())
    for run in (mine, strange, new):
        run.remove()
