"""The ways in, in their order: token, cookies, stored session, password, nobody.

A way that is accepted no longer passes on to the next one; every other failure ends
the search, for trying more would only cost sign-ins. Nobody becomes anonymous by
accident: only where nothing at all is configured, or where the settings allow it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import structlog
from pydantic import SecretStr

from publisher.core.account import Cookies, Session, account_of, clean_cookie
from publisher.core.governor import utc_text
from publisher.core.signin import Answer
from publisher.core.tokens import ANONYMOUS, Token, Way, read_claims
from publisher.errors import AccountStopped, SessionExpired, SignInError
from publisher.password import Means, PasswordSignIn, TotpCodes, fetch_home, register_cookies
from publisher.settings import AccountSettings

REFUSED_AGAIN_MS: Final = 600_000
"""Where a token that replaced a refused one is refused within this time, its cookies give up."""

NEW_TOKEN: Final = "copy a new one from the source of tradingview.com, or run `tvbus login`"  # noqa: S105

log = structlog.get_logger("publisher")


@dataclass(frozen=True, slots=True)
class _Replacement:
    """A token that came in place of a refused one."""

    token: Token
    monotonic_ms: int


class Access:
    """Obtains tokens; for one thread."""

    def __init__(self, settings: AccountSettings, means: Means) -> None:
        self._settings = settings
        self._means = means
        self._sign_in = PasswordSignIn(means)
        self._given_refused = False
        self._replacement: _Replacement | None = None

    def obtain(self, rejected: Token | None = None) -> Token:
        """Return a token, another than the rejected one.

        Raises SignInError kinds; ConnectFailed or RemoteProtocolError where
        TradingView's pages cannot be used now. Blocks for as long as it takes.
        """
        self._means.governor.check_ban()
        failures: list[SignInError] = []
        try:
            token = self._first(rejected, failures)
        except SignInError as error:
            if error.retryable or isinstance(error, AccountStopped):
                raise
            failures.append(error)
            token = None
        told = tuple(str(error) for error in failures)
        if token is not None:
            return replace(token, failures=told)
        refused = rejected is not None and rejected.anonymous
        if failures and (refused or not self._settings.allow_anonymous):
            raise failures[-1]
        if refused:
            raise SignInError("TradingView lets nobody read anonymously now: run `tvbus login`")
        return replace(ANONYMOUS, failures=told)

    def stamp(self) -> int | None:
        """Return what changes when a person signs in; None where no session is stored."""
        return self._means.vault.stamp()

    def stop(self, reason: str) -> None:
        """TradingView banned us: let no token be had until a person signed in."""
        self._means.governor.stop(reason)

    def _first(self, rejected: Token | None, failures: list[SignInError]) -> Token | None:
        """Return the first token that can be had, None where no way is configured or left."""
        for way in (self._by_token, self._by_cookies, self._by_stored, self._by_password):
            try:
                token = way(rejected)
            except SessionExpired as error:
                failures.append(error)
            else:
                if token is not None:
                    return token
        return None

    def _by_token(self, rejected: Token | None) -> Token | None:
        text = self._settings.auth_token
        if text is None:
            return None
        if rejected is not None and rejected.way == "token":
            self._given_refused = True
        if self._given_refused:
            raise SessionExpired(
                f"TVBUS_AUTH_TOKEN is accepted no longer or ends soon: {NEW_TOKEN}"
            )
        claims = read_claims(text.get_secret_value())
        if claims.expires_ms is not None and claims.expires_ms <= self._means.clock.wall_ms():
            raise SessionExpired(
                f"TVBUS_AUTH_TOKEN expired at {utc_text(claims.expires_ms)}: {NEW_TOKEN}"
            )
        return Token(text, "token", claims, account=self._account(self._settings.username))

    def _by_cookies(self, rejected: Token | None) -> Token | None:
        first, second = self._settings.sessionid, self._settings.sessionid_sign
        if first is None or second is None:
            return None
        cookies = Cookies(clean_cookie(first, "sessionid"), clean_cookie(second, "sessionid_sign"))
        register_cookies(cookies)
        try:
            return self._fetch("cookies", cookies, self._settings.username, rejected)[0]
        except SessionExpired as error:
            raise SessionExpired(
                f"TVBUS_SESSIONID and TVBUS_SESSIONID_SIGN are no use: {error}; copy new ones from "
                "a browser, or run `tvbus login`"
            ) from error

    def _by_stored(self, rejected: Token | None) -> Token | None:
        session = self._means.vault.load()
        if session is None:
            return None
        username = self._settings.username
        if username is not None and not session.belongs_to(username.get_secret_value()):
            raise SessionExpired(
                "the stored session belongs to another user than TVBUS_USERNAME; "
                "run `tvbus login` again"
            )
        register_cookies(session.cookies)
        try:
            token, answer = self._fetch("stored session", session.cookies, _user(session), rejected)
        except SessionExpired as error:
            raise SessionExpired(
                f"the stored session is no use: {error}; run `tvbus login` again"
            ) from error
        if answer.cookies is not None and answer.cookies != session.cookies:
            self._store(replace(session, cookies=answer.cookies))
        return token

    def _by_password(self, _: Token | None) -> Token | None:
        username, password = self._settings.username, self._settings.password
        if username is None or password is None:
            return None
        codes = TotpCodes(self._settings.totp_secret, self._means)
        entry = self._sign_in.sign_in(username, password, codes)
        if entry.session is None:
            log.warning("signin.unstored", reason="TradingView set no cookies")
        else:
            self._store(entry.session)
        return self._token(entry.token, "password", username, entry.server_ms)

    def _fetch(
        self, way: Way, cookies: Cookies, username: SecretStr | None, rejected: Token | None
    ) -> tuple[Token, Answer]:
        """Return a new token for cookies, once for each that is refused."""
        if rejected is not None and self._refused_again(rejected):
            raise SessionExpired("TradingView refuses the new token of these cookies too")
        home, answer = fetch_home(self._means.pages, cookies)
        if rejected is not None and home.token == rejected.text:
            raise SessionExpired("TradingView gives the token again that it refuses")
        token = self._token(home.token, way, username, answer.server_ms)
        if rejected is not None:
            self._replacement = _Replacement(token, self._means.clock.monotonic_ms())
        return token, answer

    def _refused_again(self, rejected: Token) -> bool:
        """Whether a new token is refused as the one before was, though it has not ended."""
        known = self._replacement
        if known is None or known.token.text != rejected.text:
            return False
        expires_ms = rejected.claims.expires_ms
        if expires_ms is not None and expires_ms <= self._means.pages.server_now_ms():
            return False
        return self._means.clock.monotonic_ms() - known.monotonic_ms < REFUSED_AGAIN_MS

    def _store(self, session: Session) -> None:
        """Store a session; signed in we are in any case."""
        register_cookies(session.cookies)
        try:
            stored = self._means.vault.save(session)
        except OSError as error:
            log.warning("signin.unstored", reason=str(error))
            return
        if stored.trouble:
            log.warning("signin.unencrypted", reason=stored.trouble)

    def _token(
        self, text: SecretStr, way: Way, username: SecretStr | None, server_ms: int | None
    ) -> Token:
        claims = read_claims(text.get_secret_value())
        drift_ms = self._means.pages.drift_ms
        account = self._account(username)
        return Token(text, way, claims, server_ms, drift_ms, account=account)

    def _account(self, username: SecretStr | None) -> str:
        return "" if username is None else account_of(username.get_secret_value())


def _user(session: Session) -> SecretStr | None:
    return session.username or session.nick or None
