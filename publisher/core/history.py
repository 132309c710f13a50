"""One request for history, from the first page to the bars that answer it.

The ledger does the work, as it does for a stream: it checks, merges and orders, and
never takes a bar that may still change. With a stream that is empty it yields the
newest bars; with one that ends before `from_ms`, those that open from then on. Pages
come newest first, so a span far back costs what lies behind it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from publisher.core.bars import REFUSED_TIMES_MAX, REQUEST_BARS_MAX, Ledger
from publisher.core.decisions import AskMore, Moment, Publish, Refuse, Reload, StreamEnd
from publisher.core.messages import SlotBars
from publisher.wire import DAY_MS, HOUR_MS, Bar, Series
from publisher.wire.commands import HISTORY_BARS_MAX


@dataclass(frozen=True, slots=True)
class Span:
    """Which bars: the newest so many, or those that open from `from_ms` on, before `to_ms`."""

    bars: int | None = None
    from_ms: int = 0
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was found."""

    bars: list[Bar]
    complete: bool
    """False where bars that were asked for are missing."""
    reason: str
    """Why they are; empty where none is."""


class HistoryFill:
    """Decides what one request still needs, and what answers it."""

    def __init__(self, series: Series, span: Span, bars_max: int | None) -> None:
        """`bars_max` is the plan's window; it does not hold for a day and longer."""
        self._series = series
        self._span = span
        self._is_plan = bars_max is not None and series.interval_ms < DAY_MS
        self._reach = min(HISTORY_BARS_MAX, bars_max or 0) if self._is_plan else HISTORY_BARS_MAX
        self._refused: set[int] = set()
        self._ledger = self._new_ledger()

    def _new_ledger(self) -> Ledger:
        if self._span.bars is not None:
            return Ledger(self._series, StreamEnd(), min(self._span.bars, self._reach))
        # So the ledger is content with a bar that opens at `from_ms` or before, and not
        # with the first after it: before that one, another may open within the span.
        interval_ms = self._series.interval_ms
        longest_ms = interval_ms + HOUR_MS * (interval_ms >= DAY_MS)
        return Ledger(self._series, StreamEnd(self._span.from_ms - longest_ms), 0)

    @property
    def wanted(self) -> int | None:
        """How many bars are asked for, None where that is not known."""
        return self._span.bars

    @property
    def requests(self) -> int:
        """How many requests to TradingView it takes at least."""
        return 1 if self.wanted is None else -(-min(self.wanted, self._reach) // REQUEST_BARS_MAX)

    @property
    def progress(self) -> int:
        """How many bars have come."""
        collected = self._ledger.collected
        return collected if self.wanted is None else min(collected, self.wanted)

    def begin(self, now_ms: int) -> int:
        """Start, or start over; return how many bars to ask for."""
        return min(self._ledger.begin(now_ms), max(2, self._reach + 1))

    def set_delay(self, delay_ms: int) -> None:
        """Tell by how much the symbol's data is delayed."""
        self._ledger.set_delay(delay_ms)

    def note_unanswered(self) -> None:
        """Take note that TradingView did not answer a request for older bars."""
        self._ledger.note_unanswered()

    def receive(self, bars: SlotBars, at: Moment) -> None:
        """Take the bars of one message."""
        for decision in self._ledger.receive(bars, at):
            if isinstance(decision, Refuse) and decision.open_time_ms is not None:
                self._refused.add(decision.open_time_ms)
        while len(self._refused) > REFUSED_TIMES_MAX:
            self._refused.remove(min(self._refused))

    def complete(self, exhausted: str | None, at: Moment) -> AskMore | Reload | Fetched:
        """Take note that a page is complete; `exhausted` as in `HistoryAnswered`."""
        return self._complete(exhausted, at, "")

    def cut_short(self, reason: str, at: Moment) -> AskMore | Reload | Fetched:
        """Make do with the pages that came; no more can be asked for."""
        return self._complete("cut", at, reason)

    def _complete(
        self, exhausted: str | None, at: Moment, reason: str
    ) -> AskMore | Reload | Fetched:
        oldest_ms, collected = self._ledger.oldest_ms, self._ledger.collected
        is_far = self.wanted is None and collected >= self._reach
        bars: list[Bar] = []
        for decision in self._ledger.complete(exhausted is not None or is_far, at):
            match decision:
                case AskMore():
                    return AskMore(min(decision.bars, max(2, self._reach + 1 - collected)))
                case Reload():
                    # Some were handed out already, which it would not do again.
                    self._ledger = self._new_ledger()
                    return decision
                case Publish() if self._holds(decision.bar.open_time_ms):
                    bars.append(decision.bar)
        reasons = []
        if not self._reaches(bars, oldest_ms, exhausted):
            reasons.append(reason or self._limit(exhausted, collected))
        if lost := self._lost(bars):
            reasons.append(f"{lost} that TradingView sent cannot be bars and are left out")
        return Fetched(bars, not reasons, "; ".join(reasons))

    def _holds(self, open_time_ms: int) -> bool:
        to_ms = self._span.to_ms
        return open_time_ms >= self._span.from_ms and (to_ms is None or open_time_ms < to_ms)

    def _reaches(self, bars: list[Bar], oldest_ms: int | None, exhausted: str | None) -> bool:
        if self.wanted is not None:
            return len(bars) >= self.wanted
        return exhausted == "end" or (oldest_ms is not None and oldest_ms <= self._span.from_ms)

    def _limit(self, exhausted: str | None, collected: int) -> str:
        """Return why no older bars came."""
        if exhausted == "end":
            return "TradingView has no older ones" if collected else "TradingView has none"
        if exhausted is not None:
            return "TradingView gives this account no older ones"
        if collected < self._reach:
            return "TradingView did not send older ones"
        if self._is_plan:
            return f"the plan reaches back {self._reach} bars"
        return f"one request reaches back {HISTORY_BARS_MAX} bars"

    def _lost(self, bars: list[Bar]) -> int:
        """Return how many bars are missing because their values were refused."""
        times = {bar.open_time_ms for bar in bars}
        first_ms = min(times, default=0) if self.wanted is not None else 0
        # Behind the newest one there may be refused values of the bar that still forms.
        last_ms = max(times, default=0)
        return sum(
            first_ms <= time_ms <= last_ms and time_ms not in times and self._holds(time_ms)
            for time_ms in self._refused
        )
