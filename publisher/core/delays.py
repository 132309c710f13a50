"""How late a symbol's data is: as TradingView states it, and as measured.

TradingView states a delay in two places: `delay` of the symbol (seconds), and the
update mode that comes with the history (`streaming`, `delayed_streaming_900`,
`endofday`; the last is known from documents only). Neither is proof, so the time
between a bar's opening and its first update is measured too. A bar opens with its
first trade, which may come late where little is traded: only the smallest of many
measurements says something about the feed.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

MEASURED_MAX: Final = 16
"""How many openings the measured delay is the smallest of."""
MEASURED_MIN: Final = 3
"""How many openings must be seen before anything is said."""
SUSPICIOUS_MS: Final = 60_000
"""A measured delay beyond this, where none is stated, is told."""

_DELAYED: Final = re.compile(r"delayed_streaming(?:_(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class Delay:
    """What TradingView states."""

    delay_ms: int = 0
    end_of_day: bool = False

    @property
    def late(self) -> bool:
        """True where the data does not come in real time."""
        return self.end_of_day or self.delay_ms > 0

    def __str__(self) -> str:
        """Return it for a sentence."""
        if self.end_of_day:
            return "comes at the end of the day"
        return f"is {self.delay_ms // 1000} s late" if self.late else "comes in real time"


REALTIME: Final = Delay()


def stated_delay(symbol_delay_ms: int, update_mode: str) -> Delay:
    """Return the delay that symbol and update mode state; the longer one counts."""
    match = _DELAYED.fullmatch(update_mode)
    mode_ms = int(match[1] or 1) * 1000 if match else 0
    return Delay(max(symbol_delay_ms, mode_ms), update_mode == "endofday")


@dataclass(slots=True)
class DelayMeter:
    """Measures one series' delay at the openings of its bars."""

    _late_ms: deque[int] = field(default_factory=lambda: deque(maxlen=MEASURED_MAX))

    def note(self, open_time_ms: int, server_ms: int) -> None:
        """Take note that a bar's first update came at this time by TradingView's clock."""
        self._late_ms.append(max(0, server_ms - open_time_ms))

    @property
    def measured_ms(self) -> int | None:
        """The delay in ms, None before enough bars opened."""
        return min(self._late_ms) if len(self._late_ms) >= MEASURED_MIN else None
