"""What is collected while a calibration or a validation runs: where the wearer looked, and the pupils meanwhile.

Three kinds, by where the references come from: ``marker``, the circle marker that the world camera sees (as with Pupil
Capture's physical and screen marker choreographies, whoever shows it); ``network``, places in the world image that a
client sends with ``calibration.add_ref_data``; and ``hmd``, places in mm in front of a head-mounted display.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gazed_plugins.arguments import is_number, is_vector, shown
from gazed_plugins.gaze.checks import MOST_REFERENCES, Size, is_pupil, pack, read_references
from gazed_plugins.gaze.errors import ChoreographyRefused
from gazed_plugins.gaze.gazer_hmd import GazerHMD3D
from gazed_plugins.gaze.matching import Datum, nearest
from gazed_plugins.gaze.registry import GAZERS

__all__ = ["CLASS_NAMES", "KINDS", "Choreography", "Kind", "Mode", "Plan", "plan"]

Kind = Literal["marker", "network", "hmd"]
Mode = Literal["calibration", "validation"]

KINDS: tuple[Kind, ...] = get_args(Kind)
CLASS_NAMES: dict[str, Kind] = {
    "SingleMarkerChoreographyPlugin": "marker",
    "ScreenMarkerChoreographyPlugin": "marker",
    "HMD3DChoreographyPlugin": "hmd",
}
"""The kinds by the names under which clients of Pupil Capture start them."""

_STOP_FRAMES = 30
_MOST_PUPILS = 100_000
_AROUND_S = 1 / 15


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``calibration.should_start`` or ``validation.should_start`` asks for."""

    mode: Mode
    kind: Kind
    gazer: str
    """Class name."""
    name: str = ""
    """Under which the calibration is to be stored."""
    eye_translations: list[list[float]] | None = None
    """Places of the right and the left eye in mm, for an HMD."""


def plan(mode: Mode, notification: Mapping[str, Any], kind: str, gazer: str) -> Plan:
    """Return what a notification asks for; ``kind`` and ``gazer`` are what is set without it.

    Its own keys ``choreography``, ``gazer`` and ``name`` hold for this run only.

    Raises:
        ChoreographyRefused: it cannot be done; the message says why.
    """
    kind, gazer = notification.get("choreography", kind), notification.get("gazer", gazer)
    name = notification.get("name", "")
    if kind not in KINDS:
        raise ChoreographyRefused(f"there is no choreography {shown(kind)}", hint=f"use one of {', '.join(KINDS)}")
    if not isinstance(name, str):
        raise ChoreographyRefused(f"the name of a calibration is a string, got {shown(name)}")
    if mode == "validation" and (kind == "hmd" or gazer == GazerHMD3D.__name__):
        raise ChoreographyRefused(
            "a calibration of a head-mounted display cannot be validated", hint="calibrate with Gazer2D or Gazer3D"
        )
    if kind == "hmd":
        return Plan(mode, "hmd", GazerHMD3D.__name__, name, _translations(notification))
    if gazer not in tuple(GAZERS) or gazer == GazerHMD3D.__name__:
        usable = ", ".join(each for each in GAZERS if each != GazerHMD3D.__name__)
        raise ChoreographyRefused(f"choreography {kind!r} has no gazer {shown(gazer)}", hint=f"use one of {usable}")
    return Plan(mode, kind, gazer, name)


def _translations(notification: Mapping[str, Any]) -> list[list[float]]:
    places = [notification.get(f"translation_eye{eye}") for eye in (0, 1)]
    if not all(is_vector(place, 3) for place in places):
        raise ChoreographyRefused(
            "translation_eye0 and translation_eye1 are needed, 3 numbers each, in mm",
            hint="send them with calibration.should_start: the places of the eyes in the display's frame",
        )
    return [[float(value) for value in place or ()] for place in places]


@dataclass(frozen=True, slots=True)
class _Pupil:
    timestamp: float
    stream: tuple[int, bool]
    """Eye, and whether it is a 3D datum."""
    confidence: float
    packed: bytes
    """Unpacked it would take six times the memory."""


