"""What a client may ask for, and how it names what it asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

Message = dict[str, Any]
"""A message before it is text: `m`, `p`, and the server's time where it is stamped."""

UPDATE_MS: Final = 250
"""Real time between two updates of a forming bar, at least."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the simulated plan allows."""

    window_bars: int = 5000
    """Intraday bars that can be reached back from the newest; daily ones all can."""
    answer_bars: int = 5000
    """Most bars in the first answer."""
    series_per_chart: int = 1
    sessions: int = 200
    """Most chart and quote sessions of one connection, each."""


@dataclass(frozen=True, slots=True)
class Slot:
    """How a client named a series."""

    chart: str
    series: str
    turnaround: str
