"""Simulated time: starts anywhere, runs at any speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SimulatedClock:
    """Time of the simulated world, ms since the epoch, UTC; safe in any thread.

    `speed` is simulated seconds per real second; `monotonic` is the real clock
    that drives it, in seconds.
    """

    def __init__(
        self,
        start_ms: int,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if speed < 0:
            raise ValueError(f"speed must not be negative, was {speed!r}")
        self.speed = speed
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._origin_s = monotonic()
        self._start_ms = float(start_ms)

    def now_ms(self) -> int:
        """Return the simulated time, ms."""
        with self._lock:
            return self._now_ms()

    def advance(self, step_ms: int) -> None:
        """Jump forward at once."""
        if step_ms < 0:
            raise ValueError(f"time cannot go back, step was {step_ms!r} ms")
        with self._lock:
            self._start_ms += step_ms

    def real_seconds(self, span_ms: float) -> float:
        """Return how long a simulated span lasts in real time, seconds."""
        return span_ms / 1000 / self.speed if self.speed else float("inf")

    def _now_ms(self) -> int:
        return int(self._start_ms + (self._monotonic() - self._origin_s) * 1000 * self.speed)
