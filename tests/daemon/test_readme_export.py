"""The Python of the README of exports, and its commands that need nothing but a recording, are run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="needs gazed[batch]")
pytest.importorskip("xarray", reason="needs gazed[export]")

README = Path(__file__).parents[2] / "plugins" / "gazed_plugins" / "export" / "README.md"


def test_every_block_of_python_works(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        script = tmp_path / f"block{number}.py"
        script.write_text(block)
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script)],
            cwd=tmp_path,
            env={**os.environ, "GAZED_SAMPLES": str(tmp_path / "samples")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
    assert (tmp_path / "out" / "samples-tiny-csv" / "gaze_positions.csv").is_file()
    assert (tmp_path / "dataset" / "recording=samples-tiny" / "gaze.parquet").is_file()
