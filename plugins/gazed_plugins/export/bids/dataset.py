"""What stands beside the recordings of a BIDS dataset: its description, its participants, a text to begin with."""

from __future__ import annotations

import re
import uuid
from importlib.metadata import version
from pathlib import Path

from gazed_plugins.export.bids.files import MISSING, json_bytes, tsv_bytes
from gazed_plugins.export.errors import ExportError

__all__ = ["BIDS_VERSION", "complete_dataset"]

BIDS_VERSION = "1.11.1"
_README = """\
# Eye tracking

This dataset follows the Brain Imaging Data Structure (BIDS). Each folder sub-*/ses-*/ is one recording of a head-worn
eye tracker. In its folder beh, the files

- recording-eye1_physio.tsv.gz and recording-eye2_physio.tsv.gz hold the pupil of the left and of the right eye,
- recording-eye3_physio.tsv.gz holds gaze in the image of the world camera,
- *_physioevents.tsv.gz hold blinks and fixations, and *_events.tsv the annotations of the experiment.

What the columns mean, and on which clock and in which space they are, stands in the JSON file beside each.
"""
_PARTICIPANTS = "participants.tsv"
_ID = "participant_id"


def complete_dataset(output: Path) -> None:
    """Write what a dataset needs as a whole; what is there already stays, but for participants that lack.

    Any number of processes may do it at once: each looks again after it has written, so that the last one to write has
    seen all.

    Raises:
        ExportError: the table of participants is no text.
        OSError: it cannot be written.
    """
    description = {
        "Name": "Eye tracking",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "gazed", "Version": version("gazed")}],
    }
    for name, content in (("dataset_description.json", json_bytes(description)), ("README.md", _README.encode())):
        if not any(output.glob(f"{name.partition('.')[0]}*")):
            _replace(output / name, content)
    while _add_participants(output):
        pass


def _add_participants(output: Path) -> bool:
    """Add rows for the folders that have none; return whether there were such."""
    path = output / _PARTICIPANTS
    folders = sorted(each.name for each in output.glob("sub-*") if each.is_dir())
    names, *rows = _read_rows(path) or [[_ID]]
    lacking = set(filter(re.compile(r"sub-[0-9A-Za-z+]+").fullmatch, folders)) - {row[0] for row in rows}
    if lacking:
        rows += [[name, *[MISSING] * (len(names) - 1)] for name in lacking]
        _replace(path, tsv_bytes(names, sorted(rows)))
    return bool(lacking)


def _read_rows(path: Path) -> list[list[str]]:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise ExportError(f"{path} is no text in UTF-8: {error}", hint="save it as UTF-8, or remove it") from error
    return [line.split("\t") for line in text.splitlines() if line.strip()]


def _replace(path: Path, content: bytes) -> None:
    """Replace a file as a whole, whoever else does the same."""
    beside = path.with_name(f".{uuid.uuid4().hex}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
