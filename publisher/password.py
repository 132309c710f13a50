"""Signing in with user name and password: the budget, the second factor, the token.

Whoever has the codes of the second factor, a secret or a person, is a `Codes`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import SecretStr

from bus.logs import register_secret
from publisher.core.account import Cookies, Session
from publisher.core.signin import (
    Answer,
    CodeWrong,
    FactorWanted,
    Home,
    PageShown,
    Refusal,
    SignedIn,
    choose_factor,
    read_code_answer,
    read_home,
    read_password_answer,
)
from publisher.core.totp import Totp
from publisher.errors import (
    ChallengeRequired,
    CredentialsRejected,
    PublisherError,
    RemoteProtocolError,
    SessionExpired,
)
from publisher.ports import Clock
from publisher.shell.governor import Governor
from publisher.shell.pages import Pages
from publisher.shell.vault import Vault

TOTP_TRIES_MAX: Final = 2
"""Codes of one secret that are tried in one sign-in, each in a time step of its own."""

Wait = Callable[[float], object]
"""Waits for so many seconds."""


@dataclass(frozen=True, slots=True)
class Means:
    """What signing in needs of the outside world."""

    clock: Clock
    pages: Pages
    governor: Governor
    vault: Vault
    wait: Wait = time.sleep


class Codes(Protocol):
    """Who knows the codes of the second factor."""

    @property
    def tries(self) -> int:
        """How many codes may be tried."""
        ...

    def choose(self, kinds: Sequence[str]) -> str:
        """Return the kind of factor to use. Raises ChallengeRequired where none will do."""
        ...

    def next_code(self, kind: str) -> SecretStr:
        """Return a code to try, once one may be tried."""
        ...

    def told_wrong(self, kind: str) -> None:
        """Hear that the code was not accepted."""
        ...


class TotpCodes:
    """The codes that follow from a secret; no time step is tried twice, by any process."""

    tries = TOTP_TRIES_MAX

    def __init__(self, secret: SecretStr | None, means: Means) -> None:
        """Take the secret, if there is one. Raises CredentialsRejected where it is none."""
        self._totp = None if secret is None else Totp(secret)
        self._means = means

    def choose(self, kinds: Sequence[str]) -> str:
        """Return `totp`. Raises ChallengeRequired where a person has to read a code."""
        kind = choose_factor(kinds)
        if kind == "totp" and self._totp is not None:
            return kind
        hint = "set TVBUS_TOTP_SECRET, or run" if kind == "totp" else "run"
        raise ChallengeRequired(
            f"TradingView wants a second factor ({kind}): {hint} `tvbus login` in a terminal once"
        )

    def next_code(self, kind: str) -> SecretStr:
        """Return the code of the next time step that nobody tried, once it has begun."""
        assert self._totp is not None, f"{kind} was not chosen"
        now_ms = self._means.pages.server_now_ms()
        step, wait_ms = self._means.governor.claim_step(now_ms)
        if wait_ms:
            self._means.wait(wait_ms / 1000)
        return self._totp.code(step)

    def told_wrong(self, kind: str) -> None:
        """Do nothing: the next code is another."""


@dataclass(frozen=True, slots=True)
class Entry:
    """TradingView let us in."""

    token: SecretStr
    session: Session | None
    """None where TradingView set no cookies: there is nothing to store."""
    server_ms: int | None


class PasswordSignIn:
    """Signs in with user name and password; each try is counted before it is made."""

    def __init__(self, means: Means) -> None:
        self._clock = means.clock
        self._pages = means.pages
        self._governor = means.governor

    def sign_in(
        self, username: SecretStr, password: SecretStr, codes: Codes, *, person: bool = False
    ) -> Entry:
        """Sign in. Raises SignInError kinds, ConnectFailed or RemoteProtocolError.

        `person`: somebody at a terminal wants it in spite of what the budget says.
        """
        self._governor.begin(person=person)
        answer = self._pages.sign_in(username, password)
        result = read_password_answer(answer)
        if isinstance(result, FactorWanted):
            answer, result = self._second_step(answer, result, codes)
        if isinstance(result, Refusal):
            raise self._remembered(result)
        return self._enter(answer, result, username)

    def _second_step(
        self, first: Answer, wanted: FactorWanted, codes: Codes
    ) -> tuple[Answer, SignedIn | Refusal]:
        kind = codes.choose(wanted.kinds)
        for _ in range(codes.tries):
            answer = self._pages.send_code(kind, codes.next_code(kind), first.cookies)
            result = read_code_answer(answer)
            if isinstance(result, PageShown):
                result = self._look(answer)
            if not isinstance(result, CodeWrong):
                return answer, result
            codes.told_wrong(kind)
        raise self._code_rejected()

    def _look(self, answer: Answer) -> SignedIn | CodeWrong:
        """Find out whether we are in by what the home page has for these cookies."""
        if answer.cookies is None:
            raise RemoteProtocolError("TradingView's second step set no cookies")
        home = read_home(self._pages.home(answer.cookies))
        return CodeWrong() if home is None else SignedIn(home.token, home.nick)

    def _enter(self, answer: Answer, result: SignedIn, username: SecretStr) -> Entry:
        if answer.cookies is None:
            if result.token is None:
                raise RemoteProtocolError("TradingView let us in with neither token nor cookies")
            register_secret(result.token)
            return Entry(result.token, None, answer.server_ms)
        register_cookies(answer.cookies)
        token, nick, server_ms = result.token, result.nick, answer.server_ms
        if token is None:
            home, page = fetch_home(self._pages, answer.cookies)
            token, nick, server_ms = home.token, home.nick, page.server_ms
        register_secret(token)
        session = Session(answer.cookies, username, SecretStr(nick), self._clock.wall_ms())
        return Entry(token, session, server_ms)

    def _remembered(self, refusal: Refusal) -> PublisherError:
        """Keep in mind what must not be tried again; return the error to raise."""
        if refusal.mark is not None:
            self._governor.note(refusal.mark, str(refusal.error))
        return refusal.error

    def _code_rejected(self) -> CredentialsRejected:
        drift_s = round(self._pages.drift_ms / 1000)
        way = "ahead of" if drift_s > 0 else "behind"
        clock = f"is {abs(drift_s)} s {way} TradingView's" if drift_s else "agrees"
        return CredentialsRejected(
            "TradingView does not accept the second factor's code (this machine's clock "
            f"{clock}): is TVBUS_TOTP_SECRET right? Run `tvbus login` to try by hand"
        )


def fetch_home(pages: Pages, cookies: Cookies) -> tuple[Home, Answer]:
    """Return what the home page says to who has these cookies, and the page.

    Raises SessionExpired where it knows nobody, ConnectFailed or RemoteProtocolError
    where the page cannot be read.
    """
    answer = pages.home(cookies)
    home = read_home(answer)
    if home is None:
        raise SessionExpired("TradingView accepts these cookies no longer")
    register_secret(home.token)
    return home, answer


def register_cookies(cookies: Cookies) -> None:
    """Keep cookies out of the logs, however they get into a text."""
    for value in (cookies.sessionid, cookies.sessionid_sign, cookies.device_t):
        register_secret(value)