class Choreography:
    """Collects the data of one calibration or validation; knows nothing of the bus."""

    def __init__(self, plan: Plan, size: Size, min_confidence: float) -> None:
        self.plan = plan
        self.references: list[Datum] = []
        self.refused = 0
        """Markers and pupils that were not well formed."""
        self._size = size
        self.min_confidence = min_confidence
        self._pupils: list[_Pupil] = []
        self._every = 1
        self._seen = 0
        self._stop_frames = 0

    @property
    def pupil_count(self) -> int:
        """Pupil datums kept so far."""
        return len(self._pupils)

    @property
    def uncertain(self) -> float:
        """Part, 0..1, of the pupils of the gazer's method that are not confident enough to take part."""
        solid = GAZERS[self.plan.gazer].method == "3d"
        unsure = [pupil.confidence < self.min_confidence for pupil in self._pupils if pupil.stream[1] == solid]
        return sum(unsure) / max(1, len(unsure))

    def add_pupil(self, datum: Datum) -> None:
        """Take a pupil datum from the bus."""
        try:
            packed = pack(datum) if is_pupil(datum) else None
        except ChoreographyRefused:
            packed = None
        if packed is None:
            self.refused += 1
            return
        stream = (datum["id"], "3d" in datum["method"])
        self._pupils.append(_Pupil(float(datum["timestamp"]), stream, float(datum["confidence"]), packed))
        if len(self._pupils) > _MOST_PUPILS:
            self._compact()

    def _compact(self) -> None:
        """Make room: a calibration that nobody ends goes on for ever, in bounded memory.

        Up to the last reference only what is matched is kept; of later pupils, where they are very many, every second
        one of each eye and method.
        """
        last = max((ref["timestamp"] for ref in self.references), default=float("-inf"))
        later = [pupil for pupil in self._pupils if pupil.timestamp > last]
        if len(later) > _MOST_PUPILS // 2:
            streams = {pupil.stream for pupil in later}
            later = [pupil for stream in streams for pupil in [each for each in later if each.stream == stream][::2]]
        self._pupils = [pupil for pupil in self._pupils if pupil.timestamp <= last]
        self._pupils = self._matched() + later

    def add_markers(self, message: Mapping[str, Any]) -> bool:
        """Take the circle markers of one world image; return whether the stop marker asks for the end.

        One reference marker alone is a reference; of several nobody knows which one is looked at. The stop marker must
        be there in 30 images in a row.
        """
        markers, stamp = message.get("markers"), message.get("timestamp")
        if not isinstance(markers, list) or not is_number(stamp) or not all(map(_is_marker, markers)):
            self.refused += 1
            return False
        targets = [marker for marker in markers if marker["kind"] == "Ref"]
        stop = any(marker["kind"] == "Stop" for marker in markers)
        self._stop_frames = self._stop_frames + 1 if stop else 0
        if len(targets) == 1:
            place = {key: [float(value) for value in targets[0][key]] for key in ("norm_pos", "screen_pos")}
            self._add([{**place, "timestamp": float(stamp)}])
        return self._stop_frames == _STOP_FRAMES

    def add_references(self, ref_data: object) -> None:
        """Take the references of ``calibration.add_ref_data``.

        Raises:
            ChoreographyRefused: they are not well formed, or this choreography takes its references from the marker.
        """
        if self.plan.kind == "marker":
            raise ChoreographyRefused(
                "references come from the marker that the world camera sees, none were taken from the network",
                hint="start the calibration with choreography: network",
            )
        self._add(read_references(ref_data, "mm" if self.plan.kind == "hmd" else "place", self._size))

    def _add(self, references: Sequence[Datum]) -> None:
        for reference in references:
            if self._seen % self._every == 0:
                self.references.append(reference)
            self._seen += 1
        while len(self.references) > MOST_REFERENCES:
            # Every second one of so many says as much.
            del self.references[1::2]
            self._every *= 2

    def pupils(self) -> list[bytes]:
        """Return, packed, the pupil datums that any reference is matched with, in the order of their arrival.

        What is fitted to them is the same as with all, and they stay few enough for a notification in a recording.
        """
        return [pupil.packed for pupil in self._matched()]

    def pupils_around(self) -> list[bytes]:
        """Return, packed, all pupil datums within 1/15 s of a reference: what gaze is measured with."""
        stamps = sorted(reference["timestamp"] for reference in self.references)
        return [pupil.packed for pupil in self._pupils if _is_near(stamps, pupil.timestamp)]

    def _matched(self) -> list[_Pupil]:
        """Return the datums that are nearest to a reference, of each eye and method; also among the confident ones."""
        chosen: set[int] = set()
        for eye in (0, 1):
            for solid in (False, True):
                rows = [row for row, pupil in enumerate(self._pupils) if pupil.stream == (eye, solid)]
                sure = [row for row in rows if self._pupils[row].confidence >= self.min_confidence]
                for among in (rows, sure):
                    chosen |= self._nearest(among)
        return [self._pupils[row] for row in sorted(chosen)]

    def _nearest(self, rows: list[int]) -> set[int]:
        rows = sorted(rows, key=lambda row: self._pupils[row].timestamp)
        stamps = [self._pupils[row].timestamp for row in rows]
        if not rows or not self.references:
            # One shows that there were pupils: what is lacking are references.
            return set(rows[:1])
        return {rows[nearest(stamps, ref["timestamp"])] for ref in self.references}


def _is_marker(marker: object) -> bool:
    return (
        isinstance(marker, dict)
        and isinstance(marker.get("kind"), str)
        and is_vector(marker.get("norm_pos"), 2)
        and is_vector(marker.get("screen_pos"), 2)
    )


def _is_near(stamps: Sequence[float], stamp: float) -> bool:
    after = bisect_left(stamps, stamp - _AROUND_S)
    return after < len(stamps) and stamps[after] <= stamp + _AROUND_S
