"""What the READMEs say of one clock for several machines, run as it stands there, in network namespaces."""

import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest

from gazed.config import load_config, merge_tables, parse_setting
from gazed.plugin_check import check_plugins
from gazed.testing import small_daemon, wait_for
from gazed_recorder.verify import verify
from gazed_timesync.namespace_testing import Cable, Namespace, namespaces_refused

REFUSED = namespaces_refused()
ROOT = Path(__file__).parents[2]
COMMANDS = re.findall(
    r"^    (gazed .*?)(?: +#.*)?$", (ROOT / "README.md").read_text().split("## One clock")[1], re.MULTILINE
)
RUN, *OTHERS = COMMANDS
BLOCKS = dict(
    re.findall(r"^```(toml)\n(.*?)^```$", (ROOT / "timesync/README.md").read_text(), re.MULTILINE | re.DOTALL)
)
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "timesync/README.md").read_text(), re.MULTILINE | re.DOTALL)
STREAMS = {name: {"enabled": False} for name in ("eye0", "eye1")}


def plugins_of_the_readme():
    tables = {}
    for word in shlex.split(RUN):
        if word.startswith("plugins."):
            merge_tables(tables, parse_setting(word))
    return tables["plugins"]


def test_the_configurations_are_right(tmp_path):
    (tmp_path / "lab.toml").write_text(BLOCKS["toml"])
    config = load_config(file=tmp_path / "lab.toml")
    check_plugins(config)
    assert config.plugins.arguments["Time_Sync"]["base_bias"] == 3.0
    told = plugins_of_the_readme()
    assert told == {key: value for key, value in tomllib.loads(BLOCKS["toml"])["plugins"].items() if key in told}


@pytest.mark.root
@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
def test_two_machines_and_an_experiment(tmp_path):
    plugins = plugins_of_the_readme()
    lead = {**plugins, "arguments": tomllib.loads(BLOCKS["toml"])["plugins"]["arguments"]}
    for name in "ab":
        (tmp_path / name).mkdir()

    def run(space, *command):
        with space.entered():
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    @contextmanager
    def daemon(space, root, plugins):
        with space.entered(), small_daemon(root, more={"streams": STREAMS, "plugins": plugins}) as trial:
            yield trial

    said = {}
    with Namespace() as near, Namespace() as far:
        Cable(near, "10.7.0.1/24", far, "10.7.0.2/24")
        with daemon(near, tmp_path / "a", lead) as a, daemon(far, tmp_path / "b", plugins) as b:
            wait_for(lambda: b.remote.status()["plugins"].get("Time_Sync", {}).get("state") == "LOCKED", 30)
            wait_for(lambda: a.remote.status()["plugins"].get("Pupil_Groups", {}).get("members"))
            for command in OTHERS:
                words = [sys.executable, "-m", *shlex.split(command)]
                words += ["--seconds", "3"] if "timesync" in words else ["--port", str(b.port)]
                said[command] = run(far, *words)
            experiment, groups = EXAMPLES
            assert "follows lab1: " in run(far, sys.executable, "-W", "error", "-c", experiment)
            run(near, sys.executable, "-W", "error", "-c", groups.replace("Remote()", f"Remote(port={a.port})"))
            wait_for(lambda: list(tmp_path.rglob("b/P01/000/world.mp4")))
            wait_for(lambda: b.remote.status()["recording"] is None)
    status, follow, clock = said.values()
    assert "time sync: LOCKED, leader: lab1" in status
    assert '"state": "LOCKED", "leader": "lab1"' in follow
    assert "\npupil   host " in clock
    for name in "ab":
        assert verify(tmp_path / name / "P01" / "000").problems == []
