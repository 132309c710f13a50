"""A consumer's process in virtual time: the real reader and worker, without their threads.

All that the simulation knows of how a consumer is made is here and in `waiting`. What is planted
in it, and what the checker sees of it, are calls of its handler and commands to the bus.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from consumers.core.backoff import Backoff
from consumers.core.handlers import Handler
from consumers.core.patterns import Pattern
from consumers.core.policy import FailurePolicy, Policy
from consumers.core.start import Start
from consumers.core.wants import Subscription, Subscriptions, Wanted
from consumers.errors import NameTaken
from consumers.shell.calling import Caller
from consumers.shell.lookup import BusLookup
from consumers.shell.reading import reader_of
from consumers.shell.threads import Desk, Tuning
from consumers.shell.worker import WAIT_MS_MAX, Worker
from publisher.wire import Bar
from tests.simulation.bus import Bus
from tests.simulation.loop import Killed, Process
from tests.simulation.plan import Plan
from tests.simulation.publishing import KEYS
from tests.simulation.waiting import PACE_MS, Awaited, Turns, VirtualBell, VirtualLoop, VirtualWatch

GROUPS: Final = ("alpha", "beta")
GIVE_UP: Final = frozenset({"beta"})
"""Groups that give up on a bar after some attempts; others try forever."""
GUARDS: Final = (
    "consumer.bus_lost",
    "consumer.claimed",
    "consumer.dead_lettered",
    "consumer.failed",
    "consumer.groups_lost",
    "consumer fenced",
    "consumer lost",
    "group made at its checkpoint",
    "lease lapsed",
    "lease moved",
    "repeated at a take-over",
    "two at once, one without a lease",
)
"""What must have stood at least once in any batch."""
TUNING: Final = Tuning(block_ms=10_000, catalogue_ms=5_000, repair_ms=2_000)
BACKOFF: Final = Backoff(first_ms=500, wait_ms_max=8_000)
ASYNC: Final = frozenset({"beta"})
"""Groups whose handlers are `async`: several series at once."""
ATTEMPTS: Final = 3
LEASE_MS: Final = 10_000
BEAT_MS_MAX: Final = LEASE_MS // 5

Handled = Callable[["ConsumerProcess", Bar, bool | None], None]
"""Told that a bar is handed to a process' handler (None), and whether that returned or raised."""


def group_of(name: str) -> str | None:
    """Return the group whose member has this name, None where that is no consumer."""
    group = name.rpartition("-")[0]
    return group if group in GROUPS else None


class ConsumerProcess(Process):
    """One member of a group."""

    def __init__(
        self,
        bus: Bus,
        plan: Plan,
        group: str,
        name: str,
        patterns: tuple[str, ...],
        handled: Handled,
        ended: Callable[[], None],
        rng: random.Random,
    ) -> None:
        super().__init__(bus.loop, name, rng)
        self._plan = plan
        self.group = group
        self._handled = handled
        self._ended = ended
        self.faulty = bus.faulty
        self.client = bus.connect(self)
        self._reader_turns = Turns(self, self._read)
        self._worker_turns = Turns(self, self._work)
        self.desk = Desk(
            clock=self,
            reader_bell=VirtualBell(self._reader_turns.soon),
            worker_bell=VirtualBell(self._worker_turns.soon),
        )
        wanted = Subscriptions()
        parsed = tuple(map(Pattern.parse, patterns))
        wanted.add(Subscription(Wanted.BARS, Handler(self.take), parsed))
        self._reader = reader_of(
            self.desk,
            self.client,
            KEYS,
            group=group,
            member=name,
            wishes=wanted.wishes,
            start=Start.parse("oldest"),
            tuning=TUNING,
            lease_ms=LEASE_MS,
        )
        self._reader.rng = rng
        self._reader.group._watch = self._watch = VirtualWatch(self.client)
        caller = Caller(group, self, BusLookup(self.client, KEYS))
        ending: FailurePolicy = "dead-letter" if group in GIVE_UP else "retry-forever"
        policy = Policy(ending, ATTEMPTS, BACKOFF)
        self._worker = Worker(self.desk, wanted, caller, policy, rng, VirtualLoop(self))

    def start(self) -> None:
        """Begin to read."""
        self.say("started")
        self._reader_turns.at_most(self.rng.randrange(1_000))
        self._worker_turns.at_most(self.rng.randrange(1_000))

    def kill(self) -> None:
        """End without any clean-up."""
        self.say("killed")
        self._end()

    def stop(self) -> None:
        """End as on SIGTERM: after the bar in hand, with the reader's last word."""
        if not self.desk.stopping:
            self.say("is asked to stop")
            self.desk.stop()

    def _leave(self) -> None:
        self.say("stopped")
        try:
            self._reader.departure.leave()
        finally:
            self._end()

    def _end(self) -> None:
        self.alive = False
        self._count()
        self._ended()

    def _count(self) -> None:
        counts = self.desk.counts
        for name in counts.__slots__:
            self.loop.trace.counts[f"consumer.{name}"] += getattr(counts, name)

    def appended(self) -> None:
        """Something new stands in a stream: a read that waits returns."""
        self._watch.is_due = True
        self._reader_turns.soon()

    def thawed(self) -> None:
        """Both threads go on."""
        self._reader_turns.at_most(self.rng.randrange(*PACE_MS))
        self._worker_turns.at_most(self.rng.randrange(*PACE_MS))

    # The two threads.

    def _read(self) -> int:
        if self.desk.closing:
            self._leave()
            raise Killed(self.name)
        try:
            wait_ms = self._reader.attempt()
        except NameTaken as error:
            self.say(f"ends: {error}")
            self.struck("name_taken")
            self._end()
            raise Killed(self.name) from error
        if self._reader._failures:
            self._reader_turns.deaf = not self.desk.stopping
            return wait_ms
        found = self._reader._woken
        self._reader.rest(wait_ms)
        return 0 if self._reader._woken is not found and self._reader._woken else wait_ms

    def _work(self) -> int:
        if self.desk.stopping:
            self._worker.go_on()
            if not self._worker.awaited:
                self.desk.close()
            return WAIT_MS_MAX
        return self._worker.step()

    def take(self, bar: Bar) -> Awaited | None:
        """Do what is done with a bar: planted bugs do something else."""
        return self.handle(bar)

    def handle(self, bar: Bar) -> Awaited | None:
        """Do what the handler does. Raises ValueError on bad days, and Killed."""
        self._handled(self, bar, None)
        self.check()
        wait_ms = self.rng.randrange(self._plan.slow_ms) if self._plan.slow_ms else 0
        if self.group in ASYNC:
            return Awaited(lambda: self._end_handling(bar), wait_ms)
        self.stall(wait_ms)
        self._end_handling(bar)
        return None

    def _end_handling(self, bar: Bar) -> None:
        if self._draws("handler_killed"):
            if self.rng.random() < 0.5:
                self._handled(self, bar, True)
            self.kill()
            raise Killed(self.name)
        if self.group not in ASYNC and self._draws("handler_stalls"):
            self.stall(self.rng.randrange(100, 8_000))
        if self._draws("handler_fails"):
            self._handled(self, bar, False)
            raise ValueError("the handler fails")
        self._handled(self, bar, True)

    def _draws(self, kind: str) -> bool:
        if not self.faulty or self.rng.random() >= self._plan.chance(kind):
            return False
        self.struck(kind)
        return True
