"""What came of a stream: works, gaps, and what needs no handler."""

from __future__ import annotations

from typing import Any

import pytest
from consumer_world import BTC, MINUTE_MS, T0
from test_consumer_lanes import bars, entry, new_lane

from consumers.core.arrivals import Arrival, Doubt, Sifted, judge, sift, skips
from consumers.core.ids import ZERO, EntryId
from consumers.core.lane import Lane, Source
from consumers.core.work import Gap, Kind
from publisher.wire import Bar


def bar(number: int, previous: int | None, **changes: Any) -> Bar:
    opened = T0 + number * MINUTE_MS
    before = None if previous is None else T0 + previous * MINUTE_MS
    values = {"gap": False} | changes
    return Bar(BTC, opened, 1.0, 2.0, 0.5, 1.5, None, None, before, opened, "next", **values)


def of(number: int, previous: int | None = -1, **changes: Any) -> Arrival:
    before = number - 1 if previous == -1 else previous
    return Arrival(entry(number), bar=bar(number, before, **changes), fields={b"bar": b"x"})


def trimmed(number: int) -> Arrival:
    return Arrival(entry(number))


def attached(last: int | None = 0) -> Source:
    source = bars(new_lane())
    position = ZERO if last is None else entry(last)
    source.attach(position, position)
    return source


def gaps(found: Sifted) -> list[Gap]:
    return [x.gap for x in found.works if x.gap is not None]


def test_bars_in_order_are_works_and_nothing_else() -> None:
    source = attached(0)
    found = sift(source, [of(1), of(2)])
    assert [x.entry for x in found.works] == [entry(1), entry(2)]
    assert [x.bar for x in found.works] == [bar(1, 0), bar(2, 1)]
    assert found.works[0].fields == {b"bar": b"x"}
    assert (found.letters, found.doubts, found.repeated, found.gone) == ([], [], [], [])
    assert source.unacked == {entry(1), entry(2)}
    assert source.seen == entry(2)


def test_the_servers_count_of_attempts_is_kept() -> None:
    found = sift(attached(0), [Arrival(entry(1), 3, bar(1, 0))])
    assert found.works[0].attempt == 3


def test_an_entry_delivered_again_while_in_hand_is_handled_once() -> None:
    source = attached(0)
    sift(source, [of(1)])
    assert sift(source, [of(1)]) == Sifted()


def test_what_this_process_handled_is_only_acknowledged() -> None:
    source = attached(3)
    found = sift(source, [of(2), of(3), of(4)])
    assert found.repeated == [entry(2), entry(3)]
    assert [x.entry for x in found.works] == [entry(4)]
    assert source.unacked == {entry(2), entry(3), entry(4)}


def test_where_order_is_not_kept_an_older_entry_is_work_and_no_gap_is_told() -> None:
    source = attached(3)
    source.ordered = False
    found = sift(source, [of(2), of(9), trimmed(10)])
    assert [x.entry for x in found.works] == [entry(2), entry(9)]
    assert (found.repeated, found.doubts, gaps(found)) == ([], [], [])
    assert (found.gone, found.trimmed) == ([entry(10)], 1)


def test_an_entry_that_cannot_be_read_is_a_letter_and_no_gap() -> None:
    source = attached(0)
    odd = Arrival(entry(1), 2, fault="no", fields={b"bar": b"?"})
    found = sift(source, [odd, of(2)])
    [letter] = found.letters
    assert (letter.entry, letter.attempts, letter.failure.reason) == (entry(1), 2, "no")
    assert letter.fields == {b"bar": b"?"}
    assert [x.entry for x in found.works] == [entry(2)]
    assert found.doubts == []
    assert entry(1) in source.unacked


def test_trimmed_entries_side_by_side_are_one_gap() -> None:
    source = attached(0)
    found = sift(source, [trimmed(1), trimmed(2), of(3), trimmed(4)])
    first, second, third = found.works
    assert first.gap == Gap(BTC, entry(0).ms, entry(2).ms, "trimmed")
    assert (first.entry, first.also, first.bar) == (entry(2), (entry(1),), None)
    assert (second.entry, second.gap) == (entry(3), None)
    assert third.gap == Gap(BTC, entry(3).ms, entry(4).ms, "trimmed")
    assert (found.trimmed, found.doubts) == (3, [])
    assert source.unacked == {entry(n) for n in range(1, 5)}


def test_a_gap_begins_at_its_first_bar_where_nothing_is_known_before() -> None:
    found = sift(attached(None), [trimmed(1), trimmed(2)])
    assert gaps(found) == [Gap(BTC, entry(1).ms - 1, entry(2).ms, "trimmed")]


