"""Codes from a secret and the time; each time step is tried once."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from pydantic import SecretStr

from publisher.core.totp import STEP_MS, STEPS_AHEAD_MAX, Totp, next_try, step_of
from publisher.errors import CredentialsRejected

SHOWN = "abcd efgh ijkl mnop"
"""Sixteen characters in groups and lower case, as TradingView shows them."""


def code(secret: str, step: int) -> str:
    return Totp(SecretStr(secret)).code(step).get_secret_value()


def computed(secret: str, step: int) -> str:
    """The code by the rules of RFC 4226, in arithmetic."""
    key = base64.b32decode(secret)
    digest = hmac.new(key, step.to_bytes(8, "big"), hashlib.sha1).digest()
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFF_FFFF
    return f"{number % 1_000_000:06d}"


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_the_standard(time_s: int, expected: str) -> None:
    """The vectors of RFC 6238, appendix B; their last six digits."""
    secret = base64.b32encode(b"12345678901234567890").decode()
    assert code(secret, step_of(time_s * 1000)) == expected


@pytest.mark.parametrize(
    "secret",
    [
        SHOWN,
        "ABCDEFGHIJKLMNOP",
        "abcd-efgh-ijkl-mnop",
        " ABCD EFGH\tIJKL MNOP \n",
        "abcdefghijklmnop==",
    ],
)
def test_a_secret_of_eighty_bits_is_taken_as_it_is_shown(secret: str) -> None:
    assert code(secret, 55_000_000) == computed("ABCDEFGHIJKLMNOP", 55_000_000)


@pytest.mark.parametrize("secret", ["MFRGG", "MFRGGZDF", "MFRGGZDFMZTWQ2LK", "A" * 103])
def test_secrets_of_other_lengths_are_padded(secret: str) -> None:
    padded = secret + "=" * (-len(secret) % 8)
    assert code(secret, 7) == computed(padded, 7)


def test_leading_zeros_are_kept() -> None:
    step = next(
        step for step in range(1, 10**6) if computed("ABCDEFGHIJKLMNOP", step).startswith("00")
    )
    assert code(SHOWN, step).startswith("00")
    assert len(code(SHOWN, step)) == 6


@pytest.mark.parametrize(
    "secret",
    ["", "   ", "123456", "geheim!!geheim!!", "ABCDEFGH1", "ä" * 16, "A" * 300, "A", "==="],
)
def test_what_is_no_secret_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(CredentialsRejected, match="TVBUS_TOTP_SECRET is not a base32") as refused:
        Totp(SecretStr(secret))
    assert "geheim" not in str(refused.value).lower()
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_generator_does_not_print_its_secret_or_code() -> None:
    totp = Totp(SecretStr(SHOWN))
    printed = repr(totp) + repr(vars(totp)) + repr(totp.code(5))
    assert "ABCD" not in printed
    assert computed("ABCDEFGHIJKLMNOP", 5) not in printed


NOW = 1_000 * STEP_MS


@pytest.mark.parametrize(
    ("now_ms", "last_step", "step", "wait_ms"),
    [
        (NOW, 0, 1_000, 0),
        (NOW + 28_000, 0, 1_000, 0),
        (NOW + 28_001, 0, 1_001, 1_999),
        (NOW + 29_999, 0, 1_001, 1),
        (NOW + 10_000, 1_000, 1_001, 20_000),
        (NOW + 10_000, 999, 1_000, 0),
        (NOW + 10_000, 1_001, 1_002, 50_000),
        (NOW + 29_000, 1_001, 1_002, 31_000),
        (NOW, 1_000 + STEPS_AHEAD_MAX, 1_001 + STEPS_AHEAD_MAX, (STEPS_AHEAD_MAX + 1) * STEP_MS),
        (NOW, 1_001 + STEPS_AHEAD_MAX, 1_000, 0),
    ],
)
def test_a_step_is_tried_once_and_not_in_its_last_moments(
    now_ms: int, last_step: int, step: int, wait_ms: int
) -> None:
    assert next_try(now_ms, last_step) == (step, wait_ms)
