"""What the bus says of itself, read for people and programs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from publisher.wire import EntryMalformed, Series, Summary, decode_bar
from tvbus.shared import Bus


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
