"""How fast TradingView is asked for things: slowly at first, and slower when it says so.

Its limits are published nowhere. Known are `max sessions rate reached`, HTTP 429 on
connecting, and that people who ask in a tight loop are locked out for a while. So the
pace begins low, doubles while all goes well, halves at each sign of too much, and after
a burst of such signs nothing is asked at all for some time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

RATE_MIN: Final = 0.5
"""Requests a second, at the least; the pace after many signs of too much."""
RATE_FIRST: Final = 10.0
READY_FIRST: Final = 5.0
"""So many may be asked for at once in the beginning."""
RATE_MAX: Final = 40.0
BURST_S: Final = 1.0
"""What was not asked for may be made up for, up to so many seconds' worth."""
GROW_MS: Final = 5_000
"""All went well for so long: the pace doubles."""
THROTTLED_MAX: Final = 5
"""So many signs of too much within `WINDOW_MS` are a burst."""
WINDOW_MS: Final = 60_000
REST_MS: Final = 60_000
"""How long nothing is asked after a burst; doubles with each burst that follows soon."""
REST_MS_MAX: Final = 15 * 60_000


@dataclass(slots=True)
class Pace:
    """A bucket of requests that fills with time; all times monotonic, ms."""

    now_ms: int
    """When it was last filled."""
    rate: float = RATE_FIRST
    """Requests a second."""
    _ready: float = READY_FIRST
    _grow_at_ms: int = 0
    _rest_until_ms: int = 0
    _rests: int = 0
    _signs: deque[int] = field(default_factory=lambda: deque(maxlen=THROTTLED_MAX))

    def __post_init__(self) -> None:
        self._grow_at_ms = self.now_ms + GROW_MS

    def take(self, now_ms: int) -> bool:
        """Tell whether one more request may be made now, and count it."""
        self._fill(now_ms)
        if now_ms < self._rest_until_ms or self._ready < 1:
            return False
        self._ready -= 1
        return True

    def throttled(self, now_ms: int) -> int:
        """Take note of a sign of too much; return for how long nothing may be asked, 0 mostly."""
        self._fill(now_ms)
        self.rate = max(RATE_MIN, self.rate / 2)
        self._ready = min(self._ready, 0)
        self._grow_at_ms = now_ms + GROW_MS
        self._signs.append(now_ms)
        if len(self._signs) < THROTTLED_MAX or now_ms - self._signs[0] > WINDOW_MS:
            return 0
        self._signs.clear()
        rest_ms = min(REST_MS_MAX, REST_MS << min(self._rests, 10))
        self._rests += 1
        self._rest_until_ms = now_ms + rest_ms
        self._grow_at_ms = self._rest_until_ms + GROW_MS
        return rest_ms

    def resting(self, now_ms: int) -> bool:
        """Tell whether nothing may be asked now because of a burst."""
        return now_ms < self._rest_until_ms

    def _fill(self, now_ms: int) -> None:
        while now_ms >= self._grow_at_ms:
            self.rate = min(RATE_MAX, self.rate * 2)
            self._grow_at_ms += GROW_MS
            if self.rate == RATE_MAX:
                self._rests = 0
                self._grow_at_ms = now_ms + GROW_MS
        elapsed_s = max(0, now_ms - self.now_ms) / 1000
        self._ready = min(max(1.0, self.rate * BURST_S), self._ready + elapsed_s * self.rate)
        self.now_ms = max(self.now_ms, now_ms)
