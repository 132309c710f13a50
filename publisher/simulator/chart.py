"""One chart series: its history, then its live updates. Pure; time is passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from publisher.simulator.axis import Axis
from publisher.simulator.market import Bar, Market
from publisher.simulator.periods import CALENDAR_INTERVALS, Instrument, Period
from publisher.simulator.plan import Limits, Message, Slot
from publisher.simulator.tree import STEP_MS

_REPEAT_EVERY: Final = 12
_RECENT_BARS: Final = 3
_BARS_MAX: Final = 100_000
_BURST_MAX: Final = 1000
_TICKS_FIRST: Final = 10
_TICKS_LATER: Final = 23
_TICKS_LEFT_MIN: Final = 5
_CORRECTIONS_MAX: Final = 64
_NODE: Final = "sim1-charts-free-1-series-simul-1"


class ChartSeries:
    """A series on a chart. Not safe in several threads."""

    def __init__(
        self,
        market: Market,
        slot: Slot,
        instrument: Instrument,
        interval: str,
        limits: Limits,
        *,
        timezone: str | None = None,
    ) -> None:
        self.slot = slot
        self.interval = interval
        self.daily = interval in CALENDAR_INTERVALS
        # Bars of a day and longer are those of the regular session, always.
        self.instrument = replace(instrument, extended=instrument.extended and not self.daily)
        self.live = False
        self.due_ms = 0.0
        """When `advance` has something to do, simulated ms."""
        self._market = market
        self._limits = limits
        self._axis = Axis(self.instrument, interval, timezone)
        self._delay_ms = instrument.symbol.delay_s * 1000
        self._period: Period | None = None
        self._sent: Bar | None = None
        self._sent_at_ms = 0
        self._repeat: Message | None = None
        self._finished = False
        self._updates = 0
        self._index = -1
        self._oldest_ms = 0
        self._opens_ms = 0
        self._delivered = 0
        self._announced = 0
        self._corrections: deque[tuple[int, int, Bar]] = deque(maxlen=_CORRECTIONS_MAX)

    # --- history

    def snapshot(
        self, now_ms: int, count: int, span_ms: tuple[int, int] | None = None
    ) -> tuple[Message, str | None]:
        """Return the first `timescale_update` and the `data_completed` flag.

        `span_ms` keeps only the bars that open in it, both ends included.
        """
        market_ms = now_ms - self._delay_ms
        window = count if self.daily else min(count, self._limits.window_bars)
        if span_ms is not None:
            window = _BARS_MAX if self.daily else self._limits.window_bars
        bars = self._known(market_ms, min(window, _BARS_MAX))
        reached = len(bars) < window
        bars = bars if span_ms is not None else bars[-self._limits.answer_bars :]
        newest = bars[-1] if bars else None
        if span_ms is not None:
            bars = [bar for bar in bars if span_ms[0] <= bar.start_ms <= span_ms[1]]
        self._oldest_ms = bars[0].start_ms if bars else market_ms
        self._delivered = len(bars)
        self._index = len(bars) - 1
        self._begin(bars, newest, market_ms)
        flag = "end" if reached else None
        if not reached and span_ms is None and count > window == len(bars):
            flag = "limit"
        return self._history(bars, with_node=True), flag

    def more(self, count: int) -> tuple[Message | None, str | None]:
        """Return older bars and the `data_completed` flag."""
        left = self._limits.window_bars - self._delivered
        left = count if self.daily else max(0, min(count, left))
        bars = self._market.before(self.instrument, self.interval, self._oldest_ms, left)
        flag = "end" if len(bars) < left else "limit" if left < count else None
        if not bars:
            return None, flag
        # The oldest bar has index 0 always, so what was delivered before moves up.
        self._index += len(bars)
        self._announced += len(bars)
        self._corrections = deque(
            ((at, index + len(bars), bar) for at, index, bar in self._corrections),
            maxlen=_CORRECTIONS_MAX,
        )
        self._delivered += len(bars)
        self._oldest_ms = bars[0].start_ms
        return self._history(bars, with_node=False), flag

    def empty(self) -> Message:
        """Return the `timescale_update` without bars that begins a change of interval."""
        return self._history([], with_node=False)

    def ticks(self, count: int = _TICKS_FIRST) -> Message | None:
        """Return the `timescale_update` that announces future ticks only."""
        if self._period is None:
            return None
        axis = self._axis.future(self._period.end_ms, self._index + 1, count)
        self._announced = self._index + count
        return {"m": "timescale_update", "p": [self.slot.chart, {}, axis]}

    def _known(self, market_ms: int, count: int) -> list[Bar]:
        bars = self._market.before(self.instrument, self.interval, market_ms + 1, count + 1)
        if bars and bars[-1].end_ms > market_ms:
            last = bars.pop()
            state = self._market.state(self.instrument, _period(last), market_ms)
            bars += [state] if state is not None else []
        seen = [self._market.seen(self.instrument, bar, market_ms) for bar in bars[-_RECENT_BARS:]]
        return (bars[:-_RECENT_BARS] + seen)[-count:]

    def _begin(self, bars: list[Bar], newest: Bar | None, market_ms: int) -> None:
        # A range that ends before the newest bar is a look at the past and gets no updates.
        self.live = bool(bars) and bars[-1] is newest
        if newest is None or not self.live:
            return
        self._period = _period(newest)
        self._finished = newest.end_ms <= market_ms
        for index, bar in list(enumerate(bars))[-_RECENT_BARS:]:
            if bar.end_ms <= market_ms:
                final = self._market.state(self.instrument, _period(bar), bar.end_ms)
                self._sent = bar
                if final is not None:
                    self._plan_correction(market_ms, index, final)
        self._sent = newest

    def _history(self, bars: list[Bar], *, with_node: bool) -> Message:
        body: Message = {"node": _NODE} if with_node else {}
        body["s"] = [{"i": index, "v": bar.values} for index, bar in enumerate(bars)]
        body |= {"ns": {"d": "", "indexes": []}, "t": self.slot.turnaround}
        switch: int | None = None
        if bars:
            body["lbs"] = {"bar_close_time": self._close_time(bars[-1])}
            switch = self._switch(bars)
        axis = self._axis.past(self.slot.series, [bar.start_ms for bar in bars], switch)
        return {
            "m": "timescale_update",
            "p": [self.slot.chart, {self.slot.series: body}, axis],
        }

    def _switch(self, bars: list[Bar]) -> int:
        today = self._axis.session_of(bars[-1].start_ms)
        index = len(bars) - 1
        while index and self._axis.session_of(bars[index - 1].start_ms) == today:
            index -= 1
        return index

    def _close_time(self, bar: Bar) -> int:
        return (bar.end_ms + self._delay_ms) // 1000 - bar.ends_session

    # --- live

    def advance(self, now_ms: int, update_ms: float) -> list[Message]:
        """Return what is to be sent at a time; `update_ms` is simulated, between updates."""
        if not self.live or self._period is None:
            return []
        market_ms = now_ms - self._delay_ms
        messages: list[Message] = []
        if not self._announced and (ticks := self.ticks()) is not None:
            messages.append(ticks)
        waits = False
        while self._period.end_ms <= market_ms and len(messages) < _BURST_MAX and not waits:
            waits = not self._roll(market_ms, messages)
        self._correct(market_ms, messages)
        if market_ms < self._period.end_ms and now_ms - self._sent_at_ms >= update_ms:
            self._update(market_ms, messages)
            self._sent_at_ms = now_ms
        self._plan_next(now_ms, update_ms)
        return messages

    def _plan_next(self, now_ms: int, update_ms: float) -> None:
        assert self._period is not None
        market_ms = now_ms - self._delay_ms
        step_ms = (market_ms // STEP_MS + 1) * STEP_MS + self._delay_ms
        if self._period.end_ms > market_ms:
            end_ms = self._period.end_ms + self._delay_ms
            self.due_ms = min(end_ms, max(step_ms, self._sent_at_ms + update_ms))
        else:
            # Between two bars: until the next may open, then until somebody trades.
            opens_ms = self._opens_ms + self._delay_ms
            self.due_ms = max(opens_ms, min(step_ms, now_ms + update_ms))
        if self._corrections:
            self.due_ms = min(self.due_ms, self._corrections[0][0] + self._delay_ms)

    def _update(self, market_ms: int, messages: list[Message]) -> None:
        assert self._period is not None
        if self._repeat is not None:
            messages.append(self._repeat)
            self._repeat = None
            return
        bar = self._market.state(self.instrument, self._period, market_ms)
        if bar is None or bar == self._sent:
            return
        message = self._du(self._index, bar)
        messages.append(message)
        self._updates += 1
        if self._updates % _REPEAT_EVERY == 0:
            self._repeat = message

    def _roll(self, market_ms: int, messages: list[Message]) -> bool:
        """Send the ended bar's last values and open the next bar, if it has begun."""
        assert self._period is not None
        if not self._finished:
            self._finish(self._period, market_ms, messages)
        following = self._market.next_period(self.instrument, self.interval, self._period.end_ms)
        while (opened := self._opened(following, market_ms)) is None:
            if market_ms < following.end_ms:
                self._opens_ms = following.start_ms
                return False
            following = self._market.next_period(self.instrument, self.interval, following.end_ms)
        self._period = following
        self._finished = False
        self._index += 1
        messages.append(self._du(self._index, opened))
        if self._announced - self._index < _TICKS_LEFT_MIN:
            ticks = self.ticks(_TICKS_LATER)
            messages += [ticks] if ticks is not None else []
        return True

    def _finish(self, period: Period, market_ms: int, messages: list[Message]) -> None:
        self._repeat = None
        self._finished = True
        final = self._market.state(self.instrument, period, period.end_ms)
        if final is None:
            return
        shown = self._market.seen(self.instrument, final, period.end_ms)
        if shown != self._sent:
            messages.append(self._du(self._index, shown))
        self._plan_correction(market_ms, self._index, final)

    def _opened(self, period: Period, market_ms: int) -> Bar | None:
        # The clock opens a bar of a 24x7 market at its very beginning; others wait for a trade.
        if self.instrument.symbol.venue.round_the_clock:
            market_ms = min(market_ms, period.start_ms)
            if market_ms < period.start_ms:
                return None
        return self._market.state(self.instrument, period, market_ms)

    def _plan_correction(self, market_ms: int, index: int, final: Bar) -> None:
        at_ms = self._market.corrected_at_ms(self.instrument, final)
        # Even one that is overdue is sent, since the preliminary values were.
        if at_ms is not None and (at_ms > market_ms or self._sent != final):
            self._corrections.append((at_ms, index, final))

    def _correct(self, market_ms: int, messages: list[Message]) -> None:
        while self._corrections and self._corrections[0][0] <= market_ms:
            _, index, bar = self._corrections.popleft()
            sent = self._sent
            messages.append(self._du(index, bar))
            self._sent = bar if index == self._index else sent

    def _du(self, index: int, bar: Bar) -> Message:
        self._sent = bar
        body = {
            "s": [{"i": index, "v": bar.values}],
            "ns": {"d": "", "indexes": "nochange"},
            "t": self.slot.turnaround,
            "lbs": {"bar_close_time": self._close_time(bar)},
        }
        return {"m": "du", "p": [self.slot.chart, {self.slot.series: body}]}


def _period(bar: Bar) -> Period:
    return Period(bar.start_ms, bar.end_ms, bar.ends_session)
