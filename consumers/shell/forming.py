"""Bars in progress: the newest state of each series that this member holds, to who wants it.

Nothing of it is acknowledged or tried again. What comes while a handler is busy takes
the place of what came before.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from bus.connection import Client
from consumers.core.backoff import BUS_BACKOFF
from consumers.core.ids import ZERO, EntryId
from consumers.core.wants import Subscription, Subscriptions, Wanted
from consumers.errors import ConsumerError
from consumers.shell.calling import Caller
from consumers.shell.loop import Loop
from consumers.shell.streams import as_entry, translated
from consumers.shell.threads import Desk, WakingBell
from consumers.shell.watch import Watch
from publisher.wire import Bar, EntryMalformed, Keys, Series, decode_bar

log = structlog.get_logger("consumers")

BLOCK_MS: Final = 500
"""Longest wait in one call; so late are series noticed that this member newly holds."""

PACE_MS: Final = 20
"""Between two readings."""


@dataclass(slots=True)
class FormingReader:
    """Reads the newest states, in a thread of its own."""

    desk: Desk
    client: Client
    keys: Keys
    subscriptions: Subscriptions
    rng: random.Random = field(default_factory=random.Random)
    _after: dict[Series, EntryId] = field(default_factory=dict)
    _bell: WakingBell = field(default_factory=WakingBell)
    _stopping: bool = False

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping = True
        self._bell.ring()

    def run(self) -> None:
        """Read until it is asked to stop; what ends it ends the consumer."""
        failures = 0
        watch = Watch(self.client)
        try:
            while not self._stopping:
                try:
                    self.read(watch)
                    failures = 0
                except ConsumerError as error:
                    failures += 1
                    log.debug("forming.unreadable", error=str(error))
                    self._bell.wait(BUS_BACKOFF.wait_ms(failures, self.rng))
        except BaseException as error:  # noqa: BLE001  # allow: the thread's last line
            self.desk.stop(error)
        finally:
            watch.close()

    def read(self, watch: Watch) -> None:
        """Wait for new states, at most BLOCK_MS, and put them on the desk."""
        held = self._held()
        self._after = {x: self._after[x] for x in held if x in self._after}
        self._newest([x for x in held if x not in self._after])
        if not held:
            self._bell.wait(BLOCK_MS)
            return
        by_key = {self.keys.forming(x): x for x in held}
        after = {key: self._after[x] for key, x in by_key.items()}
        changed = watch.wait(after, BLOCK_MS, self._bell.fileno())
        if changed:
            # What changes meanwhile comes with it: many series must not wake this one by one.
            self._bell.wait(PACE_MS)
            self._newest([by_key[key] for key in changed])

    def _held(self) -> list[Series]:
        """Return the series that this member holds and somebody wants."""
        with self.desk.lock:
            held = [x.series for x in self.desk.lanes.held() if x.series and not x.leaving]
        return [x for x in held if self.subscriptions.of_series(Wanted.FORMING, x)]

    def _newest(self, wanted: list[Series]) -> None:
        """Put the newest state of series on the desk; older ones were conflated."""
        if not wanted:
            return
        pipeline = self.client.pipeline(transaction=False)
        for series in wanted:
            pipeline.xrevrange(self.keys.forming(series), count=1)
        with translated():
            replies: list[Any] = pipeline.execute()
        for series, found in zip(wanted, replies, strict=True):
            known = series in self._after
            self._after.setdefault(series, ZERO)
            if not found:
                continue
            self._after[series], fields = as_entry(found[0])
            if not known:
                continue  # it may be of long ago
            try:
                bar = decode_bar(series, fields)
            except EntryMalformed as error:
                log.warning("entry.refused", key=self.keys.forming(series), error=str(error))
                continue
            with self.desk.lock:
                self.desk.forming[series] = bar
            self.desk.worker_bell.ring()


@dataclass(slots=True)
class FormingCalls:
    """Calls the handlers of bars in progress; used by the worker's thread."""

    desk: Desk
    subscriptions: Subscriptions
    caller: Caller
    loop: Loop
    raise_errors: bool = False
    """For tests; else what a handler raises is logged, and the next state comes."""
    failures: list[BaseException] = field(default_factory=list)
    _busy: Counter[Series] = field(default_factory=Counter)

    @property
    def awaited(self) -> int:
        """How many calls of `async` handlers are on the way."""
        return self._busy.total()

    def step(self) -> bool:
        """Hand on the newest state of one series; tell whether there was one."""
        self.raise_failure()
        bar = self._take()
        if bar is None:
            return False
        for subscription in self.subscriptions.of_series(Wanted.FORMING, bar.series):
            try:
                outcome = self.caller.call_forming(subscription, bar)
            except Exception as error:  # noqa: BLE001  # allow: a handler may raise anything
                self._failed(subscription, bar, error)
            else:
                if inspect.isawaitable(outcome):
                    self._await(subscription, bar, outcome)
        return True

    def raise_failure(self) -> None:
        """Raise what ends the worker, where a handler raised such a thing."""
        if self.failures:
            raise self.failures.pop(0)

    def _take(self) -> Bar | None:
        desk = self.desk
        with desk.lock:
            if desk.clock.monotonic_ms() >= desk.lanes.valid_until_ms:
                desk.forming.clear()
            for series in [x for x in desk.forming if not self._busy[x]]:
                bar, lane = desk.forming.pop(series), desk.lanes.by_name.get(str(series))
                if lane is not None and lane.token:
                    return bar
        return None

    def _await(self, subscription: Subscription, bar: Bar, outcome: Any) -> None:
        with self.desk.lock:
            self._busy[bar.series] += 1

        def ended(error: BaseException | None) -> None:
            # First of all: who sees that nothing is on the way must see the failure too.
            if error is not None:
                self._failed(subscription, bar, error)
            with self.desk.lock:
                self._busy[bar.series] -= 1
            self.desk.worker_bell.ring()

        self.loop.run(outcome, ended)

    def _failed(self, subscription: Subscription, bar: Bar, error: BaseException) -> None:
        self.desk.counts.failed += 1
        if self.raise_errors or not isinstance(error, Exception):
            self.failures.append(error)
            return
        log.warning(
            "handler.failed",
            series=str(bar.series),
            open_time=bar.open_time.isoformat(),
            handler=subscription.handler.name,
            error=f"{type(error).__name__}: {error}",
            attempt=1,
            bars=1,
        )
