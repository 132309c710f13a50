"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """Wall time for stamps, monotonic time for waits."""

    def wall_ms(self) -> int:
        """Return ms since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return ms since some moment."""
        return time.monotonic_ns() // 1_000_000
