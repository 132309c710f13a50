"""A request for history: pages until enough is there, and never a bar that still forms."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import MINUTE_MS, ORIGIN_MS, SERIES, SETTLE_MS, at, slot, values

from publisher.core import history
from publisher.core.bars import UNANSWERED_MAX
from publisher.core.decisions import AskMore, Reload
from publisher.core.history import HISTORY_BARS_MAX, Fetched, HistoryFill, Span
from publisher.wire import Series

DAILY = Series("AAPL", "NASDAQ", "1D")
MONTHLY = Series("AAPL", "NASDAQ", "1M")
DAY_MS = 86_400_000


def minute(number: int) -> int:
    """The open time of a minute's bar; minute 0 is forming now."""
    return ORIGIN_MS + number * MINUTE_MS


@dataclass
class Chart:
    """TradingView's part: bars by open time, the newest of them forming unless told otherwise."""

    times: list[int]
    page: int = 5_000
    window: int = 10**9
    end: bool = True
    """Whether it says where its bars end."""
    forms: bool = True
    delay_ms: int = 0
    asked: list[int] = field(default_factory=list)
    sent: int = 0

    def run(self, fill: HistoryFill) -> Fetched:
        """Answer until the fill has what it wants."""
        asked: Any = AskMore(fill.begin(minute(0)))
        self.sent = 0
        while isinstance(asked, AskMore):
            assert len(self.asked) < 100, "asks without end"
            exhausted = self.answer(fill, asked.bars)
            asked = fill.complete(exhausted, self.now)
        assert isinstance(asked, Fetched)
        return asked

    def answer(self, fill: HistoryFill, bars: int) -> str | None:
        """Send a page; return whether there is more."""
        self.asked.append(bars)
        reach = min(len(self.times), self.window)
        upto = min(self.sent + min(bars, self.page), reach)
        batch = self.times[len(self.times) - upto : len(self.times) - self.sent]
        is_first, self.sent = self.sent == 0, upto
        close_ms = None if not batch or not is_first else self.ends_ms + self.delay_ms
        fill.receive(slot(*(values(t, base(t)) for t in batch), close_ms=close_ms), self.now)
        exhausted = "end" if upto == len(self.times) else "limit" if upto == self.window else None
        return exhausted if self.end else None

    @property
    def ends_ms(self) -> int:
        return self.times[-1] + MINUTE_MS

    @property
    def now(self) -> Any:
        """The newest bar's beginning, or late enough that it has ended and settled."""
        return at(self.times[-1] + 1_000 if self.forms else self.ends_ms + SETTLE_MS)


