"""Errors of taking in keypoints.

::

    PluginError
    └── ImportFailed         nothing was taken in
        ├── NotKeypoints     the file is not what was said, or has not the keypoints that are needed
        ├── UnsafeFile       reading the file would run a program in it
        └── FramesDiffer     the keypoints are not those of this video
"""

from __future__ import annotations

from gazed_plugins.errors import PluginError

__all__ = ["FramesDiffer", "ImportFailed", "NotKeypoints", "UnsafeFile"]


class ImportFailed(PluginError):
    """Nothing was taken in."""

    code = "import"


class NotKeypoints(ImportFailed):
    """The file is not what was said, or has not the keypoints that are needed."""

    code = "not-keypoints"
    exit_code = 2


class UnsafeFile(NotKeypoints):
    """Reading the file would run a program in it."""

    code = "unsafe-file"


class FramesDiffer(ImportFailed):
    """The keypoints are not those of this video."""

    code = "frames-differ"
    exit_code = 2
