"""TradingView's answers to a sign-in, as typed values.

Decided by `error`, `code` and `detail`, never by the HTTP status alone: the status
of the error answers is not recorded, and success too has an `error`, an empty one.
The first step sets session cookies also where a second factor is still wanted; the
second step answers JSON or a page, so there the cookies decide, and the home page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import SecretStr

from publisher.core.account import Cookies
from publisher.core.governor import BROWSER, MarkKind
from publisher.core.tokens import TOKEN_CHARACTERS_MAX
from publisher.errors import (
    AccountStopped,
    ChallengeRequired,
    ConnectFailed,
    CredentialsRejected,
    PublisherError,
    RemoteProtocolError,
    SignInError,
    SignInThrottled,
)

FACTORS: Final = ("totp", "sms", "email")
"""Kinds of second factor, the one that needs no message first."""
FACTORS_MAX: Final = 8
TEXT_CHARACTERS_MAX: Final = 200
"""How much of what TradingView says is shown."""
NAME_CHARACTERS_MAX: Final = 256

_TOKEN: Final = re.compile(r'"auth_token"\s*:\s*"([^"\\\s]+)"')
_NICK: Final = re.compile(rf'"username"\s*:\s*"([^"\\]{{1,{NAME_CHARACTERS_MAX}}})"')
_BAN: Final = re.compile(r"(?<![a-z])(?:banned|blocked)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of TradingView's pages said; it does not print its body."""

    status: int
    body: str = field(repr=False)
    cookies: Cookies | None = None
    """The session that holds from now on: set by this answer, or sent with the request."""
    server_ms: int | None = None
    """TradingView's clock, by the Date header."""
    whole: bool = True
    """False where there was more than is read of a page."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """TradingView lets us in."""

    token: SecretStr | None
    """None where the answer holds none: the home page has it."""
    nick: str
    """What TradingView calls the user; empty where it did not say."""


@dataclass(frozen=True, slots=True)
class Home:
    """The home page of somebody who is signed in."""

    token: SecretStr
    nick: str
    """What TradingView calls the user; empty where the page does not say."""


@dataclass(frozen=True, slots=True)
class FactorWanted:
    """The password is right; a second factor is wanted, one of these kinds."""

    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CodeWrong:
    """The second factor's code is not accepted."""


@dataclass(frozen=True, slots=True)
class PageShown:
    """A page came instead of JSON: whether we are in shows in what the cookies open."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """TradingView does not let us in."""

    error: PublisherError
    mark: MarkKind | None = None
    """What to remember, so that nothing is tried again too soon."""


def read_password_answer(answer: Answer) -> SignedIn | FactorWanted | Refusal:
    """Read the answer to user name and password."""
    body = _parse(answer.body)
    if body is None:
        return _refused_page(answer)
    if _word(body, "code") == "2FA_required":
        return FactorWanted(_kinds(body.get("two_factor_types")))
    return _refusal(body, answer) or _signed_in(body)


def read_code_answer(answer: Answer) -> SignedIn | CodeWrong | PageShown | Refusal:
    """Read the answer to a second factor's code."""
    body = _parse(answer.body)
    if body is not None:
        if _word(body, "code") == "2FA_invalid_credential":
            return CodeWrong()
        return _refusal(body, answer) or _signed_in(body)
    if 200 <= answer.status < 300:
        return PageShown()
    if answer.status in {400, 401, 422}:
        return CodeWrong()
    return _refused_page(answer)


def read_home(answer: Answer) -> Home | None:
    """Return what the home page says of who is signed in, None where it knows nobody.

    Raises ConnectFailed or RemoteProtocolError where this is not the home page.
    """
    refused = _refused_status(answer, signing_in=False)
    if refused is not None:
        raise refused.error
    if answer.status != 200:
        raise RemoteProtocolError(f"TradingView's home page answered {answer.status}")
    found = _TOKEN.search(answer.body)
    token = None if found is None else _token(found[1])
    if token is not None:
        nick = _NICK.search(answer.body)
        return Home(token, "" if nick is None else nick[1])
    if not answer.whole:
        raise RemoteProtocolError("TradingView's home page is longer than is read of it")
    return None


