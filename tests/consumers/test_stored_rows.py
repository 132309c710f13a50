"""Which of two rows of the same bar stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from consumers.core.rows import Row, by_series, moment, newest, since_epoch_ms
from consumers.errors import SinkRejected
from publisher.wire import Bar, Series

BTC = Series("BTCUSDT", "BINANCE", "1m")
BAR = Bar(BTC, 60_000, 1.0, 4.0, 0.5, 2.0, 7.0, 120_000, None, 120_040, "next")


def row(**changes: Any) -> Row:
    return Row.of(replace(BAR, **changes))


def test_a_row_holds_what_the_bar_says() -> None:
    values = (60_000, 1.0, 4.0, 0.5, 2.0, 7.0, 120_000, 120_040, "next", False, 0)
    assert tuple(Row.of(BAR)) == values
    bare = row(volume=None, end_time_ms=None, gap=True, revision=3, closed_by="history")
    assert (bare.volume, bare.end_time_ms, bare.gap, bare.revision) == (None, None, True, 3)


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({}, "held"),
        ({"revision": 1}, "new"),
        ({"revision": 1, "close": 3.0, "received_ms": 1}, "new"),
        ({"close": 3.0}, "held"),
        ({"close": 3.0, "received_ms": 120_041}, "new"),
        ({"volume": None, "received_ms": 120_041}, "new"),
        ({"end_time_ms": None, "received_ms": 120_041}, "new"),
        ({"received_ms": 120_041, "closed_by": "history"}, "held"),
        ({"close": 3.0, "received_ms": 120_039}, "held"),
    ],
)
def test_the_newer_word_about_a_bar_stays(changes: dict[str, Any], stays: str) -> None:
    held, new = row(), row(**changes)
    assert new.replaces(held) is (stays == "new")
    assert newest([held, new]) == {60_000: new if stays == "new" else held}


def test_an_original_that_comes_again_does_not_undo_its_correction() -> None:
    original, correction = row(), row(revision=1, close=3.0)
    later = row(close=9.0, received_ms=999_999)
    assert newest([original, correction, original, later]) == {60_000: correction}


def test_a_correction_keeps_the_gap_before_its_bar() -> None:
    kept = newest([row(gap=True), row(revision=1, close=3.0)])[60_000]
    assert (kept.gap, kept.revision, kept.close) == (True, 1, 3.0)


def test_rows_are_sorted_by_open_time_and_kept_apart_by_series() -> None:
    other = Series("ETHUSDT", "BINANCE", "1m")
    bars = [replace(BAR, open_time_ms=t) for t in (180_000, 60_000, 120_000)]
    grouped = by_series([*bars, replace(BAR, series=other)])
    assert {str(series): len(rows) for series, rows in grouped.items()} == {
        "BTCUSDT-BINANCE-1m": 3,
        "ETHUSDT-BINANCE-1m": 1,
    }
    assert list(newest(grouped[BTC])) == [60_000, 120_000, 180_000]


def test_times_are_exact_to_the_millisecond() -> None:
    assert moment(1_792_781_880_041) == datetime(2026, 10, 23, 18, 58, 0, 41_000, UTC)
    assert since_epoch_ms(datetime(2026, 10, 23, 18, 58, 0, 41_999, UTC)) == 1_792_781_880_041
    elsewhere = timezone(timedelta(hours=2))
    assert since_epoch_ms(datetime(1970, 1, 1, 2, 0, 1, tzinfo=elsewhere)) == 1_000


@pytest.mark.parametrize("name", ["open_time_ms", "end_time_ms", "received_ms"])
def test_a_time_beyond_the_calendar_is_rejected(name: str) -> None:
    with pytest.raises(SinkRejected, match=r"before the year 10000, was 9{18} ms"):
        row(**{name: 10**18 - 1})
