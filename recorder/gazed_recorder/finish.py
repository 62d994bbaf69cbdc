"""What completes a recording once its streams are closed; the stop and ``repair`` share it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import xxhash

from gazed_recorder.atomic import WRITING
from gazed_recorder.classic import write_pupil_data
from gazed_recorder.folder import LOCK
from gazed_recorder.info import write_info_csv, write_intrinsics, write_player_info, write_user_info
from gazed_recorder.manifest import MANIFEST, FileSum, Manifest
from gazed_recorder.space import RESERVE

__all__ = ["file_sum", "finish"]


def finish(
    folder: Path,
    manifest: Manifest,
    *,
    state: Literal["complete", "repaired"] = "complete",
    hurry: Callable[[], bool] = lambda: False,
) -> None:
    """Write everything that rests on the closed streams, and the manifest last of all.

    ``hurry`` is asked now and then; once it says yes, ``pupil_data`` and the checksums that are still to come are left
    out. The manifest tells so. If this raises, the folder stays in state ``recording`` and ``repair`` completes it.

    Raises:
        OSError: something cannot be written.
        DamagedFile: a log or a video is not in order.
    """
    manifest.state = state
    write_intrinsics(folder, manifest)
    write_player_info(folder, manifest)
    write_info_csv(folder, manifest)
    write_user_info(folder, manifest)
    if skipped := write_pupil_data(folder, hurry):
        manifest.events.append({"event": "pupil-data-skipped", "reason": skipped})
    manifest.files = {
        path.name: file_sum(path, whole=not hurry())
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (MANIFEST, LOCK, RESERVE) and path.suffix != WRITING
    }
    manifest.save(folder, durable=True)


def file_sum(path: Path, *, whole: bool = True) -> FileSum:
    """Return size and checksum of a file; a video has none as a whole, for each of its frames has one.

    Raises:
        OSError: it cannot be read.
    """
    if not whole or path.suffix == ".mp4":
        return FileSum(path.stat().st_size, "")
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        return FileSum(file.tell(), digest.hexdigest())
