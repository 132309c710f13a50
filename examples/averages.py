"""A moving average of three symbols, right from the first bar and after every crash.

python averages.py

Run it twice: the copies share the series, and when one dies the other goes on with its own.
"""

from collections import deque

from consumers import Bar, Consumer, read_bars

SERIES = ("BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m", "SOLUSDT-BINANCE-1m")
WINDOW = 20

app = Consumer(group="averages", start="newest")


class Average:
    """The newest closes of one series, and whether the last one was above their average."""

    def __init__(self) -> None:
        self.closes: deque[float] = deque(maxlen=WINDOW)
        self.last_ms: int | None = None
        self.is_long = False

    def take(self, bar: Bar) -> float:
        """Take the next bar; return the average with it."""
        if self.last_ms is None or bar.previous_open_time_ms != self.last_ms:
            # The first bar here, or another copy had those before, or it is handed out again.
            before = read_bars(bar.series, end=bar.open_time, last=WINDOW - 1)
            self.closes = deque((old.close for old in before), maxlen=WINDOW)
        self.closes.append(bar.close)
        self.last_ms = bar.open_time_ms
        return sum(self.closes) / len(self.closes)


averages = {series: Average() for series in SERIES}


@app.on(*SERIES)
def trade(bar: Bar) -> None:
    """Be long while the close is above its average; the bar is acknowledged on return."""
    held = averages[str(bar.series)]
    average = held.take(bar)
    is_long = bar.close > average
    turn = "" if is_long == held.is_long else "  buy" if is_long else "  sell"
    held.is_long = is_long
    print(f"{bar.open_time:%Y-%m-%dT%H:%M}Z {bar.series} {bar.close} {average!r}{turn}", flush=True)


if __name__ == "__main__":
    app.run()
