"""Looks at the ways into TradingView that are configured, without taking any of them."""

from __future__ import annotations

import time

from publisher.core.tokens import read_claims
from publisher.core.totp import Totp
from publisher.errors import SignInError
from publisher.password import Means
from publisher.settings import AccountSettings, PublisherSettings
from publisher.signing_in import build_means
from tvbus.doctor.facts import AccountFacts, StoredFacts


def look_account(settings: PublisherSettings, redis_url: str | None) -> AccountFacts:
    """Read what is configured and recorded; TradingView is not asked, nothing is counted."""
    means = build_means(settings, redis_url)
    token = settings.auth_token
    return AccountFacts(
        now_ms=time.time_ns() // 1_000_000,
        token=read_claims(token.get_secret_value()) if token else None,
        cookies=settings.sessionid is not None,
        stored=_look_stored(settings, means),
        password=settings.password is not None,
        totp_trouble=_look_totp(settings),
        signin_trouble=_look_governor(means),
        allow_anonymous=settings.allow_anonymous,
        series=len(settings.series),
    )


def _look_stored(settings: AccountSettings, means: Means) -> StoredFacts:
    try:
        session = means.vault.load()
    except SignInError as error:
        return StoredFacts(exists=True, trouble=str(error))
    if session is None:
        return StoredFacts(exists=False)
    username = settings.username
    if username is not None and not session.belongs_to(username.get_secret_value()):
        trouble = "it belongs to another user than TVBUS_USERNAME: run `tvbus login` again"
        return StoredFacts(exists=True, trouble=trouble)
    return StoredFacts(exists=True, signed_in_ms=session.signed_in_ms)


def _look_totp(settings: AccountSettings) -> str:
    if settings.totp_secret is None:
        return ""
    try:
        Totp(settings.totp_secret)
    except SignInError as error:
        return str(error)
    return ""


def _look_governor(means: Means) -> str:
    """Return why no sign-in with a password may be made now; empty where one may."""
    try:
        means.governor.check()
    except SignInError as error:
        return str(error)
    return ""
