"""What is closed, when and why: one ledger per series.

The ledger takes bars as they come, merges them by open time (indexes are
re-based when older bars are fetched, times are not), and says what to publish.
A bar is closed when its successor opened (`next`), when TradingView's clock
passed its end by the settle time (`clock`), or when it stands in an answer to a
history request and is not the last there (`history`).

Each subscription begins with a *fill*: bars are collected until they reach back
to the watermark, or TradingView has no more; then they are published in order
and what follows is live. So after any interruption missing bars come first.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Final

from publisher.core.decisions import (
    Abandon,
    AskMore,
    Correct,
    Decision,
    FillDone,
    Form,
    Moment,
    Publish,
    Recent,
    Refuse,
    Reload,
    StreamEnd,
)
from publisher.core.messages import SlotBars
from publisher.core.points import Point, PointRefused, check_point, true_end_ms
from publisher.wire import DAY_MS, HOUR_MS, Bar, ClosedBy, Series

RECENT_BARS_MAX: Final = 64
"""How many closed bars are remembered, to recognise repeats and corrections."""
FILL_BARS_MAX: Final = 50_000
"""How many bars one fill may collect; beyond, the oldest are let go."""
REQUEST_BARS_MAX: Final = 5_000
"""How many bars are asked for at once."""
REFUSED_TIMES_MAX: Final = 1_000
"""How many refused open times are remembered until a good bar replaces them."""
UNANSWERED_MAX: Final = 3
"""How many fills may end at a request for older bars that was never answered."""
OVERLAP_BARS: Final = RECENT_BARS_MAX
"""How many bars before the watermark are asked for again, to be compared."""


class Ledger:
    """Decides for one series what is published."""

    def __init__(self, series: Series, end: StreamEnd, history_bars: int) -> None:
        self.series = series
        self._history_bars = history_bars
        self._watermark_ms = end.watermark_ms
        self._recent: dict[int, Recent] = dict(end.recent or {})
        # Where clocks are put back, bars of a day and more last an hour longer.
        extra_ms = HOUR_MS if series.interval_ms >= DAY_MS else 0
        self._longest_ms = series.interval_ms + extra_ms
        self._forming: Point | None = None
        self._close_time_ms: int | None = None
        self._delay_ms = 0
        # Open times whose newest values were refused → whether history has no others.
        self._refused: dict[int, bool] = {}
        # From here on no bar can be missing unseen; `inf`: from the next bar that forms.
        self._proven_from_ms: float = 0
        self._filling = True
        self._collected: dict[int, Point] = {}
        self._newest_ms = 0
        # As of when, by TradingView's own word, the newest collected bar is known.
        self._newest_seen_ms = 0
        self._oldest_before_ask_ms: int | None = None
        self._unanswered = 0

    @property
    def watermark_ms(self) -> int | None:
        """Open time of the newest bar that was handed out to be published."""
        return self._watermark_ms

    @property
    def filling(self) -> bool:
        """True until the history asked for is complete."""
        return self._filling

    @property
    def collected(self) -> int:
        """How many bars the fill has collected."""
        return len(self._collected)

    @property
    def oldest_ms(self) -> int | None:
        """Open time of the oldest bar that the fill has collected."""
        return min(self._collected, default=None)

    def begin(self, now_ms: int) -> int:
        """Start a fill, on a new subscription; return how many bars to ask for."""
        self._filling = True
        self._collected = {}
        self._newest_ms = self._newest_seen_ms = 0
        self._forming = None
        self._close_time_ms = None
        self._refused = {}
        self._oldest_before_ask_ms = None
        if self._watermark_ms is None:
            return _clip(self._history_bars + 1)
        elapsed = max(0, now_ms - self._watermark_ms) // self.series.interval_ms
        return _clip(elapsed + 1 + OVERLAP_BARS)

    def note_unanswered(self) -> None:
        """Take note that TradingView did not answer a request for older bars."""
        self._unanswered += 1

    def set_delay(self, delay_ms: int) -> None:
        """Tell by how much the symbol's data is delayed."""
        self._delay_ms = delay_ms

    def receive(self, bars: SlotBars, at: Moment) -> list[Decision]:
        """Take the bars of one message."""
        latest_ms = max(at.received_ms, at.server_ms) + self.series.interval_ms
        checked: list[tuple[int, Point | PointRefused]] = []
        after_ms = 0
        for values in bars.values:
            point = check_point(values, latest_ms)
            # What bears no time stays behind the one it came after.
            after_ms = after_ms if point.open_time_ms is None else point.open_time_ms
            checked.append((after_ms, point))
        checked.sort(key=lambda pair: pair[0])
        timeless = any(point.open_time_ms is None for _, point in checked)
        newest_ms = checked[-1][0] if checked and not timeless else None
        decisions: list[Decision] = []
        for _, point in checked:
            if isinstance(point, PointRefused):
                decisions += self._refuse(point, latest_ms, alone=len(checked) == 1)
                continue
            close_time_ms = bars.close_time_ms if point.open_time_ms == newest_ms else None
            decisions += self._take(point, close_time_ms, at)
        if len(self._collected) > FILL_BARS_MAX:
            for time_ms in sorted(self._collected)[:-FILL_BARS_MAX]:
                del self._collected[time_ms]
        return decisions

    def complete(self, exhausted: bool, at: Moment) -> list[Decision]:
        """Take note that the request for history is answered."""
        if not self._filling:
            return []
        oldest_ms = self.oldest_ms
        stuck = oldest_ms is not None and oldest_ms == self._oldest_before_ask_ms
        # Without this, a series whose older bars never come would never go live.
        given_up = self._unanswered >= UNANSWERED_MAX
        done = exhausted or stuck or given_up or oldest_ms is None
        missing = 0 if done or oldest_ms is None else self._missing(oldest_ms, at)
        if missing > 0:
            self._oldest_before_ask_ms = oldest_ms
            return [AskMore(_clip(missing))]
        self._unanswered = 0
        return self._finish_fill(at)

    def expire(self, at: Moment) -> list[Decision]:
        """Close the forming bar if its end and the settle time have passed."""
        deadline_ms = self.deadline_ms(at.settle_ms)
        if deadline_ms is None or at.server_ms < deadline_ms:
            return []
        return self._close_forming("clock", at)

    def deadline_ms(self, settle_ms: int) -> int | None:
        """Return when, by TradingView's clock, the forming bar closes without a successor."""
        if self._filling or self._forming is None:
            return None
        end_ms = self._end_ms()
        if end_ms is None:
            end_ms = self._forming.open_time_ms + self._longest_ms
        return end_ms + self._delay_ms + settle_ms

    # One bar.

    def _refuse(self, refused: PointRefused, latest_ms: int, alone: bool) -> list[Decision]:
        time_ms = refused.open_time_ms
        if time_ms is None:
            self._doubt_newest(alone)
        elif (self._watermark_ms or 0) < time_ms <= latest_ms:
            self._refused[time_ms] = self._filling and time_ms not in self._collected
            if self._filling and time_ms > self._newest_ms:
                self._newest_ms, self._close_time_ms = time_ms, None
            while len(self._refused) > REFUSED_TIMES_MAX:
                del self._refused[min(self._refused)]
        return [Refuse(refused.reason, refused.open_time_ms)]

    def _doubt_newest(self, alone: bool) -> None:
        """What bore no time may have been an update of the newest bar, or have opened another."""
        if not self._filling:
            newest_ms = self._forming.open_time_ms if self._forming else self._watermark_ms
        elif alone:
            newest_ms = max(self._collected, default=None)
        else:
            return  # It stood among others: history, and a bar of its own.
        if newest_ms is not None:
            if newest_ms != self._watermark_ms:
                self._refused[newest_ms] = False
            self._refused[newest_ms + 1] = False

    def _take(self, point: Point, close_time_ms: int | None, at: Moment) -> list[Decision]:
        self._refused.pop(point.open_time_ms, None)
        if self._filling:
            self._collect(point, close_time_ms, at)
            return []
        forming = self._forming
        if self._watermark_ms is None:
            first_ms = self._newest_ms if forming is None else forming.open_time_ms
            if point.open_time_ms < first_ms:
                return []
        elif point.open_time_ms <= self._watermark_ms:
            return self._compare(point, "next", at)
        if forming is None or point.open_time_ms > forming.open_time_ms:
            closed = [] if forming is None else self._close_forming("next", at)
            if self.filling:
                return closed
            return closed + self._form(point, close_time_ms, at)
        if point.open_time_ms == forming.open_time_ms:
            return self._form(point, close_time_ms, at)
        # Between the newest published and the forming bar: it came late, and closed.
        return self._publish(point, None, "next", at)

    def _collect(self, point: Point, close_time_ms: int | None, at: Moment) -> None:
        self._collected[point.open_time_ms] = point
        if point.open_time_ms >= self._newest_ms and at.stated_ms is not None:
            self._newest_seen_ms = at.stated_ms
        if point.open_time_ms > self._newest_ms:
            self._newest_ms, self._close_time_ms = point.open_time_ms, close_time_ms
        elif point.open_time_ms == self._newest_ms and close_time_ms is not None:
            self._close_time_ms = close_time_ms

    def _form(self, point: Point, close_time_ms: int | None, at: Moment) -> list[Decision]:
        is_new = self._forming is None or point.open_time_ms != self._forming.open_time_ms
        if is_new:
            self._close_time_ms = None
            self._proven_from_ms = min(self._proven_from_ms, point.open_time_ms)
        if close_time_ms is not None:
            self._close_time_ms = close_time_ms
        unchanged = point == self._forming
        self._forming = point
        if unchanged:
            return []
        return [Form(self._bar(point, self._end_ms(), "forming", at))]

    def _close_forming(self, closed_by: ClosedBy, at: Moment) -> list[Decision]:
        forming = self._forming
        assert forming is not None
        self._forming = None
        return self._publish(forming, self._end_ms(), closed_by, at)

    def _compare(self, point: Point, closed_by: ClosedBy, at: Moment) -> list[Decision]:
        """A bar that is not newer than the watermark: a repeat or a correction."""
        known = self._recent.get(point.open_time_ms)
        if known is None:
            oldest_ms = min(self._recent, default=None)
            if oldest_ms is None or point.open_time_ms < oldest_ms:
                return []
            revision = 1
        elif known.point == point:
            return []
        else:
            revision = known.revision + 1
        self._remember(Recent(point, revision))
        bar = self._bar(point, None, closed_by, at)
        previous_ms = max((t for t in self._recent if t < point.open_time_ms), default=None)
        corrected = replace(bar, revision=revision, previous_open_time_ms=previous_ms, gap=False)
        return [Correct(corrected, late=known is None)]

    # The fill.

    def _missing(self, oldest_ms: int, at: Moment) -> int:
        """Return how many older bars the fill may still need, 0 where it reaches back."""
        if self._watermark_ms is None:
            return self._wanted(at) - len(self._collected)
        compared = sum(time_ms <= self._watermark_ms for time_ms in self._collected)
        overlap = min(OVERLAP_BARS, len(self._recent))
        if oldest_ms - self._watermark_ms <= self._longest_ms:
            return max(0, overlap - compared)
        return (oldest_ms - self._watermark_ms) // self.series.interval_ms + OVERLAP_BARS

    def _wanted(self, at: Moment) -> int:
        """Return how many bars a first fill takes: closed ones, and the forming one if any."""
        return self._history_bars + (0 if self._newest_ended(at) else 1)

    def _newest_ended(self, at: Moment) -> bool:
        """Tell whether the newest collected bar was over when TradingView sent it.

        By the message's own stamp: an answer that waited in the socket of a stalled
        publisher shows a bar that was forming when it was sent.
        """
        end_ms = self._end_ms()
        return end_ms is not None and (
            self._newest_seen_ms >= end_ms + self._delay_ms + at.settle_ms
        )

    def _finish_fill(self, at: Moment) -> list[Decision]:
        points = [self._collected[time_ms] for time_ms in sorted(self._collected)]
        self._collected = {}
        self._filling = False
        if self._watermark_ms is None:
            points = points[max(0, len(points) - self._wanted(at)) :]
        else:
            self._proven_from_ms = points[0].open_time_ms if points else inf
        decisions: list[Decision] = []
        forming = points.pop() if points and not self._newest_ended(at) else None
        for point in points:
            decisions += self._finish_closed(point, at)
            if self.filling:
                return decisions
        if forming is not None:
            decisions += self._finish_forming(forming, at)
        published = sum(isinstance(decision, Publish) for decision in decisions)
        return [*decisions, FillDone(published)]

    def _finish_closed(self, point: Point, at: Moment) -> list[Decision]:
        if self._watermark_ms is not None and point.open_time_ms <= self._watermark_ms:
            return self._compare(point, "history", at)
        end_ms = self._end_ms() if point.open_time_ms == self._newest_ms else None
        return self._publish(point, end_ms, "history", at)

    def _finish_forming(self, point: Point, at: Moment) -> list[Decision]:
        if self._watermark_ms is not None and point.open_time_ms <= self._watermark_ms:
            return self._compare(point, "history", at)
        return self._form(point, self._close_time_ms, at)

    # The outcome.

    def _publish(
        self, point: Point, end_ms: int | None, closed_by: ClosedBy, at: Moment
    ) -> list[Decision]:
        passed = [time_ms for time_ms in self._refused if time_ms <= point.open_time_ms]
        if not all(self._refused[time_ms] for time_ms in passed):
            return self._reload()
        bar = self._bar(point, end_ms, closed_by, at)
        decisions: list[Decision] = []
        if bar.gap and self._watermark_ms is not None:
            decisions.append(Abandon(self._watermark_ms, point.open_time_ms))
        for time_ms in passed:
            del self._refused[time_ms]
        self._watermark_ms = point.open_time_ms
        self._remember(Recent(point))
        return [*decisions, Publish(bar)]

    def _reload(self) -> list[Decision]:
        # History may have the values that were refused; until it answered nothing passes them.
        self._filling = True
        self._collected = {}
        self._forming = None
        return [Reload("the last values of a bar were refused")]

    def _gap_before(self, open_time_ms: int) -> bool:
        """Tell whether bars before this one are missing for good."""
        if self._watermark_ms is None:
            return False
        if open_time_ms - self._watermark_ms > self._longest_ms and (
            self._watermark_ms < self._proven_from_ms
        ):
            return True
        return any(time_ms < open_time_ms and lost for time_ms, lost in self._refused.items())

    def _remember(self, recent: Recent) -> None:
        self._recent[recent.point.open_time_ms] = recent
        while len(self._recent) > RECENT_BARS_MAX:
            del self._recent[min(self._recent)]

    def _end_ms(self) -> int | None:
        if self._close_time_ms is None:
            return None
        return true_end_ms(self._close_time_ms, self._delay_ms)

    def _bar(self, point: Point, end_ms: int | None, closed_by: ClosedBy, at: Moment) -> Bar:
        return Bar(
            series=self.series,
            open_time_ms=point.open_time_ms,
            open=point.open,
            high=point.high,
            low=point.low,
            close=point.close,
            volume=point.volume,
            end_time_ms=end_ms,
            previous_open_time_ms=self._watermark_ms,
            received_ms=at.received_ms,
            closed_by=closed_by,
            gap=self._gap_before(point.open_time_ms),
        )


def _clip(bars: int) -> int:
    return max(2, min(bars, REQUEST_BARS_MAX))