def test_trimmed_entries_older_than_the_last_bar_are_no_gap() -> None:
    source = attached(None)
    sift(source, [of(5, None)])
    found = sift(source, [trimmed(4)])
    assert (found.works, found.gone, found.trimmed) == ([], [entry(4)], 1)


@pytest.mark.parametrize("kind", [Kind.CORRECTIONS, Kind.EVENTS])
def test_corrections_and_events_have_no_gaps(kind: Kind) -> None:
    series = None if kind is Kind.EVENTS else BTC
    source = Source("k", kind)
    Lane("n", series, {kind: source})
    source.attach(entry(0), entry(0))
    event = Arrival(entry(9), event={"event": "x"})
    odd = Arrival(entry(10), fault="no")
    found = sift(source, [trimmed(1), event, odd])
    assert [x.event for x in found.works] == [{"event": "x"}]
    assert (found.gone, len(found.letters), gaps(found)) == ([entry(1)], 1, [])
    assert source.opened_ms == entry(0).ms


@pytest.mark.parametrize(
    ("last", "arrival", "expected"),
    [
        (0, of(1), None),
        (None, of(5), None),
        (None, of(5, None), None),
        (9, of(12, 3), None),  # a bar that was seen is gone: nothing is missing for that
        (0, of(1, None), None),
        (0, of(2, None), Gap(BTC, entry(0).ms, entry(2).ms - 1)),
        (0, of(1, gap=True), Gap(BTC, entry(0).ms, entry(1).ms - 1, "abandoned")),
        (0, of(9, 0, gap=True), Gap(BTC, entry(0).ms, entry(9).ms - 1, "abandoned")),
        (None, of(9, 4, gap=True), Gap(BTC, entry(4).ms, entry(9).ms - 1, "abandoned")),
        (None, of(9, None, gap=True), None),
    ],
)
def test_continuity_that_needs_no_look_at_the_stream(
    last: int | None, arrival: Arrival, expected: Gap | None
) -> None:
    found = sift(attached(last), [arrival])
    assert [x.gap for x in found.works] == [expected]
    assert found.doubts == []


def test_an_older_bar_says_nothing_of_continuity() -> None:
    source = attached(None)
    sift(source, [of(5, None)])
    found = sift(source, [of(4, 1)])
    assert (found.doubts, source.opened_ms) == ([], entry(5).ms)


def test_a_bar_that_does_not_name_the_one_before_is_looked_into() -> None:
    source = attached(0)
    found = sift(source, [of(5)])
    assert found.doubts == [Doubt(found.works[0], entry(0).ms, entry(4).ms, False)]
    found = sift(source, [of(9)])
    assert found.doubts == [Doubt(found.works[0], entry(5).ms, entry(8).ms, True)]


def test_a_new_bar_whose_predecessor_never_came_skips_it() -> None:
    source = attached(0)
    assert not skips(source, of(3, 2))  # others may have had it before us
    sift(source, [of(1)])
    assert skips(source, of(3, 2))
    assert not skips(source, of(2, 1))
    assert not skips(source, of(3, None))


def test_where_order_is_not_kept_nothing_is_skipped() -> None:
    source = Source("k", Kind.BARS, ordered=False)
    source.lane = new_lane()
    source.opened_ms, source.proven = T0, True
    assert not skips(source, of(3, 2))


def doubt(proven: bool, **changes: Any) -> Doubt:
    source = attached(0)
    source.proven = proven
    [found] = sift(source, [of(5, **changes)]).doubts
    return found


@pytest.mark.parametrize(
    ("case", "has_previous", "oldest", "expected"),
    [
        (doubt(True), True, entry(0), Gap(BTC, entry(0).ms, entry(4).ms, "missing")),
        (doubt(False), True, entry(0), None),
        (doubt(True), False, entry(5), Gap(BTC, entry(0).ms, entry(4).ms, "trimmed")),
        (doubt(False), False, entry(5), Gap(BTC, entry(0).ms, entry(4).ms, "trimmed")),
        (doubt(True), False, None, Gap(BTC, entry(0).ms, entry(4).ms, "trimmed")),
        (doubt(True), False, entry(0), Gap(BTC, entry(0).ms, entry(4).ms, "missing")),
        (
            doubt(True, gap=True),
            False,
            entry(0),
            Gap(BTC, entry(0).ms, entry(5).ms - 1, "abandoned"),
        ),
        (doubt(True, gap=True), False, entry(5), Gap(BTC, entry(0).ms, entry(5).ms - 1, "trimmed")),
        (
            doubt(False, gap=True),
            True,
            entry(0),
            Gap(BTC, entry(0).ms, entry(5).ms - 1, "abandoned"),
        ),
    ],
)
def test_the_stream_tells_why_bars_are_missing(
    case: Doubt, has_previous: bool, oldest: EntryId | None, expected: Gap | None
) -> None:
    assert judge(case, has_previous, oldest) == expected
