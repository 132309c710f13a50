"""Reads the bus in its own thread: finds series, delivers bars, acknowledges, recovers.

One call at a time, each bounded; what comes back goes to the desk, where the
handlers' thread takes it. While bars are in hand the reader waits for a ring
and acknowledges with the next read; with nothing in hand it waits inside a
blocking read. Nobody polls.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from consumers.core.backoff import BUS_BACKOFF, Backoff
from consumers.core.ids import EntryId
from consumers.core.lane import Lane, Phase
from consumers.core.lanes import LANE_PREFETCH_MAX, ReadPlan
from consumers.errors import (
    ConsumerError,
    EntryInvalid,
    GroupLost,
    GroupUnavailable,
    StreamRefused,
)
from consumers.shell.attach import Attacher
from consumers.shell.competing import Competing, DeadLetter
from consumers.shell.streams import Entry
from consumers.shell.threads import Desk, Tuning
from publisher.wire import EntryMalformed, decode_bar

log = structlog.get_logger("consumers")


@dataclass(frozen=True, slots=True)
class Rest:
    """How long the reader has nothing to do, and whether a ring ends that sooner."""

    wait_ms: int
    wakeable: bool = True


@dataclass(slots=True)
class Reader:
    """The reader's loop; `run` is its thread."""

    desk: Desk
    group: Competing
    attacher: Attacher
    tuning: Tuning
    backoff: Backoff = BUS_BACKOFF
    rng: random.Random = field(default_factory=random.Random)
    _letters: list[DeadLetter] = field(default_factory=list)
    _broken: bool = False
    _failures: int = 0
    _lost_ms: int = 0
    _tend_ms: int = 0
    _settle_ms: int = 0

    def run(self) -> None:
        """Serve the desk until it stops, then give back what was not handled."""
        try:
            while not self.desk.closing:
                self._rest(self.attempt())
            self.finish()
        except BaseException as error:  # noqa: BLE001  # allow: the thread's last line
            self.desk.stop(error)

    def attempt(self) -> Rest:
        """Do what is due, in bounded time; return how long to rest before the next time."""
        try:
            rest = self._step()
        except (GroupLost, StreamRefused) as error:
            log.debug("group.doubted", error=str(error))
            self._broken = True
            return Rest(self.tuning.repair_ms, wakeable=False)
        except GroupUnavailable as error:
            return self._lost(error)
        self._found()
        return rest

    def _lost(self, error: ConsumerError) -> Rest:
        self._failures += 1
        self.desk.bus_trouble = str(error)
        if self._failures == 1:
            self._lost_ms = self.desk.clock.monotonic_ms()
            self.desk.counts.bus_lost += 1
            log.warning("bus.lost", error=str(error), group=self.group.group)
        with self.desk.lock:
            for lane in self.desk.lanes.wanted():
                lane.rewind()
        return Rest(self.backoff.wait_ms(self._failures, self.rng), wakeable=False)

    def _found(self) -> None:
        self.desk.bus_trouble = ""
        if self._failures:
            self._failures = 0
            waited_ms = self.desk.clock.monotonic_ms() - self._lost_ms
            log.info("bus.found", waited_ms=waited_ms, group=self.group.group)

    def _rest(self, rest: Rest) -> None:
        clock = self.desk.clock
        end_ms = clock.monotonic_ms() + rest.wait_ms
        while not self.desk.closing and (left_ms := end_ms - clock.monotonic_ms()) > 0:
            if self.desk.reader_bell.wait(left_ms) and rest.wakeable:
                return

    def _step(self) -> Rest:
        if self._broken:
            self.attacher.repair()
            self._broken = False
        now_ms = self.desk.clock.monotonic_ms()
        self.attacher.discover(now_ms)
        self._bury()
        if now_ms >= self._tend_ms:
            self._tend()
            self._tend_ms = now_ms + self.tuning.tend_ms
        self._settle(now_ms)
        return self._exchange()

    def _deadline_ms(self) -> int:
        """How long nothing but new bars needs attention."""
        with self.desk.lock:
            waiting = bool(self.desk.lanes.in_phase(Phase.WAITING))
        due = [self._tend_ms, self.attacher.due_ms]
        due += [self._settle_ms] if waiting else []
        now_ms = self.desk.clock.monotonic_ms()
        return max(1, min(self.tuning.block_ms, min(due) - now_ms))

    def _exchange(self) -> Rest:
        """Acknowledge and read in one round trip; rest where nothing is left to do."""
        lanes = self.desk.lanes
        with self.desk.lock:
            plan = None if self.desk.stopping else lanes.plan()
            done = lanes.take_done()
        acks = {lane.key: ids for lane, ids in done.items()}
        try:
            if plan is None:
                self.group.acknowledge(acks)
            else:
                self._read(plan, acks)
        except ConsumerError:
            with self.desk.lock:
                lanes.put_back(done)
            raise
        with self.desk.lock:
            for lane, ids in done.items():
                lanes.acknowledged(lane, ids)
        goes_on = plan is not None and (plan.pending or plan.may_block)
        return Rest(0 if goes_on else self._deadline_ms())

    def _read(self, plan: ReadPlan, acks: Mapping[str, Sequence[EntryId]]) -> None:
        cursors = {x.key: x.cursor if plan.pending else None for x in plan.lanes}
        block_ms = self._deadline_ms() if plan.may_block else None
        streams = self.group.read(cursors, plan.count, block_ms, acks)
        for lane in plan.lanes:
            entries = streams.get(lane.key, [])
            if plan.pending and not entries:
                with self.desk.lock:
                    lane.recovered()
            self._deliver(lane, entries)

    def _deliver(self, lane: Lane, entries: Sequence[Entry]) -> None:
        """Put what arrived on the desk; what cannot be decoded is set aside."""
        trimmed: list[EntryId] = []
        gaps = []
        with self.desk.lock:
            for entry, fields in entries:
                if not fields:
                    lane.arrived(entry)
                    trimmed.append(entry)
                    continue
                try:
                    bar = decode_bar(lane.series, fields)
                except EntryMalformed as error:
                    lane.arrived(entry)
                    reason = EntryInvalid(str(error))
                    self._letters.append(DeadLetter(lane.key, entry, str(reason), fields))
                    continue
                if (gap := self.desk.lanes.accept(lane, entry, bar)) is not None:
                    gaps.append(gap)
        if entries:
            self.desk.worker_bell.ring()
        for gap in gaps:
            self.desk.counts.gaps += 1
            level = log.debug if lane.shared else log.warning
            level("gap.seen", series=str(lane.series), from_ms=gap.from_ms, to_ms=gap.to_ms)
        self._trimmed(lane, len(trimmed))
        if trimmed:
            self.group.acknowledge({lane.key: trimmed})

    def _trimmed(self, lane: Lane, entries: int) -> None:
        if entries:
            self.desk.counts.trimmed += entries
            log.error("entry.trimmed", series=str(lane.series), entries=entries)

    def _bury(self) -> None:
        """Copy entries that cannot be decoded to the dead letters, and only then go on."""
        while self._letters:
            letter = self._letters[0]
            try:
                self.group.bury(letter, self.desk.clock.wall_ms())
            except (StreamRefused, GroupLost) as error:
                fault = str(error)
                log.error("entry.dead_letter_failed", key=letter.key, error=fault)
            else:
                self.desk.counts.dead_lettered += 1
                log.error(
                    "entry.dead_lettered",
                    key=letter.key,
                    id=str(letter.entry),
                    reason=letter.reason,
                )
            self._letters.pop(0)

    def _tend(self) -> None:
        """Keep what is in hand, take over what others abandoned."""
        with self.desk.lock:
            lanes = self.desk.lanes.wanted()
            held = {lane.key: sorted(lane.unacked) for lane in lanes}
        self.group.keep(held)
        self._claim([lane for lane in lanes if lane.phase is Phase.LIVE])
        keys = [lane.key for lane in lanes]
        others = self.group.other_members(keys, self.tuning.claim_idle_ms)
        for lane in lanes:
            lane.shared = others[lane.key]

    def _claim(self, lanes: Sequence[Lane]) -> None:
        room = [lane for lane in lanes if len(lane.queue) < LANE_PREFETCH_MAX]
        keys = [lane.key for lane in room]
        claimed = self.group.claim(keys, self.tuning.claim_idle_ms, LANE_PREFETCH_MAX)
        for lane in room:
            fresh = [x for x in claimed[lane.key].entries if x[0] not in lane.unacked]
            self._trimmed(lane, claimed[lane.key].trimmed)
            self._claimed(lane, len(fresh))
            self._deliver(lane, fresh)

    def _claimed(self, lane: Lane, entries: int) -> None:
        if entries:
            self.desk.counts.claimed += entries
            log.info("entry.claimed", series=str(lane.series), entries=entries)

    def _settle(self, now_ms: int) -> None:
        """Begin to read those series of which no other member holds older bars."""
        with self.desk.lock:
            waiting = self.desk.lanes.in_phase(Phase.WAITING)
        if now_ms < self._settle_ms and all(lane.barrier for lane in waiting):
            return
        self._settle_ms = now_ms + self.tuning.settle_ms
        held = {x: self.group.others_hold(x.key, x.barrier) for x in waiting}
        for lane, entry in held.items():
            if entry is None:
                with self.desk.lock:
                    lane.released()
            elif lane.barrier is None:
                lane.barrier = entry
                wait_ms = self.tuning.claim_idle_ms
                log.info("entry.awaited", series=str(lane.series), wait_ms_max=wait_ms)
        self._take_over([lane for lane, entry in held.items() if entry is not None])

    def _take_over(self, lanes: Sequence[Lane]) -> None:
        idle_ms = self.tuning.claim_idle_ms
        taken = self.group.take_over([lane.key for lane in lanes], idle_ms)
        for lane in lanes:
            claimed, trimmed = taken[lane.key]
            self._trimmed(lane, trimmed)
            self._claimed(lane, claimed)
            if claimed or trimmed:
                self._settle_ms = 0

    def finish(self) -> None:
        """Acknowledge what was handled, give back the rest, and leave."""
        lanes = self.desk.lanes
        try:
            done = lanes.take_done()
            self.group.acknowledge({lane.key: ids for lane, ids in done.items()})
            for lane, ids in done.items():
                lanes.acknowledged(lane, ids)
            held = {x.key: sorted(x.unacked) for x in lanes.by_series.values()}
            self.group.release(held, self.tuning.claim_idle_ms)
            self.group.leave(list(held))
        except ConsumerError as error:
            log.warning("group.left_dirty", group=self.group.group, error=str(error))
