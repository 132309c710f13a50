"""A moving average of every one-minute series of an exchange, right from the first bar.

tvbus consume strategy:on_bar --group averages --series '*-BINANCE-1m' --start newest

Kill it and start it again: no bar is lost, and the window is read anew. One process a
group keeps each series in order.
"""

from collections import deque

from consumers import Bar, read_bars

WINDOW = 20
closes: dict[str, deque[float]] = {}


def on_bar(bar: Bar) -> None:
    """Take one closed bar; it is acknowledged when this returns."""
    name = str(bar.series)
    if name not in closes:
        before = read_bars(bar.series, end=bar.open_time, last=WINDOW - 1)
        closes[name] = deque((old.close for old in before), maxlen=WINDOW)
    closes[name].append(bar.close)
    average = sum(closes[name]) / len(closes[name])
    side = "above" if bar.close > average else "below"
    print(f"{bar.open_time:%H:%M} {name} {bar.close} is {side} its average {average:.2f}")
