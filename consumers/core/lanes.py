"""All lanes of this process: which work is next at a handler, and what to read next.

Works are taken round robin, one lane per turn. A work whose handler failed is
parked until its time comes; meanwhile its series waits and the others go on.
Room is limited per series and in all, and a series without room is not read.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from consumers.core.ids import EntryId
from consumers.core.lane import Lane, Phase, Source
from consumers.core.work import Failure, Work

LANE_PREFETCH_MAX: Final = 100
"""Works of one series in hand beyond which it is not read."""
PREFETCH_MAX: Final = 5_000
"""Works in hand beyond which nothing is read; series that wait for a retry do not count."""
LETTERS_MAX: Final = 1_000
"""Dead letters not written yet beyond which nothing is read."""
NEVER_MS: Final = 2**63


@dataclass(frozen=True, slots=True)
class Letter:
    """An entry given up on, to be written to the dead letters and then acknowledged."""

    source: Source
    entry: EntryId
    failure: Failure
    attempts: int
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A dead letter that was handed over again, and how that ended."""

    lane: Lane
    letter: EntryId
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read of one stream: pending entries where it recovers, else new ones."""

    source: Source
    count: int


@dataclass(slots=True)
class Lanes:
    """The state of all lanes; whoever calls it holds the lock."""

    by_name: dict[str, Lane] = field(default_factory=dict)
    """Every lane ever held: one that was let go keeps its position."""
    valid_until_ms: int = -1
    """From then on nothing is handed out: the leases may be another member's."""
    lane_prefetch_max: int = LANE_PREFETCH_MAX
    """Raised where handlers want larger batches."""
    letters: list[Letter] = field(default_factory=list)
    replayed: list[Replayed] = field(default_factory=list)
    replaying: set[EntryId] = field(default_factory=set)
    """Dead letters in hand, until the server knows how their replay ended."""
    _ready: deque[Lane] = field(default_factory=deque)
    _due: list[tuple[int, int, Work]] = field(default_factory=list)
    _done: dict[Source, list[EntryId]] = field(default_factory=dict)
    _failed: list[Work] = field(default_factory=list)
    _serial: count[int] = field(default_factory=count)

    # For the handlers' side.

    def take(self, now_ms: int) -> Work | None:
        """Return the next work for a handler, None where none is due or may be handed out.

        Its lane hands out nothing more until the work is answered for by `finish`,
        `park`, `bury` or `give_back`.
        """
        works = self.take_batch(now_ms, lambda _: (None, 1))
        return works[0] if works else None

    def take_batch(
        self, now_ms: int, batch_of: Callable[[Work], tuple[Hashable, int]]
    ) -> list[Work]:
        """Return works that are handled together, those of a lane side by side and in order.

        `batch_of` tells of a work which batch it belongs in and how many that may
        hold. Each work is answered for once, those of a lane in their order; after
        a `park` the lane's other works are given back.
        """
        self._wake(now_ms)
        while self._ready and not self._ready[0].is_ready:
            self._unline()
        if not self._ready or now_ms >= self.valid_until_ms:
            return []
        first = next(self._ready[0].next_works())
        key, size = batch_of(first)
        if size == 1:
            return self._out(self._unline(), [first])
        batch: list[Work] = []
        for _ in range(len(self._ready)):
            if len(batch) >= size:
                break
            lane = self._unline()
            if lane.is_ready:
                batch += self._out(lane, _alike(lane, key, size - len(batch), batch_of))
        return batch

    def _out(self, lane: Lane, works: list[Work]) -> list[Work]:
        for work in works:
            work.touched = True
        lane.out = len(works)
        self._settle(lane)
        return works

    def _wake(self, now_ms: int) -> None:
        while self._due and (self._due[0][2].dropped or self._due[0][0] <= now_ms):
            work = heapq.heappop(self._due)[2]
            if not work.dropped:
                work.lane.parked = False
                self._settle(work.lane)

    def _settle(self, lane: Lane) -> None:
        """Line a lane up where its next work may go to a handler and it stands nowhere."""
        if lane.is_ready and not lane.lined_up:
            lane.lined_up = True
            self._ready.append(lane)

    def _unline(self) -> Lane:
        lane = self._ready.popleft()
        lane.lined_up = False
        return lane

    def next_due_ms(self) -> int | None:
        """Return when the next parked work is due."""
        return self._due[0][0] if self._due else None

    def finish(self, work: Work) -> None:
        """Note that every handler took the work: it can be acknowledged."""
        if work.replay_of is not None:
            self._end_replay(work, None)
        elif self._first_done(work):
            self._done.setdefault(work.lane.source(work), []).append(work.entry)
        self._answered(work)

    def bury(self, work: Work, failure: Failure) -> None:
        """Give up on a work: it becomes a dead letter, and only then is acknowledged.

        One that was replayed stays the dead letter that it is.
        """
        if work.replay_of is not None:
            self._end_replay(work, failure)
        elif self._first_done(work):
            source = work.lane.source(work)
            self.letters.append(Letter(source, work.entry, failure, work.attempt, work.fields))
        self._answered(work)

    def park(self, work: Work, due_ms: int, counted: bool = True) -> None:
        """Keep a work that failed until it is due again; its attempt counts, or does not."""
        assert work.replay_of is None, "a replay is tried once"
        work.attempt += counted
        if not work.dropped:
            work.lane.parked = True
            heapq.heappush(self._due, (due_ms, next(self._serial), work))
            # The next take-over would count an attempt that nobody made: not even the one
            # that does not count. Where it counts, that is once the server has heard of it.
            work.touched = False
            if counted:
                self._failed.append(work)
        self._answered(work)

    def give_back(self, work: Work) -> None:
        """Take back, for a later turn, a work that was handed out and not handled."""
        self._answered(work)

    def _first_done(self, work: Work) -> bool:
        """Take a work that is done with from its lane; False where it was dropped."""
        if work.dropped:
            return False
        lane, source = work.lane, work.lane.source(work)
        assert lane.queue[0] is work, "the works of a lane are answered for in order"
        lane.queue.popleft()
        source.processed = max(source.processed, work.entry)
        if work.also:
            self._done.setdefault(source, []).extend(work.also)
        return True

    def _end_replay(self, work: Work, failure: Failure | None) -> None:
        assert work.replay_of is not None
        if not work.dropped:
            work.lane.replays.popleft()
            self.replayed.append(Replayed(work.lane, work.replay_of, failure))

    def _answered(self, work: Work) -> None:
        work.lane.out -= 1
        self._settle(work.lane)

    # For the reader's side.

    def held(self) -> list[Lane]:
        """Return the lanes whose leases this member holds."""
        return [lane for lane in self.by_name.values() if lane.token]

    def deliver(self, lane: Lane, works: Iterable[Work]) -> None:
        """Put works behind those that wait."""
        lane.queue.extend(works)
        self._settle(lane)

    def replay(self, work: Work) -> None:
        """Hand over a dead letter again, before what else the lane has."""
        assert work.replay_of is not None
        self.replaying.add(work.replay_of)
        work.lane.replays.append(work)
        self._settle(work.lane)

    def set_leaving(self, lane: Lane, leaving: bool) -> None:
        """Hand out nothing more of a lane that is to be handed over, or go on with it."""
        lane.leaving = leaving
        self._settle(lane)

    def drop(self, lane: Lane) -> None:
        """Let go of a lane; nothing of it is acknowledged any more."""
        for source in lane.sources.values():
            self._clear(source)
        self.letters = [x for x in self.letters if x.source.lane is not lane]
        self.replayed = [x for x in self.replayed if x.lane is not lane]
        self.replaying -= {x.replay_of for x in lane.replays if x.replay_of is not None}
        lane.leave()

    def lose(self, source: Source) -> None:
        """Drop what is in hand of a stream whose group is gone."""
        self._clear(source)
        source.lane.forget(source)
        self._settle(source.lane)

    def _clear(self, source: Source) -> None:
        self._done.pop(source, None)
        self._failed = [x for x in self._failed if x.lane.source(x) is not source]

    def take_done(self) -> dict[Source, list[EntryId]]:
        """Return what is to be acknowledged; put it back where that fails."""
        done, self._done = self._done, {}
        return done

    def put_back(self, done: Mapping[Source, Sequence[EntryId]]) -> None:
        """Return acknowledgements that did not reach the server."""
        for source, entries in done.items():
            if entries:
                self._done[source] = [*entries, *self._done.get(source, [])]

    def acknowledge(self, source: Source, entries: Iterable[EntryId]) -> None:
        """Let entries be acknowledged that no handler needs to see."""
        if some := list(entries):
            self._done.setdefault(source, []).extend(some)

    def take_failed(self) -> list[Work]:
        """Return the works whose next attempt the server is to count."""
        failed, self._failed = self._failed, []
        return [work for work in failed if not work.dropped]

    def put_back_failed(self, works: Iterable[Work]) -> None:
        """Return works whose attempt did not reach the server."""
        self._failed += works

    def is_untouched(self, source: Source) -> bool:
        """Tell whether the server has counted all that handlers had of a stream."""
        first = next((x for x in source.lane.queue if x.kind is source.kind), None)
        return first is None or not (first.touched or first in self._failed)

    def done_of(self, source: Source) -> list[EntryId]:
        """Return what is to be acknowledged of one stream, which is let go then."""
        return list(self._done.get(source, ()))

    def plan(self) -> list[Reading]:
        """Decide what to read now; empty where there is nothing to read or no room."""
        lanes = self.held()
        active = sum(len(x.queue) for x in lanes if not x.parked)
        if active >= PREFETCH_MAX or len(self.letters) >= LETTERS_MAX:
            return []
        wanting = [
            source
            for lane in lanes
            if len(lane.queue) < self.lane_prefetch_max and not lane.leaving
            for source in lane.sources.values()
            if source.phase is Phase.RECOVERING or (source.phase is Phase.LIVE and source.more)
        ]
        share = max(1, PREFETCH_MAX // max(1, len(wanting)))
        return [Reading(x, min(share, self.lane_prefetch_max - len(x.lane.queue))) for x in wanting]

    def quiet(self) -> dict[str, EntryId]:
        """Return the streams that hold nothing new, with the last entry known of each."""
        return {
            source.key: source.seen
            for lane in self.held()
            if not lane.leaving
            for source in lane.sources.values()
            if source.phase is Phase.LIVE and not source.more
        }


def _alike(
    lane: Lane, key: Hashable, size: int, batch_of: Callable[[Work], tuple[Hashable, int]]
) -> list[Work]:
    """Return the first works of a lane that belong in this batch."""
    works: list[Work] = []
    for work in lane.next_works():
        if len(works) >= size or batch_of(work)[0] != key:
            break
        works.append(work)
    return works
