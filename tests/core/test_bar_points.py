"""What can be a bar, and what cannot and why."""

from __future__ import annotations

import math
from typing import Any

import pytest
import recordings
from hypothesis import given
from hypothesis import strategies as st
from recordings import needs_recordings

from publisher.core.points import Point, PointRefused, check_point, true_end_ms

LATEST_MS = 1_800_000_000_000
TIME_S = 1_700_000_040.0
GOOD = (TIME_S, 10.0, 12.0, 9.0, 11.0, 5.0)
NAN, INF = math.nan, math.inf


def refusal(values: tuple[Any, ...]) -> PointRefused:
    refused = check_point(values, LATEST_MS)
    assert isinstance(refused, PointRefused), refused
    return refused


def test_a_bar_has_five_values_or_six_or_seven() -> None:
    point = Point(1_700_000_040_000, 10.0, 12.0, 9.0, 11.0, 5.0)
    assert check_point(GOOD, LATEST_MS) == point
    assert check_point((*GOOD, 77.0), LATEST_MS) == point
    assert check_point((*GOOD, None, "x"), LATEST_MS) == point
    without = Point(1_700_000_040_000, 10.0, 12.0, 9.0, 11.0, None)
    assert check_point(GOOD[:5], LATEST_MS) == without


@pytest.mark.parametrize("volume", [None, 1e100])
def test_a_volume_that_stands_for_none_is_none(volume: Any) -> None:
    point = check_point((*GOOD[:5], volume), LATEST_MS)
    assert isinstance(point, Point)
    assert point.volume is None


@pytest.mark.parametrize("volume", [NAN, INF, -INF, -1.0, "5", True, [], 10**400, -1e100])
def test_a_volume_that_is_none_is_refused(volume: Any) -> None:
    refused = refusal((*GOOD[:5], volume))
    assert refused.open_time_ms == 1_700_000_040_000
    assert "volume must be a number" in refused.reason
    assert repr(volume) in refused.reason


@pytest.mark.parametrize(("place", "name"), [(1, "open"), (2, "high"), (3, "low"), (4, "close")])
@pytest.mark.parametrize("price", [NAN, INF, -INF, 1e100, None, "10", True, [], 10**400])
def test_a_price_that_is_no_number_is_refused(place: int, name: str, price: Any) -> None:
    refused = refusal((*GOOD[:place], price, *GOOD[place + 1 :]))
    assert refused.open_time_ms == 1_700_000_040_000
    assert refused.reason == f"{name} must be a number, was {price!r}"


@pytest.mark.parametrize(("place", "name"), [(1, "open"), (2, "high"), (3, "low"), (4, "close")])
def test_a_negative_price_is_refused(place: int, name: str) -> None:
    refused = refusal((*GOOD[:place], -0.01, *GOOD[place + 1 :]))
    assert refused.reason == f"{name} must not be negative, was -0.01"


@pytest.mark.parametrize(
    "prices",
    [
        (10.0, 9.0, 12.0, 11.0),
        (13.0, 12.0, 9.0, 11.0),
        (10.0, 12.0, 9.0, 13.0),
        (8.0, 12.0, 9.0, 11.0),
        (10.0, 12.0, 9.0, 8.0),
    ],
)
def test_high_and_low_enclose_open_and_close(prices: tuple[float, ...]) -> None:
    refused = refusal((TIME_S, *prices, 1.0))
    assert "must enclose" in refused.reason
    assert refused.open_time_ms == 1_700_000_040_000


def test_a_flat_bar_at_zero_is_a_bar() -> None:
    assert isinstance(check_point((TIME_S, 0, 0, 0, 0, 0), LATEST_MS), Point)


@pytest.mark.parametrize("time", [NAN, INF, None, "1700000040", True, [], 1e13, -1e13, 10**400])
def test_a_time_that_cannot_be_read_is_none(time: Any) -> None:
    refused = refusal((time, *GOOD[1:]))
    assert refused.open_time_ms is None
    assert refused.reason.startswith("time must be a number")


def test_nothing_at_all_is_refused() -> None:
    assert refusal(()).open_time_ms is None


def test_too_few_values_still_say_when() -> None:
    refused = refusal(GOOD[:4])
    assert refused.open_time_ms == 1_700_000_040_000
    assert "at least 5 values, this one has 4" in refused.reason


@pytest.mark.parametrize("time_s", [0, -1, -2_208_988_800, 0.0004])
def test_a_bar_before_1970_is_refused(time_s: float) -> None:
    refused = refusal((time_s, *GOOD[1:]))
    assert "before 1970" in refused.reason
    assert refused.open_time_ms == round(time_s * 1000)


def test_a_bar_from_the_future_is_refused_and_one_at_the_very_edge_is_not() -> None:
    assert isinstance(check_point(GOOD, 1_700_000_040_000), Point)
    refused = check_point(GOOD, 1_700_000_039_999)
    assert isinstance(refused, PointRefused)
    assert "in the future" in refused.reason
    assert refused.open_time_ms == 1_700_000_040_000


ANY_VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just(10**400)
)


@given(st.lists(ANY_VALUE, max_size=8))
def test_any_values_are_a_bar_or_refused(values: list[Any]) -> None:
    point = check_point(tuple(values), LATEST_MS)
    if isinstance(point, PointRefused):
        assert point.reason
        return
    assert 0 < point.open_time_ms <= LATEST_MS
    assert 0 <= point.low <= min(point.open, point.close)
    assert max(point.open, point.close) <= point.high < 1e300
    assert point.volume is None or 0 <= point.volume < math.inf


@pytest.mark.parametrize(
    ("close_time_s", "delay_s", "end"),
    [
        (1787255999, 0, 1787256000),  # 19:59:59 for 20:00, the session's end
        (1686341760, 900, 1686340860),  # 900 s of delay
        (1750839299, 900, 1750838400),  # both: 08:14:59 for 08:00
        (1686344400, 0, 1686344400),
        (1643486400, 0, 1643486400),
    ],
)
def test_the_end_of_a_bar_is_stated_with_delay_and_without_its_last_second(
    close_time_s: int, delay_s: int, end: int
) -> None:
    assert true_end_ms(close_time_s * 1000, delay_s * 1000) == end * 1000


@needs_recordings
@pytest.mark.parametrize(
    ("name", "slot", "minutes"),
    [
        ("023-timescale_update-15m-300bars-volume.json", "sds_1", 15),
        ("030-timescale_update-1m-DJI-volume.json", "sds_5", 1),
        ("031-timescale_update-1m-NDX-no-volume-delayed.json", "sds_2", 1),
        ("032-timescale_update-1m-24h-no-volume.json", "sds_4", 1),
        ("080-timescale_update-1h-BTC-2022.py-repr.txt", "btc_1", 60),
    ],
)
def test_recorded_bars_end_one_interval_after_they_open(name: str, slot: str, minutes: int) -> None:
    part = recordings.one(name)["p"][1][slot]
    delay_ms = 900_000 if name.startswith("031") else 0
    opened_ms = part["s"][-1]["v"][0] * 1000
    end_ms = true_end_ms(part["lbs"]["bar_close_time"] * 1000, delay_ms)
    assert end_ms == opened_ms + minutes * 60_000
