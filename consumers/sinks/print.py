"""Print bars, one line each, or as JSON for programs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TextIO

import orjson

from consumers.sinks.sink import Sink
from publisher.wire import DAY_MS, Bar

_RED, _GREEN, _DIM, _PLAIN = "\033[31m", "\033[32m", "\033[2m", "\033[0m"
_SIGNIFICANT: Final = 10
SERIES_WIDTH: Final = 20
PRICE_WIDTH: Final = 9
VOLUME_WIDTH: Final = 10


@dataclass
class PrintSink(Sink):
    """Write each bar as one line; a handler, so `Consumer.on(…)(PrintSink())`."""

    as_json: bool = False
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def write(self, bars: Sequence[Bar]) -> None:
        """Write bars. Ends the process quietly where nobody reads the output."""
        lines = [bar_json(bar) if self.as_json else self._line(bar) for bar in bars]
        try:
            self.stream.writelines(line + "\n" for line in lines)
            self.stream.flush()
        except BrokenPipeError:
            _silence(self.stream)
            raise SystemExit(0) from None

    def _line(self, bar: Bar) -> str:
        terminal = self.stream.isatty() and "NO_COLOR" not in os.environ
        return bar_line(bar, self.now_ms(), colour=terminal)


def bar_line(bar: Bar, now_ms: int, *, colour: bool = False) -> str:
    """Return a bar as one line: UTC time, series, prices, volume, delay."""
    closed = f"{bar.open_time:%Y-%m-%d %H:%M:%S}Z"
    close = f"C {_number(bar.close):>{PRICE_WIDTH}}"
    tail = f"{_delay(bar, now_ms)}{'  gap' if bar.gap else ''}"
    tail += f"  revision {bar.revision}" if bar.revision else ""
    if colour:
        close = f"{_GREEN if bar.close >= bar.open else _RED}{close}{_PLAIN}"
        tail = f"{_DIM}{tail}{_PLAIN}"
    return (
        f"{closed}  {bar.series!s:<{SERIES_WIDTH}}  O {_number(bar.open):>{PRICE_WIDTH}}"
        f"  H {_number(bar.high):>{PRICE_WIDTH}}  L {_number(bar.low):>{PRICE_WIDTH}}"
        f"  {close}  V {_number(bar.volume):>{VOLUME_WIDTH}}  {tail}"
    )


def bar_json(bar: Bar) -> str:
    """Return a bar as one line of JSON; times in ms and as ISO text."""
    values = {
        "series": str(bar.series),
        "open_time": bar.open_time.isoformat(),
        "open_time_ms": bar.open_time_ms,
        "end_time_ms": bar.end_time_ms,
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "volume": bar.volume,
        "previous_open_time_ms": bar.previous_open_time_ms,
        "received_ms": bar.received_ms,
        "closed_by": bar.closed_by,
        "gap": bar.gap,
        "revision": bar.revision,
    }
    return orjson.dumps(values).decode()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.{_SIGNIFICANT}g}"


def _delay(bar: Bar, now_ms: int) -> str:
    # History is old by nature, and a simulated market keeps its own time.
    if bar.closed_by == "history" or bar.end_time_ms is None:
        return bar.closed_by
    delay_ms = now_ms - bar.end_time_ms
    return f"+{delay_ms / 1000:.2f}s" if 0 <= delay_ms < DAY_MS else bar.closed_by


def _silence(stream: TextIO) -> None:
    """Let the interpreter's last flush go nowhere instead of failing again."""
    try:
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, stream.fileno())
        os.close(handle)
    except OSError:
        return
