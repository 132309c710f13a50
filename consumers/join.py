"""The last bars of a series, and then those to come: for indicators that need warming up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from bus.connection import connect_reader
from consumers.core.ids import ZERO, EntryId
from consumers.core.patterns import Pattern
from consumers.core.start import Start
from consumers.follow import Watch
from consumers.history import read_bars
from consumers.shell.bus import Bus
from consumers.shell.catalogue import Catalogue
from publisher.wire import Bar, Series

log = structlog.get_logger("consumers")


def join(
    series: str | Series,
    last: int = 200,
    *,
    corrected: bool = True,
    redis_url: str | None = None,
    prefix: str | None = None,
    state_dir: Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Bar]:
    """Yield the last N closed bars of a series and then each new one, until `stopped()`.

        for bar in join("BTCUSDT-BINANCE-1m", last=200):
            average.add(bar.close)

    No bar is left out or repeated where the two meet, nor when the bus goes away
    and comes back. Where the bus itself no longer has a bar, `gap.seen` is logged
    and `bar.previous_open_time_ms` is not the open time of the bar before. With
    `corrected`, the first N are as TradingView corrected them. There is no group:
    nothing is acknowledged and nothing is remembered.

    Raises SeriesInvalid, UsageError, EntryInvalid, and BusUnreachable where no bus
    is there at the start.
    """
    wanted = series if isinstance(series, Series) else Series.parse(series)
    before = read_bars(
        wanted,
        last=last,
        corrected=corrected,
        redis_url=redis_url,
        prefix=prefix,
        state_dir=state_dir,
    )
    yield from before
    bus = Bus.find(redis_url, prefix, state_dir)
    client = connect_reader(bus.url())
    # What stands in the stream after the last one read is new, however long that was ago.
    after = EntryId(before[-1].open_time_ms) if before else ZERO
    watch = Watch(
        client,
        bus.keys,
        Catalogue(client, bus.keys.catalogue),
        [Pattern.parse(str(wanted))],
        Start("oldest"),
        forming=False,
        after={bus.keys.bars(wanted): after},
        series={bus.keys.bars(wanted): wanted},
    )
    last_ms = before[-1].open_time_ms if before else None
    try:
        while not stopped():
            for bar in watch.read():
                _check(bar, last_ms)
                last_ms = bar.open_time_ms
                yield bar
    finally:
        client.close()


def _check(bar: Bar, last_ms: int | None) -> None:
    previous_ms = bar.previous_open_time_ms
    if bar.gap or (last_ms is not None and previous_ms is not None and previous_ms != last_ms):
        log.warning(
            "gap.seen",
            series=str(bar.series),
            from_ms=last_ms,
            to_ms=bar.open_time_ms if bar.gap else previous_ms,
            reason="abandoned" if bar.gap else "missing",
        )
