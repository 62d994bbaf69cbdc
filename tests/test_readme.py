"""Every command of the README is run as it stands there, in order, in one shell."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETUP = "sh config/setup.sh && "
TESTS = "sh config/setup.sh --tests && .venv/bin/pytest -n auto"


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "README.md").read_text())


def test_ci_runs_the_tests_with_the_command_of_the_readme():
    assert [text.strip() for _, text in blocks()].count(TESTS) == 1
    assert TESTS in (ROOT / ".ci" / "run").read_text().splitlines()


def test_links_lead_somewhere():
    for readme in ROOT.glob("**/README.md"):
        if ".venv" in readme.parts:
            continue
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme.read_text()):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


def test_every_command_works(tmp_path):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 50020))
        except OSError:
            pytest.skip("port 50020, which the README uses, is taken on this machine")
    script = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for number, (language, text) in enumerate(blocks()):
        # Setting up is how this environment came to be, and the tests are running.
        if language == "sh" and text.strip() != TESTS:
            script.append(text.removeprefix(SETUP).strip())
        elif language == "python":
            (tmp_path / f"block{number}.py").write_text(text)
            script.append(f".venv/bin/python -W error block{number}.py")
    script.append("wait")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": cache},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "NOT" not in done.stdout
    assert (tmp_path / "recordings" / "first try" / "000" / "world.mp4").is_file()
