"""What the ledger publishes, case by case; the minutes are m(0), m(1), … of a day."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from ledger_world import MINUTE_MS, SERIES, SETTLE_MS, at, of, published, slot, values

from publisher.core.bars import (
    OVERLAP_BARS,
    RECENT_BARS_MAX,
    REFUSED_TIMES_MAX,
    REQUEST_BARS_MAX,
    Ledger,
)
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
from publisher.core.points import Point
from publisher.wire import Bar, Series

DAY_MS = 86_400_000
BASE_MS = 1_700_006_400_000
NAN = math.nan


def m(minute: int) -> int:
    return BASE_MS + minute * MINUTE_MS


def bar(minute: int, base: float = 100.0) -> tuple[Any, ...]:
    return values(m(minute), base)


def spoilt(minute: int) -> tuple[Any, ...]:
    return (m(minute) / 1000, NAN, 102.0, 98.0, 101.0, 1.0)


def minutes(bars: list[Bar]) -> list[int]:
    return [(one.open_time_ms - BASE_MS) // MINUTE_MS for one in bars]


def stream(*minute: int) -> StreamEnd:
    """A stream that ends with these bars."""
    points = [Point(m(n), 100.0, 102.0, 98.0, 101.0, 1.0) for n in minute]
    recent = {point.open_time_ms: Recent(point) for point in points}
    return StreamEnd(max(recent, default=None), recent)


class Desk:
    """A ledger and the clock beside it; the clock stands in the middle of the newest minute."""

    def __init__(self, end: StreamEnd | None = None, history_bars: int = 3) -> None:
        self.ledger = Ledger(SERIES, end or StreamEnd(), history_bars)
        self.minute = 0
        self.decisions: list[Decision] = []

    def hear(self, *bars: tuple[Any, ...], close_ms: int | None = None) -> list[Decision]:
        return self.note(self.ledger.receive(slot(*bars, close_ms=close_ms), self.at))

    def note(self, decisions: list[Decision]) -> list[Decision]:
        self.decisions += decisions
        return decisions

    def fill(self, *bars: tuple[Any, ...], exhausted: bool = True) -> list[Decision]:
        """Begin, and answer with these bars."""
        times_s = [bar[0] for bar in bars if bar[0] != "?"]
        self.minute = max(
            self.minute, *[round(s * 1000 - BASE_MS) // MINUTE_MS for s in times_s], 0
        )
        self.ledger.begin(self.at.server_ms)
        heard = self.ledger.receive(slot(*bars), self.at)
        return self.note(heard + self.ledger.complete(exhausted, self.at))

    def live(self, minute: int, *bars: tuple[Any, ...]) -> list[Decision]:
        self.minute = minute
        return self.hear(*bars, close_ms=m(minute + 1))

    @property
    def at(self) -> Any:
        return at(m(self.minute) + 30_000)

    @property
    def published(self) -> list[int]:
        return minutes(published(self.decisions))


# Closing.


def test_a_bar_closes_when_its_successor_opens() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(1, bar(1, 200.0))
    closed, form = desk.live(2, bar(2))
    assert isinstance(closed, Publish)
    assert closed.bar == Bar(
        series=SERIES,
        open_time_ms=m(1),
        open=200.0,
        high=202.0,
        low=198.0,
        close=201.0,
        volume=1.0,
        end_time_ms=m(2),
        previous_open_time_ms=m(0),
        received_ms=m(2) + 30_250,
        closed_by="next",
    )
    assert isinstance(form, Form)
    assert form.bar.previous_open_time_ms == m(1)


def test_a_bar_closes_by_the_clock_when_its_end_and_the_settle_time_passed() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(1, bar(1, 200.0))
    assert desk.ledger.deadline_ms(SETTLE_MS) == m(2) + SETTLE_MS
    assert desk.ledger.expire(at(m(2) + SETTLE_MS - 1)) == []
    (closed,) = desk.ledger.expire(at(m(2) + SETTLE_MS))
    assert isinstance(closed, Publish)
    assert (closed.bar.closed_by, closed.bar.end_time_ms) == ("clock", m(2))
    assert desk.ledger.deadline_ms(SETTLE_MS) is None
    assert desk.ledger.expire(at(m(9))) == []


def test_the_machines_clock_closes_nothing() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    assert desk.ledger.expire(at(m(1) + 30_000, received_ms=m(500))) == []


def test_a_bar_whose_end_is_not_stated_closes_after_its_interval_and_the_delay() -> None:
    desk = Desk()
    desk.ledger.set_delay(900_000)
    desk.fill(bar(0), bar(1))
    assert desk.ledger.deadline_ms(0) == m(2) + 900_000
    (closed,) = published(desk.ledger.expire(at(m(2) + 900_000, settle_ms=0)))
    assert closed.end_time_ms is None


def test_the_second_that_is_missing_at_a_sessions_end_does_not_close_the_bar_early() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.minute = 1
    desk.hear(bar(1, 200.0), close_ms=m(2) - 1_000)
    assert desk.ledger.deadline_ms(0) == m(2)
    assert desk.ledger.expire(at(m(2) - 1, settle_ms=0)) == []
    (closed,) = published(desk.ledger.expire(at(m(2), settle_ms=0)))
    assert closed.end_time_ms == m(2)


def test_history_does_not_close_its_last_bar_in_its_last_second() -> None:
    desk = Desk()
    desk.ledger.begin(m(1))
    desk.ledger.receive(slot(bar(0), bar(1), close_ms=m(2) - 1_000), at(m(2) - 1_000))
    decisions = desk.ledger.complete(True, at(m(2) - 1, settle_ms=0))
    assert minutes(published(decisions)) == [0]


def test_a_delayed_bar_ends_when_it_ended_and_closes_when_its_data_did() -> None:
    desk = Desk()
    desk.ledger.set_delay(900_000)
    desk.fill(bar(0), bar(1))
    desk.hear(bar(1, 200.0), close_ms=m(2) + 900_000)
    assert desk.ledger.deadline_ms(SETTLE_MS) == m(2) + 900_000 + SETTLE_MS
    (closed,) = published(desk.ledger.expire(at(m(2) + 900_000 + SETTLE_MS)))
    assert closed.end_time_ms == m(2)


@pytest.mark.parametrize(
    ("interval", "longest_ms"),
    [
        ("4H", 4 * 3_600_000),
        ("1D", 25 * 3_600_000),
        ("1W", (7 * 24 + 1) * 3_600_000),
        ("1M", (31 * 24 + 1) * 3_600_000),
    ],
)
def test_a_day_on_which_clocks_are_put_back_is_not_closed_an_hour_early(
    interval: str, longest_ms: int
) -> None:
    ledger = Ledger(Series("EURUSD", "FX", interval), StreamEnd(), 3)
    ledger.begin(m(0))
    ledger.receive(slot(bar(0)), at(m(1)))
    ledger.complete(True, at(m(1)))
    assert ledger.deadline_ms(0) == m(0) + longest_ms


def test_the_stated_end_is_that_of_the_newest_bar_of_its_message() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    decisions = desk.live(2, bar(1, 200.0), bar(2))
    (closed,) = published(decisions)
    assert closed.end_time_ms is None, "of the bar before nothing was stated"
    assert desk.ledger.deadline_ms(0) == m(3)


@pytest.mark.parametrize("newest", [spoilt(2), (NAN, 1, 1, 1, 1), (m(2) / 1000, 1.0)])
def test_the_end_stated_for_a_refused_bar_is_not_taken_for_the_one_before(
    newest: tuple[Any, ...],
) -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.minute = 2
    desk.hear(bar(1, 200.0), newest, close_ms=m(3))
    assert desk.ledger.deadline_ms(0) == m(2)


def test_an_end_once_stated_stays_until_another_is() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.hear(bar(1, 200.0), close_ms=m(2) - 20_000)
    desk.hear(bar(1, 201.0))
    assert desk.ledger.deadline_ms(0) == m(2) - 20_000
    desk.hear(bar(1, 201.0), close_ms=m(2))
    assert desk.ledger.deadline_ms(0) == m(2)


def test_two_bars_in_one_message_come_in_any_order() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(3, bar(3), bar(2), bar(1, 200.0))
    assert desk.published == [0, 1, 2]
    assert published(desk.decisions)[1].open == 200.0


def test_a_repeat_changes_nothing() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    assert len(desk.live(1, bar(1, 200.0))) == 1
    assert desk.live(1, bar(1, 200.0)) == []
    assert desk.live(1, bar(0)) == []


def test_volume_and_more_values_are_kept_or_let_go() -> None:
    desk = Desk()
    desk.fill((*bar(0), 55.0), bar(1)[:5], (*bar(2)[:5], 1e100), bar(3))
    assert [one.volume for one in published(desk.decisions)] == [1.0, None, None]


# Corrections and late bars.


def test_a_closed_bar_that_changes_is_corrected_with_rising_revisions() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1), bar(2))
    for revision, base in enumerate([300.0, 301.0, 100.0], start=1):
        (correct,) = desk.live(2, bar(1, base))
        assert isinstance(correct, Correct)
        assert not correct.late
        assert (correct.bar.revision, correct.bar.open) == (revision, base)
        assert correct.bar.previous_open_time_ms == m(0)
        assert desk.live(2, bar(1, base)) == []
    assert desk.published == [0, 1]


def test_revisions_go_on_where_the_stream_left_off() -> None:
    point = Point(m(0), 100.0, 102.0, 98.0, 101.0, 1.0)
    desk = Desk(StreamEnd(m(0), {m(0): Recent(point, 4)}))
    desk.fill(bar(0, 300.0), bar(1))
    (correct,) = of(desk.decisions, Correct)
    assert (correct.bar.revision, correct.bar.closed_by) == (5, "history")


def test_an_update_after_the_clock_closed_the_bar_is_a_correction() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.note(desk.ledger.expire(at(m(2) + SETTLE_MS)))
    desk.minute = 2
    (correct,) = desk.hear(bar(1, 300.0))
    assert isinstance(correct, Correct)
    assert desk.published == [0, 1]


def test_a_bar_that_came_late_is_published_in_order_where_that_is_possible() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(3, bar(3))
    decisions = desk.live(3, bar(2))
    assert minutes(published(decisions)) == [2]
    desk.live(4, bar(4))
    assert desk.published == [0, 1, 2, 3]
    assert [one.gap for one in published(desk.decisions)] == [False] * 4


def test_a_bar_that_came_too_late_for_the_stream_is_a_late_correction() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(2), bar(3))
    (correct,) = desk.live(3, bar(1))
    assert isinstance(correct, Correct)
    assert correct.late
    assert (correct.bar.revision, correct.bar.previous_open_time_ms) == (1, m(0))
    assert desk.live(3, bar(1)) == []


def test_bars_older_than_what_is_remembered_are_let_be() -> None:
    desk = Desk(history_bars=2)
    desk.fill(bar(5), bar(6), bar(7))
    assert desk.live(7, bar(1, 300.0)) == []
    empty = Desk(StreamEnd(m(5), None))
    empty.fill(bar(4), bar(5), bar(6))
    assert of(empty.decisions, Correct) == []


def test_only_so_many_closed_bars_are_remembered() -> None:
    many = RECENT_BARS_MAX + 2
    desk = Desk(history_bars=many)
    desk.fill(*[bar(n) for n in range(many + 1)])
    assert desk.published == list(range(many))
    assert of(desk.live(many, bar(1, 300.0)), Correct) == []
    assert len(of(desk.live(many, bar(2, 300.0)), Correct)) == 1


def test_before_anything_was_published_older_bars_are_not_wanted() -> None:
    desk = Desk(history_bars=0)
    desk.fill(bar(4), bar(5))
    assert desk.published == []
    assert desk.live(5, bar(4)) == []
    desk.live(6, bar(6))
    assert desk.published == [5]


# Bad values.


def test_a_bar_whose_last_update_was_refused_is_not_published_but_asked_for_again() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    (refuse,) = desk.live(1, spoilt(1))
    assert refuse == Refuse("open must be a number, was nan", m(1))
    (reload,) = desk.live(2, bar(2))
    assert isinstance(reload, Reload)
    assert desk.ledger.filling
    desk.fill(bar(0), bar(1, 300.0), bar(2))
    assert desk.published == [0, 1]
    assert published(desk.decisions)[1].open == 300.0


def test_the_clock_does_not_close_it_either() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(1, spoilt(1))
    assert [type(one) for one in desk.ledger.expire(at(m(2) + SETTLE_MS))] == [Reload]


@pytest.mark.parametrize("update", [("?", 1, 1, 1, 1), (None,), ()])
def test_an_update_of_unknown_time_may_have_been_the_forming_bars(update: tuple[Any, ...]) -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    (refuse,) = desk.live(1, update)
    assert isinstance(refuse, Refuse)
    assert refuse.open_time_ms is None
    assert [type(one) for one in desk.live(2, bar(2))] == [Reload]


@pytest.mark.parametrize("time_s", [-86_400, 0, m(1_000_000) / 1000])
def test_a_bar_before_1970_or_from_the_future_casts_no_doubt_on_the_forming_one(
    time_s: float,
) -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    (refuse,) = desk.live(1, (time_s, *bar(1)[1:]))
    assert isinstance(refuse, Refuse)
    desk.live(2, bar(2))
    assert desk.published == [0, 1]


def test_a_good_update_removes_the_doubt() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(1, spoilt(1))
    desk.live(1, bar(1, 200.0))
    desk.live(2, bar(2))
    assert desk.published == [0, 1]


def test_within_a_message_the_later_of_two_updates_counts() -> None:
    good_last, bad_last = Desk(), Desk()
    for desk in (good_last, bad_last):
        desk.fill(bar(0), bar(1))
    good_last.live(1, spoilt(1), bar(1, 200.0))
    good_last.live(2, bar(2))
    assert good_last.published == [0, 1]
    bad_last.live(1, bar(1, 200.0), spoilt(1))
    assert [type(one) for one in bad_last.live(2, bar(2))] == [Reload]


def test_after_a_reload_nothing_passes_the_doubted_bar() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(1, spoilt(1))
    desk.live(4, bar(2), bar(3), bar(4))
    desk.live(5, bar(5))
    assert desk.published == [0]
    assert len(of(desk.decisions, Reload)) == 1
    assert desk.ledger.expire(at(m(99))) == []
    desk.fill(*[bar(n) for n in range(6)])
    assert desk.published == [0, 1, 2, 3, 4]


def test_a_bar_that_was_only_ever_refused_live_is_fetched_before_newer_ones() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(2, spoilt(2))
    desk.live(3, bar(3))
    assert desk.published == [0, 1]
    assert [type(one) for one in desk.live(4, bar(4))] == [Reload]
    desk.fill(bar(1), bar(2), bar(3), bar(4))
    assert desk.published == [0, 1, 2, 3]
    assert of(desk.decisions, Abandon) == []


def test_a_late_bar_does_not_pass_one_that_was_refused_either() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.live(4, bar(4))
    desk.live(4, spoilt(2))
    assert [type(one) for one in desk.live(4, bar(3))] == [Reload]


def test_a_bar_that_history_has_no_values_for_is_a_gap_that_is_announced() -> None:
    desk = Desk()
    decisions = desk.fill(bar(0), spoilt(1), bar(2), bar(3))
    assert of(decisions, Abandon) == [Abandon(m(0), m(2))]
    assert [one.gap for one in published(decisions)] == [False, True]
    assert published(decisions)[1].previous_open_time_ms == m(0)
    desk.live(4, bar(4))
    assert published(desk.decisions)[-1].gap is False


def test_before_the_first_bar_nothing_is_missing() -> None:
    desk = Desk()
    decisions = desk.fill(spoilt(0), bar(1), bar(2))
    assert of(decisions, Abandon) == []
    assert [one.gap for one in published(decisions)] == [False]


def test_too_few_values_are_a_gap_as_well() -> None:
    desk = Desk()
    decisions = desk.fill(bar(0), bar(1)[:4], bar(2), bar(3))
    assert of(decisions, Abandon) == [Abandon(m(0), m(2))]


def test_an_update_refused_during_the_fill_casts_doubt_on_what_history_said() -> None:
    desk = Desk()
    desk.ledger.begin(m(1))
    desk.ledger.receive(slot(bar(0), bar(1)), desk.at)
    desk.minute = 1
    desk.hear(spoilt(1))
    desk.note(desk.ledger.complete(True, desk.at))
    assert [type(one) for one in desk.live(2, bar(2))] == [Reload]
    assert desk.published == [0]


def test_an_update_refused_during_the_fill_is_not_published_from_it() -> None:
    desk = Desk()
    desk.ledger.begin(m(2))
    desk.minute = 2
    desk.hear(bar(0), bar(1), bar(2))
    desk.hear(("?", 1, 1, 1, 1))
    desk.hear(spoilt(1))
    decisions = desk.note(desk.ledger.complete(True, desk.at))
    assert [type(one) for one in decisions] == [Publish, Reload]
    assert desk.published == [0]


@pytest.mark.parametrize(("place", "kept"), [(0, [0, 1]), (1, [0])])
def test_an_update_of_unknown_time_casts_doubt_from_its_place_in_the_message_on(
    place: int, kept: list[int]
) -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    message: list[tuple[Any, ...]] = [bar(1, 200.0), bar(2), bar(3)]
    message.insert(place, ("?", 1, 1, 1, 1))
    decisions = desk.live(3, *message)
    # After a good update bar 1 is sure, but the unknown one may have opened another.
    assert [type(one) for one in decisions][-1] is Reload
    assert desk.published == kept
    desk.fill(bar(0), bar(1, 200.0), bar(2), bar(3))
    assert desk.published == [0, 1, 2]


def test_while_no_bar_forms_an_update_of_unknown_time_may_have_opened_one() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.note(desk.ledger.expire(at(m(2) + SETTLE_MS)))
    desk.live(2, ("?", 1, 1, 1, 1))
    desk.live(3, bar(3))
    assert [type(one) for one in desk.live(4, bar(4))] == [Reload]
    assert desk.published == [0, 1]
    desk.fill(bar(1), bar(2), bar(3), bar(4))
    assert desk.published == [0, 1, 2, 3]


def test_an_update_of_unknown_time_before_any_history_stops_nothing() -> None:
    desk = Desk()
    desk.ledger.begin(m(0))
    desk.hear(("?", 1, 1, 1, 1))
    desk.hear(bar(0), bar(1))
    desk.note(desk.ledger.complete(True, at(m(1) + 30_000)))
    assert desk.published == [0]


def test_times_that_cannot_be_read_in_history_stop_nothing() -> None:
    desk = Desk()
    desk.fill(bar(0), ("?", 1, 1, 1, 1), bar(1))
    desk.live(2, bar(2))
    assert desk.published == [0, 1]


def test_refused_times_that_are_remembered_are_bounded() -> None:
    desk = Desk()
    desk.fill(bar(0))
    count = REFUSED_TIMES_MAX + 5
    desk.minute = count
    desk.hear(*[spoilt(n) for n in range(1, count + 1)])
    assert len(desk.ledger._refused) == REFUSED_TIMES_MAX


def test_the_future_begins_one_interval_after_the_later_clock() -> None:
    for server_ms, received_ms in ((m(5), m(3)), (m(3), m(5))):
        ledger = Ledger(SERIES, StreamEnd(), 3)
        ledger.begin(m(5))
        moment = at(server_ms, received_ms=received_ms)
        assert ledger.receive(slot(bar(6)), moment) == []
        (refuse,) = ledger.receive(slot(values(m(6) + 1_000, 100.0)), moment)
        assert isinstance(refuse, Refuse)
        assert "in the future" in refuse.reason


# The first fill.


@pytest.mark.parametrize("history_bars", [0, 1, 3, 5])
@pytest.mark.parametrize("ended", [False, True])
def test_a_first_fill_publishes_exactly_the_newest_closed_bars(
    history_bars: int, ended: bool
) -> None:
    ledger = Ledger(SERIES, StreamEnd(), history_bars)
    ledger.begin(m(9))
    moment = at(m(10) + SETTLE_MS - (0 if ended else 1))
    ledger.receive(slot(*[bar(n) for n in range(10)], close_ms=m(10)), moment)
    decisions = ledger.complete(False, moment)
    newest = 9 if ended else 8
    expected = list(range(newest - history_bars + 1, newest + 1))
    assert minutes(published(decisions)) == expected
    assert len(of(decisions, Form)) == (0 if ended else 1)
    assert decisions[-1] == FillDone(history_bars)
    assert ledger.watermark_ms == (m(newest) if history_bars else None)


@pytest.mark.parametrize(
    ("history_bars", "asked"), [(0, 2), (1, 2), (2, 3), (500, 501), (9_999, REQUEST_BARS_MAX)]
)
def test_a_first_fill_asks_for_its_bars_and_the_forming_one(history_bars: int, asked: int) -> None:
    assert Ledger(SERIES, StreamEnd(), history_bars).begin(m(0)) == asked


def test_a_fill_asks_for_more_until_there_is_enough() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 6)
    ledger.begin(m(9))
    now = at(m(9) + 30_000)
    ledger.receive(slot(bar(7), bar(8), bar(9)), now)
    assert ledger.complete(False, now) == [AskMore(4)]
    ledger.receive(slot(bar(5), bar(6)), now)
    assert ledger.complete(False, now) == [AskMore(2)]
    ledger.receive(slot(bar(1), bar(2), bar(3), bar(4)), now)
    assert minutes(published(ledger.complete(False, now))) == [3, 4, 5, 6, 7, 8]


def test_a_fill_ends_where_tradingview_says_there_is_no_more() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 6)
    ledger.begin(m(9))
    now = at(m(9) + 30_000)
    ledger.receive(slot(bar(8), bar(9)), now)
    assert minutes(published(ledger.complete(True, now))) == [8]


def test_a_fill_ends_where_asking_brings_nothing_new() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 6)
    ledger.begin(m(9))
    now = at(m(9) + 30_000)
    ledger.receive(slot(bar(8), bar(9)), now)
    assert ledger.complete(False, now) == [AskMore(5)]
    assert minutes(published(ledger.complete(False, now))) == [8]


def test_a_market_without_any_bar_is_live_all_the_same() -> None:
    desk = Desk()
    assert desk.fill(exhausted=False) == [FillDone(0)]
    assert desk.ledger.complete(True, desk.at) == []
    desk.live(5, bar(5))
    desk.live(9, bar(9))
    assert desk.published == [5]
    assert published(desk.decisions)[0].gap is False


def test_a_stream_does_not_begin_with_a_bar_before_those_it_was_given() -> None:
    for newest in (bar(5), spoilt(5)):
        desk = Desk(history_bars=0)
        desk.minute = 5
        desk.ledger.begin(m(5))
        desk.hear(bar(4), newest, close_ms=m(6))
        desk.note(desk.ledger.complete(True, at(m(6) + SETTLE_MS)))
        desk.live(7, bar(2, 300.0))
        desk.live(7, bar(7))
        desk.live(8, bar(8))
        assert desk.published[-1] == 7
        assert 2 not in desk.published


def test_older_answers_do_not_move_the_stated_end() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 6)
    ledger.begin(m(9))
    now = at(m(9) + 30_000)
    ledger.receive(slot(bar(8), bar(9), close_ms=m(10) - 7_000), now)
    ledger.complete(False, now)
    ledger.receive(slot(bar(6), bar(7), close_ms=m(8)), now)
    ledger.receive(slot(bar(9)), now)
    ledger.complete(True, now)
    assert ledger.deadline_ms(0) == m(10) - 7_000


def test_updates_during_the_fill_count() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 6)
    ledger.begin(m(9))
    ledger.receive(slot(bar(8), bar(9), close_ms=m(10)), at(m(9)))
    ledger.complete(False, at(m(9)))
    ledger.receive(slot(bar(9, 200.0), close_ms=m(10)), at(m(9)))
    ledger.receive(slot(bar(10), close_ms=m(11)), at(m(10)))
    assert ledger.deadline_ms(0) is None
    decisions = ledger.complete(True, at(m(10)))
    assert [(one.open, one.closed_by) for one in published(decisions)] == [
        (100.0, "history"),
        (200.0, "history"),
    ]
    assert ledger.deadline_ms(0) == m(11)


def test_what_one_fill_collects_is_bounded_and_the_oldest_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("publisher.core.bars.FILL_BARS_MAX", 5)
    ledger = Ledger(SERIES, StreamEnd(m(0), {}), 3)
    ledger.begin(m(20))
    ledger.receive(slot(*[bar(n) for n in range(10, 21)]), at(m(20)))
    ledger.receive(slot(*[bar(n) for n in range(1, 10)]), at(m(20)))
    decisions = ledger.complete(False, at(m(20)))
    assert decisions == [AskMore(16 + OVERLAP_BARS)]
    decisions = ledger.complete(False, at(m(20)))
    assert minutes(published(decisions)) == [16, 17, 18, 19]
    assert of(decisions, Abandon) == [Abandon(m(0), m(16))]


# Fills after the first.


def test_a_restart_goes_on_after_the_watermark_without_loss_or_repetition() -> None:
    desk = Desk(stream(0, 1, 2))
    decisions = desk.fill(*[bar(n) for n in range(7)])
    assert minutes(published(decisions)) == [3, 4, 5]
    assert [one.previous_open_time_ms for one in published(decisions)] == [m(2), m(3), m(4)]
    assert of(decisions, Correct) == of(decisions, Abandon) == []
    assert decisions[-1] == FillDone(3)


def test_a_restart_with_nothing_new_publishes_nothing() -> None:
    desk = Desk(stream(0, 1, 2))
    assert desk.fill(bar(0), bar(1), bar(2)) == [FillDone(0)]
    desk.live(3, bar(3))
    desk.live(4, bar(4))
    assert desk.published == [3]


def test_a_restart_asks_for_what_is_missing_and_an_overlap() -> None:
    ledger = Ledger(SERIES, stream(0), 3)
    assert ledger.begin(m(100) + 30_000) == 101 + OVERLAP_BARS
    assert ledger.begin(m(0) - 1) == 1 + OVERLAP_BARS
    assert ledger.begin(m(1_000_000)) == REQUEST_BARS_MAX


def test_a_fill_ends_after_three_requests_for_more_found_no_answer() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 6)
    now = at(m(9) + 30_000)
    for _ in range(3):
        ledger.begin(m(9))
        ledger.receive(slot(bar(8), bar(9)), now)
        assert ledger.complete(False, now) == [AskMore(5)]
        ledger.note_unanswered()
    ledger.begin(m(9))
    ledger.receive(slot(bar(8), bar(9)), now)
    assert minutes(published(ledger.complete(False, now))) == [8]


def test_a_broken_connection_is_not_a_missing_answer() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 6)
    now = at(m(9) + 30_000)
    for _ in range(10):
        ledger.begin(m(9))
        ledger.receive(slot(bar(8), bar(9)), now)
        assert ledger.complete(False, now) == [AskMore(5)]


def test_a_restart_asks_for_more_until_it_reaches_the_watermark() -> None:
    ledger = Ledger(SERIES, stream(0), 3)
    ledger.begin(m(30))
    now = at(m(30) + 30_000)
    ledger.receive(slot(*[bar(n) for n in range(20, 31)]), now)
    assert ledger.complete(False, now) == [AskMore(20 + OVERLAP_BARS)]
    ledger.receive(slot(*[bar(n) for n in range(20)]), now)
    decisions = ledger.complete(False, now)
    assert minutes(published(decisions)) == list(range(1, 30))
    assert of(decisions, Abandon) == []


def test_a_restart_asks_for_more_until_there_is_enough_to_compare() -> None:
    ledger = Ledger(SERIES, stream(*range(20)), 3)
    ledger.begin(m(30))
    now = at(m(30) + 30_000)
    ledger.receive(slot(*[bar(n) for n in range(18, 31)]), now)
    assert ledger.complete(False, now) == [AskMore(18)]
    older = [bar(n, 50.0) if n == 10 else bar(n) for n in range(18)]
    ledger.receive(slot(*older), now)
    decisions = ledger.complete(False, now)
    assert minutes([one.bar for one in of(decisions, Correct)]) == [10]
    assert minutes(published(decisions)) == list(range(20, 30))


def test_a_bar_of_an_answer_that_waited_has_not_ended_meanwhile() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 3)
    ledger.begin(m(9))
    sent = at(m(10) - 1_000)
    ledger.receive(slot(*[bar(n) for n in range(10)], close_ms=m(10)), sent)
    decisions = ledger.complete(False, at(m(12)))
    assert minutes(published(decisions)) == [6, 7, 8]
    assert minutes([one.bar for one in of(decisions, Form)]) == [9]


def test_a_bar_of_an_answer_without_its_time_is_left_to_the_clock() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 3)
    ledger.begin(m(9))
    now = replace(at(m(12)), stated_ms=None)
    ledger.receive(slot(*[bar(n) for n in range(10)], close_ms=m(10)), now)
    assert minutes(published(ledger.complete(False, now))) == [6, 7, 8]
    assert minutes(published(ledger.expire(now))) == [9]


def test_what_tradingview_no_longer_has_is_announced_on_the_next_bar() -> None:
    desk = Desk(stream(0))
    decisions = desk.fill(bar(5), bar(6), bar(7))
    assert of(decisions, Abandon) == [Abandon(m(0), m(5))]
    assert [(one.gap, one.previous_open_time_ms) for one in published(decisions)] == [
        (True, m(0)),
        (False, m(5)),
    ]
    assert decisions.index(Abandon(m(0), m(5))) + 1 == decisions.index(of(decisions, Publish)[0])


def test_a_gap_before_the_forming_bar_is_announced_when_it_closes() -> None:
    desk = Desk(stream(0))
    (form, _) = desk.fill(bar(5))
    assert isinstance(form, Form)
    assert form.bar.gap
    desk.live(6, bar(6))
    assert of(desk.decisions, Abandon) == [Abandon(m(0), m(5))]
    assert [one.gap for one in published(desk.decisions)] == [True]


def test_minutes_without_trade_are_no_gap_where_history_reaches_back() -> None:
    desk = Desk(stream(0))
    desk.fill(bar(0), bar(50), bar(90))
    desk.live(200, bar(200))
    assert desk.published == [50, 90]
    assert of(desk.decisions, Abandon) == []


def test_the_successor_of_the_watermark_needs_no_proof() -> None:
    desk = Desk(stream(0))
    desk.fill(bar(1), bar(2))
    assert desk.published == [1]
    assert of(desk.decisions, Abandon) == []


def test_an_empty_answer_proves_nothing() -> None:
    desk = Desk(stream(0))
    assert desk.fill() == [FillDone(0)]
    desk.live(5, bar(5))
    desk.live(6, bar(6))
    desk.live(9, bar(9))
    assert of(desk.decisions, Abandon) == [Abandon(m(0), m(5))]
    assert [one.gap for one in published(desk.decisions)] == [True, False]


def test_a_late_bar_does_not_hide_the_gap_behind_it() -> None:
    desk = Desk(stream(0))
    desk.fill(bar(5))
    desk.live(5, bar(1))
    desk.live(6, bar(6))
    assert desk.published == [1, 5]
    assert [one.gap for one in published(desk.decisions)] == [False, True]
    assert of(desk.decisions, Abandon) == [Abandon(m(1), m(5))]


def test_a_disconnect_before_the_gap_was_closed_over_lets_history_fill_it() -> None:
    desk = Desk(stream(0))
    desk.fill(bar(5))
    desk.fill(bar(0), bar(1), bar(2), bar(3), bar(4), bar(5))
    assert desk.published == [1, 2, 3, 4]
    desk.live(6, bar(6))
    assert of(desk.decisions, Abandon) == []


def test_a_disconnect_forgets_the_forming_bar() -> None:
    desk = Desk()
    desk.fill(bar(0), bar(1))
    desk.ledger.begin(m(1))
    assert desk.ledger.filling
    assert desk.ledger.deadline_ms(0) is None
    assert desk.ledger.expire(at(m(50))) == []
    desk.fill(bar(0), bar(1, 300.0), bar(2))
    assert [one.open for one in published(desk.decisions)] == [100.0, 300.0]


def test_a_correction_made_meanwhile_is_found_in_the_overlap() -> None:
    desk = Desk(stream(0, 1, 2))
    desk.fill(bar(0), bar(1, 300.0), bar(2, 301.0))
    corrected = [one.bar for one in of(desk.decisions, Correct)]
    assert minutes(corrected) == [1, 2]
    assert [one.closed_by for one in corrected] == ["history", "history"]


def test_bars_of_a_market_that_reaches_back_less_are_no_newer() -> None:
    desk = Desk(stream(8))
    desk.minute = 9
    assert desk.fill(bar(6), bar(7)) == [FillDone(0)]


def test_days_are_no_gap_where_the_clocks_were_put_back() -> None:
    series = Series("EURUSD", "FX", "1D")
    point = Point(BASE_MS, 100.0, 102.0, 98.0, 101.0, 1.0)
    ledger = Ledger(series, StreamEnd(BASE_MS, {BASE_MS: Recent(point)}), 3)
    now = at(BASE_MS + 3 * DAY_MS)
    ledger.begin(now.server_ms)
    next_ms = BASE_MS + DAY_MS + 3_600_000
    ledger.receive(slot(values(next_ms, 100.0), values(next_ms + DAY_MS, 100.0)), now)
    decisions = ledger.complete(True, now)
    assert [one.gap for one in published(decisions)] == [False]


def test_an_answer_that_waited_in_a_stalled_publishers_socket_closes_nothing() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 5)
    ledger.begin(m(10))
    sent_ms, read_ms = m(9) + 51_000, m(12)
    stale = Moment(read_ms, read_ms, SETTLE_MS, stated_ms=sent_ms)
    ledger.receive(slot(bar(8), bar(9), close_ms=m(10)), stale)
    decisions = ledger.complete(True, replace(stale, stated_ms=None))
    assert [one.open_time_ms for one in published(decisions)] == [m(8)]
    assert len(of(decisions, Form)) == 1


def test_an_update_without_a_stamp_proves_no_end() -> None:
    ledger = Ledger(SERIES, StreamEnd(), 5)
    ledger.begin(m(10))
    ledger.receive(slot(bar(8), close_ms=m(9)), at(m(9) + SETTLE_MS))
    late = Moment(m(12), m(12), SETTLE_MS)
    ledger.receive(slot(bar(9), close_ms=m(10)), late)
    decisions = ledger.complete(True, late)
    assert [one.open_time_ms for one in published(decisions)] == [m(8)]
