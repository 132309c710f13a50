"""Days on which exchanges are closed or close early, by rule, for any year."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Final

_DAY: Final = timedelta(days=1)

# Tet and the Hung Kings' day follow the moon; the recorded list ends in 2025.
_HOSE: Final = (
    "20180101,20180214,20180215,20180216,20180219,20180220,20180425,20180430,20180501,20180903,"
    "20181231,20190101,20190204,20190205,20190206,20190207,20190208,20190415,20190429,20190430,"
    "20190501,20190902,20200101,20200123,20200124,20200127,20200128,20200129,20200402,20200430,"
    "20200501,20200902,20210101,20210210,20210211,20210212,20210215,20210216,20210421,20210430,"
    "20210503,20210902,20210903,20220103,20220131,20220201,20220202,20220203,20220204,20220411,"
    "20220502,20220503,20220901,20220902,20230102,20230123,20230124,20230125,20230126,20230501,"
    "20230502,20230503,20230901,20230904,20240101,20240208,20240209,20240212,20240213,20240214,"
    "20240418,20240430,20240501,20240902,20240903,20250101,20250127,20250128,20250129,20250130,"
    "20250131,20250407,20250430,20250501,20250502,20250901,20250902,20260101,20260216,20260217,"
    "20260218,20260219,20260220,20260427,20260430,20260501,20260901,20260902"
)


def easter(year: int) -> date:
    """Return Easter Sunday in the Gregorian calendar (Butcher's algorithm)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


@lru_cache(maxsize=256)
def closed_days(calendar: str, year: int) -> frozenset[date]:
    """Return the weekdays of a year on which a calendar has no session."""
    if calendar == "us":
        return _united_states(year)
    if calendar == "cme":
        return frozenset({date(year, 1, 1), easter(year) - 2 * _DAY, date(year, 12, 25)})
    if calendar == "hose":
        listed = {_parse(day) for day in _HOSE.split(",")}
        days = {day for day in listed if day.year == year}
        return frozenset(days or {date(year, 1, 1), date(year, 4, 30), date(year, 5, 1)})
    fixed = {
        "fx": ((1, 1), (12, 25)),
        "krx": ((1, 1), (3, 1), (5, 5), (6, 6), (8, 15), (10, 3), (10, 9), (12, 25), (12, 31)),
        "nse": ((1, 26), (8, 15), (10, 2), (12, 25)),
        "none": (),
    }[calendar]
    return frozenset(date(year, month, day) for month, day in fixed)


@lru_cache(maxsize=256)
def half_days(calendar: str, year: int) -> frozenset[date]:
    """Return the days of a year on which a calendar's session ends early."""
    if calendar != "us":
        return frozenset()
    days = {_nth_weekday(year, 11, 3, 4) + _DAY}
    # The eve of a holiday that is itself a trading day before a weekday holiday.
    days |= {day for day in (date(year, 7, 3), date(year, 12, 24)) if day.weekday() < 4}
    return frozenset(days - closed_days(calendar, year))


def _united_states(year: int) -> frozenset[date]:
    days = {
        _nth_weekday(year, 1, 0, 3),
        _nth_weekday(year, 2, 0, 3),
        easter(year) - 2 * _DAY,
        _nth_weekday(year, 6, 0, 1) - 7 * _DAY,
        _observed(date(year, 7, 4)),
        _nth_weekday(year, 9, 0, 1),
        _nth_weekday(year, 11, 3, 4),
        _observed(date(year, 12, 25)),
    }
    # A New Year's Day on a Saturday is not observed: it would be in the old year.
    new_year = date(year, 1, 1)
    if new_year.weekday() != 5:
        days.add(_observed(new_year))
    if year >= 2022:
        days.add(_observed(date(year, 6, 19)))
    if year == 2025:
        days.add(date(2025, 1, 9))
    return frozenset(days)


def _observed(day: date) -> date:
    return {5: day - _DAY, 6: day + _DAY}.get(day.weekday(), day)


def _nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _parse(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))
