"""One series on its way through this process.

A lane begins by waiting until what other members hold from before is done or
taken over (WAITING), reads what this member holds and never acknowledged
(RECOVERING), and then what is new (LIVE). That order is why the bars of a
series rise even after a crash. A lost connection sends it back to RECOVERING,
from the last entry that arrived.

Its queue holds the bars in hand, lowest first. Only the first can be at a
handler, so a bar that fails holds up its own series and no other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from consumers.core.ids import ZERO, EntryId
from consumers.core.work import Gap, Work
from publisher.wire import Bar, Series


class Phase(Enum):
    """What a lane reads next."""

    WAITING = "waiting"
    RECOVERING = "recovering"
    LIVE = "live"


@dataclass(slots=True, eq=False)
class Lane:
    """The state of one series; whoever calls it holds the lock."""

    series: Series
    key: str
    processed: EntryId = ZERO
    """Everything up to here needs no delivery any more."""
    phase: Phase = Phase.WAITING
    cursor: EntryId = ZERO
    """While RECOVERING: own pending entries up to here have arrived."""
    seen: EntryId = ZERO
    """The highest entry that arrived."""
    barrier: EntryId | None = None
    """While WAITING: what other members hold up to here comes first."""
    shared: bool = False
    """Other members read this series too, so not every bar comes here."""
    wanted: bool = True
    queue: deque[Work] = field(default_factory=deque)
    out: int = 0
    """How many of the queue, from its front, are at a handler."""
    unacked: set[EntryId] = field(default_factory=set)
    opened_ms: int | None = None
    """Open time of the newest bar that arrived."""

    @property
    def position(self) -> EntryId:
        """Where a group made again must begin, so that no bar in hand is lost."""
        return min(self.processed, self.queue[0].entry.before()) if self.queue else self.processed

    def arrived(self, entry: EntryId) -> None:
        """Note that the server delivered this entry, whatever it holds."""
        self.seen = max(self.seen, entry)
        if self.phase is Phase.RECOVERING:
            self.cursor = max(self.cursor, entry)

    def accept(self, entry: EntryId, bar: Bar) -> Gap | None:
        """Put a delivered bar in its place; say which bars before it are missing."""
        self.arrived(entry)
        if entry in self.unacked:
            return None
        self.unacked.add(entry)
        work = Work(self, entry, bar=bar)
        if not self.queue or self.queue[-1].entry < entry:
            self.queue.append(work)
        else:
            self._insert(work)
        return self._continuity(bar)

    def _insert(self, work: Work) -> None:
        # The first may be at a handler, so nothing goes before it.
        place = 1
        while place < len(self.queue) and self.queue[place].entry < work.entry:
            place += 1
        self.queue.insert(place, work)

    def _continuity(self, bar: Bar) -> Gap | None:
        last_ms, previous_ms = self.opened_ms, bar.previous_open_time_ms
        if last_ms is not None and bar.open_time_ms <= last_ms:
            return None
        self.opened_ms = bar.open_time_ms
        if last_ms is None or previous_ms is None or previous_ms == last_ms:
            return None
        return Gap(self.series, last_ms, previous_ms)

    def released(self) -> None:
        """Note that no other member holds anything from before."""
        self.phase, self.barrier = Phase.RECOVERING, None

    def recovered(self) -> None:
        """Note that no own pending entry is left to arrive."""
        self.phase = Phase.LIVE

    def rewind(self) -> None:
        """Prepare for a new connection: a reply may have been lost on the old one."""
        if self.phase is Phase.LIVE:
            self.phase, self.cursor = Phase.RECOVERING, self.seen

    def restart(self) -> EntryId:
        """Forget the bars in hand, which a group made again delivers anew from here."""
        position = self.position
        for work in self.queue:
            work.dropped = True
        self.queue.clear()
        self.out = 0
        self.unacked.clear()
        self.phase, self.barrier = Phase.LIVE, None
        self.cursor = self.seen = position
        return position
