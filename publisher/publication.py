"""What the engine keeps of one series."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from publisher.core.backoff import Backoff
from publisher.core.bars import Ledger
from publisher.core.messages import SymbolInfo
from publisher.wire import Bar, Series, SeriesState, Summary

RETRY_BASE_MS = 1_000
RETRY_MS_MAX = 15 * 60_000


@dataclass(slots=True)
class Publication:
    """One series on its way from TradingView to the bus; the engine's thread owns it."""

    series: Series
    wanted_by: Literal["settings", "command"]
    state: SeriesState = "starting"
    reason: str = ""
    ledger: Ledger | None = None
    """None until the stream's end was read, and again when it must be read anew."""
    requested: bool = False
    """True while TradingView is asked for it."""
    retry_at_ms: int = 0
    """Monotonic; not asked for before."""
    backoff: Backoff = field(default_factory=lambda: Backoff(RETRY_BASE_MS, RETRY_MS_MAX))
    info: SymbolInfo | None = None
    update_period_ms: int = 0
    outbox: deque[Bar] = field(default_factory=deque)
    """Closed bars that are not yet known to stand in the stream, oldest first."""
    corrections: deque[Bar] = field(default_factory=deque)
    forming: Bar | None = None
    """The newest state of the bar in progress, None once it was put."""
    correction_ms: int = 0
    """ID of the newest correction entry."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Requests to be answered once it is known how the series does: ID, text as typed."""

    @property
    def filling(self) -> bool:
        """True while its history is on the way, from TradingView or to the bus."""
        if not self.requested or self.ledger is None:
            return False
        return self.ledger.filling or len(self.outbox) > 1

    @property
    def summary(self) -> Summary:
        """Its line in the catalogue."""
        return Summary(self.series, self.state, self.reason, self.wanted_by)
