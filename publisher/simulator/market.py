"""The truth: what every bar of every symbol is, was and will be.

A market is a pure function of its seed. There is no clock in it; whoever asks
says what time it is. See `paths` for how all intervals agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from publisher.simulator.calendar import DAY_MS, HOUR_MS, Session, sessions_back, utc_day
from publisher.simulator.paths import Ohlcv
from publisher.simulator.periods import (
    CALENDAR_INTERVALS,
    Instrument,
    Period,
    bounds,
    calendar_groups_back,
    listing_ms,
    period_of,
    periods_from,
    sessions_of,
)
from publisher.simulator.symbols import Symbol
from publisher.simulator.tree import HOUR_DEPTH, MINUTE_DEPTH, QUARTER_DEPTH, Trading, Tree
from publisher.wire import INTERVALS

_BATCH_MS_MAX: Final = 4 * DAY_MS
_DIVIDEND: Final = 0.0025
_DIVIDENDS_UNTIL_MONTH: Final = 2030 * 12
"""Adjusted prices count the dividends paid up to 2030, so they never change later."""

_CORRECTED_SHARE: Final = 0.3


class Bar(NamedTuple):
    """A bar as TradingView sends it. Times are ms since the epoch, UTC."""

    start_ms: int
    end_ms: int
    ends_session: bool
    open: float
    high: float
    low: float
    close: float
    volume: float | None

    @property
    def values(self) -> list[float]:
        """The list that stands under `v` in TradingView's messages."""
        values = [self.start_ms / 1000, self.open, self.high, self.low, self.close]
        return values if self.volume is None else [*values, self.volume]


