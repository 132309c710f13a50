"""A consumer's worker and lanes without server and threads, in a time of their own: for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consumers.core.ids import ZERO, EntryId
from consumers.core.lane import Lane
from consumers.core.lanes import NEVER_MS, Lanes
from consumers.core.policy import Policy
from consumers.core.standing import EVENTS_NAME
from consumers.core.wants import Subscriptions
from consumers.core.work import Kind
from consumers.errors import UsageError
from consumers.shell.calling import Caller
from consumers.shell.catalogue import Catalogue
from consumers.shell.discovery import Discovery
from consumers.shell.intake import Intake, arrivals_of
from consumers.shell.lookup import BusLookup
from consumers.shell.memory import MemoryBus
from consumers.shell.streams import Fields
from consumers.shell.threads import Desk
from consumers.shell.worker import Worker
from publisher.wire import Bar, Series

FIRST_MS: Final = 1_767_225_600_000
"""When the clock begins: 2026-01-01, UTC."""
WAITED_MS_MAX: Final = 3_600_000
"""How long retries are waited for, by the test's own clock; then they stay where they are."""
AWAITED_MS_MAX: Final = 60_000
"""How long an `async` handler may take, by the real clock."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that a handler gave up on."""

    series: str
    """`@events` for an event."""
    entry_id: str
    reason: str
    traceback: str
    attempts: int


@dataclass(slots=True)
class Clock:
    """Stands still but for what the test does."""

    waited_ms: int = 0
    time_ms: int = FIRST_MS

    def monotonic_ms(self) -> int:
        """Return how long was waited."""
        return self.waited_ms

    def wall_ms(self) -> int:
        """Return the time of day."""
        return self.time_ms

    def wait(self, wait_ms: int) -> None:
        """Let time pass."""
        self.waited_ms += wait_ms
        self.time_ms += wait_ms


class Rehearsal:
    """Brings entries to a consumer's handlers and runs them."""

    def __init__(
        self,
        bus: MemoryBus,
        group: str,
        subscriptions: Subscriptions,
        policy: Policy,
        *,
        raise_errors: bool,
    ) -> None:
        self.clock = Clock()
        self.desk = Desk(clock=self.clock, lanes=Lanes(valid_until_ms=NEVER_MS))
        self.dead_letters: list[DeadLetter] = []
        self._bus = bus
        self._wishes = subscriptions.wishes
        client, keys = bus.open(), bus.keys
        self._intake = Intake(self.desk, client)
        self._discovery = Discovery(self._wishes, Catalogue(client, keys.catalogue), keys, 0)
        caller = Caller(group, self.clock, BusLookup(client, keys))
        self._worker = Worker(self.desk, subscriptions, caller, policy, raise_errors=raise_errors)
        self._serial = 0

    def close(self) -> None:
        """End the loop of `async` handlers."""
        self._worker.loop.close()

    def has_begun(self, series: Series) -> bool:
        """Tell whether anything of the series was brought to handlers."""
        return str(series) in self.desk.lanes.by_name

    def put(self, kind: Kind, key: str, series: Series | None, fields: Fields, ms: int = 0) -> None:
        """Append an entry to a stream, and deliver it where somebody wants it."""
        lane = self._lane(series)
        self._serial += 1
        entry = EntryId(ms) if ms else EntryId(self.clock.wall_ms(), self._serial)
        self._bus.memory.append(key, entry, fields)
        source = None if lane is None else lane.sources.get(kind)
        if source is not None:
            self._intake.deliver(source, arrivals_of(source, [(entry, fields)], {}))

    def form(self, bar: Bar) -> None:
        """Deliver a state of the bar in progress."""
        if self._lane(bar.series) is not None:
            self.desk.forming[bar.series] = bar

    def settle(self) -> None:
        """Run the handlers until nothing is left that they could do.

        Raises what they raise, or HandlerFailed, as the policy says.
        """
        desk, clock, worker = self.desk, self.clock, self._worker
        until_ms = clock.waited_ms + WAITED_MS_MAX
        while not desk.stopping:
            wait_ms = worker.step()
            if wait_ms == 0 or desk.stopping:
                continue
            if worker.awaited:
                self._await()
            elif desk.lanes.next_due_ms() is None or clock.waited_ms >= until_ms:
                break
            else:
                clock.wait(wait_ms)
        worker.go_on()
        while worker.awaited:
            self._await()
            worker.go_on()
        self._gather()
        if desk.failure is not None:
            raise desk.failure

    def _lane(self, series: Series | None) -> Lane | None:
        """Return the lane of a series, or of the events; None where nobody wants it."""
        wished = self._wishes.events if series is None else self._wishes.matched([series])
        if not wished:
            return None
        lanes, name = self.desk.lanes.by_name, EVENTS_NAME if series is None else str(series)
        if name not in lanes:
            lanes[name] = self._discovery.lane(name)
            lanes[name].token = 1
            for source in lanes[name].sources.values():
                before = max(self._bus.memory.streams.get(source.key, ()), default=ZERO)
                source.attach(before, before)
                source.recovered()
        return lanes[name]

    def _await(self) -> None:
        if not self.desk.worker_bell.wait(AWAITED_MS_MAX):
            raise UsageError(f"an async handler did not end within {AWAITED_MS_MAX} ms")

    def _gather(self) -> None:
        """Take what the reader's thread would: acknowledgements and dead letters."""
        lanes = self.desk.lanes
        for source, entries in lanes.take_done().items():
            source.acknowledged(entries)
        lanes.take_failed()
        for letter in lanes.letters:
            self.desk.counts.dead_lettered += 1
            self.dead_letters.append(
                DeadLetter(
                    letter.source.lane.name,
                    str(letter.entry),
                    letter.failure.reason,
                    letter.failure.traceback,
                    letter.attempts,
                )
            )
        lanes.letters.clear()
