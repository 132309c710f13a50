"""A moving average over three symbols: run it twice, kill one, nothing is lost.

tvbus consume strategy:on_bar --group averages --series '*-BINANCE-1m' --start last:20
"""

from collections import defaultdict, deque

from consumers import Bar

closes: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=20))


def on_bar(bar: Bar) -> None:
    """Take one closed bar; it is acknowledged when this returns."""
    window = closes[str(bar.series)]
    window.append(bar.close)
    if len(window) == window.maxlen:
        average = sum(window) / len(window)
        side = "above" if bar.close > average else "below"
        print(f"{bar.open_time:%H:%M} {bar.series} {bar.close} is {side} its average {average:.2f}")
