"""The composition root: here alone clients, clocks and threads are made."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from prometheus_client.registry import Collector

from bus.connection import address, connect_reader, connect_writer
from publisher.access import Access
from publisher.core.backoff import Backoff
from publisher.engine import INBOX_MAX, Engine, Policy
from publisher.errors import AccountStopped, Fenced, StoreError, StoreRefused, StoreUnavailable
from publisher.ports import ACQUIRE_MS, RENEW_MS, Fact, Ports
from publisher.publication import Publication
from publisher.settings import ORIGIN, PublisherSettings
from publisher.shell.clock import SystemClock
from publisher.shell.commands import CommandReader
from publisher.shell.health import HealthPort
from publisher.shell.lease import RedisLease
from publisher.shell.search import SymbolSearch
from publisher.shell.search_worker import SearchWorker
from publisher.shell.store import RedisStore, Retention
from publisher.shell.token_worker import TokenWorker
from publisher.shell.transport import WebSocketTransport
from publisher.shell.transports import Transports
from publisher.signing_in import build_access
from publisher.status import Status
from publisher.wire import Keys, Series, Summary

SHOWN_MAX: Final = 20
"""So many series are named in one line."""

log = structlog.get_logger("publisher")


@dataclass(slots=True)
class _Running:
    """The engine that publishes now, for the health page; None while standing by."""

    engine: Engine | None = None

    def status(self) -> Status | None:
        return self.engine.status if self.engine is not None else None


def run(
    settings: PublisherSettings,
    redis_url: str,
    stop: threading.Event,
    *,
    wait: bool = True,
    metrics: Sequence[Collector] = (),
) -> None:
    """Publish until told to stop, standing by while another publisher holds the lease.

    `metrics` are served beside the publisher's own.
    Raises StoreUnavailable if the bus cannot be reached and `wait` is False, and
    SignInError where only a person can help.
    """
    clock = SystemClock()
    rng = random.Random()  # noqa: S311, jitter and session names
    client = connect_writer(redis_url)
    keys = Keys(settings.prefix)
    retention = Retention(settings.retain_bars, settings.retain_days)
    store = RedisStore(client, keys, settings.encoding, retention)
    lease = RedisLease(client, keys, f"{socket.gethostname()}:{os.getpid()}")
    running = _Running()
    parts = _Parts(settings, redis_url, clock, rng, keys, store, lease)
    access = build_access(settings, redis_url)
    health = HealthPort(settings.listen, running.status, clock.monotonic_ms, metrics)
    try:
        _await_bus(store, redis_url, stop, rng, wait=wait)
        _take_turns(parts, access, running, stop)
    finally:
        health.close()
        client.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What lives as long as the process."""

    settings: PublisherSettings
    redis_url: str
    clock: SystemClock
    rng: random.Random
    keys: Keys
    store: RedisStore
    lease: RedisLease


def _take_turns(parts: _Parts, access: Access, running: _Running, stop: threading.Event) -> None:
    """Stand by until the lease is had, publish until it is lost, and again."""
    before: list[Series] = []
    while not stop.is_set():
        token = _await_lease(parts.lease, stop)
        if token is None:
            return
        before = _take_turn(parts, access, running, stop, before=before, token=token)


def _take_turn(
    parts: _Parts,
    access: Access,
    running: _Running,
    stop: threading.Event,
    *,
    before: list[Series],
    token: int,
) -> list[Series]:
    """Publish until the lease is lost; return what is published by command then.

    Names alone: nothing of what was heard is kept while standing by.
    """
    try:
        wanted = _wanted(parts.settings.series, parts.store, before)
    except StoreError as error:
        log.warning("catalogue.unreadable", reason=str(error))
        with contextlib.suppress(StoreError):
            parts.lease.release(token)
        stop.wait(ACQUIRE_MS / 1000)
        return before
    return _publish(parts, access, running, stop, wanted=wanted, token=token)


