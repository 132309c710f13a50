"""Codes that follow from a secret and the time, as an authenticator shows them.

TradingView shows secrets of 16 base32 characters, 80 bits, in groups and in either
case; pyotp by itself refuses such short ones. A code counts once: each time step is
tried at most once, by whichever process, and never in its last moments, when the
code would arrive in the next step.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

import pyotp
from pydantic import SecretStr

from publisher.errors import CredentialsRejected

STEP_MS: Final = 30_000
"""How long a code counts."""
STEP_LEFT_MS_MIN: Final = 2_000
"""With less of a step left, the next one is waited for."""
STEPS_AHEAD_MAX: Final = 10
"""A last step that is further ahead was noted by a wrong clock and does not count."""
SECRET_CHARACTERS_MAX: Final = 256

_SEPARATORS: Final = re.compile(r"[\s-]+")


class _AnyLength(pyotp.TOTP):
    """A generator that takes the length of secret that TradingView gives."""

    def byte_secret(self) -> bytes:
        return _decode(self.secret)


class Totp:
    """The codes of one secret; it does not print itself."""

    def __init__(self, secret: SecretStr) -> None:
        """Take a secret as TradingView shows it. Raises CredentialsRejected."""
        text = _SEPARATORS.sub("", secret.get_secret_value()).rstrip("=").upper()
        try:
            if not 0 < len(text) <= SECRET_CHARACTERS_MAX:
                raise ValueError("length")
            self._codes = _AnyLength(text)
        except (ValueError, binascii.Error):
            raise CredentialsRejected(
                "TVBUS_TOTP_SECRET is not a base32 secret: it has only letters A-Z and digits 2-7; "
                "copy the text that TradingView shows below its QR code, not a six-digit code"
            ) from None

    def code(self, step: int) -> SecretStr:
        """Return the six digits of a time step, leading zeros kept."""
        return SecretStr(self._codes.generate_otp(step))


def step_of(now_ms: int) -> int:
    """Return the number of the time step."""
    return now_ms // STEP_MS


def next_try(now_ms: int, last_step: int) -> tuple[int, int]:
    """Return the step whose code may be tried next, and how many ms to wait for it.

    `now_ms` is TradingView's time; `last_step` the last one tried, 0 for none.
    """
    step = step_of(now_ms)
    if (step + 1) * STEP_MS - now_ms < STEP_LEFT_MS_MIN:
        step += 1
    if step <= last_step <= step + STEPS_AHEAD_MAX:
        step = last_step + 1
    return step, max(0, step * STEP_MS - now_ms)


def _decode(text: str) -> bytes:
    return base64.b32decode(text + "=" * (-len(text) % 8))
