"""Reads the bus in its own thread, by lease: beats, takes over, delivers, acknowledges.

One call at a time, each bounded; what comes back goes to the desk, where the
handlers' side takes it. With nothing to do the reader waits for new bars, for a
ring and for the next beat, whichever comes first. Nobody polls.

A series that is to be handed over gives nothing more to a handler; once nothing of
it is at one, its acknowledgements and its position are written, and the next beat
releases it. Where a stream says that another member's token rules, the series is
dropped: nothing of it is acknowledged any more, and what was in hand is dropped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from consumers.core.arrivals import skips
from consumers.core.backoff import BUS_BACKOFF, Backoff
from consumers.core.ids import EntryId
from consumers.core.lane import Phase, Source
from consumers.core.lanes import Reading
from consumers.errors import ConsumerError, Fenced, GroupLost, GroupUnavailable, StreamRefused
from consumers.shell.attach import Attacher
from consumers.shell.departure import Departure
from consumers.shell.group import Group, Served, Serving
from consumers.shell.intake import Intake, arrivals_of
from consumers.shell.letters import Letters
from consumers.shell.streams import Entry
from consumers.shell.tenure import Tenure
from consumers.shell.threads import Desk, Tuning, WakingBell

log = structlog.get_logger("consumers")


@dataclass(slots=True)
class Reader:
    """The reader's loop; `run` is its thread."""

    desk: Desk
    group: Group
    tenure: Tenure
    attacher: Attacher
    intake: Intake
    letters: Letters
    departure: Departure
    tuning: Tuning
    backoff: Backoff = BUS_BACKOFF
    rng: random.Random = field(default_factory=random.Random)
    _failures: int = 0
    _lost_ms: int = 0
    _check_ms: int = 0
    _woken: set[str] = field(default_factory=set)
    """Streams that should have something new."""

    def run(self) -> None:
        """Serve the desk until it stops, then hand over what was not handled."""
        try:
            while not self.desk.closing:
                self.rest(self.attempt())
            self.departure.leave()
        except BaseException as error:  # noqa: BLE001  # allow: the thread's last line
            self.desk.stop(error)
            self.departure.abandon(error)
        finally:
            self.group.close()

    def attempt(self) -> int:
        """Do what is due, in bounded time; return how many ms nothing more is."""
        try:
            wait_ms = self._step()
        except (GroupUnavailable, GroupLost, StreamRefused) as error:
            return self._lost(error)
        self._found()
        return wait_ms

    def _lost(self, error: ConsumerError) -> int:
        self._failures += 1
        self.desk.bus_trouble = str(error)
        if self._failures == 1:
            self._lost_ms = self.desk.clock.monotonic_ms()
            self.desk.counts.bus_lost += 1
            log.warning("bus.lost", error=str(error), group=self.group.group)
        with self.desk.lock:
            for lane in self.desk.lanes.held():
                for source in lane.sources.values():
                    source.rewind()
        self.tenure.due_ms = 0
        return self.backoff.wait_ms(self._failures, self.rng)

    def _found(self) -> None:
        self.desk.bus_trouble = ""
        if self._failures:
            self._failures = 0
            waited_ms = self.desk.clock.monotonic_ms() - self._lost_ms
            log.info("bus.found", waited_ms=waited_ms, group=self.group.group)

    def rest(self, wait_ms: int) -> None:
        """Wait so long, or until there is something to do."""
        bell, clock = self.desk.reader_bell, self.desk.clock
        assert isinstance(bell, WakingBell)
        if self._failures:
            end_ms = clock.monotonic_ms() + wait_ms
            while not self.desk.closing and (left_ms := end_ms - clock.monotonic_ms()) > 0:
                bell.wait(left_ms)
            return
        with self.desk.lock:
            quiet = {} if self.desk.stopping else self.desk.lanes.quiet()
        try:
            woken = self.group.wait(quiet, wait_ms, bell.fileno())
        except StreamRefused:
            self._check_ms = 0
        except GroupUnavailable as error:
            self._lost(error)
        else:
            self.wake(woken)
        bell.silence()

    def wake(self, keys: set[str]) -> None:
        """Note that these streams have something new."""
        self._woken = keys
        with self.desk.lock:
            for lane in self.desk.lanes.held():
                for source in lane.sources.values():
                    source.more = source.more or source.key in keys

    def _step(self) -> int:
        now_ms = self.desk.clock.monotonic_ms()
        self.tenure.beat(now_ms)
        for source, error in self.attacher.attach(now_ms):
            self.tenure.fenced(source.lane, error)
        self.letters.write(now_ms)
        self.letters.end_replays()
        self._count_attempts()
        self._exchange(now_ms)
        self.tenure.release(self.departure.hand_over())
        self.departure.keep_positions(now_ms)
        return self._wait_ms(now_ms)

    def _wait_ms(self, now_ms: int) -> int:
        with self.desk.lock:
            lanes = self.desk.lanes
            goes_on = bool(lanes.plan()) and not self.desk.stopping
        if goes_on:
            return 0
        due = [self.tenure.due_ms, self._check_ms, now_ms + self.tuning.block_ms]
        if self.tenure.discovery.wishes.is_open:
            due.append(self.tenure.discovery.due_ms)
        for other in (self.attacher.due_ms(), self.letters.next_ms(), self.departure.due_ms()):
            due += [] if other is None else [other]
        return max(0, min(due) - self.desk.clock.monotonic_ms())

    def _count_attempts(self) -> None:
        """Let the server count what is to be tried again."""
        with self.desk.lock:
            failed = self.desk.lanes.take_failed()
        for number, work in enumerate(failed):
            source = work.lane.source(work)
            try:
                attempt = self.group.raise_attempt(source.key, source.lane.token, work.entry)
            except Fenced as error:
                self.tenure.fenced(work.lane, error)
            except GroupUnavailable:
                with self.desk.lock:
                    self.desk.lanes.put_back_failed(failed[number:])
                raise
            except ConsumerError as error:
                self._trouble(source, error)
            else:
                with self.desk.lock:
                    work.attempt = max(work.attempt, attempt)

    def _exchange(self, now_ms: int) -> None:
        """Acknowledge and read in one round trip."""
        lanes = self.desk.lanes
        with self.desk.lock:
            self._check(now_ms)
            plan = [] if self.desk.stopping else lanes.plan()
            done = lanes.take_done()
        readings = {x.source: x for x in plan}
        asked = list(dict.fromkeys([*readings, *done]))
        if not asked:
            return
        requests = [_serving(x, readings.get(x), done.get(x, ())) for x in asked]
        try:
            outcomes = self.group.serve(requests)
        except ConsumerError:
            with self.desk.lock:
                lanes.put_back(done)
            raise
        down = None
        for source, outcome in zip(asked, outcomes, strict=True):
            if source.phase is Phase.OUTSIDE:
                continue  # it went with the lane's other stream
            if isinstance(outcome, GroupUnavailable):
                down = outcome
                with self.desk.lock:
                    lanes.put_back({source: done.get(source, ())})
            elif isinstance(outcome, ConsumerError):
                self._trouble(source, outcome)
            else:
                self._served(source, readings.get(source), done.get(source, []), outcome)
        if down is not None:
            raise down

    def _check(self, now_ms: int) -> None:
        """Read quiet streams too, now and then: a wait does not tell that one vanished."""
        if now_ms >= self._check_ms:
            self._check_ms = now_ms + self.tuning.check_ms
            for lane in self.desk.lanes.held():
                for source in lane.sources.values():
                    source.more = True

    def _trouble(self, source: Source, error: ConsumerError) -> None:
        if isinstance(error, Fenced):
            self.tenure.fenced(source.lane, error)
        else:
            self.attacher.lose(source, error, self.desk.clock.monotonic_ms())

    def _served(
        self, source: Source, reading: Reading | None, done: Sequence[EntryId], served: Served
    ) -> None:
        with self.desk.lock:
            source.acknowledged(done)
        if reading is None:
            return
        entries: list[Entry] = [(x, {}) for x in source.trimmed] + served.entries
        source.trimmed = ()
        arrivals = arrivals_of(source, sorted(entries, key=lambda x: x[0]), served.attempts)
        if source.phase is Phase.LIVE and arrivals and skips(source, arrivals[0]):
            with self.desk.lock:
                source.rewind()
            return
        self.intake.deliver(source, arrivals)
        is_full = len(served.entries) >= reading.count
        with self.desk.lock:
            if source.phase is Phase.LIVE:
                source.more = is_full
            elif not is_full:
                source.recovered()
        if source.key in self._woken:
            self._woken.discard(source.key)
            if not served.entries:
                self._catch_up(source)

    def _catch_up(self, source: Source) -> None:
        """Learn how far the group is where what is new was nothing for it."""
        [state] = self.group.look([source.key])
        if state is not None and not isinstance(state, ConsumerError):
            with self.desk.lock:
                source.seen = max(source.seen, state.delivered)


def _serving(source: Source, reading: Reading | None, acks: Sequence[EntryId]) -> Serving:
    token = source.lane.token
    if reading is None:
        return Serving(source.key, token, acks)
    cursor = source.cursor if source.phase is Phase.RECOVERING else None
    return Serving(source.key, token, acks, cursor, reading.count)
