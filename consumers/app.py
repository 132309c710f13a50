"""The consumer: handlers, the group, and the two threads that serve them."""

from __future__ import annotations

import inspect
import os
import random
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

import structlog

from bus import logs
from bus.connection import Client, address, connect_reader
from bus.errors import BusUnreachable
from bus.settings import BusSettings
from consumers.core.backoff import BUS_BACKOFF, HANDLER_BACKOFF, Backoff
from consumers.core.patterns import Pattern
from consumers.core.start import Start
from consumers.core.wishes import Wishes
from consumers.errors import HandlerInvalid, UsageError
from consumers.shell.bus import Bus
from consumers.shell.membership import LEASE_MS
from consumers.shell.reading import reader_of
from consumers.shell.threads import Counts, Desk, Tuning
from consumers.shell.worker import Handler, Subscription, Worker
from consumers.target import is_importing

log = structlog.get_logger("consumers")

STOP_MS_MAX: Final = 5_000
"""How long a stop waits for the server after the bar in hand is finished."""

_NAME: Final = re.compile(r"[!-z|~]{1,128}")
_STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)

F = TypeVar("F", bound=Handler)


class Consumer:
    """A member of a consumer group: calls functions with the closed bars they want.

        app = Consumer(group="my-strategy", start="newest")

        @app.on("BTCUSDT-BINANCE-1m")
        def trade(bar):
            print(bar.open_time, bar.close)

        app.run()

    Every bar is handled at least once, and is acknowledged only after its
    handlers returned. A handler that raises is called again with the same bar,
    after growing waits and without end; its series waits, the others go on.

    With one process in the group the bars of a series come in order, also after
    a crash: what was left unfinished comes first. **Several processes of one
    group compete for the bars**: each bar goes to one of them, so they share
    the work but the order within a series is not kept, and `gap.seen` is told
    at debug level only. Use one process per group where order matters.

    Give `name` (unique in the group, the same after each restart) where a crash
    must not cost a wait: a process takes up its own unfinished bars at once,
    those of a vanished other name after `Tuning.claim_idle_ms`.
    """

    def __init__(
        self,
        group: str,
        start: str | None = None,
        redis_url: str | None = None,
        prefix: str | None = None,
        *,
        state_dir: Path | None = None,
        name: str | None = None,
        wait: bool = True,
        tuning: Tuning | None = None,
        lease_ms: int = LEASE_MS,
        retry: Backoff = HANDLER_BACKOFF,
    ) -> None:
        """Describe the consumer; nothing is connected before `run`.

        `start` is oldest, newest, time:2026-11-01T00:00:00Z (or ms) or last:N; it
        counts for each series that the group sees for the first time, and
        without it such a series is an error. Afterwards the group's own position
        counts. `redis_url`, `prefix` and `state_dir` come from the settings when not given.
        With `wait=False`, `run` raises BusUnreachable when no bus is there at the
        start; otherwise it waits for one.

        Raises UsageError or SettingsInvalid.
        """
        self.group = _checked_name("group", group)
        self.name = _checked_name("name", name or f"{socket.gethostname()}-{os.getpid()}")
        self._start = None if start is None else Start.parse(start)
        self._bus = Bus.find(redis_url, prefix, state_dir)
        self._wait = wait
        self._tuning = tuning or Tuning()
        self._lease_ms = lease_ms
        self._retry = retry
        self._subscriptions: list[Subscription] = []
        self._desk = Desk()

    @property
    def counts(self) -> Counts:
        """What happened since the start: bars handled, failed, trimmed and more."""
        return self._desk.counts

    @property
    def bus_trouble(self) -> str:
        """Why nothing comes from the bus now; empty while all is well."""
        return self._desk.bus_trouble

    def on(self, *patterns: str) -> Callable[[F], F]:
        """Register a function for series named or matched by patterns (`*-BINANCE-1m`).

        A series that several functions want is handed to each, in the order of
        registration. Patterns compare case-sensitively with the text form of the
        series in the catalogue; new ones that match are picked up within 2 s.
        Raises PatternInvalid or HandlerInvalid.
        """
        if not patterns or not all(isinstance(x, str) for x in patterns):
            raise HandlerInvalid('name a series: @app.on("BTCUSDT-BINANCE-1m")')
        parsed = [Pattern.parse(x) for x in patterns]

        def register(handler: F) -> F:
            self._subscriptions += _subscribe(parsed, handler)
            return handler

        return register

    def stop(self) -> None:
        """Ask `run` to return after the bar in hand. Any thread may call it."""
        self._desk.stop()

    def run(self) -> None:
        """Handle bars until SIGTERM, SIGINT or `stop`.

        Handlers run in this thread. The first signal lets the bar in hand finish
        and be acknowledged, a second one acts as if there were no consumer.
        Raises StartRequired, and BusUnreachable where `wait=False`.
        """
        if is_importing():
            raise HandlerInvalid(
                'app.run() must not run on import: put it under if __name__ == "__main__"'
            )
        self._set_up_logs()
        if not self._subscriptions:
            raise HandlerInvalid('no handler: decorate a function with @app.on("…")')
        with self._signals():
            client = self._connect()
            if client is None:
                return
            try:
                self._serve(client)
            finally:
                client.close()
        if self._desk.failure is not None:
            raise self._desk.failure

    @staticmethod
    def _set_up_logs() -> None:
        """A program that has no logs of its own gets ours: on stderr, without secrets."""
        if not structlog.is_configured():
            settings = BusSettings.load()
            logs.configure(settings.log_format, settings.log_level, sys.stderr, hooks=False)

    def _serve(self, client: Client) -> None:
        desk, keys = self._desk, self._bus.keys
        wishes = Wishes(bars=[x.pattern for x in self._subscriptions])
        reader = reader_of(
            desk,
            client,
            keys,
            group=self.group,
            member=self.name,
            wishes=wishes,
            start=self._start,
            tuning=self._tuning,
            lease_ms=self._lease_ms,
        )
        thread = threading.Thread(target=reader.run, name="tvbus-reader", daemon=True)
        log.info("consumer.started", group=self.group, name=self.name)
        thread.start()
        try:
            Worker(desk, self._subscriptions, self._retry).run()
        finally:
            desk.close()
            thread.join(STOP_MS_MAX / 1000)
            log.info("consumer.stopped", group=self.group, handled=desk.counts.handled)

    def _connect(self) -> Client | None:
        """Return a client once a bus is there, None where the stop came first."""
        failures = 0
        rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
        while not self._desk.stopping:
            try:
                self._bus.open().close()
            except BusUnreachable as error:
                if not self._wait:
                    raise
                failures += 1
                if failures == 1:
                    log.warning("bus.awaited", error=str(error))
                self._pause(BUS_BACKOFF.wait_ms(failures, rng))
                continue
            url = self._bus.url()
            log.info("bus.found", address=address(url))
            return connect_reader(url)
        return None

    def _pause(self, wait_ms: int) -> None:
        clock = self._desk.clock
        end_ms = clock.monotonic_ms() + wait_ms
        while not self._desk.stopping and (left_ms := end_ms - clock.monotonic_ms()) > 0:
            self._desk.worker_bell.wait(left_ms)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn the first SIGTERM, SIGINT or SIGHUP into a stop, where signals can be had."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {x: signal.getsignal(x) for x in _STOP_SIGNALS}

        def restore() -> None:
            for number, action in previous.items():
                signal.signal(number, action)

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            restore()
            self._desk.stop()

        for number in _STOP_SIGNALS:
            if previous[number] is not signal.SIG_IGN:  # nohup wants to go on
                signal.signal(number, on_signal)
        try:
            yield
        finally:
            restore()


def _subscribe(patterns: list[Pattern], handler: Handler) -> list[Subscription]:
    if not callable(handler):
        raise HandlerInvalid(f"a handler must be a function that takes a bar, was {handler!r}")
    if inspect.iscoroutinefunction(handler):
        raise HandlerInvalid(f"a handler must be a plain function, {handler!r} is async")
    return [Subscription(x, handler) for x in patterns]


def _checked_name(what: str, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise UsageError(
            f"{what} must be 1 to 128 printable ASCII characters without white space "
            f"or braces, was {value!r}"
        )
    return value
