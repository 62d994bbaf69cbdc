"""The bank of rendered images: kept, shared, mended and bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gazed_capture.wearer.bank import cache_dir, open_bank
from gazed_capture.wearer.options import read_options

TINY = {"width": 64, "height": 64, "seconds": 0.5, "fps": 20}
SPEC = read_options("eye1", TINY).bank

REPLAY = """
import sys
from gazed_capture.simulated import SimulatedSource
source = SimulatedSource("eye1", {"width": 64, "height": 64, "seconds": 0.5, "fps": 20})
source.open()
frame = source.read(1.0)
source.close()
print(len(frame.payload) > 500, "cv2" in sys.modules)
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _images() -> list[bytes]:
    bank = open_bank(SPEC)
    images = [bank.jpeg(row) for row in range(len(bank.truth))]
    bank.close()
    return images


def _file() -> Path:
    (path,) = cache_dir().iterdir()
    return path


def test_a_bank_is_rendered_once() -> None:
    first = _images()
    inode = _file().stat().st_ino
    assert _images() == first
    assert _file().stat().st_ino == inode


@pytest.mark.parametrize("damage", ["empty", "short", "header", "flip"])
def test_a_damaged_bank_is_rendered_again(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    first = _images()
    whole = bytearray(_file().read_bytes())
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    _file().write_bytes({"empty": b"", "short": whole[:middle], "header": whole[:10], "flip": flipped}[damage])
    assert _images() == first
    assert "rendering it again" in caplog.text
    assert _file().read_bytes() == whole


def test_replay_needs_no_opencv_and_renderers_may_meet() -> None:
    command = [sys.executable, "-c", REPLAY]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=60)[0].startswith("True")
        assert process.returncode == 0
    assert _file().suffix == ".bank"
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert again.stdout.split() == ["True", "False"]


def test_without_a_writable_cache_it_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = _images()
    blocked = tmp_path / "blocked"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert _images() == first
    assert "cannot keep" in caplog.text


def test_old_banks_and_leftovers_go_when_there_is_no_room() -> None:
    cache_dir().mkdir(parents=True)
    old, new, torn, fresh = (cache_dir() / name for name in ("old.bank", "new.bank", "torn.part", "fresh.part"))
    for path, size, mtime in ((old, 200 << 20, 1e9), (new, 200 << 20, 2e9), (torn, 1, 1e9), (fresh, 1, None)):
        path.touch()
        os.truncate(path, size)
        if mtime:
            os.utime(path, (mtime, mtime))
    _images()
    left = {path.name for path in cache_dir().iterdir()}
    assert {"new.bank", "fresh.part"} < left
    assert not {"old.bank", "torn.part"} & left
    assert len(left) == 3