def choose_factor(kinds: Sequence[str]) -> str:
    """Return the kind of second factor to use, one that can be answered.

    Raises ChallengeRequired where there is none.
    """
    for kind in FACTORS:
        if kind in kinds:
            return kind
    known = ", ".join(kinds) or "one that it does not name"
    raise ChallengeRequired(f"TradingView wants a second factor ({known}): {BROWSER}")


def shown(text: str) -> str:
    """Return what TradingView says as a short line."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT_CHARACTERS_MAX else line[: TEXT_CHARACTERS_MAX - 1] + "…"


def _refusal(body: dict[str, Any], answer: Answer) -> Refusal | None:
    """Return what the answer refuses, None where it refuses nothing."""
    code = _word(body, "code")
    text = _word(body, "error") or _word(body, "detail")
    said = shown(text) or "no reason given"
    if _BAN.search(code) or _BAN.search(text):
        return Refusal(AccountStopped(f"TradingView stopped the account: {said}"), "ban")
    if code in _KNOWN:
        return _KNOWN[code](said)
    if (code or text) and answer.status != 429 and answer.status < 500:
        return _unknown(shown(code) or "none", said)
    return _refused_status(answer)


def _unknown(code: str, said: str) -> Refusal:
    return Refusal(SignInError(f"TradingView refuses the sign-in (code {code}: {said}): {BROWSER}"))


def _captcha(_: str) -> Refusal:
    error = ChallengeRequired(
        f"TradingView wants a captcha solved, which only a person can: {BROWSER}"
    )
    return Refusal(error, "captcha")


def _rate_limit(said: str) -> Refusal:
    return Refusal(SignInThrottled(f"TradingView locks sign-ins out for a while: {said}"), "lock")


def _credentials(said: str) -> Refusal:
    return Refusal(
        CredentialsRejected(
            f"TradingView does not know this user name with this password ({said}): "
            "correct them (TVBUS_USERNAME, TVBUS_PASSWORD), or run `tvbus login`"
        )
    )


def _unsent(said: str) -> Refusal:
    return Refusal(ChallengeRequired(f"TradingView could not send the code ({said}): {BROWSER}"))


_KNOWN: Final = {
    "invalid_credentials": _credentials,
    "recaptcha_required": _captcha,
    "rate_limit": _rate_limit,
    "2FA_challenge_not_generated": _unsent,
}


def _refused_status(answer: Answer, *, signing_in: bool = True) -> Refusal | None:
    """Return what the HTTP status alone refuses, None where it refuses nothing."""
    if answer.status == 429:
        text = "TradingView answers 429, too many requests: slow down"
        if signing_in:
            return Refusal(SignInThrottled(text), "lock")
        return Refusal(ConnectFailed(text))
    if answer.status == 403:
        return Refusal(
            ConnectFailed("TradingView answers 403: it does not let this address in, try another")
        )
    if answer.status >= 500:
        return Refusal(ConnectFailed(f"TradingView answers {answer.status}: it has trouble"))
    return None


def _refused_page(answer: Answer) -> Refusal:
    """Return what a page instead of JSON refuses."""
    return _refused_status(answer) or Refusal(
        RemoteProtocolError(
            f"TradingView's sign-in answered {answer.status} and no JSON; is TVBUS_WEB_URL right?"
        )
    )


def _signed_in(body: dict[str, Any]) -> SignedIn | Refusal:
    user = body.get("user")
    if not isinstance(user, dict):
        return Refusal(RemoteProtocolError("TradingView's sign-in answered without a user"))
    return SignedIn(_token(_word(user, "auth_token")), _word(user, "username"))


def _token(text: str) -> SecretStr | None:
    return SecretStr(text) if 0 < len(text) <= TOKEN_CHARACTERS_MAX else None


def _kinds(types: Any) -> tuple[str, ...]:
    entries = types[:FACTORS_MAX] if isinstance(types, list) else []
    names = (_word(entry, "name") for entry in entries if isinstance(entry, dict))
    return tuple(shown(name) for name in names if name)


def _word(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _parse(text: str) -> dict[str, Any] | None:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
