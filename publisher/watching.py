"""Whether what is published still comes, and whether it was right.

Four levels can fail: the connection and its heartbeats (core/session), the answers to
requests (a connection that leaves several unanswered is given up), and the data of each
series, in market time. Data that stays away is asked for again, series by series; where
all series of a connection are silent together, the connection is made anew; where new
connections bring nothing either, another token is asked for.

What a connection loses within one bar leaves no trace in the data. So each series is
compared with history again now and then, and at once after a silence that was too long.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from publisher.core.bars import RECENT_BARS_MAX
from publisher.core.decisions import Moment
from publisher.core.hours import read_hours
from publisher.core.messages import SymbolInfo
from publisher.notes import Notes
from publisher.publication import Publication
from publisher.wire import MINUTE_MS

AUDIT_BARS: Final = RECENT_BARS_MAX // 3
"""A series is compared with history after so many of its bars, or later."""
MUTE_SERIES_MIN: Final = 2
"""So many series of a connection must be silent together, and all that are awaited."""


@dataclass(frozen=True, slots=True)
class Silence:
    """What does not come on one connection."""

    series: tuple[Publication, ...]
    """Series whose data should have come."""
    whole: bool
    """True where it is all that are awaited: the connection is mute."""


class Watch:
    """Watches the live series; the engine's thread owns it."""

    def __init__(self, notes: Notes, audit_minutes: int) -> None:
        """A series is compared with history not more often than this; 0: never."""
        self._notes = notes
        self._audit_ms = audit_minutes * MINUTE_MS

    def learn(self, publication: Publication, info: SymbolInfo) -> None:
        """Take what TradingView says of the symbol's hours."""
        publication.liveness.hours = read_hours(
            info.session, info.timezone, info.holidays, info.corrections
        )
        publication.liveness.delay_ms = info.delay_ms

    def begin(self, publication: Publication, published: int, at: Moment, speed: float) -> None:
        """A series is live: wait for its data from now on."""
        liveness = publication.liveness
        if publication.alarmed and not published:
            liveness.forgive()
        publication.alarmed = False
        liveness.speed = speed
        has_bars = publication.ledger is not None and publication.ledger.watermark_ms is not None
        liveness.begin(at.server_ms, heard=has_bars)
        audit_ms = max(self._audit_ms, AUDIT_BARS * publication.series.interval_ms)
        publication.audit_at_ms = at.server_ms + audit_ms if self._audit_ms else 0

    def hear(self, publication: Publication, at: Moment) -> bool:
        """Take note of data; return whether it came after a silence that was too long."""
        liveness = publication.liveness
        if not liveness.awaited:
            return False
        limit_ms = liveness.limit_ms
        return liveness.hear(at.server_ms) > limit_ms

    def silence(self, publications: Iterable[Publication], server_ms: int) -> Silence:
        """Return what should have come by now on one connection, and tell it."""
        awaited = [p for p in publications if p.liveness.awaited]
        silent = tuple(p for p in awaited if p.liveness.silent(server_ms))
        trading = [p for p in awaited if p in silent or _trades(p, server_ms)]
        whole = len(silent) >= MUTE_SERIES_MIN and len(silent) == len(trading)
        for publication in silent:
            publication.alarmed = True
            self._notes.tell(
                "series.silent",
                level="warning",
                series=publication.series,
                limit_ms=publication.liveness.limit_ms,
            )
        return Silence(silent, whole)

    def due(self, publications: Iterable[Publication], server_ms: int) -> Publication | None:
        """Return a series whose newest bars are to be compared with history now."""
        due = [p for p in publications if p.state == "live" and server_ms >= p.audit_at_ms > 0]
        return min(due, key=lambda p: p.audit_at_ms, default=None)


def _trades(publication: Publication, server_ms: int) -> bool:
    liveness = publication.liveness
    return liveness.hours.is_open(server_ms - liveness.delay_ms)
