"""The chaos script itself: a short storm passes, and its judge sees what is planted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.memory import FIGURE_S, WARM_S, Memory
from tests.chaos.plan import WEIGHTS, choose, draw
from tests.chaos.verdict import Entry, Values, judge

ROOT = Path(__file__).parents[2]
MINUTE_MS = 60_000
TRUTH: list[Values] = [(60.0 * minute, 1.0, 2.0, 0.5, 1.5, 10.0 + minute) for minute in range(1, 9)]
MILD = (
    *("close", "reset", "repeat", "corrupt", "nan", "net_slow", "net_hold"),
    *("kill_active", "kill_consumer", "term_standby", "stall_active"),
    *("redis_kill", "redis_stall", "redis_oom", "redis_read_only", "redis_scripts"),
)


@pytest.mark.timeout(240)
def test_a_short_storm_leaves_every_stream_equal_to_the_truth() -> None:
    series = "BTCUSDT-BINANCE-1m,BTCUSD-BITFINEX-1m,AAPL-NASDAQ-1m"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.chaos", "--minutes", "0.4", "--seed", "4"),
            *("--every", "2", "--kinds", ",".join(MILD), "--series", series),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[-1] == "passed"
    [published] = [line for line in lines if line.startswith("bars published: ")]
    assert int(published.split()[2].rstrip(",")) > 600


def test_the_same_seed_draws_the_same_faults_and_all_kinds_come() -> None:
    plan = draw(7, 3_600, 3.0)
    assert plan == draw(7, 3_600, 3.0)
    assert plan != draw(8, 3_600, 3.0)
    assert {planned.kind for planned in plan} == set(WEIGHTS)
    assert 1_000 < len(plan) < 1_400
    assert all(0 <= planned.amount < 1 for planned in plan)


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no such fault: earthquake"):
        draw(1, 10, 1.0, ["close", "earthquake"])


def test_kinds_are_chosen_and_left_out_by_name_or_first_word() -> None:
    assert choose() == list(WEIGHTS)
    assert choose("close,kill_active,kill_standby,reset", "kill,reset") == ["close"]
    assert "stall_active" not in choose(without="stall")
    assert "redis_stall" in choose(without="stall")
    with pytest.raises(ValueError, match="no such fault: earthquake"):
        choose(without="earthquake")


def memory_of(*lives: tuple[str, float, float, int, int]) -> Memory:
    """Return what is known of processes: name, start, end, KiB of their youth and after."""
    memory = Memory()
    for name, started_s, end_s, youth_kib, later_kib in lives:
        for second in range(1, int(end_s - started_s) + 1):
            kib = youth_kib if second <= WARM_S else later_kib
            memory.note(name, started_s, started_s + second, kib)
    return memory


def test_a_process_that_holds_more_than_once_it_was_warm_is_a_fault() -> None:
    [fault] = memory_of(("a", 7.0, 3_607.0, 100_000, 105_001)).faults()
    assert fault == (
        "memory grew: a 105001 KiB after 3600 s of its life, 100000 KiB after 600 s: +5.0%"
    )
    assert not memory_of(("a", 7.0, 3_607.0, 100_000, 105_000)).faults()
    assert not memory_of(("a", 7.0, 3_607.0, 100_000, 80_000)).faults()


def test_a_process_is_compared_with_itself_only() -> None:
    # The later one of the name is heavier, and so is the other publisher.
    lives = [
        ("a", 0.0, 900.0, 100, 100),
        ("a", 901.0, 2_000.0, 200, 200),
        ("b", 0.0, 2e3, 300, 300),
    ]
    memory = memory_of(*lives)
    assert not memory.faults()
    assert [life.end_kib for life in memory.shown()] == [100, 200, 300]
    [fault] = memory_of(*lives, ("c", 0.0, 900.0, 100, 120)).faults()
    assert fault.startswith("memory grew: c 120 KiB")


def test_a_process_that_did_not_outlive_its_warming_up_says_nothing() -> None:
    too_young_s = WARM_S + FIGURE_S - 1
    memory = memory_of(("a", 0.0, too_young_s, 100, 200), ("a", 800.0, 820.0, 50, 50))
    assert not memory.faults()
    assert [str(life) for life in memory.shown()] == [
        "a 50 KiB after 20 s of its life: too young to be compared"
    ]


def test_a_moment_is_no_growth() -> None:
    memory = memory_of(("a", 0.0, 1_200.0, 100, 100))
    memory.note("a", 0.0, 1_201.0, 900)
    assert not memory.faults()


def entries_of(truth: list[Values]) -> list[Entry]:
    """Return a stream that holds exactly these bars."""
    times = [round(values[0] * 1000) for values in truth]
    return [
        Entry(f"{time_ms}-0", time_ms, values, previous_ms)
        for time_ms, values, previous_ms in zip(times, truth, [None, *times[:-1]], strict=True)
    ]


def test_a_stream_that_is_the_truth_has_no_faults() -> None:
    verdict = judge(entries_of(TRUTH), [], TRUTH)
    assert verdict.faults == {}
    assert verdict.compared == 8


def test_what_comes_after_the_end_of_the_truth_is_not_looked_at() -> None:
    assert judge(entries_of(TRUTH), [], TRUTH[:-2]).faults == {}


def test_a_missing_bar_is_lost_unless_event_and_entry_announce_it() -> None:
    entries = entries_of(TRUTH[:3] + TRUTH[4:])
    gap = (3 * MINUTE_MS, 5 * MINUTE_MS)
    assert judge(entries, [], TRUTH).faults == {"lost": [4 * MINUTE_MS]}
    assert judge(entries, [], TRUTH, [gap]).faults == {"lost": [4 * MINUTE_MS]}
    entries[3] = replace(entries[3], gap=True)
    assert judge(entries, [], TRUTH).faults == {"lost": [4 * MINUTE_MS]}
    announced = judge(entries, [], TRUTH, [gap])
    assert announced.faults == {}
    assert announced.announced == [4 * MINUTE_MS]


def test_a_missing_newest_bar_is_lost() -> None:
    assert judge(entries_of(TRUTH[:-1]), [], TRUTH).faults == {"lost": [8 * MINUTE_MS]}


def test_a_bar_on_the_corrections_stream_alone_is_late_not_lost() -> None:
    entries = entries_of(TRUTH[:3] + TRUTH[4:])
    late = replace(entries_of(TRUTH)[3], revision=1)
    verdict = judge(entries, [late], TRUTH)
    assert verdict.faults == {}
    assert verdict.late == [4 * MINUTE_MS]


def test_other_values_are_wrong_unless_the_newest_correction_has_the_right_ones() -> None:
    entries = entries_of(TRUTH)
    wrong = (*TRUTH[2][:4], 1.25, TRUTH[2][5])
    entries[2] = replace(entries[2], values=wrong)
    right = replace(entries[2], values=TRUTH[2], revision=2)
    older = replace(entries[2], revision=1)
    assert judge(entries, [], TRUTH).faults == {"wrong": [3 * MINUTE_MS]}
    corrected = judge(entries, [right, older], TRUTH)
    assert corrected.faults == {}
    assert corrected.premature == [3 * MINUTE_MS]
    assert judge(entries_of(TRUTH), [], TRUTH).premature == []
    assert judge(entries, [replace(right, revision=1), replace(older, revision=2)], TRUTH).faults


def test_a_bar_that_never_was_is_invented() -> None:
    entries = entries_of(TRUTH)
    verdict = judge(entries, [], TRUTH[:4] + TRUTH[5:])
    assert verdict.faults == {"invented": [5 * MINUTE_MS]}


def test_a_bar_that_stands_twice_is_duplicated() -> None:
    entries = entries_of(TRUTH)
    again = replace(entries[3], entry_id=f"{4 * MINUTE_MS}-1", previous_ms=4 * MINUTE_MS)
    verdict = judge([*entries[:4], again, *entries[4:]], [], TRUTH)
    assert verdict.faults == {"duplicated": [4 * MINUTE_MS]}


@pytest.mark.parametrize(
    "damage",
    [{"entry_id": "180000-1"}, {"previous_ms": 60_000}, {"previous_ms": None}],
)
def test_an_entry_that_does_not_follow_the_one_before_is_disordered(
    damage: dict[str, object],
) -> None:
    entries = entries_of(TRUTH)
    entries[2] = replace(entries[2], **damage)  # type: ignore[arg-type]
    assert judge(entries, [], TRUTH).faults == {"disordered": [3 * MINUTE_MS]}