class Market:
    """Every symbol's bars, by seed. Safe in any thread; keeps a bounded cache."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self._tree = Tree(seed)

    def bars(self, instrument: Instrument, interval: str, from_ms: int, to_ms: int) -> list[Bar]:
        """Return the final bars that open in [from_ms, to_ms), oldest first."""
        found: list[Bar] = []
        for bar in self._backwards(instrument, interval, to_ms, to_ms - from_ms):
            if bar.start_ms < from_ms:
                break
            found.append(bar)
        return found[::-1]

    def before(
        self, instrument: Instrument, interval: str, before_ms: int, count: int
    ) -> list[Bar]:
        """Return the newest final bars that open before a time, oldest first."""
        found: list[Bar] = []
        for bar in self._backwards(instrument, interval, before_ms, count * INTERVALS[interval]):
            if len(found) >= count:
                break
            found.append(bar)
        return found[::-1]

    def next_period(self, instrument: Instrument, interval: str, from_ms: int) -> Period:
        """Return the period that holds a time, or the next one where the market is closed."""
        return next(periods_from(instrument, interval, from_ms))

    def state(self, instrument: Instrument, period: Period, now_ms: int) -> Bar | None:
        """Return a bar as it stands at a time: forming, or final from its end on.

        None while nothing was traded. On a 24x7 market the clock opens bars,
        flat and without volume.
        """
        symbol = instrument.symbol
        if now_ms < period.start_ms or not symbol.trades or period.start_ms < listing_ms(symbol):
            return None
        parts = self._parts(instrument, period, min(now_ms, period.end_ms))
        if not parts:
            if not symbol.venue.round_the_clock:
                return None
            price = self._parts(instrument, period, period.end_ms)[0].open
            parts = [Ohlcv(price, price, price, price, 0)]
        return _bar(instrument, period, parts)

    def corrected_at_ms(self, instrument: Instrument, bar: Bar) -> int | None:
        """Return when a bar's values change after its end, None where they do not."""
        symbol = instrument.symbol
        if (
            not symbol.corrected_after_ms
            or self._tree.draw(symbol, bar.start_ms, bar.end_ms) >= _CORRECTED_SHARE
        ):
            return None
        return bar.end_ms + symbol.corrected_after_ms

    def seen(self, instrument: Instrument, bar: Bar, now_ms: int) -> Bar:
        """Return a final bar as the source shows it at a time: perhaps not yet corrected."""
        corrected_ms = self.corrected_at_ms(instrument, bar)
        if corrected_ms is None or now_ms >= corrected_ms:
            return bar
        return preliminary(bar)

    def _parts(self, instrument: Instrument, period: Period, until_ms: int) -> list[Ohlcv]:
        parts: list[Ohlcv] = []
        for session in sessions_of(instrument, period):
            trading = self._trading(instrument, session)
            parts += trading.cover(period.start_ms, until_ms)
        return parts

    def _trading(self, instrument: Instrument, session: Session) -> Trading:
        return Trading(self._tree, instrument.symbol, session, extended=instrument.extended)

    def _backwards(
        self, instrument: Instrument, interval: str, before_ms: int, expected_ms: int
    ) -> Iterator[Bar]:
        symbol = instrument.symbol
        if not symbol.trades:
            return
        if interval in CALENDAR_INTERVALS:
            for days in calendar_groups_back(instrument, interval, before_ms):
                parts = [self._tree.day(symbol, day) for day in days]
                yield _bar(instrument, period_of(instrument, days), parts)
            return
        step = INTERVALS[interval]
        batch_ms = min(max(expected_ms, HOUR_MS), _BATCH_MS_MAX)
        for session in sessions_back(symbol.venue, before_ms, symbol.listed):
            origin, close = bounds(instrument, session)
            end = min(close, before_ms)
            while end > origin:
                begin = max(origin, origin + (end - batch_ms - origin) // step * step)
                yield from reversed(self._intraday(instrument, step, session, begin, end))
                end = begin

    def _intraday(
        self, instrument: Instrument, step: int, session: Session, begin_ms: int, end_ms: int
    ) -> list[Bar]:
        """Return a session's bars that open in [begin_ms, end_ms); begin_ms is on the grid."""
        origin, close = bounds(instrument, session)
        # The last bar may open before the end and reach beyond it.
        last = min(close, origin + ((end_ms - 1 - origin) // step + 1) * step)
        closes = not instrument.symbol.venue.round_the_clock
        groups: dict[int, list[Ohlcv]] = {}
        depth = _depth(step, extended=instrument.extended)
        for node in self._trading(instrument, session).collect(depth, begin_ms, last):
            start = origin + (node.start_ms - origin) // step * step
            groups.setdefault(start, []).append(node.ohlcv)
        bars: list[Bar] = []
        for start, parts in groups.items():
            end = min(start + step, close)
            bars.append(_bar(instrument, Period(start, end, closes and end == close), parts))
        return bars


def preliminary(bar: Bar) -> Bar:
    """Return what a bar that is corrected later looks like until then."""
    volume = None if bar.volume is None else round(bar.volume * 0.97, 5)
    return bar._replace(high=max(bar.open, bar.close), volume=volume)


def _depth(step_ms: int, *, extended: bool) -> int:
    # The extended session opens off the regular one's hours, but on its quarters.
    if step_ms % HOUR_MS == 0 and not extended:
        return HOUR_DEPTH
    return QUARTER_DEPTH if step_ms % (HOUR_MS // 4) == 0 else MINUTE_DEPTH


def _bar(instrument: Instrument, period: Period, parts: Iterable[Ohlcv]) -> Bar:
    opens, highs, lows, closes, volumes = zip(*parts, strict=True)
    symbol = instrument.symbol
    factor = _factor(instrument, period.start_ms)

    def price(ticks: int) -> float:
        # Whole numbers divide to the double nearest to the decimal, as TradingView's are.
        exact = ticks * symbol.minmov / symbol.pricescale
        return exact if factor == 1.0 else exact * factor

    return Bar(
        *period,
        price(opens[0]),
        price(max(highs)),
        price(min(lows)),
        price(closes[-1]),
        sum(volumes) / symbol.lot if symbol.has_volume else None,
    )


def _factor(instrument: Instrument, start_ms: int) -> float:
    if not instrument.dividends or not _pays(instrument.symbol):
        return instrument.rate
    day = utc_day(start_ms)
    quarters = max(0, (_DIVIDENDS_UNTIL_MONTH - (day.year * 12 + day.month - 1)) // 3)
    return instrument.rate * (1 - _DIVIDEND) ** quarters


def _pays(symbol: Symbol) -> bool:
    return symbol.kind == "stock"
