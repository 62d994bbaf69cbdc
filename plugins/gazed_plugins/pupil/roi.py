"""Regions of interest that a recording keeps for its eyes: ``offline_data/gazed_roi.json``, by stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gazed_plugins.errors import PluginArgument, PluginError
from gazed_plugins.pupil.settings import PupilSettings
from gazed_recorder.atomic import replace_file

__all__ = ["ROI_FILE", "Roi", "store_roi", "stored_rois"]

Roi = tuple[int, int, int, int]
"""Minimal x and y, maximal x and y in px, as ``PupilSettings.roi``."""

ROI_FILE = "gazed_roi.json"


def stored_rois(offline: Path) -> dict[str, Roi]:
    """Return the regions that lie in the folder ``offline_data``, by stream (``eye0``).

    Raises:
        PluginError: the file is damaged.
    """
    path = offline / ROI_FILE
    try:
        found = json.loads(path.read_bytes())
        settings = {str(name): PupilSettings.of({"roi": box}) for name, box in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, AttributeError, PluginArgument) as error:
        raise PluginError(f"{path}: no regions of interest: {error}", hint=f"remove it: rm {path}") from error
    return {name: each.roi for name, each in settings.items() if each.roi is not None}


def store_roi(offline: Path, stream: str, box: Roi) -> None:
    """Keep a region; those of other streams stay.

    Raises:
        PluginError: the file with the others is damaged.
        OSError: it cannot be written.
    """
    rois: Mapping[str, Roi] = stored_rois(offline) | {stream: box}
    replace_file(offline / ROI_FILE, json.dumps(rois, sort_keys=True).encode())
