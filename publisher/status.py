"""How the engine does, for the health page and the metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot, replaced after every turn; read from other threads."""

    turned_ms: int
    """Monotonic time of the last turn."""
    connected: bool
    store_trouble: str
    series: int
    live: int
    waiting_bars: int
    counts: dict[str, int]
    """How often each event happened since this publisher took the lease."""
