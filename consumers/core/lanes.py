"""All series of this process: which bar is next at a handler, and what to read next.

Bars are taken round robin, one per series and turn. A bar whose handler failed
is parked until its time comes; meanwhile its series waits and the others go on.
Room is limited per series and in all, and a series without room is not read.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from consumers.core.ids import EntryId
from consumers.core.lane import Lane, Phase
from consumers.core.work import Failure, Gap, Work
from publisher.wire import Bar, Series

LANE_PREFETCH_MAX: Final = 100
"""Bars of one series in hand beyond which it is not read; one read may add as many again."""
PREFETCH_MAX: Final = 5_000
"""Bars in hand beyond which nothing is read; series that wait for a retry do not count."""

NEVER_MS: Final = 2**63


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """One read over several streams."""

    lanes: tuple[Lane, ...]
    count: int
    """Entries wanted of each stream."""
    pending: bool
    """Own pending entries after each lane's cursor; else new ones."""
    may_block: bool
    """No bar can be handled now, so the read may wait for the next one."""


@dataclass(slots=True)
class Lanes:
    """The state of all series; whoever calls it holds the lock."""

    by_series: dict[Series, Lane] = field(default_factory=dict)
    """Every series ever seen: one that was let go keeps its position."""
    valid_until_ms: int = NEVER_MS
    """Beyond it nothing is handed out: the leases may be another member's by then."""
    _ready: deque[Lane] = field(default_factory=deque)
    _parked: set[Lane] = field(default_factory=set)
    _due: list[tuple[int, int, Work]] = field(default_factory=list)
    _done: dict[Lane, list[EntryId]] = field(default_factory=dict)
    _serial: count[int] = field(default_factory=count)

    def add(self, lane: Lane) -> None:
        """Begin with a series."""
        self.by_series[lane.series] = lane

    def wanted(self) -> list[Lane]:
        """Return the series that are read."""
        return [lane for lane in self.by_series.values() if lane.wanted]

    def in_phase(self, phase: Phase) -> list[Lane]:
        """Return the series that are read and in this phase."""
        return [lane for lane in self.wanted() if lane.phase is phase]

    def accept(self, lane: Lane, entry: EntryId, bar: Bar) -> Gap | None:
        """Put a delivered bar in its place; say which bars before it are missing."""
        was_empty = not lane.queue
        gap = lane.accept(entry, bar)
        if was_empty and lane.queue:
            self._ready.append(lane)
        return gap

    def take(self, now_ms: int) -> Work | None:
        """Return the next work for a handler, None where none is due or may be handed out.

        Its series hands out nothing more until `finish`, `park`, `bury` or `give_back`.
        """
        works = self.take_batch(now_ms, lambda _: (None, 1))
        return works[0] if works else None

    def take_batch(
        self, now_ms: int, batch_of: Callable[[Work], tuple[Hashable, int]]
    ) -> list[Work]:
        """Return works that are handled together, those of a series in order.

        `batch_of` tells of a work which batch it belongs in and how many that
        holds. Every work is answered for by `finish`, `park`, `bury` or
        `give_back`, those of a series in order; the first three of one series end
        its part of the batch for `park` and `bury`: what follows comes again.
        """
        while self._due and (self._due[0][2].dropped or self._due[0][0] <= now_ms):
            work = heapq.heappop(self._due)[2]
            if not work.dropped:
                self._parked.discard(work.lane)
                self._ready.append(work.lane)
        if not self._ready or now_ms > self.valid_until_ms:
            return []
        key, size = batch_of(self._ready[0].queue[0])
        batch: list[Work] = []
        for lane in list(self._ready):
            works: list[Work] = []
            for work in lane.queue:
                if len(batch) + len(works) >= size or batch_of(work)[0] != key:
                    break
                works.append(work)
            if works:
                self._ready.remove(lane)
                lane.out = len(works)
                batch += works
            if len(batch) >= size:
                break
        return batch

    def next_due_ms(self) -> int | None:
        """Return when the next parked bar is due."""
        return self._due[0][0] if self._due else None

    def finish(self, work: Work) -> None:
        """Note that every handler took the work: it can be acknowledged."""
        if work.dropped:
            return
        lane = work.lane
        lane.queue.popleft()
        lane.processed = max(lane.processed, work.entry)
        self._done.setdefault(lane, []).append(work.entry)
        lane.out -= 1
        if lane.queue and not lane.out:
            self._ready.append(lane)

    def give_back(self, work: Work) -> None:
        """Take back, for the next turn, a work that was handed out and not handled."""
        if not work.dropped and work.lane.out:
            work.lane.out = 0
            self._ready.append(work.lane)

    def park(self, work: Work, due_ms: int, *, counted: bool = True) -> None:
        """Keep a work that failed until it is due again; its attempt is counted if it counts."""
        work.attempt += counted
        if not work.dropped:
            work.lane.out = 0
            self._parked.add(work.lane)
            heapq.heappush(self._due, (due_ms, next(self._serial), work))

    def bury(self, work: Work, failure: Failure) -> None:
        """Give up on a work: the reader makes it a dead letter, then acknowledges it."""
        raise NotImplementedError(f"{work.entry}: {failure.reason}")

    def take_done(self) -> dict[Lane, list[EntryId]]:
        """Return what is to be acknowledged; put it back where that fails."""
        done, self._done = self._done, {}
        return done

    def put_back(self, done: dict[Lane, list[EntryId]]) -> None:
        """Return acknowledgements that did not reach the server."""
        for lane, entries in done.items():
            self._done[lane] = entries + self._done.get(lane, [])

    def acknowledged(self, lane: Lane, entries: Iterable[EntryId]) -> None:
        """Note that the server has the acknowledgements."""
        lane.unacked.difference_update(entries)

    def restart(self, lane: Lane) -> EntryId:
        """Forget a lane's bars in hand; return where its group must begin again."""
        if lane in self._ready:
            self._ready.remove(lane)
        self._parked.discard(lane)
        self._done.pop(lane, None)
        return lane.restart()

    def plan(self) -> ReadPlan | None:
        """Decide what to read next; None where there is nothing to read or no room."""
        active = sum(len(x.queue) for x in self.by_series.values() if x not in self._parked)
        if active >= PREFETCH_MAX:
            return None
        for phase in (Phase.RECOVERING, Phase.LIVE):
            lanes = [x for x in self.in_phase(phase) if len(x.queue) < LANE_PREFETCH_MAX]
            if lanes:
                each = max(1, min(LANE_PREFETCH_MAX, PREFETCH_MAX // len(lanes)))
                pending = phase is Phase.RECOVERING
                return ReadPlan(tuple(lanes), each, pending, not pending and not active)
        return None
