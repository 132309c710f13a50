"""What to think of the way to TradingView."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tvbus.doctor.facts import PageFacts
from tvbus.doctor.finding import Finding, note, ok, problem, span

DRIFT_NOTE_MS: Final = 3_000
DRIFT_PROBLEM_MS: Final = 15_000
"""Half the life of a code: from then on second factors are refused."""

UNKNOWN_METHOD: Final = 501
"""Who does not know HEAD answers, and that is all that is wanted."""


def judge_page(facts: PageFacts) -> Iterator[Finding]:
    """Say whether TradingView's page answers, and what its clock says of this machine's."""
    yield _judge_answer("TradingView page", facts)
    if facts.status is not None:
        yield judge_drift(facts)


def judge_socket(facts: PageFacts) -> Finding:
    """Say whether the websocket's host answers."""
    return _judge_answer("TradingView socket", facts)


def _judge_answer(check: str, facts: PageFacts) -> Finding:
    status = facts.status
    if status is None:
        return problem(check, facts.trouble, "publishing needs it; consumers do not")
    told = f"{facts.where} answers"
    if status == 429:
        return problem(check, f"{told} 429: too many requests from here", "wait, and ask less")
    if status >= 500 and status != UNKNOWN_METHOD:
        return note(check, f"{told} {status}: out of order", "try again later")
    if status == 403:
        advice = "a captcha, or an address that is not let in: look at it with a browser"
        return note(check, f"{told} 403", advice)
    return ok(check, told)


def judge_drift(facts: PageFacts) -> Finding:
    """Say whether this machine's clock agrees with TradingView's."""
    check = "clock"
    if facts.ahead_ms is None:
        return note(check, f"{facts.where} does not tell the time")
    drift_ms = abs(facts.ahead_ms)
    if drift_ms < DRIFT_NOTE_MS:
        return ok(check, "agrees with TradingView's")
    side = "ahead of" if facts.ahead_ms > 0 else "behind"
    judge = problem if drift_ms >= DRIFT_PROBLEM_MS else note
    found = f"this machine's is {span(drift_ms)} {side} TradingView's"
    return judge(check, found, "let it keep time by NTP, else codes of the second factor fail")
