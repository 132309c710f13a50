"""When a symbol's market is open, from what TradingView says of the symbol.

A session is written in the exchange's own time as `HHMM-HHMM`; several are parted by
commas (`0900-1130,1300-1500`). One that does not end after it begins starts on the day
before (`1700-1600`). Digits after a colon are the days it is for, 1 being Sunday; without,
Monday to Friday that have no other. Parts for other days follow a bar
(`0900-1630|0900-1400:2`), a lone digit with a semicolon is the first day of the week,
and `24x7` is always. Corrections are `SESSION:YYYYMMDD,…` and `dayoff:YYYYMMDD,…`, parted
by semicolons, and count more than holidays and weekdays (recorded: 0930-1300:20261127,
dayoff:20250109, and a Saturday in Saigon, 0900-1500:20250426).

What cannot be read is unknown: nothing is then said about the market being open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from publisher.wire import DAY_MS

SPAN_DAYS_MAX: Final = 60
"""A longer time is looked at from its newest end only."""
DATES_MAX: Final = 20_000
"""Holidays and corrections of one symbol that are read."""

_DAY_MINUTES: Final = 1_440
_EPOCH: Final = date(1970, 1, 1)
_WEEKDAYS: Final = "23456"
_HOURS: Final = re.compile(r"([01]\d|2[0-4])([0-5]\d)-([01]\d|2[0-4])([0-5]\d)")

Hours = tuple[tuple[int, int], ...]
"""Sessions of one day: begin and end in minutes since its local midnight."""


class _Unreadable(Exception):
    """The text does not follow the form."""


@dataclass(frozen=True, slots=True)
class TradingHours:
    """The sessions of one symbol. Times are ms since the epoch, UTC."""

    known: bool = False
    """False where TradingView said nothing that could be read."""
    always: bool = False
    zone: ZoneInfo | None = None
    weekly: Mapping[int, Hours] = field(default_factory=dict)
    """By day of the week, 1 being Sunday."""
    special: Mapping[date, Hours] = field(default_factory=dict)
    """Days that differ; none at all on a holiday."""

    def is_open(self, now_ms: int) -> bool:
        """Tell whether the market is open; never where that is unknown."""
        return self.always or self.open_ms(now_ms, now_ms + 1) > 0

    def open_ms(self, from_ms: int, to_ms: int) -> int:
        """Return for how long the market is open between two times; 0 where that is unknown."""
        if self.always:
            return max(0, to_ms - from_ms)
        if not self.known:
            return 0
        from_ms = max(from_ms, to_ms - SPAN_DAYS_MAX * DAY_MS)
        return sum(
            max(0, min(end_ms, to_ms) - max(begin_ms, from_ms))
            for begin_ms, end_ms in self._sessions(from_ms, to_ms)
        )

    def _sessions(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
        # A session may begin on the day before its own, and zones differ from UTC by 14 hours.
        day = _EPOCH + timedelta(days=from_ms // DAY_MS - 2)
        last = _EPOCH + timedelta(days=to_ms // DAY_MS + 2)
        while day <= last:
            for begin, end in self._hours_of(day):
                yield self._utc_ms(day, begin), self._utc_ms(day, end)
            day += timedelta(days=1)

    def _hours_of(self, day: date) -> Hours:
        if day in self.special:
            return self.special[day]
        return self.weekly.get(day.isoweekday() % 7 + 1, ())

    def _utc_ms(self, day: date, minutes: int) -> int:
        assert self.zone is not None
        return _utc_ms(self.zone, day, minutes)


UNKNOWN: Final = TradingHours()


@lru_cache(maxsize=4_096)
def _utc_ms(zone: ZoneInfo, day: date, minutes: int) -> int:
    days, minutes = divmod(minutes, _DAY_MINUTES)
    day += timedelta(days=days)
    local = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=zone)
    return round(local.timestamp() * 1000)


@lru_cache(maxsize=1_024)
def read_hours(session: str, timezone: str, holidays: str, corrections: str) -> TradingHours:
    """Return the hours that these texts say; unknown where one cannot be read."""
    try:
        if session == "24x7" and not holidays and not corrections:
            return TradingHours(known=True, always=True)
        weekly = dict.fromkeys(range(1, 8), _ALL_DAY) if session == "24x7" else _weekly(session)
        special: dict[date, Hours] = dict.fromkeys(_dates(holidays), ())
        special |= _corrections(corrections)
        zone = ZoneInfo(timezone)
    except (_Unreadable, ZoneInfoNotFoundError, ValueError, OSError):
        return UNKNOWN
    return TradingHours(
        known=True, zone=zone, weekly=MappingProxyType(weekly), special=MappingProxyType(special)
    )


_ALL_DAY: Final[Hours] = ((0, _DAY_MINUTES),)


def _weekly(session: str) -> dict[int, Hours]:
    # A lone digit is the first day of the week, which says nothing about the hours.
    [text] = [part for part in session.split(";") if not re.fullmatch("[1-7]", part)] or [""]
    usual: Hours = ()
    weekly: dict[int, Hours] = {}
    for part in text.split("|"):
        hours, colon, days = part.partition(":")
        if colon and not re.fullmatch("[1-7]+", days):
            raise _Unreadable(part)
        if colon:
            weekly |= dict.fromkeys(map(int, days), _hours(hours))
        else:
            usual = _hours(hours)
    return {int(day): usual for day in _WEEKDAYS} | weekly


def _corrections(text: str) -> dict[date, Hours]:
    special: dict[date, Hours] = {}
    for part in filter(None, text.split(";")):
        hours, colon, dates = part.rpartition(":")
        if not colon:
            raise _Unreadable(part)
        special |= dict.fromkeys(_dates(dates), () if hours == "dayoff" else _hours(hours))
    return special


def _hours(text: str) -> Hours:
    return tuple(_span(part) for part in text.split(","))


def _span(text: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(text)
    if match is None:
        raise _Unreadable(text)
    begin, end = (int(match[i]) * 60 + int(match[i + 1]) for i in (1, 3))
    if end == 0:
        end = _DAY_MINUTES
    if begin >= end:
        begin -= _DAY_MINUTES
    return begin, end


def _dates(text: str) -> list[date]:
    parts = [part for part in text.split(",") if part]
    if len(parts) > DATES_MAX:
        raise _Unreadable("too many dates")
    return [datetime.strptime(part, "%Y%m%d").date() for part in parts]  # noqa: DTZ007, a day
