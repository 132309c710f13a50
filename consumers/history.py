"""Read stored bars, once, without a group."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bus.connection import Client
from consumers.core.times import parse_time_ms
from consumers.errors import EntryInvalid, UsageError
from consumers.shell.bus import Bus
from consumers.shell.frames import frame_by_time, require_frames
from consumers.shell.streams import Entry, backwards, forwards
from publisher.wire import Bar, EntryMalformed, Series, decode_bar

if TYPE_CHECKING:
    import pandas as pd

Time = str | int | datetime
"""ISO text with its zone, ms since the epoch, or an aware datetime."""


def read_bars(
    series: str | Series,
    start: Time | None = None,
    end: Time | None = None,
    *,
    last: int | None = None,
    corrected: bool = True,
    redis_url: str | None = None,
    prefix: str | None = None,
    state_dir: Path | None = None,
) -> list[Bar]:
    """Return the closed bars of a series that open from `start` up to, not including, `end`.

    Without `start` or `end` that side is open; `last` keeps the newest N of the
    range. With `corrected`, a bar that TradingView changed later is replaced by its
    newest revision. Raises SeriesInvalid, UsageError for a time without its
    zone, BusUnreachable, and EntryInvalid for an entry that cannot be decoded.
    """
    wanted = series if isinstance(series, Series) else Series.parse(series)
    low, high = _range(start, end)
    if last is not None and last < 1:
        raise UsageError(f"last must be at least 1, was {last!r}")
    bus = Bus.find(redis_url, prefix, state_dir)
    client = bus.open()
    try:
        key = bus.keys.bars(wanted)
        if last is None:
            entries = list(forwards(client, key, low, high))
        else:
            entries = list(backwards(client, key, last, low, high))[::-1]
        bars = [_bar(wanted, key, x) for x in entries]
        if corrected and bars:
            revised = _revisions(client, wanted, bus.keys.corrections(wanted))
            bars = [revised.get(bar.open_time_ms, bar) for bar in bars]
    finally:
        client.close()
    return bars


def read_frame(
    series: str | Series,
    start: Time | None = None,
    end: Time | None = None,
    *,
    last: int | None = None,
    corrected: bool = True,
    redis_url: str | None = None,
    prefix: str | None = None,
    state_dir: Path | None = None,
) -> pd.DataFrame:
    """Return what `read_bars` returns as a DataFrame, indexed by open time in UTC.

    Columns are open, high, low, close and volume, all floats; a missing volume
    is NaN. Raises FrameUnavailable where pandas is not installed.
    """
    require_frames("read_frame")
    bars = read_bars(
        series,
        start,
        end,
        last=last,
        corrected=corrected,
        redis_url=redis_url,
        prefix=prefix,
        state_dir=state_dir,
    )
    return frame_by_time(bars)


def _range(start: Time | None, end: Time | None) -> tuple[str, str]:
    try:
        low = "-" if start is None else f"{parse_time_ms(start)}-0"
        high = "+" if end is None else f"({parse_time_ms(end)}-0"
    except ValueError as error:
        raise UsageError(str(error)) from None
    return low, high


def _bar(series: Series, key: str, entry: Entry) -> Bar:
    try:
        return decode_bar(series, entry[1])
    except EntryMalformed as error:
        raise EntryInvalid(f"{key} {entry[0]}: {error}") from error


def _revisions(client: Client, series: Series, key: str) -> dict[int, Bar]:
    revised: dict[int, Bar] = {}
    for entry in forwards(client, key):
        bar = _bar(series, key, entry)
        known = revised.get(bar.open_time_ms)
        if known is None or bar.revision >= known.revision:
            revised[bar.open_time_ms] = bar
    return revised
