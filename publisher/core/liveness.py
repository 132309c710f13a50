"""Whether a series' data still comes, in market time.

A connection can be there, with heartbeats, and bring nothing. That is normal where the
market is closed or nobody trades, so silence is counted only while the market is open,
delayed data by its delay later, and what is long is learned: several times the longest
silence that ended well lately, and an alarm that was false makes the next one later.
Where the hours are unknown the market counts as open only for the first data, since a
series that never brought any is suspicious always.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from publisher.core.hours import UNKNOWN, TradingHours

SILENCE_MS_MIN: Final = 15_000
"""A shorter silence is never suspicious; free accounts get updates every 5 s."""
SILENCE_FACTOR: Final = 4
"""So many times the longest silence that ended well is suspicious."""
SILENCE_MS_MAX: Final = 6 * 3_600_000
"""In the market's time; longer silences are suspicious whatever was learned."""
FIRST_MS_MAX: Final = 15 * 60_000
"""How long the first data may take, while the market is open or may be."""
LEARNED_MAX: Final = 32
"""How many silences are remembered."""


@dataclass(slots=True)
class Liveness:
    """What is known of one series' silences. Times are TradingView's clock, ms UTC."""

    hours: TradingHours = UNKNOWN
    delay_ms: int = 0
    speed: float = 1.0
    """How fast TradingView's clock runs: updates come by the real one."""
    begun_ms: int | None = None
    """Since when data is waited for; None while it is not."""
    _heard_ms: int | None = None
    _silences: deque[int] = field(default_factory=lambda: deque(maxlen=LEARNED_MAX))

    def begin(self, now_ms: int, *, heard: bool = False) -> None:
        """Wait for data from now on; `heard` where some has come with the history."""
        self.begun_ms, self._heard_ms = now_ms, now_ms if heard else None

    def end(self) -> None:
        """Wait no more; what was learned stays."""
        self.begun_ms = self._heard_ms = None

    def hear(self, now_ms: int) -> int:
        """Take note of data; return how long the market was silent before, ms."""
        silence_ms = 0
        if self._heard_ms is not None:
            silence_ms = self._market_ms(self._heard_ms, now_ms)
            if silence_ms > 0:
                self._silences.append(silence_ms)
        self._heard_ms = now_ms
        return silence_ms

    def forgive(self) -> None:
        """The last alarm was false: a silence as long is usual."""
        self._silences.append(self.limit_ms)

    @property
    def awaited(self) -> bool:
        """True while data is waited for."""
        return self.begun_ms is not None

    @property
    def limit_ms(self) -> int:
        """How long the market may be silent."""
        longest_ms = max(self._silences, default=0)
        least_ms = int(SILENCE_MS_MIN * self.speed)
        return min(SILENCE_MS_MAX, max(least_ms, SILENCE_FACTOR * longest_ms))

    def silent(self, now_ms: int) -> bool:
        """Tell whether data should have come by now."""
        if self.begun_ms is None:
            return False
        if self._heard_ms is None:
            waited_ms = now_ms - self.begun_ms
            if self.hours.known:
                waited_ms = self._market_ms(self.begun_ms, now_ms)
            return waited_ms > FIRST_MS_MAX * self.speed
        return self._market_ms(self._heard_ms, now_ms) > self.limit_ms

    def _market_ms(self, from_ms: int, to_ms: int) -> int:
        return self.hours.open_ms(from_ms - self.delay_ms, to_ms - self.delay_ms)
