"""What the bus says of itself, read for people and programs."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

import orjson

from publisher.wire import EntryMalformed, Series, Summary, decode_bar
from tvbus.shared import Bus


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """Who publishes."""

    holder: str
    token: int


@dataclass(frozen=True, slots=True)
class SessionReport:
    """As whom TradingView is read, and what the plan allows; None where it is unknown."""

    connected: bool
    trouble: str | None
    """Why it is not signed in, or not connected; empty where all is well."""
    way: str | None
    plan: str | None
    expires_ms: int | None
    """When the token ends, by TradingView's clock."""
    bars_max: int | None
    series_max: int | None
    connections_max: int | None


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """How one series does."""

    series: str
    state: str
    reason: str
    bars: int
    last_open_time_ms: int | None
    last_close: float | None
    age_ms: int | None
    """Between the opening of the newest bar and now."""
    delay_ms: int
    """By how much TradingView says that the symbol's data is delayed."""
    measured_delay_ms: int | None
    """How long after its opening a bar was first heard of, at best; None while unknown."""
    update_mode: str
    """`streaming`, `delayed_streaming_900` or `endofday`, as TradingView says."""
    source: str
    """Where the data comes from, such as BATS:AAPL."""
    substituted: bool
    """True where that is not what was asked for."""


def lease_of(bus: Bus) -> LeaseReport | None:
    """Return who holds the publisher's lease, None if nobody does."""
    known: Any = bus.client.hgetall(bus.keys.publisher)
    clock: Any = bus.client.time()
    now_ms = clock[0] * 1000 + clock[1] // 1000
    if int(known.get(b"expires_ms", 0)) <= now_ms:
        return None
    return LeaseReport(known[b"holder"].decode(), int(known[b"token"]))


def session_of(bus: Bus, lease: LeaseReport | None) -> SessionReport | None:
    """Return as whom the holder of the lease reads TradingView, None while it did not say."""
    line: Any = bus.client.hget(bus.keys.publisher, "session")
    try:
        known = orjson.loads(line or b"{}")
        if lease is None or known.pop("fencing_token") != lease.token:
            return None
        return SessionReport(
            **{field.name: known.get(field.name) for field in fields(SessionReport)}
        )
    except (ValueError, KeyError, AttributeError):
        return None


def signin_trouble(bus: Bus) -> str:
    """Return why the running publisher cannot sign in; empty where nothing hinders it."""
    session = session_of(bus, lease_of(bus))
    return session.trouble or "" if session is not None and session.way is None else ""


def summaries(bus: Bus) -> list[Summary]:
    """Return the catalogue's lines, sorted; removed series and unreadable lines left out."""
    texts: Any = bus.client.hgetall(bus.keys.catalogue)
    lines = []
    for name, text in texts.items():
        try:
            lines.append(Summary.decode(name, text))
        except EntryMalformed:
            continue  # written by a newer version
    return sorted((line for line in lines if line.state != "removed"), key=lambda x: x.series)


def report_series(bus: Bus, line: Summary) -> SeriesReport:
    """Return how one series does."""
    series = line.series
    known: Any = bus.client.hgetall(bus.keys.series(series))
    key = bus.keys.bars(series)
    is_stream = bus.client.type(key) == b"stream"
    newest: Any = bus.client.xrevrange(key, count=1) if is_stream else []
    open_time_ms, close = _newest(series, newest)
    source = known.get(b"source", b"").decode()
    return SeriesReport(
        series=str(series),
        state=line.state,
        reason=line.reason,
        bars=int(bus.client.xlen(key)) if is_stream else 0,
        last_open_time_ms=open_time_ms,
        last_close=close,
        age_ms=None if open_time_ms is None else time.time_ns() // 1_000_000 - open_time_ms,
        delay_ms=int(known.get(b"stated_delay_ms", known.get(b"delay_ms", 0))),
        measured_delay_ms=int(measured) if (measured := known.get(b"measured_delay_ms")) else None,
        update_mode=known.get(b"update_mode", b"").decode(),
        source=source,
        substituted=source != known.get(b"name", b"").decode(),
    )


def _newest(series: Series, entries: Any) -> tuple[int | None, float | None]:
    if not entries:
        return None, None
    entry_id, fields = entries[0]
    try:
        return int(entry_id.split(b"-")[0]), decode_bar(series, fields).close
    except EntryMalformed:
        return int(entry_id.split(b"-")[0]), None
