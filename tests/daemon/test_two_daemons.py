"""Two daemons on two machines, which are network namespaces with a cable between them: one clock, one recording."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from gazed.testing import small_daemon, wait_for
from gazed_recorder.reader import Recording
from gazed_recorder.verify import verify
from gazed_timesync.namespace_testing import Cable, Namespace, namespaces_refused

REFUSED = namespaces_refused()
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(REFUSED), reason=REFUSED)]

STREAMS = {
    "world": {"source": "simulated", "options": {"width": 96, "height": 96, "fps": 30, "seconds": 2}},
    "eye0": {"enabled": False},
    "eye1": {"enabled": False},
}
PLUGINS = {"enabled": ["Time_Sync", "Pupil_Groups"], "start": ["Pupil_Groups"]}


@contextmanager
def daemon(space, root, name, bias):
    root.mkdir()
    with space.entered(), small_daemon(root, more={"streams": STREAMS, "plugins": PLUGINS}) as trial:
        trial.remote.notify("start_plugin", name="Time_Sync", args={"node_name": name, "base_bias": bias})
        yield trial


def time_sync(trial):
    return trial.remote.status()["plugins"].get("Time_Sync", {})


def state(trial):
    return time_sync(trial).get("state")


def recording_of(trial, root):
    wait_for(lambda: trial.remote.status()["recording"] is None)
    return Recording(next(Path(path).parent for path in root.rglob("info.player.json")))


def test_one_starts_the_recording_of_the_other_and_their_clocks_agree(tmp_path):
    with Namespace() as near, Namespace() as far:
        Cable(near, "10.7.0.1/24", far, "10.7.0.2/24")
        with daemon(near, tmp_path / "a", "a", 3.0) as a, daemon(far, tmp_path / "b", "b", 1.0) as b:
            b.remote.set_time(5.0)
            wait_for(lambda: (state(a), state(b)) == ("LEADER", "LOCKED"), 30)
            wait_for(lambda: a.remote.status()["plugins"]["Pupil_Groups"].get("members"))
            assert abs(a.remote.time() - b.remote.time()) < 0.05
            for trial in (a, b):
                trial.remote.notify("recording.should_start", remote_notify="all", session_name="both")
                other = b if trial is a else a
                wait_for(lambda other=other: other.remote.status()["recording"])
            for trial in (a, b):
                wait_for(lambda trial=trial: trial.remote.status()["streams"]["world"]["written"] >= 60)
            assert time_sync(b)["stepped"] >= 1
            for trial in (a, b):
                trial.remote.notify("recording.should_stop", remote_notify="all")
            here, there = recording_of(a, tmp_path / "a"), recording_of(b, tmp_path / "b")
    for recording in (here, there):
        assert "both" in str(recording.path)
        assert verify(recording.path).problems == []
    begins = max(recording.clock.to_host(recording.timestamps("world")[0]) for recording in (here, there))
    ends = min(recording.clock.to_host(recording.timestamps("world")[-1]) for recording in (here, there))
    assert ends - begins > 1e9
    shared = np.linspace(begins, ends, 200).astype(np.int64)
    # Both machines have one host clock here, so the two recordings can be held against each other.
    apart = np.abs(here.clock.to_pupil(shared) - there.clock.to_pupil(shared))
    status = [datum for datum in there.data("timesync") if datum["topic"] == "timesync.status"]
    bound = np.interp(
        shared / 1e9,
        [there.clock.to_host(each["timestamp"]) / 1e9 for each in status],
        [each["bound_s"] for each in status],
    )
    assert np.all(apart <= bound + 1e-6)
    assert apart.max() < 1e-3
