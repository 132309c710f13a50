"""Sessions open and close when the real markets do."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from simulator_world import recorded

from publisher.simulator import SYMBOLS, Instrument, Market
from publisher.simulator.holidays import closed_days, half_days

MARKET = Market(5)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def opens(name: str, interval: str, begin: str, end: str, *, extended: bool = False) -> list[str]:
    instrument = Instrument(SYMBOLS[name], extended=extended)
    bars = MARKET.bars(instrument, interval, ms(begin), ms(end))
    return [f"{datetime.fromtimestamp(bar.start_ms / 1000, UTC):%m-%d %H:%M}" for bar in bars]


def test_daily_bars_of_new_york_open_at_1330_in_summer_and_1430_in_winter() -> None:
    # The clocks went forward on Sunday 8 March 2026, and back on Sunday 2 November 2025.
    assert opens("NASDAQ:AAPL", "1D", "2026-03-05", "2026-03-11") == [
        "03-05 14:30",
        "03-06 14:30",
        "03-09 13:30",
        "03-10 13:30",
    ]
    assert opens("NASDAQ:AAPL", "1D", "2025-10-31", "2025-11-04") == ["10-31 13:30", "11-03 14:30"]


def test_hourly_bars_of_new_york_open_on_the_half_hour_and_the_last_is_short() -> None:
    hours = ["13:30", "14:30", "15:30", "16:30", "17:30", "18:30", "19:30"]
    assert opens("NASDAQ:AAPL", "1H", "2026-08-25", "2026-08-26") == [f"08-25 {h}" for h in hours]
    last = MARKET.before(Instrument(SYMBOLS["NASDAQ:AAPL"]), "1H", ms("2026-08-26"), 1)[0]
    assert last.end_ms == ms("2026-08-25T20:00")
    assert last.ends_session


def test_thanksgiving_is_closed_and_the_day_after_ends_at_one() -> None:
    hours = opens("NASDAQ:AAPL", "1H", "2026-11-26", "2026-11-28")
    assert hours == ["11-27 14:30", "11-27 15:30", "11-27 16:30", "11-27 17:30"]
    (day,) = MARKET.bars(
        Instrument(SYMBOLS["NASDAQ:AAPL"]), "1D", ms("2026-11-27"), ms("2026-11-28")
    )
    assert day.end_ms == ms("2026-11-27T18:00")


def test_saigon_rests_at_noon() -> None:
    hours = ["02:00", "03:00", "04:00", "06:00", "07:00"]
    assert opens("HOSE:VCB", "1H", "2025-06-25", "2025-06-26") == [f"06-25 {h}" for h in hours]
    assert "06-25 04:30" not in opens("HOSE:VCB", "5m", "2025-06-25", "2025-06-26")


def test_recorded_hours_of_saigon_are_hours_of_the_simulated_one() -> None:
    (series,) = recorded("046")["p"][1].values()
    times = [int(bar["v"][0]) * 1000 for bar in series["s"]]
    bars = MARKET.bars(Instrument(SYMBOLS["HOSE:VCB"]), "1H", times[0], times[-1] + 1)
    ours = {bar.start_ms for bar in bars}
    assert set(times) <= ours


def test_recorded_days_of_new_york_are_days_of_the_simulated_one() -> None:
    (series,) = recorded("033")["p"][1].values()
    times = [int(bar["v"][0]) * 1000 for bar in series["s"]]
    bars = MARKET.bars(Instrument(SYMBOLS["NASDAQ:AAPL"]), "1D", times[0], times[-1] + 1)
    assert [bar.start_ms for bar in bars] == times


def test_holidays_of_new_york_are_the_recorded_ones() -> None:
    info = recorded("013")["p"][2]
    listed = info["session_holidays"].split(",")
    regular = next(part for part in info["subsessions"] if part["id"] == "regular")
    early = regular["session-correction"].partition(":")[2].partition(";")[0].split(",")
    for year in range(2008, 2028):
        theirs = {day for day in listed if day.startswith(str(year))}
        ours = {f"{day:%Y%m%d}" for day in closed_days("us", year) if day != date(2025, 1, 9)}
        assert ours == theirs, year
    for year in range(2023, 2027):
        theirs = {day for day in early if day.startswith(str(year))}
        assert {f"{day:%Y%m%d}" for day in half_days("us", year)} == theirs, year


def test_futures_open_on_sunday_evening_and_rest_an_hour_a_day() -> None:
    assert opens("CME_MINI:ES1!", "1D", "2026-08-22", "2026-08-26") == [
        "08-23 22:00",
        "08-24 22:00",
        "08-25 22:00",
    ]
    hours = opens("CME_MINI:ES1!", "1H", "2026-08-25T19:00", "2026-08-25T23:30")
    assert hours == ["08-25 19:00", "08-25 20:00", "08-25 22:00", "08-25 23:00"]


def test_currencies_trade_from_sunday_evening_to_friday_evening() -> None:
    days = opens("FX:EURUSD", "1D", "2026-01-10", "2026-01-17")
    assert days == ["01-11 22:00", "01-12 22:00", "01-13 22:00", "01-14 22:00", "01-15 22:00"]


def test_weeks_and_months_open_with_their_first_session() -> None:
    # Monday 7 September 2026 is Labor Day; 1 August 2026 is a Saturday.
    assert opens("NASDAQ:AAPL", "1W", "2026-08-31", "2026-09-14") == ["08-31 13:30", "09-08 13:30"]
    assert opens("NASDAQ:AAPL", "1M", "2026-08-01", "2026-10-01") == ["08-03 13:30", "09-01 13:30"]
    assert opens("BINANCE:BTCUSDT", "1W", "2026-08-20", "2026-09-01") == [
        "08-24 00:00",
        "08-31 00:00",
    ]
    assert opens("CME_MINI:ES1!", "1W", "2026-08-22", "2026-08-29") == ["08-23 22:00"]


def test_the_extended_session_opens_at_four_and_shifts_with_a_half_day() -> None:
    times = opens("NASDAQ:AAPL", "1H", "2026-08-25", "2026-08-26", extended=True)
    assert times[0] == "08-25 08:00"
    assert times[-1] == "08-25 23:00"
    assert opens("NASDAQ:AAPL", "1H", "2026-11-27", "2026-11-28", extended=True)[-1] == (
        "11-27 21:00"
    )


@pytest.mark.parametrize("year", [2019, 2020, 2021, 2028, 2031])
def test_every_year_has_nine_or_more_closed_weekdays(year: int) -> None:
    assert all(day.weekday() < 5 for day in closed_days("us", year))
    assert len(closed_days("us", year)) >= 9