def base(open_time_ms: int) -> float:
    """The truth of a bar."""
    return 100.0 + (open_time_ms // MINUTE_MS) % 1_000


def times_of(fetched: Fetched) -> list[int]:
    """The bars as minutes, their values compared with the truth."""
    for bar in fetched.bars:
        expected = values(bar.open_time_ms, base(bar.open_time_ms))
        assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == expected[1:]
    return [(bar.open_time_ms - ORIGIN_MS) // MINUTE_MS for bar in fetched.bars]


def minutes(first: int, last: int = 0) -> list[int]:
    return [minute(number) for number in range(first, last + 1)]


def newest(bars: int, bars_max: int | None = None, series: Series = SERIES) -> HistoryFill:
    return HistoryFill(series, Span(bars=bars), bars_max)


def since(first: int, last: int | None = None, bars_max: int | None = None) -> HistoryFill:
    to_ms = None if last is None else minute(last)
    return HistoryFill(SERIES, Span(from_ms=minute(first), to_ms=to_ms), bars_max)


# The newest bars.


def test_the_newest_closed_bars_come_and_not_the_one_that_forms() -> None:
    fetched = Chart(minutes(-50)).run(newest(3))
    assert times_of(fetched) == [-3, -2, -1]
    assert (fetched.complete, fetched.reason) == (True, "")


def test_a_newest_bar_that_ended_and_settled_is_among_them() -> None:
    fetched = Chart(minutes(-50), forms=False).run(newest(3))
    assert times_of(fetched) == [-2, -1, 0]
    assert fetched.bars[-1].end_time_ms == minute(1)


def test_pages_are_asked_for_until_there_are_enough() -> None:
    chart = Chart(minutes(-50), page=4)
    assert times_of(chart.run(newest(10))) == list(range(-10, 0))
    assert chart.asked == [11, 7, 3]


@pytest.mark.parametrize(
    ("chart", "reason"),
    [
        (Chart(minutes(-5)), "TradingView has no older ones"),
        (Chart(minutes(-50), window=6), "TradingView gives this account no older ones"),
        (Chart(minutes(-5), end=False), "TradingView did not send older ones"),
    ],
)
def test_where_there_are_fewer_bars_it_says_so_and_why(chart: Chart, reason: str) -> None:
    fetched = chart.run(newest(10))
    assert times_of(fetched) == [-5, -4, -3, -2, -1]
    assert (fetched.complete, fetched.reason) == (False, reason)


def test_a_symbol_without_bars_is_no_error() -> None:
    fill = newest(10)
    fill.begin(minute(0))
    fetched = fill.complete("end", at(minute(0)))
    assert fetched == Fetched([], False, "TradingView has none")


def test_the_plans_window_bounds_what_is_asked_for() -> None:
    chart = Chart(minutes(-50), page=4)
    fetched = chart.run(newest(20, bars_max=6))
    assert times_of(fetched) == [-6, -5, -4, -3, -2, -1]
    assert sum(chart.asked[:1]) == 7
    assert (fetched.complete, fetched.reason) == (False, "the plan reaches back 6 bars")


def test_the_plans_window_does_not_hold_for_a_day_and_longer() -> None:
    days = [ORIGIN_MS - number * DAY_MS for number in range(50, -1, -1)]
    fetched = Chart(days).run(newest(20, bars_max=6, series=DAILY))
    assert [bar.open_time_ms for bar in fetched.bars] == days[-21:-1]
    assert fetched.complete


def test_older_bars_that_never_come_do_not_keep_those_that_came() -> None:
    fill = newest(10)
    chart = Chart(minutes(-50), page=4)
    for _ in range(UNANSWERED_MAX):
        chart.sent = 0
        exhausted = chart.answer(fill, fill.begin(minute(0)))
        assert isinstance(fill.complete(exhausted, chart.now), AskMore)
        fill.note_unanswered()
    chart.sent = 0
    exhausted = chart.answer(fill, fill.begin(minute(0)))
    fetched = fill.complete(exhausted, chart.now)
    assert isinstance(fetched, Fetched)
    assert times_of(fetched) == [-3, -2, -1]
    assert fetched.reason == "TradingView did not send older ones"


# A span of time.


def test_a_span_holds_the_bars_that_open_in_it_its_end_left_out() -> None:
    fetched = Chart(minutes(-50)).run(since(-20, -17))
    assert times_of(fetched) == [-20, -19, -18]
    assert fetched.complete


def test_a_span_without_an_end_goes_up_to_the_newest_closed_bar() -> None:
    assert times_of(Chart(minutes(-50)).run(since(-3))) == [-3, -2, -1]


def test_a_span_far_back_is_reached_page_by_page() -> None:
    chart = Chart(minutes(-50), page=7)
    assert times_of(chart.run(since(-30, -28))) == [-30, -29]
    assert len(chart.asked) == 5


def test_a_bar_shortly_before_the_first_one_received_is_not_overlooked() -> None:
    # The monthly bars of February and March open less than a month's longest time after
    # a span that begins on 30 January.
    jan, feb, mar, apr = 1_767_225_600_000, 1_769_904_000_000, 1_772_323_200_000, 1_775_001_600_000
    chart = Chart([jan, feb, mar, apr], page=2)
    fetched = chart.run(HistoryFill(MONTHLY, Span(from_ms=feb - 2 * DAY_MS), None))
    assert [bar.open_time_ms for bar in fetched.bars] == [feb, mar]
    assert fetched.complete


def test_a_span_that_begins_before_the_symbol_did_is_complete() -> None:
    fetched = Chart(minutes(-5)).run(since(-100))
    assert times_of(fetched) == [-5, -4, -3, -2, -1]
    assert fetched.complete


@pytest.mark.parametrize(
    ("chart", "bars_max", "reason"),
    [
        (Chart(minutes(-50), window=6), None, "TradingView gives this account no older ones"),
        (Chart(minutes(-50), page=6), 6, "the plan reaches back 6 bars"),
        (Chart(minutes(-5), end=False), None, "TradingView did not send older ones"),
    ],
)
def test_a_span_that_is_not_reached_gives_what_there_is_and_says_why(
    chart: Chart, bars_max: int | None, reason: str
) -> None:
    fetched = chart.run(since(-40, bars_max=bars_max))
    assert times_of(fetched) == [-5, -4, -3, -2, -1]
    assert (fetched.complete, fetched.reason) == (False, reason)


def test_a_request_looks_back_a_bounded_number_of_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "HISTORY_BARS_MAX", 8)
    chart = Chart(minutes(-50), page=4)
    fetched = chart.run(since(-40, -39))
    assert len(chart.asked) == 2
    assert fetched == Fetched([], False, "one request reaches back 8 bars")


def test_a_span_in_the_future_costs_one_page_and_holds_nothing() -> None:
    chart = Chart(minutes(-50))
    fetched = chart.run(HistoryFill(SERIES, Span(from_ms=minute(10_000)), None))
    assert (fetched.bars, fetched.complete, len(chart.asked)) == ([], True, 1)


# What cannot be a bar.


def spoil(fill: HistoryFill, number: int) -> None:
    fill.receive(slot(values(minute(number), 1e100)), at(minute(0) + 1_000))


def test_values_that_cannot_be_a_bar_are_left_out_and_counted() -> None:
    fill = newest(3)
    chart = Chart([t for t in minutes(-50) if t != minute(-2)])
    exhausted = chart.answer(fill, fill.begin(minute(0)))
    spoil(fill, -2)
    spoil(fill, 0)
    chart.answer(fill, 0)
    fetched = fill.complete(exhausted, chart.now)
    assert isinstance(fetched, Fetched)
    assert fetched.reason == "1 that TradingView sent cannot be bars and are left out"
    assert not fetched.complete


def test_bad_values_that_good_ones_replace_leave_no_trace() -> None:
    fill = newest(3)
    chart = Chart(minutes(-50))
    fill.begin(minute(0))
    spoil(fill, -2)
    exhausted = chart.answer(fill, 4)
    fetched = fill.complete(exhausted, chart.now)
    assert isinstance(fetched, Fetched)
    assert times_of(fetched) == [-3, -2, -1]
    assert fetched.complete


def test_bad_values_after_good_ones_mean_starting_over() -> None:
    fill = newest(3)
    chart = Chart(minutes(-50))
    exhausted = chart.answer(fill, fill.begin(minute(0)))
    spoil(fill, -2)
    assert isinstance(fill.complete(exhausted, chart.now), Reload)
    assert times_of(chart.run(fill)) == [-3, -2, -1]


def test_bad_values_outside_of_what_is_asked_for_concern_nobody() -> None:
    fill = since(-20, -17)
    chart = Chart([t for t in minutes(-50) if t != minute(-15)])
    exhausted = chart.answer(fill, fill.begin(minute(0)))
    spoil(fill, -15)
    fetched = fill.complete(exhausted, chart.now)
    assert isinstance(fetched, Fetched)
    assert (times_of(fetched), fetched.complete) == ([-20, -19, -18], True)


def test_values_without_a_time_are_not_counted_as_bars() -> None:
    fill = newest(3)
    chart = Chart(minutes(-50))
    exhausted = chart.answer(fill, fill.begin(minute(0)))
    fill.receive(
        slot((None, 1, 1, 1, 1), *(values(t, base(t)) for t in minutes(-2, -1))), chart.now
    )
    fetched = fill.complete(exhausted, chart.now)
    assert isinstance(fetched, Fetched)
    assert (times_of(fetched), fetched.complete) == ([-3, -2, -1], True)


def test_refused_times_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "REFUSED_TIMES_MAX", 5)
    fill = newest(3)
    fill.begin(minute(0))
    for number in range(-20, -10):
        spoil(fill, number)
    assert len(fill._refused) == 5
    assert min(fill._refused) == minute(-15)


