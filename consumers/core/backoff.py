"""How long to wait before trying again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

_DOUBLINGS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter, between a floor that prevents hot loops and a ceiling."""

    first_ms: int
    wait_ms_max: int
    wait_ms_min: int = 50

    def wait_ms(self, attempt: int, rng: random.Random) -> int:
        """Return the wait after the attempt with this number, counted from 1."""
        doublings = min(attempt - 1, _DOUBLINGS_MAX)
        ceiling = min(self.wait_ms_max, self.first_ms * 2**doublings)
        return rng.randint(min(self.wait_ms_min, ceiling), ceiling)


BUS_BACKOFF: Final = Backoff(first_ms=200, wait_ms_max=5_000)
"""Between attempts to reach the server."""
HANDLER_BACKOFF: Final = Backoff(first_ms=500, wait_ms_max=30_000)
"""Between attempts of a handler at the same bar."""
