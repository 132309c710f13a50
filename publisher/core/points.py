"""One bar as TradingView sends it, checked.

A point is `[time in s, open, high, low, close[, volume[, more]]]`; symbols
without volume send five values. 1e+100 is TradingView's "no value".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from publisher.wire import MINUTE_MS

NO_VALUE: Final = 1e100
SECOND_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Point:
    """Checked values of one bar, forming or closed."""

    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None


@dataclass(frozen=True, slots=True)
class PointRefused:
    """Values that cannot be a bar."""

    reason: str
    open_time_ms: int | None
    """None where it cannot be read; what is read may lie before 1970 or in the future."""


def check_point(values: tuple[Any, ...], latest_ms: int) -> Point | PointRefused:
    """Return the values as a point, or why they are none.

    `latest_ms` is the latest open time that can be true: an entry from the
    future would keep every later bar out of the stream.
    """
    time_s = finite(values[0]) if values else None
    if time_s is None or abs(time_s) > 1e12:
        return PointRefused(f"time must be a number, was {values[:1]!r}", None)
    open_time_ms = round(time_s * 1000)
    if len(values) < 5:
        few = f"a bar has at least 5 values, this one has {len(values)}"
        return PointRefused(few, open_time_ms)
    if reason := _time_reason(open_time_ms, latest_ms):
        return PointRefused(reason, open_time_ms)
    if reason := _price_reason(values[1:5]):
        return PointRefused(reason, open_time_ms)
    volume = values[5] if len(values) > 5 else None
    if volume is not None and volume != NO_VALUE and (finite(volume) is None or volume < 0):
        return PointRefused(f"volume must be a number, was {volume!r}", open_time_ms)
    return Point(
        open_time_ms,
        float(values[1]),
        float(values[2]),
        float(values[3]),
        float(values[4]),
        None if volume is None or volume == NO_VALUE else float(volume),
    )


def _time_reason(open_time_ms: int, latest_ms: int) -> str | None:
    if open_time_ms <= 0:
        return f"it opened before 1970 ({open_time_ms} ms), which no entry ID can say"
    if open_time_ms > latest_ms:
        return f"it opens in the future ({open_time_ms} ms, latest possible {latest_ms} ms)"
    return None


def _price_reason(prices: tuple[Any, ...]) -> str | None:
    numbers = [finite(price) for price in prices]
    for name, price, number in zip(("open", "high", "low", "close"), prices, numbers, strict=True):
        if number is None or number == NO_VALUE:
            return f"{name} must be a number, was {price!r}"
        if number < 0:
            return f"{name} must not be negative, was {price!r}"
    opened, high, low, close = (number for number in numbers if number is not None)
    if high < max(opened, low, close) or low > min(opened, high, close):
        return f"high and low must enclose open and close, was {prices!r}"
    return None


def finite(value: Any) -> float | None:
    """Return a finite number as a float, None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def true_end_ms(close_time_ms: int, delay_ms: int) -> int:
    """Return when a bar ended, from `lbs.bar_close_time` in ms.

    TradingView adds the symbol's delay, and takes one second off where the bar
    ends with the session (recorded: 19:59:59 for 20:00, 08:14:59 for 08:00 and
    900 s of delay). Every interval ends on a whole minute.
    """
    end_ms = close_time_ms - delay_ms
    return end_ms + SECOND_MS if end_ms % MINUTE_MS == MINUTE_MS - SECOND_MS else end_ms
