"""No hour sees more requests than were allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.core.budget import Budget

HOUR_MS = 3_600_000


def test_a_budget_is_spent_one_by_one_and_comes_back_after_an_hour() -> None:
    budget = Budget(2)
    assert [budget.spend(t) for t in (0, 1_000, 2_000)] == [True, True, False]
    assert budget.free_at_ms(1, 2_000) == HOUR_MS
    assert not budget.spend(HOUR_MS - 1)
    assert [budget.spend(HOUR_MS), budget.spend(HOUR_MS)] == [True, False]
    assert budget.free_at_ms(1, HOUR_MS) == HOUR_MS + 1_000


@pytest.mark.parametrize(
    ("requests", "free_at_ms"),
    [(1, 60_000), (2, HOUR_MS), (3, HOUR_MS + 10_000), (4, HOUR_MS + 20_000), (5, None)],
)
def test_several_are_free_when_enough_of_the_older_ones_are_past(
    requests: int, free_at_ms: int | None
) -> None:
    budget = Budget(4)
    for spent_ms in (0, 10_000, 20_000):
        assert budget.spend(spent_ms)
    assert budget.free_at_ms(requests, 60_000) == free_at_ms


def test_a_budget_of_nothing_is_never_free() -> None:
    budget = Budget(0)
    assert budget.free_at_ms(1, 0) is None
    assert not budget.spend(0)


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, HOUR_MS // 2), max_size=40),
)
def test_no_hour_sees_more_than_the_maximum(requests_max: int, waits_ms: list[int]) -> None:
    budget, now_ms, spent = Budget(requests_max), 0, []
    for wait_ms in waits_ms:
        now_ms += wait_ms
        if budget.spend(now_ms):
            spent.append(now_ms)
        else:
            free_at_ms = budget.free_at_ms(1, now_ms)
            assert free_at_ms is not None
            assert free_at_ms > now_ms
    for first, beyond in zip(spent, spent[requests_max:], strict=False):
        assert beyond - first >= HOUR_MS
