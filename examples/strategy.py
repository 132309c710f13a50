"""A moving average of every one-minute series of an exchange, right from the first bar.

tvbus consume strategy:on_bar --group averages --series '*-BINANCE-1m' --start newest

Run it twice and the two share the series. Kill one and the other goes on with all of
them: no bar is lost, and a window that is not this bar's is read anew.
"""

from collections import deque

from consumers import Bar, read_bars

WINDOW = 20
windows: dict[str, deque[Bar]] = {}


def on_bar(bar: Bar) -> None:
    """Take one closed bar; it is acknowledged when this returns."""
    name = str(bar.series)
    window = windows.get(name)
    if not window or window[-1].open_time_ms != bar.previous_open_time_ms:
        # The first bar, one that comes again, or another process had the series meanwhile.
        window = windows[name] = deque(maxlen=WINDOW)
        window.extend(read_bars(bar.series, end=bar.open_time, last=WINDOW - 1))
    window.append(bar)
    average = sum(old.close for old in window) / len(window)
    side = "above" if bar.close > average else "below"
    print(f"{bar.open_time:%H:%M} {name} {bar.close} is {side} its average {average:.2f}")
