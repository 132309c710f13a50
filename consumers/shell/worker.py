"""Hands bars to handlers, one at a time, in the thread that called `run`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from consumers.core.backoff import HANDLER_BACKOFF, Backoff
from consumers.core.patterns import Pattern
from consumers.core.work import Work
from consumers.shell.threads import Desk
from publisher.wire import Bar, Series

log = structlog.get_logger("consumers")

Handler = Callable[[Bar], object]
REPORT_BARS: Final = 64
"""The reader is woken to acknowledge after so many bars,"""
REPORT_MS: Final = 20
"""or so long after the last time, or when nothing is left to do."""
WAIT_MS_MAX: Final = 60_000


@dataclass(frozen=True, slots=True)
class Subscription:
    """A handler and the series that it wants."""

    pattern: Pattern
    handler: Handler


@dataclass(slots=True)
class Worker:
    """Takes bars from the desk until it is asked to stop."""

    desk: Desk
    subscriptions: Sequence[Subscription]
    backoff: Backoff = HANDLER_BACKOFF
    rng: random.Random = field(default_factory=random.Random)
    _handlers: dict[Series, list[Handler]] = field(default_factory=dict)
    _unreported: int = 0
    _reported_ms: int = 0

    def run(self) -> None:
        """Handle bars until the desk stops; the bar in hand is finished first."""
        while not self.desk.stopping:
            wait_ms = self.step()
            if wait_ms > 0:
                self.desk.worker_bell.wait(wait_ms)

    def step(self) -> int:
        """Hand the next bar to its handlers; return in how many ms there may be one."""
        desk = self.desk
        with desk.lock:
            work = desk.lanes.take(desk.clock.monotonic_ms())
            due_ms = desk.lanes.next_due_ms()
        if work is not None:
            self._handle(work)
            return 0
        self._report()
        return WAIT_MS_MAX if due_ms is None else max(0, due_ms - desk.clock.monotonic_ms())

    def _handle(self, work: Work) -> None:
        handlers = [] if work.bar is None else self._handlers_of(work.bar.series)
        try:
            while work.handlers_done < len(handlers):
                assert work.bar is not None
                handlers[work.handlers_done](work.bar)
                work.handlers_done += 1
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            self._failed(work, error)
            return
        with self.desk.lock:
            self.desk.lanes.finish(work)
        self.desk.counts.handled += 1
        self._unreported += 1
        unreported_ms = self.desk.clock.monotonic_ms() - self._reported_ms
        if self._unreported >= REPORT_BARS or unreported_ms >= REPORT_MS:
            self._report()

    def _handlers_of(self, series: Series) -> list[Handler]:
        if series not in self._handlers:
            self._handlers[series] = [
                x.handler for x in self.subscriptions if x.pattern.matches(series)
            ]
        return self._handlers[series]

    def _failed(self, work: Work, error: Exception) -> None:
        assert work.bar is not None, "only bars are read"
        wait_ms = self.backoff.wait_ms(work.attempt, self.rng)
        self.desk.counts.failed += 1
        log.warning(
            "handler.failed",
            series=str(work.bar.series),
            open_time=work.bar.open_time.isoformat(),
            error=f"{type(error).__name__}: {error}",
            attempt=work.attempt,
            retry_in_ms=wait_ms,
            exc_info=work.attempt == 1,
        )
        with self.desk.lock:
            self.desk.lanes.park(work, self.desk.clock.monotonic_ms() + wait_ms)

    def _report(self) -> None:
        self._unreported = 0
        self._reported_ms = self.desk.clock.monotonic_ms()
        self.desk.reader_bell.ring()
