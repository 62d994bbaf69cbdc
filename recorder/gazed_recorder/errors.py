"""Errors of the recorder.

::

    GazedError
    └── RecorderError
        ├── NotARecording      the folder is none, or not one that can be read
        ├── UnknownUnixTime    the recording does not say which Unix time its Pupil time is
        ├── UnknownMapping     there is no such gaze mapping, or more than one to choose from
        ├── DamagedFile        a file is not what FORMAT.md says; names the file and the place
        ├── DiskFull           below the floor, or the file system is full
        └── RecordingRefused   a start or stop that cannot be done now; ``reason`` tells programs why
"""

from __future__ import annotations

from gazed_timesync import GazedError

__all__ = [
    "DamagedFile", "DiskFull", "NotARecording", "RecorderError", "RecordingRefused", "UnknownMapping",
    "UnknownUnixTime",
]  # fmt: skip


class RecorderError(GazedError):
    """The recorder, or a recording, is not as it should be."""

    code = "recorder"
    exit_code = 6


class NotARecording(RecorderError):
    """The folder is not a recording."""

    code = "not-a-recording"
    exit_code = 2


class UnknownUnixTime(RecorderError):
    """The recording does not say which Unix time its Pupil time is."""

    code = "unknown-unix-time"


class UnknownMapping(RecorderError):
    """A recording has no gaze mapping of that name, or several and nobody said which."""

    code = "unknown-mapping"
    exit_code = 2


class DamagedFile(RecorderError):
    """A file of a recording is damaged."""

    code = "damaged-file"


class DiskFull(RecorderError):
    """There is too little room to record."""

    code = "disk-full"
    exit_code = 7


class RecordingRefused(RecorderError):
    """A recording could not be started or stopped."""

    code = "recording-refused"

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason

    def as_dict(self) -> dict[str, str]:
        """Return the error with its reason."""
        return {**super().as_dict(), "reason": self.reason}
