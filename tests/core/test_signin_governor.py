"""The budget of sign-ins: what counts, for how long, and what a person can undo."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from publisher.core.governor import (
    ATTEMPTS_MAX,
    DAY_MS,
    HOUR_MS,
    REASON_CHARACTERS_MAX,
    TIME_MS_MAX,
    Budget,
    Mark,
    Record,
    check,
    check_ban,
    forgiven,
    merge,
    settle,
    with_attempt,
    with_mark,
    with_step,
)
from publisher.errors import AccountStopped, ChallengeRequired, SignInThrottled

NOW = 1_763_000_000_000
BUDGET = Budget(per_hour=2, per_day=4)


def attempts(*ages_ms: int) -> Record:
    """A record of attempts so long ago."""
    return Record(attempts={f"a{i}": NOW - age for i, age in enumerate(ages_ms)})


def retry_ms(record: Record) -> int | None:
    """When the record lets another be made; None for now."""
    try:
        check(record, NOW, BUDGET)
    except SignInThrottled as error:
        return error.retry_at_ms
    return None


def test_a_spent_budget_says_when_the_next_sign_in_may_be() -> None:
    with pytest.raises(SignInThrottled, match="2025-11-13 03:13:20Z") as refused:
        check(attempts(0, 0), NOW, BUDGET)
    assert refused.value.retryable


@pytest.mark.parametrize(
    ("ages_ms", "expected_ms"),
    [
        ((), None),
        ((0,), None),
        ((0, 1_000), NOW - 1_000 + HOUR_MS),
        ((HOUR_MS - 1, 0), NOW + 1),
        ((HOUR_MS, 0), None),
        ((5_000, 6_000, 7_000), NOW - 6_000 + HOUR_MS),
        ((3 * HOUR_MS, 5 * HOUR_MS, 7 * HOUR_MS, 9 * HOUR_MS), NOW + 15 * HOUR_MS),
        ((3 * HOUR_MS, 5 * HOUR_MS, 7 * HOUR_MS, DAY_MS), None),
        ((0, 1_000, 3 * HOUR_MS, 23 * HOUR_MS), NOW + HOUR_MS),
        ((0, 1_000, 3 * HOUR_MS, 4 * HOUR_MS), NOW + 20 * HOUR_MS),
    ],
)
def test_the_budget_of_an_hour_and_of_a_day(
    ages_ms: tuple[int, ...], expected_ms: int | None
) -> None:
    record = attempts(*ages_ms)
    assert retry_ms(record) == expected_ms
    assert retry_ms(settle(record, NOW)) == expected_ms


def test_each_attempt_counts() -> None:
    record = with_attempt(with_attempt(Record(), "a", NOW), "b", NOW)
    assert retry_ms(record) == NOW + HOUR_MS


def test_after_a_captcha_a_person_must_act_for_a_day() -> None:
    record = with_mark(Record(), "captcha", "robot?", NOW - DAY_MS + 1)
    with pytest.raises(ChallengeRequired, match="tvbus login --cookies"):
        check(record, NOW, BUDGET)
    check(record, NOW + 1, BUDGET)


def test_after_a_lock_nothing_is_tried_for_an_hour() -> None:
    record = with_mark(Record(), "lock", "TradingView locked us out", NOW - HOUR_MS + 5)
    with pytest.raises(SignInThrottled, match="TradingView locked us out") as refused:
        check(record, NOW, BUDGET)
    assert refused.value.retry_at_ms == NOW + 5
    check(record, NOW + 5, BUDGET)


@pytest.mark.parametrize(("reason", "said"), [("you were banned", "you were banned"), ("", "no r")])
def test_after_a_ban_nothing_is_tried_ever_again(reason: str, said: str) -> None:
    record = with_mark(Record(), "ban", reason, NOW)
    late_ms = NOW + 1_000 * DAY_MS
    with pytest.raises(AccountStopped, match=said):
        check(settle(record, late_ms), late_ms, BUDGET)
    with pytest.raises(AccountStopped, match="tvbus login"):
        check_ban(record)


def test_a_person_can_undo_marks_but_not_attempts() -> None:
    record = attempts(1_000, 2_000)
    for kind in ("captcha", "lock", "ban"):
        record = with_mark(record, kind, "said", NOW)  # type: ignore[arg-type]
    after = forgiven(record, NOW)
    assert after.ban is None
    assert after.marks == {}
    assert after.attempts == record.attempts
    assert retry_ms(after) == NOW - 2_000 + HOUR_MS


def test_what_was_forgiven_does_not_return_with_an_older_copy() -> None:
    banned = with_mark(Record(), "ban", "said", NOW)
    after = forgiven(banned, NOW)
    assert merge(after, banned).ban is None
    assert merge(banned, after).ban is None
    again = with_mark(after, "ban", "again", NOW)
    assert merge(again, banned).ban == "again"


def test_marks_of_a_clock_that_is_ahead_are_forgiven_too() -> None:
    banned = with_mark(Record(), "ban", "said", NOW + DAY_MS)
    assert merge(forgiven(banned, NOW), banned).ban is None


def test_attempts_of_two_publishers_count_together_and_once() -> None:
    common = attempts(HOUR_MS - 1)
    one, other = with_attempt(common, "one", NOW), with_attempt(common, "other", NOW)
    both = merge(one, other)
    assert len(both.attempts) == 3
    assert merge(both, one) == both
    assert retry_ms(both) == NOW + HOUR_MS


def test_the_newest_mark_of_a_kind_counts() -> None:
    old, new = (with_mark(Record(), "captcha", text, NOW + i) for i, text in enumerate("ab"))
    assert merge(old, new).marks["captcha"].reason == "b"
    assert merge(new, old).marks["captcha"].reason == "b"
    assert merge(old, with_mark(Record(), "lock", "l", NOW)).marks.keys() == {"captcha", "lock"}


def test_the_later_time_step_counts() -> None:
    assert merge(with_step(Record(), 7), with_step(Record(), 9)).step == 9


def test_an_attempt_of_a_clock_that_was_ahead_counts_for_a_day_and_not_for_ever() -> None:
    ahead = Record(attempts={"a": NOW + 900 * DAY_MS, "b": NOW + 900 * DAY_MS})
    settled = settle(ahead, NOW)
    assert retry_ms(settled) == NOW + HOUR_MS
    assert settle(merge(settled, ahead), NOW + DAY_MS).attempts == {}


def test_marks_of_a_clock_that_was_ahead_hold_from_now_on() -> None:
    ahead = with_mark(Record(), "captcha", "said", NOW + 900 * DAY_MS)
    settled = settle(ahead.model_copy(update={"forgiven_ms": NOW + 5}), NOW)
    assert settled.marks["captcha"].noted_ms == NOW
    assert settled.forgiven_ms == NOW
    check(settled, NOW + DAY_MS, BUDGET)


def test_the_record_stays_small() -> None:
    record = Record()
    for i in range(3 * ATTEMPTS_MAX):
        record = settle(with_attempt(record, f"a{i}", NOW + i), NOW + i)
    assert len(record.attempts) == ATTEMPTS_MAX
    assert f"a{3 * ATTEMPTS_MAX - 1}" in record.attempts
    marked = with_mark(record, "ban", "x" * 10_000, NOW)
    assert len(marked.marks["ban"].reason) == REASON_CHARACTERS_MAX


def test_attempts_older_than_a_day_are_forgotten() -> None:
    assert settle(attempts(DAY_MS, DAY_MS - 1), NOW).attempts == {"a1": NOW - DAY_MS + 1}


moments = st.integers(0, TIME_MS_MAX)
records = st.builds(
    Record,
    attempts=st.dictionaries(st.text(max_size=4), moments, max_size=5),
    marks=st.dictionaries(
        st.sampled_from(["captcha", "lock", "ban", "later"]), st.builds(Mark, noted_ms=moments)
    ),
    step=moments,
    forgiven_ms=moments,
)


@given(records, records, records)
def test_records_merge_in_any_order(one: Record, two: Record, three: Record) -> None:
    together = merge(merge(one, two), three)
    assert merge(one, merge(two, three)) == together
    assert merge(together, two) == together
    assert merge(two, one).attempts == merge(one, two).attempts


@given(records)
def test_a_record_reads_back(record: Record) -> None:
    assert Record.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    "text",
    [b"", b"7", b"{", b'{"attempts":[1]}', b'{"attempts":{"a":-1}}', b'{"step":1e30}', b"\xff"],
)
def test_what_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(ValidationError):
        Record.model_validate_json(text)


def test_a_crash_loop_is_held_to_the_budget() -> None:
    rng = random.Random(5)
    record, made = Record(), []
    now_ms = NOW
    for _ in range(20_000):
        now_ms += rng.randrange(20_000)
        record = settle(record, now_ms)
        try:
            check(record, now_ms, BUDGET)
        except SignInThrottled:
            continue
        record = with_attempt(record, f"{now_ms}", now_ms)
        made.append(now_ms)
    for span_ms, most in ((HOUR_MS, 2), (DAY_MS, 4)):
        assert max(sum(at - span_ms < one <= at for one in made) for at in made) == most
    days = (now_ms - NOW) / DAY_MS
    assert len(made) >= 4 * int(days)
