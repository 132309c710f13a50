"""Looks at the ways into TradingView that are configured, without taking any of them."""

from __future__ import annotations

import time

from publisher.core.tokens import read_claims
from publisher.settings import PublisherSettings
from tvbus.doctor.facts import AccountFacts, StoredFacts


def look_account(settings: PublisherSettings) -> AccountFacts:
    """Read what is configured; TradingView is not asked."""
    token = settings.auth_token
    return AccountFacts(
        now_ms=time.time_ns() // 1_000_000,
        token=read_claims(token.get_secret_value()) if token else None,
        cookies=settings.sessionid is not None,
        stored=_look_stored(settings),
        password=settings.password is not None,
        allow_anonymous=settings.allow_anonymous,
        series=len(settings.series),
    )


def _look_stored(settings: PublisherSettings) -> StoredFacts:
    path = settings.state_dir / "signin" / "session"
    return StoredFacts(path.exists())
