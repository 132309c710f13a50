"""A group of real processes that share series, and the judge of such a run."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.group_chaos.leases import Shares
from tests.group_chaos.plan import MEMBERS_LAST, MEMBERS_MAX, draw
from tests.group_chaos.verdict import Record, judge
from tests.group_chaos.watch import Evenness

ROOT = Path(__file__).parents[2]
BARS = {"A-X-1m": {60_000: 1.0, 120_000: 2.0, 180_000: 3.0}}
ONE, OTHER = 11, 22


def handled(*bars: tuple[int, int, float]) -> list[Record]:
    return [Record("A-X-1m", open_time_ms, pid, at_s) for open_time_ms, pid, at_s in bars]


def faults(*bars: tuple[int, int, float]) -> list[str]:
    return judge(BARS, handled(*bars)).faults


@pytest.mark.timeout(240)
def test_members_that_come_go_die_and_sleep_handle_every_bar_in_order() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.group_chaos", "--seconds", "40", "--seed", "3"),
            *("--series", "40", "--untimed"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "passed" in done.stdout


def test_every_bar_once_and_in_order_is_right() -> None:
    verdict = judge(BARS, handled((60_000, ONE, 1.1), (120_000, ONE, 2.1), (180_000, ONE, 3.5)))
    assert verdict.faults == []
    assert (verdict.published, verdict.handled, verdict.again) == (3, 3, 0)
    assert verdict.longest_stop_s == pytest.approx(0.5)


def test_a_bar_again_is_right_where_the_series_changed_hands() -> None:
    bars = handled(
        *((60_000, ONE, 1.1), (120_000, ONE, 2.1), (120_000, OTHER, 7.0), (180_000, OTHER, 7.1))
    )
    verdict = judge(BARS, bars)
    assert verdict.faults == []
    assert verdict.again == 1
    assert verdict.longest_stop_s == pytest.approx(4.1)


def test_a_bar_again_in_the_same_hands_is_wrong() -> None:
    assert faults(
        *((60_000, ONE, 1.1), (120_000, ONE, 2.1), (120_000, ONE, 2.2), (180_000, ONE, 3.1))
    ) == [f"A-X-1m 120000: again in process {ONE}"]


def test_a_bar_after_a_later_one_is_wrong() -> None:
    found = faults((60_000, ONE, 1.1), (180_000, ONE, 2.0), (120_000, OTHER, 7.0))
    assert found == ["A-X-1m 120000: first handled after a later bar"]


def test_a_bar_that_nobody_handled_is_wrong() -> None:
    assert faults((60_000, ONE, 1.1), (180_000, ONE, 3.1)) == ["A-X-1m 120000: never handled"]


def test_a_bar_of_no_stream_is_wrong() -> None:
    found = judge({"A-X-1m": {}}, handled((60_000, ONE, 1.1))).faults
    assert found == ["A-X-1m 60000: handled, in no stream"]


def test_shares_are_timed_from_the_last_change_of_the_members() -> None:
    evenness = Evenness()
    evenness.see(Shares(frozenset({"a"}), Counter(a=4)), 4, 10.0)
    evenness.see(Shares(frozenset({"a", "b"}), Counter(a=4)), 4, 20.0)
    evenness.see(Shares(frozenset({"a", "b", "c"}), Counter(a=3, b=1)), 4, 21.0)
    assert evenness.unsettled_s(21.5) == 0.5
    evenness.see(Shares(frozenset({"a", "b", "c"}), Counter(a=2, b=1, c=1)), 4, 22.5)
    assert evenness.unsettled_s(23.0) == 0.0
    assert evenness.settled_s == [0.0, 1.5]


def test_series_that_nobody_holds_are_not_even() -> None:
    evenness = Evenness()
    evenness.see(Shares(frozenset({"a", "b"}), Counter(a=1, b=1)), 3, 20.0)
    assert evenness.unsettled_s(21.0) == 1.0


def test_a_plan_goes_from_one_member_to_four_and_ends_with_two() -> None:
    for seed in range(200):
        steps = draw(seed, 120)
        assert [step.action for step in steps[:MEMBERS_MAX]] == ["add"] * MEMBERS_MAX
        count = 0
        for step in steps:
            count += {"add": 1, "pause": 0, "kill": -1, "leave": -1}[step.action]
            assert count >= 1 or step is steps[0]
            assert count <= MEMBERS_MAX
        assert count == MEMBERS_LAST
