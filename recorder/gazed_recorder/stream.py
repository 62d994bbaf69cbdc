"""The share of one camera or microphone in a recording: its parts on disk and its exact accounts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

from gazed_bus.frame import StreamInfo
from gazed_bus.lane import Ended, FrameHeader
from gazed_recorder.encoder import EncodedPart
from gazed_recorder.layout import stem_of
from gazed_recorder.manifest import Gap, Mode, Part, StreamReport, codec_of
from gazed_recorder.mp4_write import LONGEST_GAP, mjpeg_track
from gazed_recorder.part import TrackPart, next_stem
from gazed_recorder.records import FrameRecord
from gazed_recorder.refused import FrameRefused, NotAnImage, NotIncreasing, NotSound
from gazed_recorder.sound import SoundPart

__all__ = ["OpenPart", "StreamWriter"]

_SILENT_PERIODS = 2.5
_log = logging.getLogger(__name__)


class OpenPart(Protocol):
    """What parts of sound, of images as they came and of encoded ones have in common."""

    last_captured_ns: int
    dropped: dict[str, int]

    @property
    def frames(self) -> int:
        """Frames in the file."""

    def write(self, record: FrameRecord, payload: Any) -> None:
        """Take a frame; it may reach the disk later."""

    def sync(self) -> None:
        """Bring everything written so far to the device."""

    def close(self) -> None:
        """Finish the file; nothing is lost."""


class StreamWriter:
    """Writes the frames of one stream and keeps ``report`` true.

    A camera process counts from the start of the recording, and several may follow each other under one stream: the
    report adds up the last counts of each.
    """

    def __init__(
        self, folder: Path, stream: str, mode: Mode, report: StreamReport, *, last_captured_ns: int | None = None
    ) -> None:
        self.stream = stream
        self.report = report
        self._folder = folder
        self._mode = mode
        self._part: OpenPart | None = None
        self._shape: tuple[object, ...] = ()
        self._finished_frames = sum(part.frames for part in report.parts)
        self._finished_drops = {why: count for why, count in report.dropped.items() if why != "queue-full"}
        self._last_host = last_captured_ns
        self._handed_ns = 0
        self.bytes = 0

    @property
    def part(self) -> OpenPart | None:
        """The file that is being written."""
        return self._part

    @property
    def confirmed_ns(self) -> int:
        """``captured_ns`` up to which everything is on disk or accounted for; 0 before the first frame."""
        part = self._part
        if part and part.last_captured_ns < self._handed_ns:
            return part.last_captured_ns
        # What was refused since is settled as well: a camera that waited for it would wait for ever.
        return self._last_host or 0

    def take(self, camera: bytes, header: FrameHeader, payload: Any, info: StreamInfo | None) -> None:
        """Write one frame and account for it and for what is missing in front of it.

        Raises:
            OSError: the disk refused the frame; it is counted as dropped.
        """
        self._note_gap(camera, header, info)
        self._account(camera, header.received, header.dropped, header.missed)
        record = FrameRecord(
            header.sequence, header.device_time, header.host_ns, header.captured_ns, header.timestamp, 0
        )
        try:
            self._check_order(header)
            self._part_for(header, info).write(record, payload)
        except FrameRefused as refused:
            if refused.code not in self._finished_drops:
                _log.warning("%s: %s", self.stream, refused)
            self._finished_drops[refused.code] = self._finished_drops.get(refused.code, 0) + 1
        except OSError:
            self._finished_drops["disk"] = self._finished_drops.get("disk", 0) + 1
            raise
        else:
            self._handed_ns = header.captured_ns
            self.bytes += len(payload)
            if self.report.first is None:
                self.report.first = header.timestamp
            self.report.last = header.timestamp
        finally:
            self._last_host = header.captured_ns
            self.refresh()

    def refuse(self, camera: bytes, header: FrameHeader, reason: str) -> None:
        """Account for a frame that will not be written."""
        self._account(camera, header.received, header.dropped, header.missed)
        self._finished_drops[reason] = self._finished_drops.get(reason, 0) + 1
        self._last_host = header.captured_ns
        self.refresh()

    def end(self, ended: Ended) -> None:
        """Take over a camera's last word on its counts."""
        self._account(ended.identity, ended.received, ended.dropped, ended.missed)
        self.refresh()

    def refresh(self) -> None:
        """Bring the report up to date with the file being written."""
        report, part = self.report, self._part
        report.written = self._finished_frames + (part.frames if part else 0)
        if part and report.parts:
            report.parts[-1].frames = part.frames
        dropped = dict(self._finished_drops)
        for reason, count in (part.dropped if part else {}).items():
            dropped[reason] = dropped.get(reason, 0) + count
        queue_full = sum(counts[1] for counts in report.cameras.values())
        if queue_full:
            dropped["queue-full"] = queue_full
        report.dropped = dropped
        report.received = sum(counts[0] for counts in report.cameras.values())
        report.missed = sum(counts[2] for counts in report.cameras.values())

    def close(self) -> None:
        """Finish the file and settle the accounts; whatever does not add up is counted as lost."""
        try:
            if self._part:
                self._close_part(self._part)
        finally:
            self.refresh()
            report = self.report
            accounted = report.written + sum(report.dropped.values())
            # A camera that died together with an earlier recorder never told of its last frames, but here they are.
            report.received = max(report.received, accounted)
            report.lost = report.received - accounted

    def _close_part(self, part: OpenPart) -> None:
        # First of all: from here on an error of ``sync`` means nothing.
        self._part = None
        try:
            part.close()
        finally:
            self._handed_ns = 0
            if part.frames:
                self.report.parts[-1].frames = part.frames
            else:
                self.report.parts.pop()
            self._finished_frames += part.frames
            for reason, count in part.dropped.items():
                self._finished_drops[reason] = self._finished_drops.get(reason, 0) + count
            self.refresh()

    def _account(self, camera: bytes, received: int, dropped: int, missed: int) -> None:
        self.report.cameras[camera.decode()] = (received, dropped, missed)

    def _check_order(self, header: FrameHeader) -> None:
        """Keep the order over all parts; each keeps its own."""
        last = self.report.last
        if last is not None and header.timestamp <= last:
            raise NotIncreasing(
                f"{self.stream}: a frame at {header.timestamp!r} s cannot follow one at {last!r} s, times must grow",
                hint="check the clock of the source",
            )

    def _part_for(self, header: FrameHeader, info: StreamInfo | None) -> OpenPart:
        rate = info.sample_rate if info else None
        shape = (header.width, header.height, header.payload_format, rate)
        if self._part and (shape != self._shape or self._is_cut_off(self._part, header)):
            self._close_part(self._part)
        if self._part is None:
            stem = next_stem(self._folder, stem_of(self.stream))
            self._part = self._new_part(stem, header, info)
            self._shape = shape
            self.report.parts.append(Part(file=f"{stem}.mp4", codec=codec_of(self.stream, self._mode)))
        return self._part

    def _is_cut_off(self, part: OpenPart, header: FrameHeader) -> bool:
        """Tell whether there is more time in front of a frame than the part can express."""
        if isinstance(part, SoundPart):
            return not part.takes(header.sequence, header.timestamp)
        return (header.captured_ns - (self._last_host or header.captured_ns)) / 1e3 > LONGEST_GAP

    def _new_part(self, stem: str, header: FrameHeader, info: StreamInfo | None) -> OpenPart:
        kind, size = header.payload_format, (header.width, header.height)
        if self.report.kind == "audio":
            if kind != "pcm" or info is None or info.sample_rate is None:
                raise NotSound(f"{stem}: wanted samples and their rate, found {kind} from {info}")
            return SoundPart(self._folder, stem, info.sample_rate, *size)
        if kind == "pcm":
            raise NotAnImage(f"{stem}: wanted an image, found sound")
        if self._mode == kind == "jpeg":
            return TrackPart(self._folder, stem, mjpeg_track(*size))
        return EncodedPart(self._folder, stem, self._mode, *size, info.fps if info else 30.0, kind)

    def _note_gap(self, camera: bytes, header: FrameHeader, info: StreamInfo | None) -> None:
        known = self.report.cameras.get(camera.decode())
        _, dropped, missed = known or (0, 0, 0)
        after = self.report.last
        if after is None or self._last_host is None:
            return
        period = 1e9 / info.fps if info else 1e9 / 30
        silent = (header.captured_ns - self._last_host) / period
        frames = header.dropped - dropped + header.missed - missed
        if frames:
            reason = "queue-full" if header.dropped > dropped else "device"
        elif silent > _SILENT_PERIODS:
            frames = round(silent) - 1
            reason = "silence" if known else "camera-restarted"
        else:
            return
        last = self.report.gaps[-1] if self.report.gaps else None
        if self.report.kind == "audio" and last and (last.before, last.reason, reason) == (after, "device", "device"):
            # A silence in the sound is many blocks long, and one gap: these blocks are there, and silent.
            self.report.gaps[-1] = Gap(last.after, header.timestamp, last.frames + frames, reason)
        else:
            self.report.add_gap(Gap(after, header.timestamp, frames, reason))
