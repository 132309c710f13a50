"""How late data is: what TradingView states, and what is measured."""

from __future__ import annotations

import pytest

from publisher.core.delays import MEASURED_MAX, Delay, DelayMeter, stated_delay


@pytest.mark.parametrize(
    ("symbol_ms", "mode", "delay"),
    [
        (0, "streaming", Delay()),
        (0, "", Delay()),
        (900_000, "streaming", Delay(900_000)),
        (0, "delayed_streaming_900", Delay(900_000)),
        (600_000, "delayed_streaming_1200", Delay(1_200_000)),
        (1_200_000, "delayed_streaming_900", Delay(1_200_000)),
        (0, "delayed_streaming", Delay(1_000)),
        (0, "endofday", Delay(0, end_of_day=True)),
        (0, "delayed_streaming_x", Delay()),
    ],
)
def test_the_longer_of_both_stated_delays_counts(symbol_ms: int, mode: str, delay: Delay) -> None:
    assert stated_delay(symbol_ms, mode) == delay
    assert delay.late == (delay != Delay())


def test_a_delay_reads_as_part_of_a_sentence() -> None:
    assert str(Delay()) == "comes in real time"
    assert str(Delay(900_000)) == "is 900 s late"
    assert str(Delay(0, end_of_day=True)) == "comes at the end of the day"


def test_nothing_is_measured_before_three_bars_opened() -> None:
    meter = DelayMeter()
    for number in range(2):
        meter.note(number * 60_000, number * 60_000 + 700)
        assert meter.measured_ms is None
    meter.note(120_000, 120_500)
    assert meter.measured_ms == 500


def test_the_smallest_of_many_openings_counts_for_little_may_be_traded() -> None:
    meter = DelayMeter()
    for late_ms in (40_000, 300, 55_000):
        meter.note(0, late_ms)
    assert meter.measured_ms == 300
    for _ in range(MEASURED_MAX):
        meter.note(0, 900_000)
    assert meter.measured_ms == 900_000


def test_a_clock_that_is_behind_measures_no_negative_delay() -> None:
    meter = DelayMeter()
    for _ in range(3):
        meter.note(1_000, 400)
    assert meter.measured_ms == 0
