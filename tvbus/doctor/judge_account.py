"""What to think of the account, its token and the record of sign-ins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import SecretStr

from publisher.core.tokens import Claims, Token
from tvbus.doctor.facts import AccountFacts
from tvbus.doctor.finding import Finding, note, ok, problem, span

TOKEN_NOTE_MS: Final = 30 * 60_000
"""A token that ends sooner is worth a word."""


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
    yield from _judge_stored(facts)
    yield from _judge_sign_ins(facts)


def _judge_stored(facts: AccountFacts) -> Iterator[Finding]:
    check, stored = "stored session", facts.stored
    if stored.trouble:
        yield problem(check, stored.trouble, "`tvbus logout` forgets it")
    elif stored.exists:
        age = f"{span(facts.now_ms - stored.signed_in_ms)} old" if stored.signed_in_ms else "there"
        yield ok(check, age)


def _judge_sign_ins(facts: AccountFacts) -> Iterator[Finding]:
    """Say whether a password may be sent; where none is needed now, that is only worth knowing."""
    if facts.totp_trouble:
        yield problem("second factor", facts.totp_trouble, "without it nobody can sign in")
    if facts.signin_trouble:
        needed = facts.ways == ("password",)
        judge = problem if needed else note
        yield judge("sign-ins", facts.signin_trouble, "")
    elif facts.password:
        yield ok("sign-ins", "the budget allows one")


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
