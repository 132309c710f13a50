"""The daily skeleton of a symbol's prices: one value a day since its listing."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from datetime import date, timedelta
from math import exp
from random import Random
from typing import Final

from publisher.simulator.calendar import Session, is_trading_day
from publisher.simulator.paths import Ohlcv
from publisher.simulator.symbols import Symbol

_RETURN: Final = 0.997
"""How much of its distance to the symbol's usual price a close keeps each day."""

_SPREAD: Final = 1.4
"""Uniform draws summed in pairs have a deviation of 0.41; this makes it 0.57."""


class Walk:
    """The closes of one symbol in ticks, computed once and kept: 12 bytes a day."""

    def __init__(self, symbol: Symbol, key: int) -> None:
        self._symbol = symbol
        self._key = key
        self._rand = Random(key).random
        self._lock = threading.Lock()
        self._log = 0.0
        self._next = symbol.listed
        self._days = array("i")
        self._closes = array("q", [self._ticks(0.0)])

    def day(self, session: Session) -> Ohlcv:
        """Return the bar of a session, in ticks and lots; the listing has passed."""
        symbol = self._symbol
        before, close = self._closes_of(session.day)
        rand = Random(self._key ^ (session.day.toordinal() * 0x9E3779B97F4A7C15 % 2**64)).random
        # A market that never sleeps opens where it closed.
        continuous = symbol.kind in {"crypto", "swap", "forex", "commodity"}
        gap = 0.0 if continuous else symbol.day_move * 0.6 * (rand() - 0.5)
        opens = max(2, round(before * (1 + gap)))
        reach = before * symbol.day_move * 0.7
        high = max(opens, close) + int(reach * rand())
        low = max(1, min(opens, close) - int(reach * rand()))
        volume = int(symbol.day_volume * symbol.lot * (0.5 + rand() * rand() * 2))
        return Ohlcv(opens, high, low, close, max(1, volume) if symbol.has_volume else 0)

    def _closes_of(self, day: date) -> tuple[int, int]:
        with self._lock:
            while self._next <= day:
                self._extend()
            index = bisect_left(self._days, day.toordinal())
            return self._closes[index], self._closes[index + 1]

    def _extend(self) -> None:
        day = self._next
        self._next += timedelta(days=1)
        if not is_trading_day(self._symbol.venue, day):
            return
        noise = (self._rand() + self._rand() - 1.0) * _SPREAD
        self._log = self._log * _RETURN + noise * self._symbol.day_move
        self._days.append(day.toordinal())
        self._closes.append(self._ticks(self._log))

    def _ticks(self, log: float) -> int:
        symbol = self._symbol
        return max(10, round(symbol.price * exp(log) * symbol.pricescale / symbol.minmov))
