"""When all series of an interval have published the bar that ended at one time."""

from __future__ import annotations

from datetime import UTC, datetime

from publisher.core.barriers import (
    BARRIERS_MAX,
    MISSING_MAX,
    REMEMBERED_MAX,
    TIMEOUT_MS,
    Barriers,
    Completed,
    Member,
)
from publisher.core.hours import UNKNOWN, TradingHours, read_hours
from publisher.wire import Series

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ALWAYS = read_hours("24x7", "Etc/UTC", "", "")
STOCKS = read_hours("0930-1600", "America/New_York", "", "")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


T = at("2026-11-03T15:00:00Z")  # ten o'clock in New York


def member(
    name: str,
    interval: str = "1m",
    *,
    newest: int | None = None,
    hours: TradingHours = ALWAYS,
    late: bool = False,
) -> Member:
    series = Series(name, "X", interval)
    before = T - 2 * series.interval_ms
    return Member(series, hours, before if newest is None else newest, late)


def names(completed: Completed) -> list[str]:
    return [series.symbol for series in completed.missing]


def test_a_barrier_waits_until_every_series_has_published() -> None:
    barriers = Barriers(2_000)
    members = [member("A"), member("B", newest=T - 2 * MINUTE)]
    barriers.note(members[0].series, T)
    assert barriers.check(members, T + 1_000) == []
    barriers.note(members[1].series, T)
    assert barriers.check(members, T + 1_500) == [Completed("1m", T, 2, (), 0)]
    assert not barriers.standing


def test_a_bar_that_came_with_history_counts_too() -> None:
    barriers = Barriers(2_000)
    members = [member("A"), member("B", newest=T - 2 * MINUTE)]
    barriers.note(members[0].series, T)
    assert barriers.check(members, T + 1_000) == []
    members[1] = member("B", newest=T - MINUTE)
    assert barriers.check(members, T + 1_500) == [Completed("1m", T, 2, (), 0)]


def test_a_series_that_is_past_an_end_is_neither_counted_nor_missing() -> None:
    barriers = Barriers(2_000)
    barriers.note(member("A").series, T)
    assert barriers.check([member("B", newest=T)], T + 1_500) == [Completed("1m", T, 1, (), 0)]


def test_after_the_time_out_who_is_missing_is_named() -> None:
    barriers = Barriers(2_000)
    members = [member("B", newest=T - 9 * MINUTE), member("A"), member("C", newest=T - 2 * MINUTE)]
    barriers.note(members[1].series, T)
    assert barriers.check(members, T + 2_000 + TIMEOUT_MS - 1) == []
    [completed] = barriers.check(members, T + 2_000 + TIMEOUT_MS)
    assert (completed.published, names(completed), completed.missing_count) == (1, ["B", "C"], 2)


def test_a_late_bar_opens_no_barrier_again() -> None:
    barriers = Barriers(2_000)
    barriers.note(member("A").series, T)
    assert barriers.check([member("A")], T)
    barriers.note(member("B").series, T)
    assert not barriers.standing


def test_each_interval_and_end_has_its_own_barrier_oldest_first() -> None:
    barriers = Barriers(2_000)
    barriers.note(member("A").series, T + MINUTE)
    barriers.note(member("A").series, T)
    barriers.note(member("A", "5m").series, T)
    decided = barriers.check([], T)
    assert [(one.interval, one.end_time_ms - T) for one in decided] == [
        ("1m", 0),
        ("5m", 0),
        ("1m", MINUTE),
    ]


def waits_for(other: Member, interval: str = "1H", end: int = T) -> bool:
    barriers = Barriers(0)
    barriers.note(member("FIRST", interval).series, end)
    return barriers.check([other], end) == []


def test_nobody_waits_for_what_cannot_have_a_bar_then() -> None:
    assert waits_for(member("A", "1H"))
    assert not waits_for(member("A", "5m"))
    assert not waits_for(member("A", "1H", late=True))
    assert not waits_for(member("A", "1H", hours=UNKNOWN))
    assert not waits_for(member("A", "1H", hours=STOCKS), end=at("2026-11-03T14:00:00Z"))


def test_a_grid_of_half_hours_is_another_than_one_of_hours() -> None:
    stock = member("A", "1H", newest=at("2026-11-03T14:30:00Z"), hours=STOCKS)
    assert not waits_for(stock, end=at("2026-11-03T16:00:00Z"))
    assert waits_for(stock, end=at("2026-11-03T16:30:00Z"))


def test_the_last_bar_of_a_session_may_be_short() -> None:
    stock = member("A", "1H", newest=at("2026-11-03T19:30:00Z"), hours=STOCKS)
    assert waits_for(stock, end=at("2026-11-03T21:00:00Z"))


def test_a_day_ends_with_its_session() -> None:
    stock = member("A", "1D", newest=at("2026-11-02T14:30:00Z"), hours=STOCKS)
    assert waits_for(stock, "1D", at("2026-11-03T21:00:00Z"))
    assert not waits_for(stock, "1D", at("2026-11-03T20:00:00Z"))
    coin = member("A", "1D", newest=at("2026-11-02T00:00:00Z"))
    assert waits_for(coin, "1D", at("2026-11-04T00:00:00Z"))
    assert not waits_for(coin, "1D", at("2026-11-03T21:00:00Z"))


def test_nobody_waits_for_weeks_and_months() -> None:
    assert not waits_for(member("A", "1W"), "1W")
    assert not waits_for(member("A", "1M"), "1M")


def test_only_so_many_are_named_but_all_are_counted() -> None:
    barriers = Barriers(0)
    members = [member(f"M{i}", newest=T - 2 * MINUTE) for i in range(MISSING_MAX + 7)]
    barriers.note(member("A").series, T)
    [completed] = barriers.check(members, T + TIMEOUT_MS)
    assert len(completed.missing) == MISSING_MAX
    assert completed.missing_count == MISSING_MAX + 7


def test_there_are_never_more_barriers_than_the_bound() -> None:
    barriers = Barriers(0)
    waiting = member("B", newest=T - 2 * MINUTE)
    for number in range(BARRIERS_MAX + 5):
        barriers.note(member("A").series, T + number * MINUTE)
    decided = barriers.check([waiting], T)
    assert len(decided) == 5
    assert decided[0].end_time_ms == T


def test_what_is_remembered_of_decided_ones_is_bounded() -> None:
    barriers = Barriers(0)
    for number in range(REMEMBERED_MAX + 1):
        barriers.note(member("A").series, T + number * MINUTE)
    barriers.check([], T)
    barriers.note(member("A").series, T + MINUTE)
    assert not barriers.standing
    barriers.note(member("A").series, T)
    assert barriers.standing
