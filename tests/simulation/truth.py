"""What every bar really was, and every value that was ever sent of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from publisher.simulator.market import Bar, Market
from publisher.simulator.periods import Instrument
from publisher.simulator.symbols import find
from publisher.wire import HOUR_MS, Series

BEFORE_BARS: Final = 200
"""How far back the truth is known before a run begins; no fill reaches that far."""
AFTER_MS: Final = 2 * HOUR_MS
"""How far on; no run lasts that long."""

Values = tuple[float, ...]
"""Open, high, low, close and, where there is one, volume."""


@lru_cache(maxsize=8)
def market(number: int) -> Market:
    """Return one of the markets; they are pure, so seeds may share what was computed."""
    return Market(number + 1)


def instrument(series: Series) -> Instrument:
    """Return what the stand-in trades under a series' name."""
    symbol = find(f"{series.exchange}:{series.symbol}")
    assert symbol is not None
    return Instrument(symbol)


def final_bars(number: int, series: Series, start_ms: int) -> list[Bar]:
    """Return the bars around the beginning of a run, final."""
    bars, traded = market(number), instrument(series)
    before = bars.before(traded, series.interval, start_ms, BEFORE_BARS)
    return before + bars.bars(traded, series.interval, start_ms, start_ms + AFTER_MS)


class Truth:
    """The final bars of one series, by open time."""

    def __init__(self, number: int, series: Series, start_ms: int) -> None:
        self.series = series
        self.delay_ms = instrument(series).symbol.delay_s * 1000
        self._bars = final_bars(number, series, start_ms)
        self._times = [bar.start_ms for bar in self._bars]
        self._by_time = dict(zip(self._times, self._bars, strict=True))
        self._sent: dict[int, dict[Values, int]] = {}

    def bar(self, open_time_ms: int) -> Bar | None:
        """Return the bar that opens then, None where there is none."""
        return self._by_time.get(open_time_ms)

    def ends(self, after_ms: int, until_ms: int) -> list[int]:
        """Return when bars ended between two times."""
        return [bar.end_ms for bar in self._bars if after_ms < bar.end_ms <= until_ms]

    def ending(self, end_ms: int) -> Bar | None:
        """Return the bar that ends then, None where there is none."""
        place = bisect_left(self._times, end_ms) - 1
        bar = self._bars[place] if place >= 0 else None
        return bar if bar is not None and bar.end_ms == end_ms else None

    def values(self, open_time_ms: int) -> Values:
        """Return a bar's last values."""
        return tuple(self._by_time[open_time_ms].values[1:])

    def between(self, after_ms: int, before_ms: int) -> list[int]:
        """Return the open times strictly between two."""
        low = bisect_right(self._times, after_ms)
        return self._times[low : bisect_left(self._times, before_ms)]

    def opened_since(self, open_time_ms: int, now_ms: int) -> int:
        """Return how many bars opened from a bar on, itself included, as the feed shows it."""
        low = bisect_left(self._times, open_time_ms)
        return bisect_right(self._times, now_ms - self.delay_ms) - low

    def newest_ended(self, now_ms: int) -> int | None:
        """Return the open time of the newest bar that has ended, as the feed shows it."""
        feed_ms = now_ms - self.delay_ms
        place = bisect_right(self._times, feed_ms) - 1
        while place >= 0 and self._bars[place].end_ms > feed_ms:
            place -= 1
        return self._times[place] if place >= 0 else None

    def note_sent(self, values: Sequence[Any], now_ms: int) -> None:
        """Remember values that were sent of a bar."""
        sent = self._sent.setdefault(round(values[0] * 1000), {})
        sent[tuple(float(value) for value in values[1:])] = now_ms

    def sent_ms(self, open_time_ms: int, values: Values) -> int:
        """Return when a bar's values were last sent to a publisher, 0 where they never were."""
        return self._sent.get(open_time_ms, {}).get(values, 0)
