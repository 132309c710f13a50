"""A publisher's process in virtual time: the real engine, store and lease, and its end."""

from __future__ import annotations

import contextlib
import random
import threading
from typing import Final

from publisher.app import _wanted
from publisher.core.search import Query
from publisher.engine import TURN_MS_MAX, Engine, Policy
from publisher.errors import Fenced, SignInError, StoreError, StoreUnavailable
from publisher.ports import RENEW_MS, Ports
from publisher.shell.lease import RedisLease
from publisher.shell.store import RedisStore, Retention
from publisher.wire import Keys, Series
from tests.simulation.bus import Bus
from tests.simulation.loop import Killed, Process
from tests.simulation.plan import Plan
from tests.simulation.tradingview import TradingView
from tests.simulation.transport import Inbox, SimTokens, SimTransport, SimTransports

KEYS: Final = Keys("tv")
IDLE_MS: Final = (900, 2_200)
"""How far apart turns are in which nothing happens. In life it is at most 200 ms."""
STAND_BY_MS: Final = (RENEW_MS, 5 * RENEW_MS)
"""How far apart a standby's questions for the lease are. In life it is the shortest of these."""
BUSY_MS: Final = (2, 40)
WAKE_MS: Final = (1, 30)
"""How long an engine takes to notice that something is in its inbox."""


class NoSearcher:
    """Nobody searches here."""

    def search(self, request: str, query: Query) -> None:
        raise AssertionError(f"nobody asked for {query}")


class PublisherProcess(Process):
    """Stands by, publishes while it holds the lease, stands by again."""

    def __init__(
        self, bus: Bus, service: TradingView, plan: Plan, name: str, rng: random.Random
    ) -> None:
        super().__init__(bus.loop, name, rng)
        self._plan = plan
        self._service = service
        client = bus.connect(self)
        self._store = RedisStore(client, KEYS, plan.encoding, Retention(0, 0))
        self._lease = RedisLease(client, KEYS, name)
        self.engine: Engine | None = None
        self._transport: SimTransports | None = None
        self._before: list[Series] = []
        self._busy = False
        self._due_ms = 0
        self._serial = 0

    def start(self) -> None:
        """Begin to ask for the lease."""
        self.say("started")
        self._plan_step(self.rng.randrange(RENEW_MS))

    def kill(self) -> None:
        """End without any clean-up."""
        self.say("killed")
        self.alive = False
        self._leave()

    def stop(self) -> None:
        """End as on SIGTERM, if it is not stuck in a call."""
        if self._busy or self.frozen:
            return
        self.say("stopped")
        stopped = threading.Event()
        stopped.set()
        try:
            if self.engine is not None:
                self._busy = True
                self.engine.run(stopped)
        except (Fenced, SignInError, Killed):
            pass
        finally:
            self.alive = False
            self._leave()

    def _leave(self) -> None:
        """Note what the engine did, and forget it."""
        if self._transport is not None:
            self._transport.close_all()
            self._transport = None
        if self.engine is not None:
            for event, times in self.engine.notes.counts.items():
                self.loop.trace.counts[event] += times
            self.engine = None

    # Steps.

    def thawed(self) -> None:
        """The reading thread and the engine's go on, in either order."""
        drain_ms = self.rng.randrange(40)
        self.loop.after(drain_ms, self._drain)
        self._plan_step(self.rng.randrange(40))

    def _drain(self) -> None:
        if self.alive and not self.frozen and self._transport is not None:
            self._transport.drain()

    def _wake(self) -> None:
        wait_ms = self.rng.randrange(*WAKE_MS)
        if self._due_ms > self.loop.now_ms + wait_ms:
            self._plan_step(wait_ms)

    def _plan_step(self, wait_ms: int) -> None:
        self._serial += 1
        serial = self._serial
        self._due_ms = self.loop.now_ms + wait_ms
        self.loop.at(self._due_ms, lambda: self._step(serial))

    def _step(self, serial: int) -> None:
        if not self.alive or self._busy or self.frozen or serial != self._serial:
            return
        self._busy = True
        try:
            wait_ms = self._turn() if self.engine is not None else self._stand_by()
        except Killed:
            return
        finally:
            self._busy = False
        self._plan_step(wait_ms)

    def _stand_by(self) -> int:
        try:
            token = self._lease.acquire()
        except StoreUnavailable:
            token = None
        if token is None:
            return self.rng.randrange(*STAND_BY_MS)
        try:
            wanted = _wanted(self._plan.series, self._store, self._before)
        except StoreError:
            with contextlib.suppress(StoreError):
                self._lease.release(token)
            return RENEW_MS
        self.say(f"publishes with token {token}")
        self.struck("lease_taken")
        inbox = Inbox(self._plan.inbox_max)
        self._transport = SimTransports(
            lambda: SimTransport(self, self._service, inbox, self._wake)
        )
        tokens = SimTokens(self, self._service, inbox, self._wake)
        ports = Ports(
            self, tokens, self._transport, self._store, self._lease, NoSearcher(), self.rng
        )
        policy = Policy(
            self._plan.history_bars,
            self._plan.settle_ms,
            audit_minutes=self._plan.audit_bars,
        )
        self.engine = Engine(ports, policy, inbox, wanted, token)  # type: ignore[arg-type]
        return 1

    def _turn(self) -> int:
        engine = self.engine
        assert engine is not None
        try:
            engine.turn()
        except Fenced as error:
            self.say(f"steps down: {error}")
            self.struck("fenced")
            self._before = engine.commanded
            self._leave()
            return RENEW_MS
        except SignInError as error:
            self.say(f"gives up: {error}")
            self.struck("signin_given_up")
            self.kill()
            raise Killed(self.name) from error
        waits = engine._wait_ms() < TURN_MS_MAX
        return self.rng.randrange(*(BUSY_MS if waits else IDLE_MS))