def _publish(
    parts: _Parts,
    access: Access,
    running: _Running,
    stop: threading.Event,
    *,
    wanted: Sequence[Publication],
    token: int,
) -> list[Series]:
    """Publish with this fencing token; return what is published by command at the end."""
    inbox: queue.Queue[Fact] = queue.Queue(INBOX_MAX)
    make = partial(WebSocketTransport, parts.settings.ws_url, ORIGIN, parts.clock, inbox)
    tokens = TokenWorker(access.obtain, parts.clock, inbox, access.stamp)
    searcher = SearchWorker(SymbolSearch(parts.settings.search_url, ORIGIN).find, inbox)
    transports = Transports(make)
    ports = Ports(parts.clock, tokens, transports, parts.store, parts.lease, searcher, parts.rng)
    running.engine = engine = Engine(ports, _policy(parts.settings), inbox, wanted, token)
    reading = threading.Event()
    client = connect_reader(parts.redis_url)
    CommandReader(client, parts.keys, inbox, reading).start()
    try:
        engine.run(stop)
    except Fenced as error:
        log.warning("lease.lost", reason=str(error))
    except AccountStopped as error:
        access.stop(str(error))
        raise
    finally:
        tokens.stop()
        searcher.stop()
        reading.set()
        client.close()
    running.engine = None
    return engine.commanded


def _policy(settings: PublisherSettings) -> Policy:
    return Policy(
        settings.history_bars,
        settings.settle_ms,
        settings.require_realtime,
        settings.history_requests_per_hour_max,
        settings.series_per_connection_max,
        settings.connections_max,
        settings.audit_minutes,
    )


def _wanted(
    configured: Sequence[Series], store: RedisStore, before: Sequence[Series] = ()
) -> list[Publication]:
    """Return what to publish: the settings' series and those subscribed by command.

    A command outlives restarts, so what was unsubscribed by command stays out
    even if the settings name it, until it is subscribed again. What this process
    published `before` by command and the catalogue no longer knows was flushed
    away, not unsubscribed.
    """
    try:
        listed = {summary.series: summary for summary in store.catalogue()}
    except StoreRefused as error:
        # What the settings name does not need the catalogue.
        log.error("catalogue.refused", reason=str(error))
        return [Publication(series, "settings") for series in configured]
    kept = [series for series in before if series not in listed]
    if kept:
        log.warning("series.restored", count=len(kept), reason="the catalogue lost them")
    wanted = [Publication(series, "command") for series in kept]
    for series in configured:
        if series in kept:
            continue
        line = listed.pop(series, None)
        if line is not None and line.state == "removed" and line.wanted_by == "command":
            log.warning(
                "series.skipped",
                series=str(series),
                reason="unsubscribed by command; `tvbus subscribe` brings it back",
            )
            continue
        wanted.append(Publication(series, line.wanted_by if line else "settings"))
    dropped = []
    for line in listed.values():
        if line.state == "removed":
            continue
        if line.wanted_by == "command":
            wanted.append(Publication(line.series, "command"))
        else:
            dropped.append(Summary(line.series, "removed", "no longer in TVBUS_SERIES"))
    if dropped:
        store.list_series(dropped)
        log.warning(
            "series.removed",
            series=", ".join(str(line.series) for line in dropped[:SHOWN_MAX]),
            count=len(dropped),
            reason="neither named by this publisher nor subscribed by command",
        )
    return wanted


def _await_bus(
    store: RedisStore, redis_url: str, stop: threading.Event, rng: random.Random, *, wait: bool
) -> None:
    backoff = Backoff(200, 5_000)
    while not stop.is_set():
        try:
            store.ping()
        except StoreError as error:
            if not wait:
                raise StoreUnavailable(
                    f"no bus at {address(redis_url)}: {error}; start Redis or set TVBUS_REDIS_URL"
                ) from error
            if backoff.attempt == 0:
                log.warning("store.awaited", address=address(redis_url), reason=str(error))
            stop.wait(backoff.next_delay_ms(rng) / 1000)
        else:
            return


def _await_lease(lease: RedisLease, stop: threading.Event) -> int | None:
    told = False
    while not stop.is_set():
        try:
            token = lease.acquire()
        except StoreUnavailable as error:
            log.warning("lease.unreachable", reason=str(error))
            stop.wait(RENEW_MS / 1000)
            continue
        if token is not None:
            log.info("lease.acquired", token=token)
            return token
        if not told:
            log.info("lease.awaited", reason="another publisher holds it")
            told = True
        stop.wait(ACQUIRE_MS / 1000)
    return None
