"""When a market is open: forms, recorded symbols, and the simulated calendar."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime

import pytest
from recordings import needs_recordings, one

from publisher.core.hours import SPAN_DAYS_MAX, UNKNOWN, TradingHours, read_hours
from publisher.core.messages import BarsReceived, SymbolResolved
from publisher.core.parsing import parse
from publisher.simulator import SYMBOLS
from publisher.simulator.calendar import session_on, utc_day
from publisher.simulator.periods import Instrument
from publisher.simulator.symbol_info import symbol_info

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


def utc(session: str, holidays: str = "", corrections: str = "") -> TradingHours:
    return read_hours(session, "Etc/UTC", holidays, corrections)


# 2026-11-02 is a Monday.


@pytest.mark.parametrize(
    ("session", "moment", "is_open"),
    [
        ("24x7", "2026-11-01T03:00:00Z", True),
        ("0930-1600", "2026-11-02T09:29:59Z", False),
        ("0930-1600", "2026-11-02T09:30:00Z", True),
        ("0930-1600", "2026-11-02T15:59:59Z", True),
        ("0930-1600", "2026-11-02T16:00:00Z", False),
        ("0930-1600", "2026-11-01T12:00:00Z", False),
        ("0930-1600", "2026-11-07T12:00:00Z", False),
        ("0900-1130,1300-1500", "2026-11-02T12:00:00Z", False),
        ("0900-1130,1300-1500", "2026-11-02T14:00:00Z", True),
        ("1700-1600", "2026-11-01T17:00:00Z", True),
        ("1700-1600", "2026-11-01T16:59:00Z", False),
        ("1700-1600", "2026-11-02T16:30:00Z", False),
        ("1700-1600", "2026-11-06T15:59:00Z", True),
        ("1700-1600", "2026-11-06T17:30:00Z", False),
        ("1700-1700", "2026-11-02T17:00:00Z", True),
        ("0000-0000", "2026-11-02T00:00:00Z", True),
        ("0000-0000", "2026-11-01T23:59:00Z", False),
        ("0000-2400", "2026-11-02T23:59:00Z", True),
        ("1800-0000", "2026-11-02T23:00:00Z", True),
        ("1800-0000", "2026-11-02T17:00:00Z", False),
        ("1000-1600:123456", "2026-11-01T12:00:00Z", True),
        ("1000-1600:17", "2026-11-02T12:00:00Z", False),
        ("1000-1600:17", "2026-11-07T12:00:00Z", True),
        ("0900-1630|0900-1400:2", "2026-11-02T15:00:00Z", False),
        ("0900-1630|0900-1400:2", "2026-11-03T15:00:00Z", True),
        ("1;0900-1630", "2026-11-03T15:00:00Z", True),
        ("0900-1630;6", "2026-11-03T15:00:00Z", True),
    ],
)
def test_a_session_is_open_when_its_text_says_so(session: str, moment: str, is_open: bool) -> None:
    hours = utc(session)
    assert hours.known
    assert hours.is_open(ms(moment)) == is_open


@pytest.mark.parametrize(
    ("session", "timezone", "holidays", "corrections"),
    [
        ("", "Etc/UTC", "", ""),
        ("always", "Etc/UTC", "", ""),
        ("0930-1660", "Etc/UTC", "", ""),
        ("2530-1600", "Etc/UTC", "", ""),
        ("0930-1600:9", "Etc/UTC", "", ""),
        ("0930-1600:", "Etc/UTC", "", ""),
        ("1;2", "Etc/UTC", "", ""),
        ("0930-1600;0930-1600", "Etc/UTC", "", ""),
        ("0930-1600", "", "", ""),
        ("0930-1600", "Mars/Olympus", "", ""),
        ("0930-1600", "../etc/passwd", "", ""),
        ("0930-1600", "Etc/UTC", "20261301", ""),
        ("0930-1600", "Etc/UTC", "x", ""),
        ("0930-1600", "Etc/UTC", "", "0930-1300"),
        ("0930-1600", "Etc/UTC", "", "0930:20261127"),
        ("0930-1600", "Etc/UTC", "20260101," * 20_001, ""),
    ],
)
def test_what_cannot_be_read_is_unknown_and_never_open(
    session: str, timezone: str, holidays: str, corrections: str
) -> None:
    hours = read_hours(session, timezone, holidays, corrections)
    assert hours == UNKNOWN
    assert not hours.is_open(ms("2026-11-02T12:00:00Z"))
    assert hours.open_ms(0, ms("2026-11-02T12:00:00Z")) == 0


def test_holidays_are_closed_and_corrections_count_more() -> None:
    hours = utc("0930-1600", "20261126,20261225", "0930-1300:20261127,20261225;dayoff:20261130")
    noon, afternoon = "T12:00:00Z", "T14:00:00Z"
    assert not hours.is_open(ms("2026-11-26" + noon))
    assert hours.is_open(ms("2026-11-27" + noon))
    assert not hours.is_open(ms("2026-11-27" + afternoon))
    assert not hours.is_open(ms("2026-11-30" + noon))
    assert hours.is_open(ms("2026-12-25" + noon))
    assert utc("0930-1600", "", "0930-1600:20261128").is_open(ms("2026-11-28" + noon))


def test_a_market_without_weekends_can_have_a_day_off() -> None:
    hours = utc("24x7", "20261225")
    assert hours.is_open(ms("2026-12-26T00:00:00Z"))
    assert not hours.is_open(ms("2026-12-25T23:59:00Z"))
    assert hours.open_ms(ms("2026-12-24T00:00:00Z"), ms("2026-12-27T00:00:00Z")) == 2 * DAY_MS


def test_clocks_that_are_put_forward_move_the_session_in_utc() -> None:
    hours = read_hours("0930-1600", "America/New_York", "", "")
    assert hours.is_open(ms("2026-03-06T14:30:00Z"))
    assert not hours.is_open(ms("2026-03-06T14:29:00Z"))
    assert hours.is_open(ms("2026-03-09T13:30:00Z"))


def test_market_time_leaves_out_nights_weekends_and_lunch() -> None:
    hours = utc("0900-1130,1300-1500")
    friday, monday = ms("2026-11-06T14:00:00Z"), ms("2026-11-09T10:00:00Z")
    assert hours.open_ms(friday, monday) == 2 * HOUR_MS
    assert hours.open_ms(monday, friday) == 0
    assert hours.open_ms(ms("2026-11-02T11:00:00Z"), ms("2026-11-02T13:30:00Z")) == HOUR_MS
    assert utc("24x7").open_ms(5, 3) == 0


def test_a_long_time_is_looked_at_from_its_newest_end() -> None:
    now = ms("2026-11-02T00:00:00Z")
    assert utc("0000-0000:1234567").open_ms(0, now) == SPAN_DAYS_MAX * DAY_MS


def recorded_hours(name: str) -> TradingHours:
    resolved = parse(json.dumps(one(name)))
    assert isinstance(resolved, SymbolResolved)
    info = resolved.info
    return read_hours(info.session, info.timezone, info.holidays, info.corrections)


def recorded_times(name: str) -> list[int]:
    received = parse(json.dumps(one(name)))
    assert isinstance(received, BarsReceived)
    (bars,) = received.slots.values()
    return [int(values[0] * 1000) for values in bars.values]


@needs_recordings
def test_every_recorded_daily_bar_opens_with_its_session() -> None:
    hours = recorded_hours("036-symbol_resolved-SP-SPX.json")
    times = recorded_times("033-timescale_update-1D-SPX-368bars.json")
    assert len(times) == 368
    for open_time_ms in times:
        assert hours.is_open(open_time_ms), open_time_ms
        assert not hours.is_open(open_time_ms - 1), open_time_ms


@needs_recordings
def test_every_recorded_hourly_bar_opens_in_a_session() -> None:
    hours = recorded_hours("043-symbol_resolved-HOSE-VCB.json")
    times = recorded_times("046-timescale_update-60m-VCB-delayed.json")
    assert len(times) == 300
    assert all(hours.is_open(open_time_ms) for open_time_ms in times)
    days = sorted({time // DAY_MS * DAY_MS for time in times})[1:]
    for day in days:
        # Six hours are stated; the lunch hour among them has no bar.
        assert hours.open_ms(day, day + DAY_MS) == 6 * HOUR_MS
        assert 4 <= sum(day <= time < day + DAY_MS for time in times) <= 5


@pytest.mark.parametrize("name", sorted(SYMBOLS))
def test_the_hours_of_every_simulated_symbol_are_those_of_its_calendar(name: str) -> None:
    symbol = SYMBOLS[name]
    info = symbol_info(Instrument(symbol))
    correction = next(
        (
            part.get("session-correction", "")
            for part in info["subsessions"]
            if part["id"] == info["subsession_id"]
        ),
        "",
    )
    hours = read_hours(
        info["session"], info["timezone"], info.get("session_holidays", ""), correction
    )
    assert hours.known
    rng = random.Random(name)
    begin, end = ms("2025-01-01T00:00:00Z"), ms("2027-01-01T00:00:00Z")
    for _ in range(300):
        now_ms = rng.randrange(begin, end)
        expected = any(
            session is not None and session.open_ms <= now_ms < session.close_ms
            for session in (
                session_on(symbol.venue, date.fromordinal(utc_day(now_ms).toordinal() + step))
                for step in (-1, 0, 1)
            )
        )
        if symbol.venue.lunch is None:
            assert hours.is_open(now_ms) == expected, now_ms
