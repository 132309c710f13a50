"""Split a bar into the bars of which it consists.

All of the market is made by one function: a day is split into hours, an hour
into quarters, a quarter into minutes, a minute into steps. The children of a
bar aggregate to exactly that bar, so every interval agrees with every other
one, and only what is asked for is ever computed. Prices are whole ticks and
volumes whole lots: sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

Random = Callable[[], float]


class Ohlcv(NamedTuple):
    """Open, high, low and close in ticks, volume in lots."""

    open: int
    high: int
    low: int
    close: int
    volume: int


def split(parent: Ohlcv, count: int, rand: Random) -> list[Ohlcv]:
    """Return `count` bars in order that aggregate to exactly the parent.

    Each has volume where the parent has at least one lot for each.
    """
    if count == 1:
        return [parent]
    points = _bridge(parent, count, rand)
    volumes = _shares(parent.volume, count, rand)
    wick = (parent.high - parent.low) * 0.5 / sqrt(count)
    children: list[Ohlcv] = []
    for begin, end, volume in zip(points, points[1:], volumes, strict=False):
        # Often the first trade of a bar is not at the last price of the one before.
        opens = begin if not children or rand() < 0.6 else _near(begin, parent, rand)
        high = min(parent.high, max(opens, end) + int(wick * rand()))
        low = max(parent.low, min(opens, end) - int(wick * rand()))
        children.append(Ohlcv(opens, high, low, end, volume))
    _attain(children, parent)
    return children


def _bridge(parent: Ohlcv, count: int, rand: Random) -> list[int]:
    """Return count + 1 prices from the open to the close, a walk inside the range."""
    opens, high, low, close, _ = parent
    scale = (high - low) * 1.6 / sqrt(count)
    walk = 0.0
    walks = [0.0]
    for _ in range(count):
        walk += (rand() + rand() - 1.0) * scale
        walks.append(walk)
    slope = (close - opens - walk) / count
    points = [opens]
    for index in range(1, count):
        point = opens + round(walks[index] + slope * index)
        points.append(_fold(point, low, high))
    points.append(close)
    return points


def _fold(price: int, low: int, high: int) -> int:
    """Reflect a price at the ends of the range; stopping it there would look like a peg."""
    span = high - low
    if span == 0:
        return low
    inside = (price - low) % (2 * span)
    return low + min(inside, 2 * span - inside)


def _near(price: int, parent: Ohlcv, rand: Random) -> int:
    price += 1 if rand() < 0.5 else -1
    return min(parent.high, max(parent.low, price))


def _shares(total: int, count: int, rand: Random) -> list[int]:
    each = 1 if total >= count else 0
    rest = total - each * count
    weights = [0.1 + rand() ** 2 for _ in range(count)]
    unit = rest / sum(weights)
    shares = [each + int(weight * unit) for weight in weights]
    # What rounding left over; float error could make it negative, so it goes to the largest.
    shares[shares.index(max(shares))] += total - sum(shares)
    return shares


def _attain(children: list[Ohlcv], parent: Ohlcv) -> None:
    """Stretch the highest and the lowest child to the parent's extremes."""
    top = max(range(len(children)), key=lambda index: children[index].high)
    children[top] = children[top]._replace(high=parent.high)
    bottom = min(range(len(children)), key=lambda index: children[index].low)
    children[bottom] = children[bottom]._replace(low=parent.low)
