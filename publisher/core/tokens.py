"""TradingView's token: what it says of itself and of the account's plan.

The token is a JSON web token (RS512). Its claims are read to know when it ends
and what the plan allows, never to decide whether somebody may do something: the
signature is not checked, and TradingView alone judges the token. What cannot be
read is unknown, not an error. Recorded claims: `exp - iat` is 14,400 s.
"""

from __future__ import annotations

import base64
import binascii
import random
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from pydantic import SecretStr

from publisher.core.messages import ANONYMOUS_TOKEN

Way = Literal["token", "cookies", "stored session", "password", "anonymous"]
"""How the token was obtained."""

RENEW_AT: Final = 0.75
"""A token is renewed after this share of its life, up to `RENEW_SPREAD` sooner or later."""
RENEW_SPREAD: Final = 0.05
TOKEN_CHARACTERS_MAX: Final = 16_384
SECONDS_MAX: Final = 1e11
"""Beyond, a claim is no time."""
COUNT_MAX: Final = 1_000_000

FREE_BARS: Final = 5_000
PLAN_BARS: Final = (
    ("pro_premium_ultimate", 40_000),
    ("pro_premium_elite", 30_000),
    ("pro_premium_expert", 25_000),
    ("pro_premium", 20_000),
    ("pro", 10_000),
)
"""Intraday bars of a series by how the plan's name begins, longest first, as published."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says; None where it does not say, or not in a way that can be read."""

    issued_ms: int | None = None
    expires_ms: int | None = None
    plan: str | None = None
    """"" is the free plan."""
    charts: int | None = None
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the plan allows; None where nothing is known."""

    plan: str
    bars: int
    """Intraday bars of one series, counted back from the newest."""
    series: int | None
    connections: int | None


@dataclass(frozen=True, slots=True)
class Token:
    """A token and where it came from; it does not print itself."""

    text: SecretStr
    way: Way
    claims: Claims
    server_ms: int | None = None
    """TradingView's clock when the token came, None where nobody told."""
    drift_ms: int = 0
    """How far this machine's clock is ahead of TradingView's, as far as known."""
    failures: tuple[str, ...] = ()
    """The ways that were tried before, and why they failed."""
    account: str = ""
    """Digest of the user name where one is known, to tell accounts apart without naming them."""

    @property
    def anonymous(self) -> bool:
        """True where nobody is signed in."""
        return self.way == "anonymous"

    @property
    def limits(self) -> Limits:
        """What its plan allows.

        TradingView states no number of series. Its own pages could show `max_charts`
        in each of `max_connections` connections, so no more are asked for.
        """
        claims = self.claims
        plan = claims.plan or ""
        both = claims.charts is not None and claims.connections is not None
        series = (claims.charts or 1) * (claims.connections or 1) if both else None
        name = "anonymous" if self.anonymous else plan or "free"
        return Limits(name, _plan_bars(plan), series, claims.connections)


ANONYMOUS: Final = Token(SecretStr(ANONYMOUS_TOKEN), "anonymous", Claims())


def read_claims(token: str) -> Claims:
    """Return what a token says of itself; all unknown where it is no JSON web token."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_CHARACTERS_MAX:
        return Claims()
    try:
        body = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return Claims()
    if not isinstance(body, dict):
        return Claims()
    plan = body.get("plan")
    return Claims(
        _time_ms(body.get("iat")),
        _time_ms(body.get("exp")),
        plan if isinstance(plan, str) else None,
        _count(body.get("max_charts")),
        _count(body.get("max_connections")),
    )


def renew_at_ms(granted_ms: int, expires_ms: int, rng: random.Random) -> int:
    """Return when to renew a token, by the clock that both times are of.

    With jitter, so that publishers that signed in together do not renew together.
    """
    share = RENEW_AT + RENEW_SPREAD * (2 * rng.random() - 1)
    return granted_ms + int(max(0, expires_ms - granted_ms) * share)


def _plan_bars(plan: str) -> int:
    return next((bars for name, bars in PLAN_BARS if plan.startswith(name)), FREE_BARS)


def _time_ms(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value * 1000) if 0 < value < SECONDS_MAX else None


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= COUNT_MAX else None
