"""The decisions of a consumer, without clock or network."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from consumer_world import BTC, MINUTE_MS, T0
from hypothesis import given
from hypothesis import strategies as st

from consumers.core.backoff import BUS_BACKOFF, Backoff
from consumers.core.ids import SEQUENCE_MAX, ZERO, EntryId
from consumers.core.patterns import Pattern
from consumers.core.start import Start
from consumers.core.times import parse_time_ms
from consumers.errors import PatternInvalid, StartInvalid
from publisher.wire import Series


def entry(number: int) -> EntryId:
    return EntryId(T0 + number * MINUTE_MS)


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
