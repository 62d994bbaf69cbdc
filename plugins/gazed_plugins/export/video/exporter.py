"""The format ``video``: smaller videos, each frame at its time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from gazed_plugins.arguments import read_names, read_number, refuse_unknown, shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import ExportError, NothingToExport
from gazed_plugins.export.steps import Steps
from gazed_plugins.export.video.encode import Encoding, encode_packets
from gazed_plugins.export.video.file import copies, copy_packets
from gazed_plugins.export.video.folder import Make, video_of, write_video
from gazed_plugins.export.video.overlay import overlay
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording
from gazed_recorder.reading.video import Video

__all__ = ["VideoExporter"]

_OWNER = "video"
_CODECS = ("h264", "copy")
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


class VideoExporter:
    """The videos of a recording as H.264, which everything plays and which takes a fraction of the room.

    A folder with an mp4 for each stream, the sound (AAC) in the first of them, and beside each
    ``<stream>_timestamps.npy`` (Pupil time of each frame, s, float64) and ``<stream>_timestamps.csv``. No frame is
    added, dropped or moved: time in a file is that since its first frame, exact to the microsecond. A stream that was
    recorded in parts is one file, unless its images changed their size or more than 35 minutes lie between two.

    Arguments: ``codec``, ``h264`` or ``copy`` (the images as they were recorded); of H.264, ``crf`` (0, lossless, to
    51; 23) and ``preset`` (``ultrafast`` to ``veryslow``; ``veryfast``); ``streams``, a list of those that are wanted
    (all); ``overlay``, ``true`` draws gaze into the world and pupils into the eyes; ``sound``, ``false`` leaves it out.
    """

    extra: ClassVar[str] = ""
    dataset: ClassVar[str] = ""

    def __init__(self, args: Mapping[str, Any]) -> None:
        refuse_unknown(_OWNER, "argument", args, ("codec", "crf", "preset", "streams", "overlay", "sound"))
        self._codec = _one_of(args, "codec", "h264", _CODECS)
        crf = read_number(_OWNER, "crf", args.get("crf", 23), 0, 51)
        self._encoding = Encoding(round(crf), _one_of(args, "preset", "veryfast", _PRESETS))
        self._streams = read_names(_OWNER, args, "streams")
        self._overlay, self._sound = _switch(args, "overlay", default=False), _switch(args, "sound", default=True)
        if self._codec == "copy" and (self._overlay or "crf" in args or "preset" in args):
            raise PluginArgument(
                f"{_OWNER}: codec copy leaves images as they are: it takes neither overlay nor crf or preset"
            )

    def name(self, recording: Recording, label: str) -> str:  # noqa: ARG002 - its label is enough
        """As ``Exporter``."""
        return f"{label}-video"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """As ``Exporter``.

        Raises:
            ExportError: a video that was written is not as it has to be, or cannot be copied.
        """
        wanted = self._streams or recording.streams
        videos = [video_of(recording, name) for name in recording.streams if name in wanted]
        videos = [video for video in videos if len(video)]
        if not videos:
            raise NothingToExport(
                f"{recording.path} has no video {', '.join(self._streams)}".rstrip()
                + f", found {', '.join(recording.streams) or 'none'}"
            )
        steps = Steps(progress, sum(map(len, videos)))
        target.mkdir()
        for number, video in enumerate(videos):
            make = self._make(recording, video)
            copied = self._codec == "copy"
            with_sound = self._sound and number == 0
            write_video(target, recording, video, make, steps.advance, zero=None, copied=copied, sound=with_sound)
        steps.finish()

    def complete(self, output: Path) -> None:
        """Nothing stands beside the exports."""

    def _make(self, recording: Recording, video: Video) -> Make:
        if self._codec == "h264":
            draw = overlay(recording, video) if self._overlay else None
            return partial(encode_packets, video, encoding=self._encoding, draw=draw)
        if not copies(video):
            raise ExportError(
                f"{recording.path}: {video.name} shows its frames in another order than it stores them, and cannot be "
                "copied",
                hint="codec=h264 encodes it anew",
            )
        return copy_packets


def _one_of(args: Mapping[str, Any], name: str, default: str, known: tuple[str, ...]) -> str:
    value = args.get(name, default)
    if value not in known:
        raise PluginArgument(f"{_OWNER}: {name} is one of {', '.join(known)}, got {shown(value)}")
    return str(value)


def _switch(args: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = args.get(name, default)
    if not isinstance(value, bool):
        raise PluginArgument(f"{_OWNER}: {name} is true or false, got {shown(value)}")
    return value
