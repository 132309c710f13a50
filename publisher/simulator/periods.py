"""When bars open and end, by the clock, for every interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Final, NamedTuple

from publisher.simulator.calendar import (
    DAY_MS,
    MINUTE_MS,
    Session,
    session_on,
    sessions_back,
    sessions_from,
)
from publisher.simulator.symbols import Symbol
from publisher.wire import INTERVALS

CALENDAR_INTERVALS: Final = frozenset({"1D", "1W", "1M"})
_LONGEST_MS: Final = {"1D": 4 * DAY_MS, "1W": 8 * DAY_MS, "1M": 33 * DAY_MS}


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol with the options that change its data."""

    symbol: Symbol
    extended: bool = False
    dividends: bool = False
    rate: float = 1.0
    """Prices are multiplied by it: currency conversion."""


class Period(NamedTuple):
    """The time of one bar; ms since the epoch, UTC."""

    start_ms: int
    end_ms: int
    ends_session: bool


def bounds(instrument: Instrument, session: Session) -> tuple[int, int]:
    """Return when an instrument's intraday bars begin and end in a session, ms."""
    if instrument.extended:
        return session.extended_open_ms, session.extended_close_ms
    return session.open_ms, session.close_ms


def in_lunch(symbol: Symbol, open_ms: int, start_ms: int, end_ms: int) -> bool:
    """Tell whether a time lies wholly in the lunch break of the session opened at open_ms."""
    venue = symbol.venue
    if venue.lunch is None:
        return False
    begin, end = (open_ms + (minute - venue.open) * MINUTE_MS for minute in venue.lunch)
    return begin <= start_ms and end_ms <= end


def group_of(interval: str, day: date) -> tuple[int, int]:
    """Return what the trading dates of one daily, weekly or monthly bar have in common."""
    if interval == "1M":
        return day.year, day.month
    if interval == "1W":
        return day.isocalendar()[:2]
    return day.year, day.toordinal()


def periods_from(instrument: Instrument, interval: str, from_ms: int) -> Iterator[Period]:
    """Yield periods without end, the first being the one that ends after a time."""
    venue = instrument.symbol.venue
    if interval not in CALENDAR_INTERVALS:
        for session in sessions_from(venue, from_ms):
            yield from _intraday(instrument, INTERVALS[interval], session, from_ms)
        return
    sessions = sessions_from(venue, from_ms - _LONGEST_MS[interval])
    groups = groupby(sessions, key=lambda session: group_of(interval, session.day))
    next(groups)  # The first may be cut at its beginning; the margin is longer than any.
    for _, members in groups:
        days = list(members)
        period = _spanning(instrument, days[0], days[-1])
        if period.end_ms > from_ms:
            yield period


def sessions_of(instrument: Instrument, period: Period) -> Iterator[Session]:
    """Yield the sessions that a period consists of, oldest first."""
    for session in sessions_from(instrument.symbol.venue, period.start_ms):
        if session.extended_open_ms >= period.end_ms:
            return
        yield session


def calendar_groups_back(
    instrument: Instrument, interval: str, before_ms: int
) -> Iterator[list[Session]]:
    """Yield the sessions of each daily or longer bar opened before a time, newest first.

    Within a group the sessions ascend; sessions after the time are included.
    """
    symbol = instrument.symbol
    sessions = sessions_back(symbol.venue, before_ms, symbol.listed)
    newest: tuple[int, int] | None = None
    for key, members in groupby(sessions, key=lambda session: group_of(interval, session.day)):
        days = [session for session in members if session.open_ms < before_ms][::-1]
        if not days:
            continue
        if newest is None:
            newest = key
            days += _rest_of_group(instrument, interval, days[-1])
        yield days


def _rest_of_group(instrument: Instrument, interval: str, last: Session) -> list[Session]:
    rest: list[Session] = []
    key = group_of(interval, last.day)
    for session in sessions_from(instrument.symbol.venue, last.extended_close_ms):
        if group_of(interval, session.day) != key:
            break
        rest.append(session)
    return rest


def period_of(instrument: Instrument, days: list[Session]) -> Period:
    """Return the period of one daily or longer bar made of these sessions."""
    return _spanning(instrument, days[0], days[-1])


def _spanning(instrument: Instrument, first: Session, last: Session) -> Period:
    return Period(first.open_ms, last.close_ms, not instrument.symbol.venue.round_the_clock)


def _intraday(
    instrument: Instrument, step_ms: int, session: Session, from_ms: int
) -> Iterator[Period]:
    origin, close = bounds(instrument, session)
    begin = max(origin, origin + (from_ms - origin) // step_ms * step_ms)
    closes = not instrument.symbol.venue.round_the_clock
    for start in range(begin, close, step_ms):
        end = min(start + step_ms, close)
        if not in_lunch(instrument.symbol, session.open_ms, start, end):
            yield Period(start, end, closes and end == close)


def listing_ms(symbol: Symbol) -> int:
    """Return the open of a symbol's first session, ms."""
    day = symbol.listed
    while (session := session_on(symbol.venue, day)) is None:
        day = date.fromordinal(day.toordinal() + 1)
    return session.open_ms
