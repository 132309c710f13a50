"""How long to wait before trying again: exponential, with jitter, bounded."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Counts attempts; the caller resets it when the thing really worked."""

    base_ms: int
    delay_ms_max: int
    attempt: int = 0

    def next_delay_ms(self, rng: random.Random) -> int:
        """Return how long to wait now; grows with each call.

        Half of the delay is certain, so that a peer which accepts and drops
        at once is never met in a tight loop.
        """
        ceiling = min(self.delay_ms_max, self.base_ms << min(self.attempt, 20))
        self.attempt += 1
        return ceiling // 2 + rng.randrange(ceiling // 2 + 1)

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self.attempt = 0
