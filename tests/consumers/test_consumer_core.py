"""The decisions of a consumer, without clock or network."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from consumer_world import BTC, ETH, MINUTE_MS, T0
from hypothesis import given
from hypothesis import strategies as st

from consumers.core.backoff import BUS_BACKOFF, Backoff
from consumers.core.ids import SEQUENCE_MAX, ZERO, EntryId
from consumers.core.lane import Lane, Phase
from consumers.core.lanes import LANE_PREFETCH_MAX, PREFETCH_MAX, Lanes
from consumers.core.patterns import Pattern
from consumers.core.start import Start
from consumers.core.times import parse_time_ms
from consumers.core.work import Gap
from consumers.errors import PatternInvalid, StartInvalid
from publisher.wire import Bar, Series


def bar(number: int, series: Series = BTC, previous: int | None = None) -> Bar:
    opened = T0 + number * MINUTE_MS
    before = None if previous is None else T0 + previous * MINUTE_MS
    return Bar(series, opened, 1.0, 2.0, 0.5, 1.5, None, None, before, opened, "next")


def entry(number: int) -> EntryId:
    return EntryId(T0 + number * MINUTE_MS)


def live(series: Series = BTC) -> Lane:
    lane = Lane(series, f"tv:bars:{{{series}}}")
    lane.released()
    lane.recovered()
    return lane


def filled(numbers: range, series: Series = BTC) -> tuple[Lanes, Lane]:
    lanes, lane = Lanes(), live(series)
    lanes.add(lane)
    for number in numbers:
        lanes.accept(lane, entry(number), bar(number, series))
    return lanes, lane


@pytest.mark.parametrize("text", ["0-0", "5-1", f"{T0}-0", f"7-{SEQUENCE_MAX}"])
def test_an_id_reads_back_as_written(text: str) -> None:
    assert str(EntryId.parse(text)) == text
    assert EntryId.parse(text.encode()) == EntryId.parse(text)


def test_an_id_without_sequence_has_sequence_zero() -> None:
    assert EntryId.parse("17") == EntryId(17, 0)


@given(st.integers(0, 2**50), st.integers(0, SEQUENCE_MAX))
def test_nothing_lies_between_an_id_and_the_one_before(ms: int, sequence: int) -> None:
    this = EntryId(ms, sequence)
    before = this.before()
    assert before < this or this == before == ZERO
    assert before.ms == ms or (before == EntryId(ms - 1, SEQUENCE_MAX) and sequence == 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oldest", Start("oldest")),
        (" newest ", Start("newest")),
        ("last:25", Start("last", 25)),
        ("time:0", Start("time", 0)),
        ("time:1761955200000", Start("time", 1_761_955_200_000)),
        ("time:2025-11-01T00:00:00Z", Start("time", 1_761_955_200_000)),
        ("time:2025-11-01T02:00:00+02:00", Start("time", 1_761_955_200_000)),
    ],
)
def test_a_start_position_is_read_in_its_four_forms(text: str, expected: Start) -> None:
    assert Start.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be one of oldest, newest, time:"),
        ("earliest", "last:N, was 'earliest'"),
        ("last:", "must be one of"),
        ("last:-1", "must be one of"),
        ("last:0", "1 to 1000000"),
        ("last:1000001", "1 to 1000000"),
        ("time:", "must be written as"),
        ("time:yesterday", "must be written as"),
        ("time:2025-11-01T00:00:00", "must say its zone"),
        ("time:-1", "before 1970"),
    ],
)
def test_a_wrong_start_position_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(StartInvalid) as caught:
        Start.parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "before_last", "expected"),
    [
        (Start("oldest"), None, ZERO),
        (Start("newest"), None, entry(9)),
        (Start("time", T0), None, EntryId(T0 - 1, SEQUENCE_MAX)),
        (Start("time", 0), None, ZERO),
        (Start("last", 3), entry(6), entry(6)),
        (Start("last", 30), None, ZERO),
    ],
)
def test_a_position_lies_just_before_the_first_wanted_bar(
    start: Start, before_last: EntryId | None, expected: EntryId
) -> None:
    assert start.position(entry(9), before_last) == expected


def test_times_are_read_from_datetimes_too() -> None:
    moment = datetime(2025, 11, 1, tzinfo=UTC)
    assert parse_time_ms(moment) == 1_761_955_200_000
    assert parse_time_ms(moment.astimezone(timezone(timedelta(hours=9)))) == 1_761_955_200_000
    assert parse_time_ms(5) == 5


@pytest.mark.parametrize("value", [datetime(2025, 11, 1), None, 1.5, True, -3])  # noqa: DTZ001
def test_what_is_no_certain_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="time must"):
        parse_time_ms(value)


@pytest.mark.parametrize(
    ("pattern", "series", "expected"),
    [
        ("BTCUSDT-BINANCE-1m", BTC, True),
        ("btcusdt-binance-1m", BTC, True),
        ("BINANCE:BTCUSDT@1m", BTC, True),
        ("BTCUSDT-BINANCE-1M", BTC, False),
        ("*-BINANCE-1m", BTC, True),
        ("*-binance-1m", BTC, True),
        ("BINANCE:*@1m", BTC, True),
        ("BINANCE:*@1M", BTC, False),
        ("*-BINANCE-1M", BTC, False),
        ("*-BINANCE-4h", Series("ETHUSDT", "BINANCE", "4H"), True),
        ("*", BTC, True),
        ("*-*", BTC, True),
        ("?TC*", BTC, True),
        ("[AB]TC*-1m", BTC, True),
        ("*-NASDAQ-1m", BTC, False),
    ],
)
def test_a_pattern_matches_the_text_form(pattern: str, series: Series, expected: bool) -> None:
    assert Pattern.parse(pattern).matches(series) is expected


@pytest.mark.parametrize("text", ["", "BTCUSDT", "BTCUSDT-BINANCE-7x"])
def test_a_text_that_is_neither_series_nor_pattern_is_refused(text: str) -> None:
    with pytest.raises(PatternInvalid, match="or a pattern such as"):
        Pattern.parse(text)


@given(st.integers(1, 10**9), st.randoms())
def test_a_wait_is_never_hot_and_never_endless(attempt: int, rng: random.Random) -> None:
    wait_ms = BUS_BACKOFF.wait_ms(attempt, rng)
    assert BUS_BACKOFF.wait_ms_min <= wait_ms <= BUS_BACKOFF.wait_ms_max


def test_waits_grow() -> None:
    backoff = Backoff(first_ms=100, wait_ms_max=1_000, wait_ms_min=0)
    longest = [max(backoff.wait_ms(n, random.Random(s)) for s in range(200)) for n in (1, 2, 3, 9)]
    assert longest == sorted(longest)
    assert longest[0] <= 100 < longest[1] <= 200 < longest[2] <= 400 < longest[3] <= 1_000


def test_the_bars_of_a_series_are_taken_one_by_one_in_order() -> None:
    lanes, lane = filled(range(3))
    taken = []
    while (work := lanes.take(0)) is not None:
        assert lanes.take(0) is None
        taken.append(work.entry)
        lanes.finish(work)
    assert taken == [entry(0), entry(1), entry(2)]
    assert lane.processed == entry(2)
    assert lanes.take_done() == {lane: taken}
    assert lanes.take_done() == {}


def test_series_take_turns() -> None:
    lanes, _ = filled(range(2))
    other = live(ETH)
    lanes.add(other)
    for number in range(2):
        lanes.accept(other, entry(number), bar(number, ETH))
    turns = []
    while (work := lanes.take(0)) is not None:
        turns.append(work.lane.series)
        lanes.finish(work)
    assert turns == [BTC, ETH, BTC, ETH]


def test_a_claimed_older_bar_goes_before_the_waiting_ones_but_not_before_the_first() -> None:
    lanes, lane = filled(range(5, 8))
    for number in (6, 3, 4):
        assert lanes.accept(lane, entry(number), bar(number)) is None
    assert [x.entry for x in lane.queue] == [entry(n) for n in (5, 3, 4, 6, 7)]
    assert lane.opened_ms == entry(7).ms


def test_a_parked_bar_holds_up_its_series_until_it_is_due() -> None:
    lanes, lane = filled(range(2))
    work = lanes.take(0)
    assert work is not None
    assert lanes.next_due_ms() is None
    lanes.park(work, 500)
    assert (lanes.take(499), lanes.next_due_ms()) == (None, 500)
    again = lanes.take(500)
    assert again is work
    assert work.attempt == 2
    assert again.lane is lane


def test_a_read_may_block_only_where_no_bar_can_be_handled() -> None:
    lanes, _ = filled(range(1))
    plan = lanes.plan()
    assert plan is not None
    assert not plan.may_block
    work = lanes.take(0)
    assert work is not None
    lanes.park(work, 10)
    plan = lanes.plan()
    assert plan is not None
    assert plan.may_block


def test_a_series_without_room_is_not_read_and_the_others_are() -> None:
    lanes, lane = filled(range(LANE_PREFETCH_MAX))
    assert lanes.plan() is None
    other = live(ETH)
    lanes.add(other)
    plan = lanes.plan()
    assert plan is not None
    assert plan.lanes == (other,)
    assert plan.count == LANE_PREFETCH_MAX
    work = lanes.take(0)
    assert work is not None
    lanes.finish(work)
    plan = lanes.plan()
    assert plan is not None
    assert plan.lanes == (lane, other)


def test_nothing_is_read_beyond_the_total_unless_it_only_waits_for_retries() -> None:
    lanes, lane = filled(range(PREFETCH_MAX))
    lanes.add(live(ETH))
    assert lanes.plan() is None
    work = lanes.take(0)
    assert work is not None
    lanes.park(work, 10)
    plan = lanes.plan()
    assert plan is not None
    assert lane not in plan.lanes


def test_own_pending_entries_come_before_new_ones_and_others_before_both() -> None:
    lanes, lane = Lanes(), Lane(BTC, "k")
    lanes.add(lane)
    assert lane.phase is Phase.WAITING
    assert lanes.plan() is None
    lane.released()
    plan = lanes.plan()
    assert plan is not None
    assert (plan.pending, plan.may_block) == (True, False)
    lane.arrived(entry(3))
    assert lane.cursor == entry(3)
    lane.recovered()
    plan = lanes.plan()
    assert plan is not None
    assert (plan.pending, plan.may_block) == (False, True)


def test_after_a_lost_connection_a_live_series_looks_for_what_the_last_reply_held() -> None:
    _, lane = filled(range(3))
    lane.rewind()
    assert (lane.phase, lane.cursor) == (Phase.RECOVERING, entry(2))
    lane.cursor = entry(1)
    lane.rewind()
    assert lane.cursor == entry(1)
    waiting = Lane(BTC, "k")
    waiting.rewind()
    assert waiting.phase is Phase.WAITING


def test_an_entry_delivered_again_while_in_hand_is_handled_once() -> None:
    lanes, lane = filled(range(2))
    lanes.accept(lane, entry(1), bar(1))
    assert len(lane.queue) == 2
    work = lanes.take(0)
    assert work is not None
    lanes.finish(work)
    lanes.accept(lane, entry(0), bar(0))
    assert len(lane.queue) == 1
    lanes.acknowledged(lane, [entry(0)])
    assert lane.unacked == {entry(1)}


def test_acknowledgements_that_failed_are_kept_in_order() -> None:
    lanes, lane = filled(range(3))
    for _ in range(2):
        work = lanes.take(0)
        assert work is not None
        lanes.finish(work)
    failed = lanes.take_done()
    work = lanes.take(0)
    assert work is not None
    lanes.finish(work)
    lanes.put_back(failed)
    assert lanes.take_done() == {lane: [entry(0), entry(1), entry(2)]}


@pytest.mark.parametrize("ending", ["finish", "park"])
def test_a_group_made_again_forgets_what_is_in_hand(ending: str) -> None:
    lanes, lane = filled(range(4))
    first = lanes.take(0)
    assert first is not None
    lanes.finish(first)
    work = lanes.take(0)
    assert work is not None
    assert lanes.restart(lane) == entry(0)
    if ending == "finish":
        lanes.finish(work)
    else:
        lanes.park(work, 5)
    assert lanes.take_done() == {}
    assert lanes.take(100) is None
    assert (lane.phase, lane.processed) == (Phase.LIVE, entry(0))
    assert lanes.accept(lane, entry(1), bar(1)) is None
    again = lanes.take(0)
    assert again is not None
    assert again.entry == entry(1)


def test_a_parked_bar_of_a_group_made_again_does_not_come_back() -> None:
    lanes, lane = filled(range(2))
    work = lanes.take(0)
    assert work is not None
    lanes.park(work, 5)
    lanes.restart(lane)
    assert lanes.take(0) is None
    assert lanes.next_due_ms() is None


def test_a_ready_series_whose_group_is_made_again_is_ready_no_more() -> None:
    lanes, lane = filled(range(2))
    assert lanes.restart(lane) == ZERO
    assert lanes.take(0) is None


def test_a_series_let_go_is_not_read_but_what_is_in_hand_is_handled() -> None:
    lanes, lane = filled(range(1))
    lane.wanted = False
    assert lanes.plan() is None
    assert lanes.wanted() == []
    assert lanes.take(0) is not None


@pytest.mark.parametrize(
    ("previous", "number", "expected"),
    [
        (None, 5, None),
        (2, 5, None),
        (4, 5, Gap(BTC, entry(2).ms, entry(4).ms)),
        (1, 5, Gap(BTC, entry(2).ms, entry(1).ms)),
        (0, 1, None),
    ],
)
def test_continuity_is_judged_by_what_the_bar_says_came_before(
    previous: int | None, number: int, expected: Gap | None
) -> None:
    _, lane = filled(range(3))
    lane.unacked.clear()
    assert lane.accept(entry(number), bar(number, previous=previous)) == expected


def test_the_position_is_before_everything_in_hand() -> None:
    _, lane = filled(range(2, 4))
    lane.processed = entry(9)
    assert lane.position == entry(2).before()
    lane.processed = entry(1)
    assert lane.position == entry(1)
