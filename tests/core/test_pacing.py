"""The pace at which TradingView is asked."""

from __future__ import annotations

import random

from publisher.core.pacing import (
    GROW_MS,
    RATE_FIRST,
    RATE_MAX,
    RATE_MIN,
    READY_FIRST,
    REST_MS,
    REST_MS_MAX,
    THROTTLED_MAX,
    WINDOW_MS,
    Pace,
)


def taken(pace: Pace, from_ms: int, to_ms: int, step_ms: int = 10) -> int:
    return sum(pace.take(now_ms) for now_ms in range(from_ms, to_ms, step_ms))


def test_it_begins_slowly_and_doubles_while_all_goes_well() -> None:
    pace = Pace(0)
    first = taken(pace, 0, GROW_MS) - READY_FIRST
    assert abs(first - RATE_FIRST * GROW_MS / 1000) <= 2
    second = taken(pace, GROW_MS, 2 * GROW_MS)
    assert abs(second - 2 * first) <= 4


def test_it_never_exceeds_its_rate_whenever_it_is_asked() -> None:
    rng = random.Random(1)
    pace = Pace(0)
    now_ms, times = 0, []
    while now_ms < 120_000:
        now_ms += rng.choice((0, 1, 5, 400, 3_000))
        if pace.take(now_ms):
            times.append(now_ms)
    for begin in range(0, 120_000, 500):
        within = sum(begin <= time < begin + 1_000 for time in times)
        assert within <= 2 * RATE_MAX


def test_after_a_pause_at_most_a_seconds_worth_is_made_up_for() -> None:
    pace = Pace(0)
    taken(pace, 0, 60_000)
    assert pace.rate == RATE_MAX
    assert sum(pace.take(600_000) for _ in range(1_000)) == RATE_MAX


def test_each_sign_of_too_much_halves_the_pace_and_empties_the_bucket() -> None:
    pace = Pace(0)
    assert pace.throttled(0) == 0
    assert pace.rate == RATE_FIRST / 2
    assert not pace.take(0)
    for number in range(20):
        pace.throttled(WINDOW_MS * (number + 1))
    assert pace.rate >= RATE_MIN


def test_a_burst_of_signs_stops_everything_for_a_time_that_grows() -> None:
    pace = Pace(0)
    rests = []
    now_ms = 0
    for _ in range(8):
        for _ in range(THROTTLED_MAX):
            now_ms += 10
            rest_ms = pace.throttled(now_ms)
        rests.append(rest_ms)
        assert pace.resting(now_ms)
        assert taken(pace, now_ms, now_ms + rest_ms, 1_000) == 0
        now_ms += rest_ms
        assert not pace.resting(now_ms)
    assert rests[:3] == [REST_MS, 2 * REST_MS, 4 * REST_MS]
    assert rests[-1] == REST_MS_MAX


def test_signs_far_apart_are_no_burst() -> None:
    pace = Pace(0)
    assert [pace.throttled(number * WINDOW_MS) for number in range(20)] == [0] * 20


def test_the_rests_are_short_again_once_all_went_well_for_long() -> None:
    pace = Pace(0)
    for _ in range(2 * THROTTLED_MAX):
        pace.throttled(0)
    taken(pace, REST_MS_MAX, REST_MS_MAX + 60_000, 1_000)
    assert [pace.throttled(2 * REST_MS_MAX) for _ in range(THROTTLED_MAX)][-1] == REST_MS


def test_a_clock_that_stands_still_gives_nothing_twice() -> None:
    pace = Pace(1_000)
    assert sum(pace.take(1_000) for _ in range(20)) == READY_FIRST
    assert not pace.take(500)
