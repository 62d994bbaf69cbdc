"""A recording as one object: what happens to it when its end goes wrong."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gazed_bus.frame import StreamInfo
from gazed_bus.lane import FrameHeader
from gazed_recorder.manifest import Manifest
from gazed_recorder.repair import repair
from gazed_recorder.session import RecorderSettings, Session, StartRequest
from gazed_recorder.space import RESERVE
from gazed_recorder.testing import SIZE, make_jpeg
from gazed_recorder.verify import verify
from gazed_timesync import PupilClock


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_recording_that_cannot_be_completed_stays_open_until_repair_has_room(
    small_disk: Path, clock: PupilClock
) -> None:
    settings = RecorderSettings(root=str(small_disk), streams=["world"], floor_bytes=0, warn_bytes=0)
    session = Session.begin(settings, clock, StartRequest("full"), ["world"])
    width, height = SIZE["world"]
    session.join(b"camera", "world", StreamInfo("world", "test", "c", "1", width, height, 30.0, "jpeg", "arrival"))
    for number in range(30):
        at = session.manifest.start.host_ns + (number + 1) * 33_000_000
        header = FrameHeader(
            session.number, 0, number, 0.0, at, at, clock.to_pupil(at), number + 1, 0, 0, width, height, 0
        )
        session.take_frame(b"camera", header, make_jpeg("world", number))
    session.datums.flush()
    # Somebody else takes all the room, and what was reserved for the stop as well.
    (session.folder / RESERVE).unlink()
    with (small_disk / "somebody else's").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(small_disk).free)
    session.end("requested")
    with pytest.raises(OSError, match="space") as failed:
        session.complete(lambda: False)
    assert failed.value.errno == errno.ENOSPC
    assert Manifest.load(session.folder).state == "recording"
    assert not verify(session.folder).ok
    (small_disk / "somebody else's").unlink()
    result = repair(session.folder)
    assert (result.repaired, result.lost, result.problems) == (True, {}, [])
    assert verify(session.folder).problems == []
    assert verify(session.folder).streams["world"]["frames"] == 30
