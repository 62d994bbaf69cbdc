"""What the formats of pose estimation have in common: a file a video, a row a frame, and times beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import refuse_unknown
from gazed_plugins.export.csv_text import Numbers, Texts, Whole, csv_text, row_text
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.poses.layout import read_choice, unix_ns
from gazed_plugins.export.poses.streams import Method, Poses, datums_of, read_poses
from gazed_plugins.export.steps import Steps
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording

__all__ = ["ROWS", "PoseFiles", "blocks", "write_tracking_csv"]

ROWS = 16_384
"""How many rows are written at a time."""


class PoseFiles(ABC):
    """Writes a folder a recording, with one file a stream that ``write_poses`` writes, and ``<stream>.timestamps.csv``.

    Rows are the frames of the eye's video, and for gaze those of the world's; without a video, the datums.
    """

    extra: ClassVar[str] = "export"
    dataset: ClassVar[str] = ""
    format: ClassVar[str]
    with_gaze: ClassVar[bool] = True

    def __init__(self, args: Mapping[str, Any], *others: str) -> None:
        refuse_unknown(self.format, "argument", args, ("method", *others))
        self._method = cast(Method | None, read_choice(self.format, args, "method", Method))

    def name(self, _recording: Recording, label: str) -> str:
        """Name the folder."""
        return f"{label}-{self.format}"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """Write a file for each stream, and its times."""
        target.mkdir()
        # Each datum is read, and then written.
        steps = Steps(progress, 2 * datums_of(recording))
        written = False
        for poses in read_poses(recording, self._method, flat=True, read=steps.advance):
            if len(poses) and (self.with_gaze or poses.stream != "gaze"):
                frames = poses.on_frames(recording)
                _write_timestamps(target / f"{poses.stream}.timestamps.csv", frames, recording)
                self.write_poses(frames, target, steps)
                written = True
        if not written:
            wanted = "neither pupils nor gaze on the world's video" if self.with_gaze else "no pupils"
            raise NothingToExport(f"{recording.path} has {wanted}")
        steps.finish()

    @abstractmethod
    def write_poses(self, poses: Poses, folder: Path, steps: Steps) -> None:
        """Write one stream into ``folder``, under its name, and tell how many rows are written."""

    def complete(self, output: Path) -> None:  # noqa: B027 - each recording stands alone
        """Do nothing: each recording stands alone."""


def write_tracking_csv(path: Path, poses: Poses, header: list[list[str]], steps: Steps) -> None:
    """Write DeepLabCut's csv: the rows of the header, then each frame's number and keypoints.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("xb") as file:
        file.writelines(row_text(row).encode() for row in header)
        for first, block in blocks(poses):
            unknown = np.isnan(block)
            numbers = (Numbers(column, lacking) for column, lacking in zip(block.T, unknown.T, strict=True))
            file.write(csv_text([Whole(np.arange(first, first + len(block))), *numbers]))
            steps.advance(len(block))


def blocks(poses: Poses) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Iterate over the number of a first frame, and x, y, likelihood of all keypoints in some frames from it on."""
    for first in range(0, len(poses), ROWS):
        part = poses[np.arange(first, min(first + ROWS, len(poses)))]
        confidence = np.broadcast_to(part.confidence[:, None, None], (len(part), 1, len(part.kind.keypoints)))
        points = np.concatenate([part.position, confidence], axis=1).transpose(0, 2, 1)
        yield first, points.reshape(len(part), -1)


def _write_timestamps(path: Path, poses: Poses, recording: Recording) -> None:
    """Write what the format does not hold: the time of each row. Unix times are empty if the recording has none."""
    unix = unix_ns(recording, poses.times)
    with path.open("xb") as file:
        file.write(row_text(("frame", "timestamp", "unix_ns")).encode())
        for first in range(0, len(poses), ROWS):
            times = poses.times[first : first + ROWS]
            clock = Texts([None] * len(times)) if unix is None else Whole(unix[first : first + ROWS])
            file.write(csv_text([Whole(np.arange(first, first + len(times))), Numbers(times), clock]))
