"""When silence is suspicious: in market time, and by what is usual."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from publisher.core.hours import read_hours
from publisher.core.liveness import (
    FIRST_MS_MAX,
    LEARNED_MAX,
    SILENCE_FACTOR,
    SILENCE_MS_MAX,
    SILENCE_MS_MIN,
    Liveness,
)

ALWAYS = read_hours("24x7", "Etc/UTC", "", "")
OFFICE = read_hours("0930-1600", "Etc/UTC", "", "")
MINUTE_MS = 60_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


NOON = at("2026-11-03T12:00:00Z")
CLOSE = at("2026-11-03T16:00:00Z")


def alive(hours=ALWAYS, now_ms: int = NOON, delay_ms: int = 0) -> Liveness:  # type: ignore[no-untyped-def]
    series = Liveness(hours, delay_ms)
    series.begin(now_ms)
    series.hear(now_ms)
    return series


def test_a_short_silence_is_nothing_and_a_long_one_is_suspicious() -> None:
    series = alive()
    assert not series.silent(NOON + SILENCE_MS_MIN)
    assert series.silent(NOON + SILENCE_MS_MIN + 1)


def test_what_is_usual_is_learned_and_forgotten_again() -> None:
    series = alive()
    assert series.hear(NOON + MINUTE_MS) == MINUTE_MS
    assert series.limit_ms == SILENCE_FACTOR * MINUTE_MS
    assert not series.silent(NOON + 4 * MINUTE_MS)
    for number in range(LEARNED_MAX):
        series.hear(NOON + MINUTE_MS + 1_000 * (number + 1))
    assert series.limit_ms == SILENCE_MS_MIN


def test_there_is_a_silence_that_is_suspicious_whatever_was_learned() -> None:
    series = alive()
    series.hear(NOON + SILENCE_MS_MAX)
    assert series.limit_ms == SILENCE_MS_MAX


def test_a_closed_market_raises_no_alarm() -> None:
    series = alive(OFFICE, CLOSE - 5_000)
    assert not series.silent(at("2026-11-04T09:30:00Z"))
    assert not series.silent(at("2026-11-04T09:30:10Z"))
    assert series.silent(at("2026-11-04T09:30:11Z"))


def test_the_night_is_no_silence_to_learn_from() -> None:
    series = alive(OFFICE, CLOSE - 1_000)
    assert series.hear(at("2026-11-04T09:30:02Z")) == 3_000
    assert series.limit_ms == SILENCE_MS_MIN


def test_delayed_data_is_awaited_by_its_delay_later() -> None:
    delay_ms = 15 * MINUTE_MS
    series = alive(OFFICE, at("2026-11-04T09:29:00Z"), delay_ms)
    assert not series.silent(at("2026-11-04T09:45:15Z"))
    assert series.silent(at("2026-11-04T09:45:16Z"))


@pytest.mark.parametrize("hours", [ALWAYS, read_hours("?", "Etc/UTC", "", "")])
def test_a_series_that_never_brought_anything_is_suspicious(hours) -> None:  # type: ignore[no-untyped-def]
    series = Liveness(hours)
    series.begin(NOON)
    assert not series.silent(NOON + FIRST_MS_MAX)
    assert series.silent(NOON + FIRST_MS_MAX + 1)


def test_the_first_data_is_awaited_in_market_time_where_the_hours_are_known() -> None:
    series = Liveness(OFFICE)
    series.begin(CLOSE)
    assert not series.silent(at("2026-11-04T09:44:00Z"))
    assert series.silent(at("2026-11-04T09:46:00Z"))


def test_nothing_is_said_where_the_hours_are_unknown_and_data_came() -> None:
    series = alive(read_hours("?", "Etc/UTC", "", ""))
    assert not series.silent(NOON + 100 * MINUTE_MS)
    assert series.hear(NOON + 100 * MINUTE_MS) == 0


def test_a_series_that_is_not_awaited_is_never_silent() -> None:
    series = alive()
    series.end()
    assert not series.silent(NOON + 100 * MINUTE_MS)
    series.begin(NOON)
    assert not series.silent(NOON + MINUTE_MS)
