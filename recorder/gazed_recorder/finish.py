"""What completes a recording once its streams are closed; the stop and ``repair`` share it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import xxhash

from gazed_bus.frame import AUDIO
from gazed_recorder.atomic import WRITING
from gazed_recorder.classic import write_pupil_data
from gazed_recorder.errors import DamagedFile
from gazed_recorder.folder import LOCK
from gazed_recorder.info import USER_INFO, write_info_csv, write_intrinsics, write_player_info, write_user_info
from gazed_recorder.layout import is_recorded, stream_parts
from gazed_recorder.manifest import MANIFEST, FileSum, Manifest
from gazed_recorder.player_sound import write_player_sound
from gazed_recorder.space import RESERVE

__all__ = ["LEFT_OUT", "file_sum", "finish"]

LEFT_OUT = ("pupil-data-skipped", "player-sound-skipped")
"""Events that tell of a file which could not be made."""

# The user's own file may be edited at any time.
_NOT_SUMMED = (MANIFEST, USER_INFO, LOCK, RESERVE)


def finish(
    folder: Path,
    manifest: Manifest,
    *,
    state: Literal["complete", "repaired"] = "complete",
    hurry: Callable[[], bool] = lambda: False,
    keep: Mapping[str, FileSum] | None = None,
) -> list[str]:
    """Write everything that rests on the closed streams, and the manifest last of all.

    Returns what could not be made because a stream is damaged; empty for every recording that was closed in good order.

    ``hurry`` is asked now and then; once it says yes, ``pupil_data``, the sound for players and the checksums that are
    still to come are left out. The manifest tells so, and ``repair`` makes them later. ``keep`` are promises of earlier
    that stand, whatever the files hold now. If this raises, the folder stays in state ``recording`` and ``repair``
    completes it.

    Raises:
        OSError: something cannot be written.
    """
    problems: list[str] = []
    manifest.events = [event for event in manifest.events if event.get("event") not in LEFT_OUT]
    try:
        write_intrinsics(folder, manifest)
    except DamagedFile as error:
        problems.append(error.message)
    write_player_info(folder, manifest)
    write_info_csv(folder, manifest)
    if not (folder / USER_INFO).exists():
        write_user_info(folder, manifest)
    try:
        skipped = write_pupil_data(folder, hurry)
    except DamagedFile as error:
        problems.append(error.message)
        skipped = error.message
    if skipped:
        manifest.events.append({"event": "pupil-data-skipped", "reason": skipped})
    try:
        skipped = write_player_sound(folder, stream_parts(folder).get(AUDIO, ()), hurry)
    except DamagedFile as error:
        problems.append(error.message)
        skipped = error.message
    if skipped:
        manifest.events.append({"event": "player-sound-skipped", "reason": skipped})
    manifest.files = {
        path.name: file_sum(path, whole=not hurry())
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _NOT_SUMMED and path.suffix != WRITING
    } | dict(keep or {})
    manifest.state = state
    manifest.save(folder, durable=True)
    return problems


def file_sum(path: Path, *, whole: bool = True) -> FileSum:
    """Return size and checksum of a file; a recorded mp4 has none as a whole, for each of its frames has one.

    Raises:
        OSError: it cannot be read.
    """
    if not whole or is_recorded(path.name):
        return FileSum(path.stat().st_size, "")
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        return FileSum(file.tell(), digest.hexdigest())
