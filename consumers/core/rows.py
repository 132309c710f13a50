"""A bar as the sinks store it, and which of two of the same bar stays."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from consumers.errors import SinkRejected
from publisher.wire import Bar, Series

COLUMNS: Final = (
    "open_time",
    *("open", "high", "low", "close", "volume"),
    "end_time",
    "received_time",
    "closed_by",
    "gap",
    "revision",
)
"""What stored rows are called outside, in the order of `Row`."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


class Row(NamedTuple):
    """What is stored of a bar; times are ms since the epoch, UTC."""

    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    end_time_ms: int | None
    received_ms: int
    closed_by: str
    gap: bool
    revision: int

    @classmethod
    def of(cls, bar: Bar) -> Row:
        """Return a bar's row. Raises SinkRejected for times beyond the calendar."""
        row = cls(
            bar.open_time_ms,
            *(bar.open, bar.high, bar.low, bar.close, bar.volume),
            bar.end_time_ms,
            bar.received_ms,
            bar.closed_by,
            bar.gap,
            bar.revision,
        )
        for time_ms in (row.open_time_ms, row.end_time_ms, row.received_ms):
            if time_ms is not None:
                moment(time_ms)
        return row

    def replaces(self, held: Row) -> bool:
        """Whether this row takes the place of the one held for the same bar.

        A later revision does. One of the same revision does where it was received
        later and says something else: the stream was filled again.
        """
        if self.revision != held.revision:
            return self.revision > held.revision
        return self.received_ms > held.received_ms and self[1:7] != held[1:7]

    def over(self, held: Row) -> Row:
        """Return this row in the place of another: a gap before the bar is not unmade."""
        return self._replace(gap=self.gap or held.gap)


def newest(rows: Iterable[Row]) -> dict[int, Row]:
    """Return the row that stays of each bar, by open time, ascending."""
    kept: dict[int, Row] = {}
    for row in rows:
        held = kept.get(row.open_time_ms)
        if held is None:
            kept[row.open_time_ms] = row
        elif row.replaces(held):
            kept[row.open_time_ms] = row.over(held)
    return dict(sorted(kept.items()))


def by_series(bars: Iterable[Bar]) -> dict[Series, list[Row]]:
    """Return the rows of each series, in the order given. Raises SinkRejected."""
    rows: dict[Series, list[Row]] = {}
    for bar in bars:
        rows.setdefault(bar.series, []).append(Row.of(bar))
    return rows


def moment(time_ms: int) -> datetime:
    """Return a time as an aware datetime in UTC. Raises SinkRejected beyond the calendar."""
    try:
        return _EPOCH + time_ms * _MS
    except OverflowError:
        raise SinkRejected(f"a time must be before the year 10000, was {time_ms} ms") from None


def since_epoch_ms(time: datetime) -> int:
    """Return an aware datetime as ms since the epoch."""
    return (time - _EPOCH) // _MS
