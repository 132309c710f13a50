"""What the engine keeps of one series."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

from publisher.core.backoff import Backoff
from publisher.core.bars import Ledger
from publisher.core.delays import REALTIME, Delay, DelayMeter
from publisher.core.liveness import Liveness
from publisher.core.messages import SymbolInfo
from publisher.core.session import Session
from publisher.wire import Bar, Series, SeriesState, Summary

SERIES_MAX: Final = 5_000
"""How many series one publisher takes."""
RETRY_BASE_MS: Final = 1_000
RETRY_MS_MAX: Final = 15 * 60_000
CHECK_BASE_MS: Final = 2_000
CHECK_MS_MAX: Final = 60 * 60_000
"""A series whose bars are often hours apart is looked into that seldom."""


@dataclass(slots=True)
class Publication:
    """One series on its way from TradingView to the bus; the engine's thread owns it."""

    series: Series
    wanted_by: Literal["settings", "command"]
    state: SeriesState = "starting"
    reason: str = ""
    ledger: Ledger | None = None
    """None until the stream's end was read, and again when it must be read anew."""
    session: Session | None = None
    """The session that is asked for it, None while none is."""
    requested_ms: int = 0
    """Monotonic; when it was asked for."""
    heard: bool = False
    """True once TradingView said anything of it since it was asked."""
    live_ms: int | None = None
    """Monotonic; since when it is live, None while it is not."""
    doubted: bool = False
    """True until its stream was compared with what this publisher left there."""
    retry_at_ms: int = 0
    """Monotonic; not asked for before."""
    backoff: Backoff = field(default_factory=lambda: Backoff(RETRY_BASE_MS, RETRY_MS_MAX))
    info: SymbolInfo | None = None
    update_mode: str = ""
    update_period_ms: int = 0
    stated: Delay = REALTIME
    """How late TradingView says that its data is."""
    meter: DelayMeter = field(default_factory=DelayMeter)
    opened_ms: int = 0
    """Open time of the newest bar seen to form."""
    measured_told_ms: int | None = None
    """The measured delay that was last put on the bus."""
    late_told: bool = False
    """True while it is known that the data is later than stated."""
    outbox: deque[Bar] = field(default_factory=deque)
    """Closed bars that are not yet known to stand in the stream, oldest first."""
    corrections: deque[Bar] = field(default_factory=deque)
    flushed: int = 0
    """Number of the flush that last carried its bars."""
    forming: Bar | None = None
    """The newest state of the bar in progress, None once it was put."""
    liveness: Liveness = field(default_factory=Liveness)
    alarmed: bool = False
    """True while it is asked for again because it was silent."""
    audit_at_ms: int = 0
    """TradingView's clock; when its newest bars are compared with history again, 0: never."""
    checked_ms: int = 0
    """Open time of the newest bar that came after a jump and was looked into."""
    jumped_ms: int | None = None
    """Monotonic; when the jump came that is being looked into."""
    check_at_ms: int = 0
    """Monotonic; no jump is looked into before."""
    checks: Backoff = field(default_factory=lambda: Backoff(CHECK_BASE_MS, CHECK_MS_MAX))
    correction_ms: int = 0
    """ID of the newest correction entry."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Requests to be answered once it is known how the series does: ID, text as typed."""

    def release(self) -> None:
        """Ask for it no more."""
        if self.session is not None:
            self.session.unsubscribe(self.series)
            self.session = None
        self.liveness.end()

    @property
    def newest_ms(self) -> int | None:
        """Open time of the newest bar that is known to stand in the stream, None where none is."""
        if self.outbox:
            return self.outbox[0].previous_open_time_ms
        return self.ledger.watermark_ms if self.ledger is not None else None

    @property
    def filling(self) -> bool:
        """True while its history is on the way, from TradingView or to the bus."""
        if self.session is None or self.ledger is None:
            return False
        return self.ledger.filling or len(self.outbox) > 1

    @property
    def summary(self) -> Summary:
        """Its line in the catalogue."""
        return Summary(self.series, self.state, self.reason, self.wanted_by)
