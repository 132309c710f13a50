"""The audit of a stream and its comparison with history: a planted fault of every kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from consumer_world import BTC, MINUTE_MS, T0

from consumers.core.audit import (
    DIFFERENCES_SHOWN_MAX,
    CorrectionsAudit,
    Differences,
    StreamAudit,
    check_times,
    longest_ms,
    unsound,
    values_of,
)
from consumers.core.comparison import Comparison, Known, compare
from consumers.core.ids import EntryId
from consumers.core.times import utc_text
from publisher.wire import Bar, Series


def at(number: int) -> int:
    return T0 + number * MINUTE_MS


def bar(number: int, **other: Any) -> Bar:
    """A bar that follows the one a minute before."""
    first = Bar(
        BTC, at(number), 1.0, 2.0, 0.5, 1.5, 9.0, None, at(number - 1), at(number + 1), "next"
    )
    return replace(first, **other)


def audit(bars: list[Bar]) -> tuple[StreamAudit, Differences]:
    found = Differences()
    stream = StreamAudit(found)
    for one in bars:
        stream.take(EntryId(one.open_time_ms), one)
    return stream, found


GOOD = [bar(number) for number in range(6)]


def kinds(found: Differences) -> list[tuple[str, int]]:
    return [(one.kind, (one.open_time_ms - T0) // MINUTE_MS) for one in found.shown]


# The stream by itself.


def test_a_good_stream_has_no_fault() -> None:
    stream, found = audit(GOOD)
    assert found.total == 0
    assert (stream.entries, stream.first_ms, stream.last_ms) == (6, at(0), at(5))


def test_the_first_bar_may_name_none_or_one_that_was_trimmed() -> None:
    first = replace(GOOD[0], previous_open_time_ms=None)
    assert audit([first, *GOOD[1:]])[1].total == 0
    assert audit(GOOD[2:])[1].total == 0
    future = replace(GOOD[0], previous_open_time_ms=at(0))
    assert kinds(audit([future, *GOOD[1:]])[1]) == [("discontinuous", 0)]


def test_an_entry_that_was_deleted_is_missed_by_the_next() -> None:
    _, found = audit([*GOOD[:3], *GOOD[4:]])
    assert kinds(found) == [("discontinuous", 4)]
    assert f"names {utc_text(at(3))} before it" in found.shown[0].what
    assert f"there stands {utc_text(at(2))}" in found.shown[0].what


def test_a_bar_that_names_none_in_the_middle_is_found() -> None:
    bars = [*GOOD[:3], replace(GOOD[3], previous_open_time_ms=None), *GOOD[4:]]
    assert kinds(audit(bars)[1]) == [("discontinuous", 3)]


def test_an_id_that_is_not_the_opening_time_is_found() -> None:
    for wrong in (EntryId(at(1), 1), EntryId(at(1) + 1)):
        found = Differences()
        StreamAudit(found).take(wrong, bar(1))
        assert kinds(found) == [("misplaced", 1)]


def test_a_bar_that_stands_twice_is_out_of_order() -> None:
    found = Differences()
    stream = StreamAudit(found)
    stream.take(EntryId(at(1)), bar(1))
    stream.take(EntryId(at(1), 1), bar(1, previous_open_time_ms=at(1)))
    assert kinds(found) == [("misplaced", 1), ("disordered", 1)]


def test_an_entry_that_cannot_be_read_is_found_and_still_stands_before_the_next() -> None:
    found = Differences()
    stream = StreamAudit(found)
    stream.take(EntryId(at(0)), bar(0))
    stream.take_malformed(EntryId(at(1)), "no map")
    stream.take(EntryId(at(2)), bar(2))
    assert kinds(found) == [("malformed", 1)]
    assert (stream.entries, len(stream.kept)) == (3, 2)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"low": -0.5}, "prices must be numbers from 0"),
        ({"high": 1e100}, "prices must be numbers from 0"),
        ({"high": 1.4}, "high and low must enclose"),
        ({"low": 1.1}, "high and low must enclose"),
        ({"volume": -1.0}, "volume must be"),
        ({"volume": 1e100}, "volume must be"),
        ({"end_time_ms": at(1)}, "must end after it opened"),
        ({"closed_by": "forming"}, "how it was closed"),
    ],
)
def test_values_that_cannot_be_a_closed_bar_are_found(other: Any, words: str) -> None:
    _, found = audit([bar(0), bar(1, **other), bar(2)])
    assert kinds(found) == [("unsound", 1)]
    assert words in found.shown[0].what


@pytest.mark.parametrize("other", [{"volume": None}, {"volume": 0.0}, {"end_time_ms": at(2)}])
def test_what_may_be_is_no_fault(other: Any) -> None:
    assert unsound(bar(1, **other)) == ""
    assert unsound(bar(1, open=0.0, high=0.0, low=0.0, close=0.0)) == ""


def test_a_gap_flag_must_have_room_for_a_bar() -> None:
    wide = replace(bar(5, gap=True), previous_open_time_ms=at(3))
    stream, found = audit([*GOOD[:4], wide])
    assert (found.total, stream.gaps) == (0, 1)
    assert kinds(audit([*GOOD[:4], bar(4, gap=True)])[1]) == [("gap", 4)]
    lone = replace(bar(0, gap=True), previous_open_time_ms=None)
    assert kinds(audit([lone, *GOOD[1:]])[1]) == [("gap", 0)]


def test_a_bar_from_the_future_is_found() -> None:
    found = Differences()
    check_times([at(0), at(1), at(2)], at(1), found)
    assert kinds(found) == [("future", 2)]


def test_a_day_may_last_an_hour_more() -> None:
    assert longest_ms(BTC) == 60_000
    assert longest_ms(Series.parse("A-B-1D")) == 25 * 3_600_000


def test_all_are_counted_and_the_first_ones_shown() -> None:
    bars = [bar(number, volume=-1.0) for number in range(DIFFERENCES_SHOWN_MAX + 5)]
    _, found = audit(bars)
    assert found.counts == {"unsound": DIFFERENCES_SHOWN_MAX + 5}
    assert len(found.shown) == DIFFERENCES_SHOWN_MAX
    more = Differences()
    more.add("extra", at(1), "")
    found.extend(more)
    assert found.total == DIFFERENCES_SHOWN_MAX + 6
    assert len(found.shown) == DIFFERENCES_SHOWN_MAX


def test_a_difference_is_one_line_even_beyond_the_calendar() -> None:
    found = Differences()
    found.add("missing", 1_700_000_040_000, "why")
    found.add("malformed", 2**62, "why")
    # 2023-11-14T22:14:00Z, and 2 to the 62nd.
    assert str(found.shown[0]) == "missing        2023-11-14T22:14:00Z  why"
    assert str(found.shown[1]) == "malformed      4611686018427387904  why"
    assert utc_text(None) == "none"


# Corrections.


def corrections(*bars: Bar, stream: list[Bar] = GOOD) -> tuple[CorrectionsAudit, Differences]:
    found = Differences()
    checked = CorrectionsAudit(audit(stream)[0], found)
    for one in bars:
        checked.take(one)
    return checked, found


def test_corrections_that_rise_are_good_and_the_newest_counts() -> None:
    checked, found = corrections(
        bar(2, revision=1), bar(3, revision=1), bar(2, revision=2, close=1.25)
    )
    assert found.total == 0
    assert (checked.entries, checked.late) == (3, 0)
    assert checked.newest[at(2)].close == 1.25


def test_a_correction_of_a_bar_that_was_trimmed_is_no_fault() -> None:
    checked, found = corrections(bar(-5, revision=3))
    assert (found.total, checked.newest) == (0, {})


def test_a_bar_that_came_late_stands_alone() -> None:
    quiet = [GOOD[0], replace(GOOD[2], previous_open_time_ms=at(0))]
    checked, found = corrections(bar(1, revision=1), bar(1, revision=2), stream=quiet)
    assert (found.total, checked.late) == (0, 1)


@pytest.mark.parametrize(
    ("bars", "words"),
    [
        ([bar(2, revision=0)], "n must rise, was 0 after 0"),
        ([bar(2, revision=2), bar(2, revision=2)], "n must rise, was 2 after 2"),
        ([bar(2, revision=2), bar(2, revision=1)], "n must rise, was 1 after 2"),
        ([bar(9, revision=1)], "a bar that the stream does not have"),
        ([bar(2, revision=1, volume=-1.0)], "volume must be"),
    ],
)
def test_a_correction_that_cannot_be_is_found(bars: list[Bar], words: str) -> None:
    _, found = corrections(*bars)
    assert found.counts == {"correction": 1}
    assert words in found.shown[0].what


def test_a_later_revision_of_no_bar_is_found() -> None:
    quiet = [GOOD[0], replace(GOOD[2], previous_open_time_ms=at(0))]
    _, found = corrections(bar(1, revision=2), stream=quiet)
    assert kinds(found) == [("correction", 1)]


def test_a_lower_revision_does_not_count() -> None:
    checked, _ = corrections(bar(2, revision=2, close=1.25), bar(2, revision=1))
    assert checked.newest[at(2)].close == 1.25


def test_a_correction_that_cannot_be_read_is_found() -> None:
    checked, found = corrections()
    checked.take_malformed(EntryId(at(1), 0), "no map")
    assert kinds(found) == [("malformed", 1)]


def test_corrections_of_an_empty_stream_are_found() -> None:
    _, found = corrections(bar(2, revision=1), stream=[])
    assert found.counts == {"correction": 1}


# The comparison with history.


def compared(
    stream: list[Bar], history: list[Bar], *newest: Bar, meanwhile: tuple[Bar, ...] = ()
) -> tuple[Comparison, Differences]:
    known = Known.of(stream, {one.open_time_ms: one for one in newest})
    for one in meanwhile:
        known.revise(one)
    found = Differences()
    truth = {one.open_time_ms: values_of(one) for one in history}
    return compare(known, truth, found), found


def test_equal_bars_are_equal() -> None:
    comparison, found = compared(GOOD, GOOD)
    assert found.total == 0
    assert comparison == Comparison(compared=6, reach_ms=at(0), unreached=0, newer=0)


def test_a_bar_that_history_alone_has_is_missing() -> None:
    comparison, found = compared([*GOOD[:2], *GOOD[3:]], GOOD)
    assert kinds(found) == [("missing", 2)]
    assert f"after {utc_text(at(1))}" in found.shown[0].what
    assert "announced" not in found.shown[0].what
    assert comparison.compared == 5


def test_a_missing_bar_that_was_announced_says_so() -> None:
    _, found = compared([*GOOD[:2], replace(GOOD[3], gap=True), *GOOD[4:]], GOOD)
    assert kinds(found) == [("missing", 2)]
    assert "announced" in found.shown[0].what


def test_bars_that_were_trimmed_or_closed_meanwhile_are_no_difference() -> None:
    comparison, found = compared(GOOD[2:5], GOOD)
    assert found.total == 0
    assert comparison == Comparison(compared=3, reach_ms=at(0), unreached=0, newer=1)


def test_a_bar_that_the_stream_alone_has_is_extra() -> None:
    _, found = compared(GOOD, [*GOOD[:2], *GOOD[3:]])
    assert kinds(found) == [("extra", 2)]


def test_bars_beyond_the_reach_of_history_are_not_compared() -> None:
    comparison, found = compared(GOOD, GOOD[3:])
    assert found.total == 0
    assert comparison == Comparison(compared=3, reach_ms=at(3), unreached=3, newer=0)


def test_the_newest_bar_alone_may_not_have_settled_in_history() -> None:
    assert compared(GOOD, GOOD[:5])[1].total == 0
    assert kinds(compared(GOOD, GOOD[:4])[1]) == [("extra", 4)]


@pytest.mark.parametrize(
    "other",
    [
        {"open": 1.1},
        {"high": 2.5},
        {"low": 0.25},
        {"close": 1.5000000000000002},
        {"volume": 9.5},
        {"volume": None},
    ],
)
def test_each_value_is_compared_to_the_last_digit(other: Any) -> None:
    _, found = compared(GOOD, [*GOOD[:2], replace(GOOD[2], **other), *GOOD[3:]])
    assert kinds(found) == [("different", 2)]


def test_the_newest_revision_is_what_is_compared() -> None:
    corrected = bar(2, revision=1, close=1.25)
    history = [*GOOD[:2], corrected, *GOOD[3:]]
    assert compared(GOOD, history, corrected)[1].total == 0
    assert kinds(compared(GOOD, GOOD, corrected)[1]) == [("different", 2)]


def test_a_correction_that_comes_meanwhile_counts_before_and_after() -> None:
    corrected = bar(2, revision=1, close=1.25)
    history = [*GOOD[:2], corrected, *GOOD[3:]]
    assert kinds(compared(GOOD, history)[1]) == [("different", 2)]
    assert compared(GOOD, history, meanwhile=(corrected,))[1].total == 0
    assert compared(GOOD, GOOD, meanwhile=(corrected,))[1].total == 0


def test_a_late_bar_is_not_missing_and_must_be_right() -> None:
    quiet = [*GOOD[:2], *GOOD[3:]]
    late = bar(2, revision=1)
    assert compared(quiet, GOOD, late)[1].total == 0
    assert compared(quiet, GOOD, meanwhile=(late,))[1].total == 0
    assert kinds(compared(quiet, GOOD, replace(late, close=1.0))[1]) == [("different", 2)]
    assert kinds(compared(quiet, quiet, late)[1]) == [("extra", 2)]


def test_revisions_of_other_bars_do_not_count() -> None:
    for stream, other in ((GOOD[2:], bar(0)), (GOOD[2:], bar(9)), ([], bar(0))):
        comparison, found = compared(stream, GOOD, meanwhile=(other,))
        assert (found.total, comparison.compared) == (0, len(stream))


def test_nothing_to_compare_with_is_no_difference() -> None:
    comparison, found = compared(GOOD, [])
    assert (found.total, comparison) == (0, Comparison(unreached=6))
