"""One series on its way through this process, or the events.

A lane holds what one lease covers: the stream of bars and, where somebody wants
them, that of corrections. Of each it first reads what this member holds and
never acknowledged (RECOVERING), which includes what it took over, and then what
is new (LIVE). That order is why the bars of a series rise even after a crash. A
lost connection sends it back to RECOVERING, from the last entry that arrived.

Its queue holds the works in hand in the order in which they arrived. Only those
at its front can be at a handler, so a bar that fails holds up its own series and
no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from consumers.core.ids import ZERO, EntryId
from consumers.core.work import Kind, Work
from publisher.wire import Series


class Phase(Enum):
    """What is read next of a stream."""

    OUTSIDE = "outside"
    """Nothing: this member does not hold it, or has not taken it over yet."""
    RECOVERING = "recovering"
    """What this member holds and never acknowledged."""
    LIVE = "live"
    """What is new."""


@dataclass(slots=True, eq=False)
class Source:
    """One stream of a lane; whoever calls it holds the lock."""

    key: str
    kind: Kind
    ordered: bool = True
    """False where members compete: an older entry may come after a newer one."""
    lane: Lane = field(init=False, repr=False)
    phase: Phase = Phase.OUTSIDE
    processed: EntryId = ZERO
    """The highest entry that was handled, here or before this member read the stream."""
    seen: EntryId = ZERO
    """The highest entry that the group was given, as far as this process knows."""
    cursor: EntryId = ZERO
    """While RECOVERING: own pending entries up to here have arrived."""
    more: bool = False
    """While LIVE: there may be new entries."""
    opened_ms: int | None = None
    """Open time of the newest bar that arrived; None where a start rule began the group."""
    proven: bool = False
    """The newest bar arrived here, so the next one must name it."""
    unacked: set[EntryId] = field(default_factory=set)
    trimmed: tuple[EntryId, ...] = ()
    """Pending entries that had left the stream when it was taken over, not told yet."""
    attached: bool = False
    """This process has read the stream, now or before."""
    kept: EntryId = ZERO
    """The position as it was last kept aside."""
    _acked: EntryId = ZERO

    @property
    def position(self) -> EntryId:
        """Up to where everything is acknowledged: a group made again begins after it."""
        lowest = min(self.unacked, default=None)
        if lowest is None or lowest > self._acked:
            return self._acked
        return lowest.before()

    def attach(
        self, position: EntryId, delivered: EntryId, checkpoint: EntryId | None = None
    ) -> None:
        """Begin with what this member holds.

        `position` is up to where the group has acknowledged everything, `delivered`
        the highest entry that it was given, `checkpoint` the position kept aside.
        """
        self.phase, self.cursor, self.more = Phase.RECOVERING, ZERO, False
        self.attached = True
        known = [x for x in (self.processed, position, checkpoint) if x and _is_bar(x)]
        self.opened_ms = max(known).ms if known else None
        self.proven = False
        self.unacked.clear()
        self.processed = max(self.processed, position)
        self.seen = max(delivered, position)
        self._acked = self.kept = position

    def detach(self) -> None:
        """Read nothing more; what was handled here stays known."""
        self._acked = self.position
        self.phase = Phase.OUTSIDE
        self.unacked.clear()
        self.trimmed = ()

    def arrived(self, entry: EntryId) -> None:
        """Note that the server delivered this entry, whatever it holds."""
        self.seen = max(self.seen, entry)
        if self.phase is Phase.RECOVERING:
            self.cursor = max(self.cursor, entry)

    def recovered(self) -> None:
        """Note that no own pending entry is left to arrive."""
        self.phase, self.more = Phase.LIVE, True

    def rewind(self) -> None:
        """Prepare for a new connection: a reply may have been lost on the old one.

        All own pending entries are read again: a failover may have lost acknowledgements.
        """
        if self.phase is Phase.LIVE:
            self.phase, self.cursor = Phase.RECOVERING, ZERO

    def acknowledged(self, entries: Sequence[EntryId]) -> None:
        """Note that the server has the acknowledgements."""
        self.unacked.difference_update(entries)
        self._acked = max((self._acked, *entries))


def _is_bar(entry: EntryId) -> bool:
    """Tell whether this can be a bar's entry, not a position that a rule computed."""
    return entry > ZERO and entry.sequence == 0


@dataclass(slots=True, eq=False)
class Lane:
    """The state of one series or of the events; whoever calls it holds the lock."""

    name: str
    """The lease: the series' text, or `@events`."""
    series: Series | None
    sources: dict[Kind, Source]
    token: int = 0
    """Of the lease that this member holds; 0 without one."""
    leaving: bool = False
    """To be handed over: nothing more of it goes to a handler."""
    parked: bool = False
    """Its first work failed and waits to be tried again."""
    lined_up: bool = False
    """It stands in the line of those that may have a turn."""
    out: int = 0
    """How many works are at a handler, dropped ones too."""
    queue: deque[Work] = field(default_factory=deque)
    replays: deque[Work] = field(default_factory=deque)

    def __post_init__(self) -> None:
        for source in self.sources.values():
            source.lane = self

    @property
    def is_ready(self) -> bool:
        """Whether its next work may go to a handler."""
        waits = self.replays or (self.queue and not self.parked)
        return bool(waits) and not self.out and not self.leaving

    def next_works(self) -> Iterator[Work]:
        """Yield what may go to handlers together, in order; a replay goes alone."""
        if self.replays:
            yield self.replays[0]
        else:
            yield from self.queue

    def source(self, work: Work) -> Source:
        """Return the stream that a work came from."""
        return self.sources[work.kind]

    def forget(self, source: Source) -> None:
        """Drop what is in hand of a stream: another member's, or to be delivered anew."""
        for work in self.queue:
            work.dropped = work.dropped or work.kind is source.kind
        if self.queue and self.queue[0].dropped:
            self.parked = False
        self.queue = deque(work for work in self.queue if not work.dropped)
        source.detach()

    def leave(self) -> None:
        """Drop all that is in hand: the lease is another member's."""
        for source in self.sources.values():
            self.forget(source)
        for work in self.replays:
            work.dropped = True
        self.replays.clear()
        self.token, self.leaving = 0, False
