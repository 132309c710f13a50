"""What a token says of itself, and when it is renewed."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from recordings import needs_recordings, text

from publisher.core.tokens import (
    ANONYMOUS,
    COUNT_MAX,
    TOKEN_CHARACTERS_MAX,
    Claims,
    Limits,
    Token,
    read_claims,
    renew_at_ms,
)


def encode(part: Any) -> str:
    """A part of a JSON web token: base64 of URLs, without padding."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def web_token(claims: Any) -> str:
    """A token as TradingView sends it, its signature meaningless."""
    return f"{encode({'alg': 'RS512', 'kid': 'GZxU'})}.{encode(claims)}.c2lnbmF0dXJl"


def token(claims: Any, way: Any = "password") -> Token:
    """A token that was obtained."""
    return Token(SecretStr(web_token(claims)), way, read_claims(web_token(claims)))


@needs_recordings
def test_the_recorded_token_is_read() -> None:
    recorded = json.loads(text("065-auth_token-jwt-claims-premium-2025.json"))
    claims = read_claims(f"{encode(recorded['header'])}.{encode(recorded['payload'])}.x")
    assert claims == Claims(1_762_684_398_000, 1_762_698_798_000, "pro_premium", 8, 50)
    assert claims.expires_ms is not None
    assert claims.issued_ms is not None
    assert claims.expires_ms - claims.issued_ms == 14_400_000
    obtained = Token(SecretStr("x"), "cookies", claims)
    assert obtained.limits == Limits("pro_premium", 20_000, 400, 50)


@pytest.mark.parametrize(
    "text",
    [
        *("", "unauthorized_user_token", "a.b", "a.b.c.d", "a.!!!.c", "a..c"),
        f"a.{base64.urlsafe_b64encode(b'[1]').decode()}.c",
        f"a.{base64.urlsafe_b64encode(b'{').decode()}.c",
        "a.ü.c",
        f"a.{encode({'exp': 1})}.{'c' * TOKEN_CHARACTERS_MAX}",
    ],
)
def test_what_is_no_web_token_says_nothing(text: str) -> None:
    assert read_claims(text) == Claims()


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert isinstance(read_claims(text), Claims)
    assert isinstance(read_claims(f"a.{text}.c"), Claims)


@pytest.mark.parametrize("value", [True, "1762698798", None, 0, -5, 1e11, 1e300, [], {}])
def test_a_time_that_is_none_is_unknown(value: Any) -> None:
    assert read_claims(web_token({"exp": value, "iat": value})) == Claims()


def test_a_time_with_a_fraction_is_a_time() -> None:
    assert read_claims(web_token({"exp": 1762698798.25})).expires_ms == 1_762_698_798_250


@pytest.mark.parametrize("value", [True, 1.5, "8", None, 0, -1, COUNT_MAX + 1])
def test_a_count_that_is_none_is_unknown(value: Any) -> None:
    assert read_claims(web_token({"max_charts": value, "max_connections": value})) == Claims()


def test_a_plan_that_is_no_text_is_unknown() -> None:
    assert read_claims(web_token({"plan": 7})) == Claims()


@pytest.mark.parametrize(
    ("plan", "bars"),
    [
        ("", 5_000),
        ("pro", 10_000),
        ("pro_plus", 10_000),
        ("pro_premium", 20_000),
        ("pro_premium_trial", 20_000),
        ("pro_premium_expert", 25_000),
        ("pro_premium_elite", 30_000),
        ("pro_premium_ultimate", 40_000),
        ("something_new", 5_000),
    ],
)
def test_the_plan_bounds_the_bars(plan: str, bars: int) -> None:
    assert token({"plan": plan}).limits == Limits(plan or "free", bars, None, None)


def test_nobody_has_the_bars_of_the_free_plan() -> None:
    assert ANONYMOUS.anonymous
    assert ANONYMOUS.limits == Limits("anonymous", 5_000, None, None)


@pytest.mark.parametrize(
    ("claims", "series", "connections"),
    [
        ({"max_charts": 2, "max_connections": 10}, 20, 10),
        ({"max_charts": 2}, None, None),
        ({"max_connections": 10}, None, 10),
    ],
)
def test_series_are_bounded_by_charts_times_connections(
    claims: Any, series: int | None, connections: int | None
) -> None:
    limits = token(claims).limits
    assert (limits.series, limits.connections) == (series, connections)


def test_a_token_does_not_print_itself() -> None:
    obtained = token({"plan": "pro"})
    assert not obtained.anonymous
    assert obtained.text.get_secret_value() not in repr(obtained) + str(obtained)


def test_a_token_is_renewed_around_three_quarters_of_its_life() -> None:
    rng = random.Random(1)
    life_ms = 14_400_000
    waits = {renew_at_ms(0, life_ms, rng) for _ in range(200)}
    assert len(waits) > 100
    assert min(waits) >= life_ms * 0.70 - 1
    assert max(waits) <= life_ms * 0.80 + 1


def test_a_token_whose_life_is_spent_is_renewed_at_once() -> None:
    assert renew_at_ms(5_000, 5_000, random.Random(1)) == 5_000
    assert renew_at_ms(5_000, 1_000, random.Random(1)) == 5_000
