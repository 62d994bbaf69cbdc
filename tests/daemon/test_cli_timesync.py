"""``gazed timesync`` in a network namespace, as a user starts it."""

import json
import subprocess
import sys

import pytest

from gazed_timesync.namespace_testing import Namespace, namespaces_refused

REFUSED = namespaces_refused()
GAZED = [sys.executable, "-m", "gazed", "timesync"]


@pytest.fixture
def space():
    with Namespace() as space:
        yield space


def start(space, *words):
    with space.entered():
        return subprocess.Popen([*GAZED, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.root
@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_one_leads_one_follows_one_watches(space):
    lead = start(space, "lead", "--name", "L", "--json")
    follow = start(space, "follow", "--name", "F", "--seconds", "4", "--json")
    watch = start(space, "watch", "--seconds", "4")
    try:
        lines = [json.loads(line) for line in follow.communicate(timeout=30)[0].splitlines()]
        watched = watch.communicate(timeout=30)[0]
        lead.terminate()
        led = [json.loads(line) for line in lead.communicate(timeout=10)[0].splitlines()]
    finally:
        for process in (lead, follow, watch):
            process.kill()
            process.wait()
    assert [process.returncode for process in (lead, follow, watch)] == [0, 0, 0]
    assert len(lines) == 4
    assert {"state", "leader", "offset_s", "skew_ppm", "bound_s", "sigma_s"} == set(lines[-1])
    assert (lines[-1]["state"], lines[-1]["leader"]) == ("LOCKED", "L")
    assert 0 < lines[-1]["bound_s"] < 0.01
    assert led[-1]["state"] == "LEADER"
    assert "LOCKED" in watched
    assert "leads" in watched


@pytest.mark.root
@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_where_nobody_leads_nothing_is_known(space):
    follow = start(space, "follow", "--seconds", "1", "--json")
    assert json.loads(follow.communicate(timeout=30)[0]) == {
        "state": "UNSYNCED",
        "leader": "",
        "offset_s": None,
        "skew_ppm": 0.0,
        "bound_s": None,
        "sigma_s": None,
    }


def test_it_needs_no_library_for_cameras():
    code = "import sys, gazed.cli, gazed_timesync.sync.node; sys.exit(bool({'cv2', 'av'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.root
@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_who_finds_no_leader_is_told_which_groups_there_are_and_which_interface_is_none(space):
    lead = start(space, "lead", "--group", "lab", "--json")
    try:
        follow = start(space, "follow", "--seconds", "6", "--group", "Lab", "--interface", "lo", "--interface", "eth7")
        out, told = follow.communicate(timeout=30)
    finally:
        lead.terminate()
        lead.communicate(timeout=10)
    assert set(out.splitlines()) == {"UNSYNCED  nobody"}
    assert told.splitlines() == [
        "no interface eth7 with an address, there are lo; looked for each second",
        "nobody is in the group Lab; there is --group lab",
    ]


@pytest.mark.parametrize("bias", ["nan", "inf", "-1"])
def test_a_bias_that_ranks_nowhere_is_refused(bias):
    done = subprocess.run([*GAZED, "lead", "--bias", bias], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--bias" in done.stderr
