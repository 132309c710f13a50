"""Who publishes, and as whom TradingView is read: what the publisher says of itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import orjson

from bus.connection import Client
from publisher.wire import Keys


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """Who publishes."""

    holder: str
    token: int


@dataclass(frozen=True, slots=True)
class SessionReport:
    """As whom TradingView is read, and what the plan allows; None where it is unknown."""

    connected: bool
    trouble: str | None
    """Why it is not signed in, or not connected; empty where all is well."""
    way: str | None
    plan: str | None
    expires_ms: int | None
    """When the token ends, by TradingView's clock."""
    bars_max: int | None
    series_max: int | None
    connections_max: int | None


def lease_of(client: Client, keys: Keys) -> LeaseReport | None:
    """Return who holds the publisher's lease, None if nobody does."""
    known: Any = client.hgetall(keys.publisher)
    clock: Any = client.time()
    now_ms = clock[0] * 1000 + clock[1] // 1000
    if int(known.get(b"expires_ms", 0)) <= now_ms:
        return None
    return LeaseReport(known[b"holder"].decode(), int(known[b"token"]))


def session_of(client: Client, keys: Keys, lease: LeaseReport | None) -> SessionReport | None:
    """Return as whom the holder of the lease reads TradingView, None while it did not say."""
    line: Any = client.hget(keys.publisher, "session")
    try:
        known = orjson.loads(line or b"{}")
        if lease is None or known.pop("fencing_token") != lease.token:
            return None
        return SessionReport(
            **{field.name: known.get(field.name) for field in fields(SessionReport)}
        )
    except (ValueError, KeyError, AttributeError):
        return None


def signin_trouble(client: Client, keys: Keys) -> str:
    """Return why the running publisher cannot sign in; empty where nothing hinders it."""
    session = session_of(client, keys, lease_of(client, keys))
    return session.trouble or "" if session is not None and session.way is None else ""
