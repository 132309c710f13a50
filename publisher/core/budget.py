"""How many requests to TradingView may be spent in an hour."""

from __future__ import annotations

from collections import deque
from typing import Final

from publisher.wire import HOUR_MS

REQUESTS_PER_HOUR_MAX: Final = 120
"""What `tvbus history` may cost unless the settings say otherwise."""


class Budget:
    """Remembers each request for an hour, so that no hour sees more than the maximum."""

    def __init__(self, requests_max: int) -> None:
        self.requests_max = requests_max
        self._spent_ms: deque[int] = deque()

    def spend(self, now_ms: int) -> bool:
        """Take one request; return whether there was one."""
        if self.free_at_ms(1, now_ms) != now_ms:
            return False
        self._spent_ms.append(now_ms)
        return True

    def free_at_ms(self, requests: int, now_ms: int) -> int | None:
        """Return when so many can be spent: now, later, or None where never at once."""
        while self._spent_ms and self._spent_ms[0] <= now_ms - HOUR_MS:
            self._spent_ms.popleft()
        if requests > self.requests_max:
            return None
        missing = requests - (self.requests_max - len(self._spent_ms))
        return now_ms if missing <= 0 else self._spent_ms[missing - 1] + HOUR_MS
