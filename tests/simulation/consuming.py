"""A consumer's process in virtual time: the real reader and worker, without their threads.

All that the simulation knows of how a consumer is made is in this module. What is planted
in it, and what the checker sees of it, are calls of its handler and commands to the bus.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from consumers.core.backoff import Backoff
from consumers.core.patterns import Pattern
from consumers.core.start import Start
from consumers.shell.attach import Attacher
from consumers.shell.catalogue import Catalogue
from consumers.shell.group import Group
from consumers.shell.reader import Reader
from consumers.shell.threads import Bell, Desk, Tuning
from consumers.shell.worker import Subscription, Worker
from publisher.wire import Bar
from tests.simulation.bus import Bus
from tests.simulation.loop import Killed, Process
from tests.simulation.plan import Plan
from tests.simulation.publishing import KEYS

GROUPS: Final = ("alpha", "beta")
GUARDS: Final = (
    "consumer.bus_lost",
    "consumer.claimed",
    "consumer.dead_lettered",
    "consumer.failed",
    "consumer.groups_lost",
)
"""What must have stood at least once in any batch."""
TUNING: Final = Tuning(block_ms=10_000, catalogue_ms=10_000, settle_ms=1_000)
RETRY: Final = Backoff(first_ms=500, wait_ms_max=8_000)
PACE_MS: Final = (1, 60)

Handled = Callable[[str, Bar, bool], None]
"""Told of a group's bar: that it is handed to the handler (False) and that that returned (True)."""


def group_of(name: str) -> str | None:
    """Return the group whose member has this name, None where that is no consumer."""
    group = name.rpartition("-")[0]
    return group if group in GROUPS else None


class _Bell(Bell):
    """Wakes a thread that is none: its next step comes soon."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def ring(self) -> None:
        """Let the next step come soon."""
        self._wake()

    def wait(self, wait_ms: int) -> bool:
        """Nobody waits in virtual time."""
        raise AssertionError(f"waits for {wait_ms} ms")


class ConsumerProcess(Process):
    """The one member of a group."""

    def __init__(
        self,
        bus: Bus,
        plan: Plan,
        group: str,
        name: str,
        patterns: tuple[str, ...],
        handled: Handled,
        rng: random.Random,
    ) -> None:
        super().__init__(bus.loop, name, rng)
        self._plan = plan
        self.group = group
        self._handled = handled
        self.faulty = bus.faulty
        self.client = bus.connect(self)
        self._reader_turns = _Turns(self, self._read)
        self._worker_turns = _Turns(self, self._work)
        self.desk = Desk(
            clock=self,
            reader_bell=_Bell(self._reader_turns.soon),
            worker_bell=_Bell(self._worker_turns.soon),
        )
        parsed = [Pattern.parse(text) for text in patterns]
        member = Group(self.client, group, name, KEYS.dead(group))
        catalogue = Catalogue(self.client, KEYS.catalogue)
        start = Start.parse("oldest")
        attacher = Attacher(self.desk, member, catalogue, KEYS, parsed, start, TUNING)
        self._reader = Reader(self.desk, member, attacher, TUNING, rng=rng)
        subscriptions = [Subscription(pattern, self.take) for pattern in parsed]
        self._worker = Worker(self.desk, subscriptions, RETRY, rng)

    def start(self) -> None:
        """Begin to read."""
        self.say("started")
        self._reader_turns.at_most(self.rng.randrange(1_000))
        self._worker_turns.at_most(self.rng.randrange(1_000))

    def kill(self) -> None:
        """End without any clean-up."""
        self.say("killed")
        self.alive = False
        self._count()

    def stop(self) -> None:
        """End as on SIGTERM, if neither thread is in a call."""
        if self._reader_turns.busy or self._worker_turns.busy or self.frozen:
            return
        self.say("stopped")
        self.desk.stopping = self.desk.closing = True
        self._reader_turns.busy = self._worker_turns.busy = True
        try:
            self._reader.finish()
        except Killed:
            pass
        finally:
            self.alive = False
            self._count()

    def _count(self) -> None:
        counts = self.desk.counts
        for name in counts.__slots__:
            self.loop.trace.counts[f"consumer.{name}"] += getattr(counts, name)

    def appended(self) -> None:
        """Something new stands in a stream: a read that waits returns."""
        self._reader_turns.soon()

    def thawed(self) -> None:
        """Both threads go on."""
        self._reader_turns.at_most(self.rng.randrange(*PACE_MS))
        self._worker_turns.at_most(self.rng.randrange(*PACE_MS))

    # The two threads.

    def _read(self) -> int:
        self.client.blocked_ms = 0
        rest = self._reader.attempt()
        self._reader_turns.deaf = not rest.wakeable
        if self.desk.failure is not None:
            raise self.desk.failure
        # Where the read waited for nothing, that was its rest.
        return max(rest.wait_ms, self.client.blocked_ms if rest.wait_ms == 0 else 0)

    def _work(self) -> int:
        return self._worker.step()

    def take(self, bar: Bar) -> None:
        """Do what is done with a bar: planted bugs do something else."""
        self.handle(bar)

    def handle(self, bar: Bar) -> None:
        """Do what the handler does. Raises ValueError on bad days, and Killed."""
        self._handled(self.group, bar, False)
        self.check()
        if self._draws("handler_killed"):
            if self.rng.random() < 0.5:
                self._handled(self.group, bar, True)
            self.kill()
            raise Killed(self.name)
        if self._draws("handler_stalls"):
            self.stall(self.rng.randrange(100, 8_000))
        if self._draws("handler_fails"):
            raise ValueError("the handler fails")
        self._handled(self.group, bar, True)

    def _draws(self, kind: str) -> bool:
        if not self.faulty or self.rng.random() >= self._plan.chance(kind):
            return False
        self.struck(kind)
        return True


class _Turns:
    """When one of a process' threads has its next step."""

    def __init__(self, process: ConsumerProcess, step: Callable[[], int]) -> None:
        self._process = process
        self._step = step
        self._serial = 0
        self._due_ms = -1
        self._rung = False
        self.busy = False
        self.deaf = False
        """True while no ring ends the rest."""

    def soon(self) -> None:
        """Let the next step come soon, whatever it waits for."""
        if self.busy:
            self._rung = True
        elif not self.deaf:
            self.at_most(self._process.rng.randrange(*PACE_MS))

    def at_most(self, wait_ms: int) -> None:
        """Let the next step come in so long, or sooner where that was planned."""
        due_ms = self._process.loop.now_ms + wait_ms
        if self._due_ms < self._process.loop.now_ms or due_ms < self._due_ms:
            self._serial += 1
            self._due_ms = due_ms
            serial = self._serial
            self._process.loop.at(due_ms, lambda: self._turn(serial))

    def _turn(self, serial: int) -> None:
        process = self._process
        if not process.alive or process.frozen or self.busy or serial != self._serial:
            return
        self.busy, self._rung, self.deaf = True, False, False
        try:
            wait_ms = self._step()
        except Killed:
            return
        finally:
            self.busy = False
        self._due_ms = -1
        if self._rung and not self.deaf:
            wait_ms = 0
        self.at_most(max(wait_ms, process.rng.randrange(*PACE_MS)))
