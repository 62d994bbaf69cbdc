"""Who leads a Pupil Time Sync group (version 1): the participant with the highest rank.

Each participant announces its rank and the port of its clock service to the group, as two frames of text. Everybody
works out the leader from these alone, so the rule must be the same everywhere. Of equal ranks, which the protocol
leaves open, the higher uuid leads.

Source: pupil_labs' ``time_sync_spec.md`` and the behaviour of Pupil Capture's Time Sync plugin: rank = 4 x bias
+ 2 x (has led) + 1 x (has been synced) + a random number below 1, drawn once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from gazed_timesync.errors import ZreMalformed

__all__ = ["GROUP_SUFFIX", "Announcement", "Election", "group_name", "parse_announcement"]

GROUP_SUFFIX = "-time_sync-v1"
_MAX_CANDIDATES = 256
_MAX_TEXT = 64


def group_name(prefix: str) -> str:
    """Return the ZRE group of all that share a clock; Pupil's ``prefix`` is ``default``."""
    return prefix + GROUP_SUFFIX


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a participant tells of itself: its rank and the TCP port of its clock service."""

    rank: float
    port: int

    def encode(self) -> tuple[bytes, bytes]:
        """Return the frames that are shouted into the group."""
        return repr(self.rank).encode(), repr(self.port).encode()


def parse_announcement(content: Sequence[bytes]) -> Announcement:
    """Return what a participant says.

    Raises:
        ZreMalformed: it is not two numbers, the rank is not finite, or there is no such port.
    """
    try:
        rank_text, port_text = content
        if max(len(rank_text), len(port_text)) > _MAX_TEXT:
            raise ValueError
        rank, port = float(rank_text), int(port_text)
    except ValueError:
        raise ZreMalformed(f"no announcement: {[frame[:20] for frame in content[:3]]}") from None
    if not math.isfinite(rank) or not 0 < port < 65536:
        raise ZreMalformed(f"an announcement of rank {rank!r}, port {port}: wanted a finite rank, a port up to 65535")
    return Announcement(rank, port)


class Election:
    """The board of one participant: who has announced what, and who leads therefore.

    A participant that its followers find silent may be passed over (``doubt``) until it is heard or asked again.

    Args:
        uuid: this participant.
        port: of its own clock service.
        bias: 1.0 is everybody's; one above 2 leads whatever the others have been.
        candidate: whether this participant may lead.
        tie_breaker: at least 0 and below 1; random, if not given.
    """

    def __init__(
        self,
        uuid: UUID,
        port: int,
        *,
        bias: float = 1.0,
        candidate: bool = True,
        tie_breaker: float | None = None,
    ) -> None:
        self._uuid, self._port, self._bias, self._candidate = uuid, port, bias, candidate
        self._tie_breaker = random.random() if tie_breaker is None else tie_breaker  # noqa: S311 - no secret
        self.has_led = self.has_synced = False
        self._others: dict[UUID, Announcement] = {}
        self._doubted: set[UUID] = set()

    @property
    def own(self) -> Announcement:
        """What this participant has to announce."""
        rank = 4 * self._bias + 2 * self.has_led + self.has_synced + self._tie_breaker
        return Announcement(float(rank), self._port)

    @property
    def others(self) -> Mapping[UUID, Announcement]:
        """What others have announced."""
        return self._others

    @property
    def leader(self) -> UUID | None:
        """The participant that leads, which may be this one; nobody, if there is no candidate."""
        board = {uuid: said for uuid, said in self._others.items() if uuid not in self._doubted}
        if self._candidate:
            board[self._uuid] = self.own
        return max(board, key=lambda uuid: (board[uuid].rank, uuid.int), default=None)

    def hear(self, uuid: UUID, announcement: Announcement) -> None:
        """Take an announcement. One of somebody new is not taken where 256 have announced themselves already."""
        self._doubted.discard(uuid)
        if uuid in self._others or len(self._others) < _MAX_CANDIDATES:
            self._others[uuid] = announcement

    def forget(self, uuid: UUID) -> None:
        """Take somebody off the board that has left."""
        self._others.pop(uuid, None)
        self._doubted.discard(uuid)

    def doubt(self, uuid: UUID) -> None:
        """Pass over somebody whose clock service is silent."""
        self._doubted.add(uuid)

    def trust(self, uuid: UUID) -> None:
        """Take back ``doubt``."""
        self._doubted.discard(uuid)

    def trust_all(self) -> None:
        """Take back every ``doubt``."""
        self._doubted.clear()

    @property
    def doubts(self) -> bool:
        """Whether anybody is passed over."""
        return bool(self._doubted)

    def clear(self) -> None:
        """Forget the others; what this participant has been stays."""
        self._others.clear()
        self._doubted.clear()
