"""`tvbus login` and `tvbus logout`: sign in once and keep the session; forget it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from pydantic import SecretStr

from bus.embedded import find_url
from publisher.core.account import Cookies, Session, clean_cookie
from publisher.core.tokens import Token, read_claims
from publisher.errors import SignInError
from publisher.password import Entry, Means, PasswordSignIn, fetch_home, register_cookies
from publisher.settings import AccountSettings
from publisher.shell.vault import Stored
from publisher.signing_in import build_means
from tvbus.asking import AskedCodes, ask, is_terminal, say
from tvbus.exits import FAILURE

FORGOTTEN = {
    "captcha": "that TradingView wanted a captcha",
    "lock": "that TradingView locked sign-ins out",
    "ban": "that TradingView stopped the account",
}


def login(
    context: typer.Context,
    cookies: Annotated[
        bool,
        typer.Option("--cookies", help="Take over a browser's session: the way out of a captcha."),
    ] = False,
) -> None:
    """Sign in once and keep the session; afterwards `tvbus publish` needs no credential.

    Asks for what TVBUS_USERNAME, TVBUS_PASSWORD and TVBUS_TOTP_SECRET do not say. With
    --cookies it asks for the cookies sessionid and sessionid_sign of tradingview.com.

    Example: tvbus login
    """
    settings = context.obj.settings(AccountSettings)
    means = build_means(settings, _bus_url(settings))
    with _cancelling():
        entry = _take_over(settings, means) if cookies else _sign_in(settings, means)
    _keep(settings, means, entry)


def logout(context: typer.Context) -> None:
    """Forget the stored session, and every captcha, lock and ban that TradingView told of.

    Sign-ins that were made still count in the budget.

    Example: tvbus logout
    """
    settings = context.obj.settings(AccountSettings)
    url = _bus_url(settings)
    means = build_means(settings, url)
    removed = means.vault.forget()
    forgiven = means.governor.forgive()
    for what in removed:
        print(f"Removed {what}.")
    if not removed:
        print("No session was stored.")
    for kind in forgiven.kinds:
        print(f"Forgot {FORGOTTEN.get(kind, kind)}.")
    if url is not None and "bus" not in forgiven.places:
        print("The bus cannot be reached; it still knows what it knew of captchas and bans.")


def _bus_url(settings: AccountSettings) -> str | None:
    """Return the bus that is there, for its record of sign-ins."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return find_url(settings.state_dir)


@contextlib.contextmanager
def _cancelling() -> Iterator[None]:
    try:
        yield
    except (typer.Abort, KeyboardInterrupt):
        say("Cancelled; nothing was stored.")
        raise typer.Exit(FAILURE) from None


def _sign_in(settings: AccountSettings, means: Means) -> Entry:
    codes = AskedCodes(settings.totp_secret, means)
    person = _is_wanted_anyway(means)
    username = settings.username or ask("User name or e-mail", "TVBUS_USERNAME")
    password = settings.password or ask("Password", "TVBUS_PASSWORD", hidden=True)
    return PasswordSignIn(means).sign_in(username, password, codes, person=person)


def _is_wanted_anyway(means: Means) -> bool:
    """Ask a person what to do where the budget is spent or TradingView said no.

    Raises SignInError kinds where there is nobody to ask.
    """
    try:
        means.governor.check()
    except SignInError as error:
        if not is_terminal():
            raise
        say(f"{error}.")
        if not typer.confirm("Sign in all the same?", default=False, err=True):
            raise typer.Abort from None
        return True
    return False


def _take_over(settings: AccountSettings, means: Means) -> Entry:
    """Take a browser's session over, once the home page knows it."""
    first = settings.sessionid or ask("Cookie sessionid", "TVBUS_SESSIONID", hidden=True)
    second = settings.sessionid_sign or ask(
        "Cookie sessionid_sign", "TVBUS_SESSIONID_SIGN", hidden=True
    )
    cookies = Cookies(clean_cookie(first, "sessionid"), clean_cookie(second, "sessionid_sign"))
    register_cookies(cookies)
    home, answer = fetch_home(means.pages, cookies)
    session = Session(
        answer.cookies or cookies,
        _typed_name(settings, home.nick),
        SecretStr(home.nick),
        means.clock.wall_ms(),
    )
    return Entry(home.token, session, answer.server_ms)


def _typed_name(settings: AccountSettings, nick: str) -> SecretStr:
    """Return the other name of whose cookies these are: an e-mail address, as far as known."""
    name = settings.username or SecretStr("")
    return name if not nick or "@" in name.get_secret_value() else SecretStr("")


def _keep(settings: AccountSettings, means: Means, entry: Entry) -> None:
    session = entry.session
    if session is None:
        raise SignInError("TradingView let us in but set no cookies, so nothing can be stored")
    try:
        stored = means.vault.save(session)
    except OSError as error:
        raise SignInError(f"signed in, but the session cannot be stored: {error}") from error
    means.governor.forgive()
    name = (session.nick or session.username).get_secret_value()
    print(f"Signed in as {name}." if name else "Signed in.")
    print(_plan(entry.token))
    print(f"The session is stored in {means.vault.path}, {_sealing(stored)}.")
    _tell_next(settings)


def _plan(text: SecretStr) -> str:
    limits = Token(text, "password", read_claims(text.get_secret_value())).limits
    parts = [f"Plan {limits.plan}: {limits.bars:,} intraday bars of a series"]
    if limits.series is not None:
        parts.append(f"{limits.series:,} series")
    if limits.connections is not None:
        parts.append(f"{limits.connections:,} connections")
    return ", ".join(parts) + "."


def _sealing(stored: Stored) -> str:
    if stored.sealing == "state key":
        return "encrypted with TVBUS_STATE_KEY"
    if stored.sealing == "keyring":
        return "encrypted with a key in the system's keyring"
    why = stored.trouble or "to encrypt it set TVBUS_STATE_KEY, or install the extra `keyring`"
    return f"readable by you alone and not encrypted ({why})"


def _tell_next(settings: AccountSettings) -> None:
    first = [
        name
        for name, value in (
            ("TVBUS_AUTH_TOKEN", settings.auth_token),
            ("TVBUS_SESSIONID", settings.sessionid),
        )
        if value is not None
    ]
    if first:
        print(f"{' and '.join(first)} would be used before it: unset what you do not need.")
    else:
        print("`tvbus publish` needs no credential now.")
