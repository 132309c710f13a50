"""What to think of the way to TradingView, and of the account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import SecretStr

from publisher.core.tokens import Claims, Token
from tvbus.doctor.facts import AccountFacts, PageFacts
from tvbus.doctor.finding import Finding, note, ok, problem, span

DRIFT_NOTE_MS: Final = 3_000
DRIFT_PROBLEM_MS: Final = 15_000
"""Half the life of a code: from then on second factors are refused."""
TOKEN_NOTE_MS: Final = 30 * 60_000
"""A token that ends sooner is worth a word."""


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
    if status >= 500:
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


def judge_account(facts: AccountFacts) -> Iterator[Finding]:
    """Say as whom TradingView is read, and what the plan allows."""
    check = "account"
    if not facts.ways:
        found = "anonymous: crypto and forex in real time, much else delayed or from elsewhere"
        yield note(check, found, "`tvbus login` signs in")
    else:
        yield ok(check, f"signs in by {', then '.join(facts.ways)}")
    if facts.ways and facts.allow_anonymous:
        found = "where signing in fails it goes on anonymously (TVBUS_ALLOW_ANONYMOUS)"
        yield note(check, found, "unset it where data must be the account's")
    if facts.token is not None:
        yield from judge_token(facts.token, facts)
    if facts.stored.trouble:
        yield problem("stored session", facts.stored.trouble, "")
    elif facts.stored.exists:
        age = span(facts.now_ms - facts.stored.signed_in_ms)
        yield ok("stored session", f"there, {age} old")


def judge_token(claims: Claims, facts: AccountFacts) -> Iterator[Finding]:
    """Say when a given token ends, and what its plan allows."""
    check = "token"
    another = "copy a new one from tradingview.com, or give another way in: `tvbus login`"
    if claims == Claims():
        yield problem(check, "TVBUS_AUTH_TOKEN does not look like a token", another)
        return
    if claims.expires_ms is None:
        yield note(check, "it does not say when it ends")
    elif claims.expires_ms <= facts.now_ms:
        age = span(facts.now_ms - claims.expires_ms)
        judge = note if len(facts.ways) > 1 else problem
        yield judge(check, f"it ended {age} ago", another)
    else:
        left_ms = claims.expires_ms - facts.now_ms
        renewed = len(facts.ways) > 1
        judge_left = ok if renewed or left_ms > TOKEN_NOTE_MS else _ending
        end = "" if renewed else "; nothing renews it"
        yield judge_left(check, f"good for {span(left_ms)}{end}")
    yield _judge_plan(claims, facts)


def _ending(check: str, found: str) -> Finding:
    return note(check, found, "give cookies or a password too, or `tvbus login`")


def _judge_plan(claims: Claims, facts: AccountFacts) -> Finding:
    limits = Token(SecretStr(""), "token", claims).limits
    parts = [f"{limits.plan}: {limits.bars} intraday bars a series"]
    if limits.series is not None:
        parts.append(f"{limits.series} series")
    if limits.connections is not None:
        parts.append(f"{limits.connections} connections")
    told = ", ".join(parts)
    if limits.series is not None and facts.series > limits.series:
        return problem("plan", f"{told}; the settings want {facts.series} series", "ask for fewer")
    return ok("plan", told)
