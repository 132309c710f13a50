"""The consumer: handlers, the group, and the two threads that serve them."""

from __future__ import annotations

import os
import random
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from bus import logs
from bus.connection import Client, address, connect_reader, connect_writer
from bus.errors import BusUnreachable
from bus.settings import BusSettings
from consumers.core.backoff import BUS_BACKOFF, HANDLER_BACKOFF, Backoff
from consumers.core.lanes import LANE_PREFETCH_MAX
from consumers.core.policy import ATTEMPTS_DEFAULT, FailurePolicy, Policy
from consumers.core.start import Start
from consumers.errors import HandlerInvalid, UsageError
from consumers.registry import Registry
from consumers.shell.bus import Bus
from consumers.shell.calling import Caller
from consumers.shell.forming import FormingReader
from consumers.shell.lookup import BusLookup
from consumers.shell.membership import LEASE_MS
from consumers.shell.reading import reader_of
from consumers.shell.signals import stopping_by_signal
from consumers.shell.threads import Counts, Desk, Tuning
from consumers.shell.worker import Worker
from consumers.target import is_importing

log = structlog.get_logger("consumers")

STOP_MS_MAX: Final = 5_000
"""How long a stop waits for the server after the bar in hand is finished."""

LEASE_MS_MIN: Final = 500
LEASE_MS_MAX: Final = 600_000

_NAME: Final = re.compile(r"[!-z|~]{1,128}")


class Consumer(Registry):
    """A member of a consumer group: calls functions with the closed bars they want.

        app = Consumer(group="my-strategy", start="newest")

        @app.on("BTCUSDT-BINANCE-1m")
        def trade(bar):
            print(bar.open_time, bar.close)

        app.run()

    Every bar is handled at least once and in the order of its series, and is
    acknowledged only after its handlers returned. Start more processes with the
    same group to share the series: each series has one active member, and those
    of a member that dies are taken over within `lease_ms`.

    An entry whose handler raises is handed over again after growing waits; its
    series waits, the others go on. See `failure` for its end.
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
        unordered: bool = False,
        lease_ms: int = LEASE_MS,
        failure: FailurePolicy = "dead-letter",
        attempts: int = ATTEMPTS_DEFAULT,
        retry: Backoff = HANDLER_BACKOFF,
        wait: bool = True,
        tuning: Tuning | None = None,
    ) -> None:
        """Describe the consumer; nothing is connected before `run`.

        `start` is oldest, newest, time:2026-11-01T00:00:00Z (or ms) or last:N; it
        counts for each series that the group sees for the first time, and
        without it such a series is an error. Afterwards the group's own position
        counts. `redis_url`, `prefix` and `state_dir` come from the settings when not given.
        `name` is this member's, unique in the group. With `unordered` the members
        compete for single bars: for work where neither order nor gaps matter.

        `failure` says what becomes of an entry that failed `attempts` times, counted
        by the server over restarts and members: `dead-letter` keeps it aside with
        the reason, `skip` logs it and goes on, `stop` ends `run` with HandlerFailed,
        `retry-forever` is what it says. An error whose `retryable` is True, such as
        SinkUnavailable, is waited out and costs no attempt; one whose `retryable` is
        False, such as SinkRejected, gets no second one. `retry` is the waits between.

        With `wait=False`, `run` raises BusUnreachable when no bus is there at the
        start; otherwise it waits for one. Raises UsageError or SettingsInvalid.
        """
        super().__init__(unordered=unordered)
        self.group = _checked_name("group", group)
        self.name = _checked_name("name", name or f"{socket.gethostname()}-{os.getpid()}")
        self.policy = Policy(failure, attempts, retry)
        self._lease_ms = _checked_lease(lease_ms)
        self._start = None if start is None else Start.parse(start)
        self.bus = Bus.find(redis_url, prefix, state_dir)
        self._wait = wait
        self._tuning = tuning or Tuning()
        self._desk = Desk()

    @property
    def counts(self) -> Counts:
        """What happened since the start: bars handled, failed, trimmed and more."""
        return self._desk.counts

    @property
    def bus_trouble(self) -> str:
        """Why nothing comes from the bus now; empty while all is well."""
        return self._desk.bus_trouble

    @contextmanager
    def served_by(self, desk: Desk) -> Iterator[None]:
        """Let another desk be this consumer's for a while: for tests."""
        before, self._desk = self._desk, desk
        try:
            yield
        finally:
            self._desk = before

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
        if not self.subscriptions.every:
            raise HandlerInvalid('no handler: decorate a function with @app.on("…")')
        with stopping_by_signal(self._desk.stop):
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
        desk, keys = self._desk, self.bus.keys
        desk.lanes.lane_prefetch_max = max(LANE_PREFETCH_MAX, self.subscriptions.batch_max)
        reader = reader_of(
            desk,
            client,
            keys,
            group=self.group,
            member=self.name,
            wishes=self.subscriptions.wishes,
            start=self._start,
            tuning=self._tuning,
            lease_ms=self._lease_ms,
            unordered=self.unordered,
        )
        thread = threading.Thread(target=reader.run, name="tvbus-reader", daemon=True)
        log.info("consumer.started", group=self.group, name=self.name)
        thread.start()
        try:
            with self._forming():
                self._work()
        finally:
            desk.close()
            thread.join(STOP_MS_MAX / 1000)
            log.info("consumer.stopped", group=self.group, handled=desk.counts.handled)

    @contextmanager
    def _forming(self) -> Iterator[None]:
        """Read bars in progress in a thread of their own, where somebody wants them."""
        if not self.subscriptions.wishes.forming:
            yield
            return
        client = connect_reader(self.bus.url())
        reader = FormingReader(self._desk, client, self.bus.keys, self.subscriptions)
        thread = threading.Thread(target=reader.run, name="tvbus-forming", daemon=True)
        thread.start()
        try:
            yield
        finally:
            reader.stop()
            thread.join(STOP_MS_MAX / 1000)
            client.close()

    def _work(self) -> None:
        client = connect_writer(self.bus.url())
        try:
            lookup = BusLookup(client, self.bus.keys)
            caller = Caller(self.group, self._desk.clock, lookup)
            Worker(self._desk, self.subscriptions, caller, self.policy).run()
        finally:
            client.close()

    def _connect(self) -> Client | None:
        """Return a client once a bus is there, None where the stop came first."""
        failures = 0
        rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
        while not self._desk.stopping:
            try:
                self.bus.open().close()
            except BusUnreachable as error:
                if not self._wait:
                    raise
                failures += 1
                if failures == 1:
                    log.warning("bus.awaited", error=str(error))
                self._pause(BUS_BACKOFF.wait_ms(failures, rng))
                continue
            url = self.bus.url()
            log.info("bus.found", address=address(url))
            return connect_reader(url)
        return None

    def _pause(self, wait_ms: int) -> None:
        clock = self._desk.clock
        end_ms = clock.monotonic_ms() + wait_ms
        while not self._desk.stopping and (left_ms := end_ms - clock.monotonic_ms()) > 0:
            self._desk.worker_bell.wait(left_ms)


def _checked_lease(lease_ms: int) -> int:
    if not LEASE_MS_MIN <= lease_ms <= LEASE_MS_MAX:
        raise UsageError(f"lease_ms must be {LEASE_MS_MIN} to {LEASE_MS_MAX}, was {lease_ms!r}")
    return lease_ms


def _checked_name(what: str, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise UsageError(
            f"{what} must be 1 to 128 printable ASCII characters without white space "
            f"or braces, was {value!r}"
        )
    return value
