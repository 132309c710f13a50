"""The market is a pure function of its seed, and all its intervals agree."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publisher.simulator import SYMBOLS, Bar, Instrument, Market
from publisher.simulator.paths import Ohlcv, split
from publisher.simulator.periods import CALENDAR_INTERVALS, Period
from publisher.wire import DAY_MS, INTERVALS, MINUTE_MS

NOON = 1_787_659_200_000  # 2026-08-25 12:00 UTC, a Tuesday
MARKET = Market(3)

TRADED = [name for name, symbol in SYMBOLS.items() if symbol.trades and not symbol.group]
symbols = st.sampled_from(
    [
        "BINANCE:BTCUSDT",
        "BINANCE:ZENUSDT",
        "NASDAQ:AAPL",
        "NYSE:BHV",
        "HOSE:VCB",
        "TVC:RUT",
        "CME_MINI:ES1!",
        "FX:EURUSD",
    ]
).map(lambda name: Instrument(SYMBOLS[name]))
times = st.integers(NOON - 900 * DAY_MS, NOON + 90 * DAY_MS)
intraday = st.sampled_from([name for name in INTERVALS if name not in CALENDAR_INTERVALS])


def merged(bars: list[Bar]) -> tuple[float, float, float, float]:
    return (
        bars[0].open,
        max(bar.high for bar in bars),
        min(bar.low for bar in bars),
        bars[-1].close,
    )


def ohlc(bar: Bar) -> tuple[float, float, float, float]:
    return bar.open, bar.high, bar.low, bar.close


def period(bar: Bar) -> Period:
    return Period(bar.start_ms, bar.end_ms, bar.ends_session)


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_same_seed_makes_the_same_bars_and_another_seed_others(interval: str) -> None:
    instrument = Instrument(SYMBOLS["BINANCE:BTCUSDT"])
    bars = Market(3).before(instrument, interval, NOON, 20)
    assert len(bars) == 20
    assert bars == MARKET.before(instrument, interval, NOON, 20)
    assert bars != Market(4).before(instrument, interval, NOON, 20)


def test_the_market_of_a_seed_never_changes_between_versions() -> None:
    instrument = Instrument(SYMBOLS["BINANCE:BTCUSDT"])
    (bar,) = Market(1).before(instrument, "1m", 1_789_990_000_123, 1)
    values = [1789989960.0, 84291.72, 84313.12, 84291.39, 84303.58, 4.08861]
    assert bar.values == values


@settings(max_examples=60, deadline=None)
@given(instrument=symbols, interval=intraday, at=times)
def test_a_bar_is_exactly_its_minutes(instrument: Instrument, interval: str, at: int) -> None:
    (bar,) = MARKET.before(instrument, interval, at, 1)
    minutes = MARKET.bars(instrument, "1m", bar.start_ms, bar.end_ms)
    assert merged(minutes) == ohlc(bar)
    if bar.volume is not None:
        assert sum(minute.volume or 0 for minute in minutes) == pytest.approx(bar.volume)


@settings(max_examples=25, deadline=None)
@given(instrument=symbols, at=times)
def test_days_are_exactly_their_hours_and_months_exactly_their_days(
    instrument: Instrument, at: int
) -> None:
    (day,) = MARKET.before(instrument, "1D", at, 1)
    assert merged(MARKET.bars(instrument, "1H", day.start_ms, day.end_ms)) == ohlc(day)
    for interval in ("1W", "1M"):
        (long,) = MARKET.before(instrument, interval, at, 1)
        assert merged(MARKET.bars(instrument, "1D", long.start_ms, long.end_ms)) == ohlc(long)


@settings(max_examples=60, deadline=None)
@given(
    instrument=symbols,
    interval=st.sampled_from(list(INTERVALS)),
    at=times,
    fractions=st.lists(st.floats(0, 1), min_size=2, max_size=12),
)
def test_a_forming_bar_grows_into_its_final_values(
    instrument: Instrument, interval: str, at: int, fractions: list[float]
) -> None:
    (final,) = MARKET.before(instrument, interval, at, 1)
    length = final.end_ms - final.start_ms
    moments = [final.start_ms + int(fraction * (length - 1)) for fraction in sorted(fractions)]
    seen = [MARKET.state(instrument, period(final), moment) for moment in moments]
    states = [state for state in seen if state is not None] + [final]
    for earlier, later in pairwise(states):
        assert earlier.open == final.open
        assert earlier.high <= later.high
        assert earlier.low >= later.low
        assert (earlier.volume or 0) <= (later.volume or 0)
    for state in states:
        assert state.low <= min(state.open, state.close)
        assert state.high >= max(state.open, state.close)
    assert MARKET.state(instrument, period(final), final.end_ms) == final


@settings(max_examples=60, deadline=None)
@given(instrument=symbols, interval=st.sampled_from(list(INTERVALS)), at=times)
def test_history_is_the_same_whichever_way_it_is_asked_for(
    instrument: Instrument, interval: str, at: int
) -> None:
    bars = MARKET.before(instrument, interval, at, 9)
    assert [bar.start_ms for bar in bars] == sorted({bar.start_ms for bar in bars})
    assert MARKET.bars(instrument, interval, bars[0].start_ms, at) == bars
    assert MARKET.before(instrument, interval, bars[-1].start_ms, 8) == bars[:-1]
    clocked = MARKET.next_period(instrument, interval, bars[-1].start_ms)
    assert clocked == period(bars[-1])


@given(
    prices=st.lists(st.integers(1, 10_000), min_size=4, max_size=4),
    volume=st.integers(0, 10**9),
    count=st.integers(1, 60),
    seed=st.integers(0, 2**32),
)
def test_children_aggregate_to_exactly_their_parent(
    prices: list[int], volume: int, count: int, seed: int
) -> None:
    low, *middle, high = sorted(prices)
    parent = Ohlcv(middle[0], high, low, middle[1], volume)
    children = split(parent, count, Random(seed).random)
    assert len(children) == count
    assert children[0].open == parent.open
    assert children[-1].close == parent.close
    assert max(child.high for child in children) == high
    assert min(child.low for child in children) == low
    assert sum(child.volume for child in children) == volume
    assert all(child.volume > 0 for child in children) or volume < count
    for child in children:
        assert child.low <= min(child.open, child.close)
        assert child.high >= max(child.open, child.close)


@pytest.mark.parametrize("name", TRADED)
def test_prices_are_whole_ticks_as_the_nearest_doubles(name: str) -> None:
    symbol = SYMBOLS[name]
    for bar in MARKET.before(Instrument(symbol), "1D", NOON, 20):
        for price in ohlc(bar):
            ticks = round(price * symbol.pricescale / symbol.minmov)
            assert price == ticks * symbol.minmov / symbol.pricescale
            assert float(repr(price)) == price
            assert len(repr(price)) < 15


def test_a_quiet_round_the_clock_market_has_flat_minutes_and_no_gaps() -> None:
    bars = MARKET.before(Instrument(SYMBOLS["BINANCE:ZENUSDT"]), "1m", NOON, 200)
    assert all(b.start_ms - a.start_ms == MINUTE_MS for a, b in pairwise(bars))
    flat = [bar for bar in bars if bar.volume == 0]
    assert len(flat) > 50
    assert all(len(set(ohlc(bar))) == 1 for bar in flat)


def test_an_illiquid_stock_has_minutes_without_bars_and_none_without_volume() -> None:
    bars = MARKET.before(Instrument(SYMBOLS["NYSE:BHV"]), "1m", NOON, 100)
    assert all((bar.volume or 0) > 0 for bar in bars)
    assert sum(b.start_ms - a.start_ms > MINUTE_MS for a, b in pairwise(bars)) > 60


def test_an_index_has_no_volume_and_five_values() -> None:
    (bar,) = MARKET.before(Instrument(SYMBOLS["TVC:RUT"]), "1D", NOON, 1)
    assert bar.volume is None
    assert len(bar.values) == 5


def test_the_extended_session_has_more_bars_and_leaves_the_regular_ones_alone() -> None:
    regular, extended = (
        MARKET.bars(Instrument(SYMBOLS["NASDAQ:AAPL"], extended=more), "5m", NOON - DAY_MS, NOON)
        for more in (False, True)
    )
    assert len(regular) == 78
    assert len(extended) > 150
    assert set(map(tuple, (bar.values for bar in regular))) <= set(
        map(tuple, (bar.values for bar in extended))
    )


def test_dividends_lower_old_prices_and_a_currency_multiplies_all() -> None:
    plain = MARKET.before(Instrument(SYMBOLS["NASDAQ:AAPL"]), "1D", NOON, 1)[0]
    adjusted = MARKET.before(Instrument(SYMBOLS["NASDAQ:AAPL"], dividends=True), "1D", NOON, 1)[0]
    euros = MARKET.before(Instrument(SYMBOLS["NASDAQ:AAPL"], rate=0.5), "1D", NOON, 1)[0]
    assert adjusted.close < plain.close
    assert adjusted.volume == plain.volume
    assert euros.close == plain.close * 0.5


def test_some_bars_of_a_corrected_symbol_change_after_their_end() -> None:
    instrument = Instrument(SYMBOLS["BITFINEX:BTCUSD"])
    bars = MARKET.before(instrument, "1m", NOON, 100)
    changed = [bar for bar in bars if MARKET.seen(instrument, bar, bar.end_ms) != bar]
    assert 15 < len(changed) < 50
    for bar in changed:
        at_ms = MARKET.corrected_at_ms(instrument, bar)
        assert at_ms is not None
        assert MARKET.seen(instrument, bar, at_ms) == bar


def test_a_listing_that_never_traded_has_no_bars() -> None:
    instrument = Instrument(SYMBOLS["NYSE:NEWCO"])
    assert MARKET.before(instrument, "1D", NOON, 5) == []
    assert MARKET.state(instrument, MARKET.next_period(instrument, "1D", NOON), NOON) is None


def test_nothing_was_traded_before_the_listing() -> None:
    bars = MARKET.before(Instrument(SYMBOLS["BINANCE:BTCUSDT"]), "1D", NOON, 100_000)
    assert bars[0].start_ms == 1_514_764_800_000
    assert len(bars) == 3159


def test_hours_of_five_thousand_days_are_not_computed_for_the_days() -> None:
    market = Market(11)
    instrument = Instrument(SYMBOLS["NASDAQ:AAPL"])
    assert len(market.before(instrument, "1D", NOON, 5000)) == 5000
    assert market._tree.children.cache_info().misses == 0
    market.before(instrument, "1H", NOON, 50)
    assert 0 < market._tree.children.cache_info().misses < 50