# What it tells while it works.


def test_progress_counts_up_to_what_is_wanted() -> None:
    fill = newest(5)
    chart = Chart(minutes(-50), page=4)
    fill.begin(minute(0))
    seen = []
    for bars in (4, 4):
        chart.answer(fill, bars)
        seen.append(fill.progress)
    assert (seen, fill.wanted) == ([4, 5], 5)
    fill.begin(minute(0))
    assert fill.progress == 0


def test_of_a_span_nobody_knows_how_many_bars_it_has() -> None:
    fill = since(-5)
    fill.begin(minute(0))
    Chart(minutes(-50)).answer(fill, 9)
    assert (fill.progress, fill.wanted) == (9, None)


@pytest.mark.parametrize(
    ("fill", "requests"),
    [
        (newest(1), 1),
        (newest(5_000), 1),
        (newest(5_001), 2),
        (newest(HISTORY_BARS_MAX), 8),
        (newest(20_000, bars_max=10_000), 2),
        (since(-(10**6)), 1),
    ],
)
def test_it_says_how_many_requests_it_takes_at_least(fill: HistoryFill, requests: int) -> None:
    assert fill.requests == requests


def test_a_delayed_symbols_newest_bar_closes_later() -> None:
    delayed = newest(3)
    delayed.set_delay(900_000)
    chart = Chart(minutes(-50), forms=False, delay_ms=900_000)
    assert times_of(chart.run(delayed)) == [-3, -2, -1]


# Any market, any request.


@given(st.integers(0, 10**9))
def test_any_request_is_answered_with_the_truth(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 120)
    places = sorted(rng.sample(range(-200, 0), min(count, 150)))
    chart = Chart(
        [minute(place) for place in places] + [minute(0)],
        page=rng.choice([3, 7, 40, 5_000]),
        window=rng.choice([10**9, rng.randint(1, 130)]),
        forms=rng.random() < 0.8,
    )
    closed = chart.times[:-1] if chart.forms else chart.times
    reach = chart.times[max(0, len(chart.times) - chart.window) :]
    there = [t for t in closed if t in set(reach)]
    if rng.random() < 0.5:
        bars = rng.randint(1, 140)
        fetched = chart.run(newest(bars))
        expected = there[-bars:]
        assert fetched.complete is (len(expected) == bars)
    else:
        first, last = sorted(rng.sample(range(-230, 3), 2))
        fetched = chart.run(since(first, last))
        expected = [t for t in there if minute(first) <= t < minute(last)]
        lost = [t for t in closed if minute(first) <= t < minute(last) and t not in set(reach)]
        assert not (lost and fetched.complete)
    assert [bar.open_time_ms for bar in fetched.bars] == expected
    times_of(fetched)
