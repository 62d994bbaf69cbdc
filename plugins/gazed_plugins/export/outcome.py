"""What became of one recording of many: small, and the same wherever it was exported."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gazed_plugins.export.exporter import Exporter
from gazed_plugins.export.run import ExportJob, export_one
from gazed_plugins.offline_data import Progress
from gazed_recorder.errors import DiskFull
from gazed_timesync import GazedError

__all__ = ["Outcome", "export_outcome"]


class Outcome(msgspec.Struct, frozen=True):
    """What became of a recording."""

    path: str = ""
    """Its export."""
    skipped: bool = False
    """Whether that was there already."""
    error: dict[str, str] = {}
    """Why there is none: ``code``, ``message``, ``hint``."""
    disk_full: bool = False
    """Whether that is the reason."""


def export_outcome(job: ExportJob, exporter: Exporter, folder: Path, label: str, progress: Progress) -> Outcome:
    """Export a recording of many, and return whatever went wrong."""
    try:
        result = export_one(job, exporter, folder, label, progress)
    except GazedError as error:
        return Outcome(error=error.as_dict(), disk_full=isinstance(error, DiskFull))
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return Outcome(error={"code": "system", "message": what, "hint": ""})
    except Exception as error:  # noqa: BLE001 - a recording that no code is prepared for must not keep the others
        what = f"{folder}: {type(error).__name__}: {error}"
        return Outcome(error={"code": "unexpected", "message": what, "hint": "export it alone to see where"})
    return Outcome(result.path, result.skipped)
