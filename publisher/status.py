"""How the publisher does: for the health page and the metrics, and for who looks at the bus."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from publisher.core.tokens import Token


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot, replaced after every turn; read from other threads."""

    turned_ms: int
    """Monotonic time of the last turn."""
    connected: bool
    signed_in: str
    """The way in that was taken, empty while there is none."""
    signin_trouble: str
    store_trouble: str
    series: int
    live: int
    waiting_bars: int
    counts: dict[str, int]
    """How often each event happened since this publisher took the lease."""


def session_line(
    fencing_token: int, token: Token | None, *, connected: bool, trouble: str
) -> bytes:
    """Return what stands in the field `session` of the publisher's hash, JSON.

    Times are ms, UTC, by TradingView's clock. A line with another fencing token than
    the lease's is of an earlier publisher.
    """
    limits = token.limits if token is not None else None
    return orjson.dumps(
        {
            "fencing_token": fencing_token,
            "connected": connected,
            "trouble": trouble,
            "way": token.way if token is not None else None,
            "plan": limits.plan if limits is not None else None,
            "expires_ms": token.claims.expires_ms if token is not None else None,
            "bars_max": limits.bars if limits is not None else None,
            "series_max": limits.series if limits is not None else None,
            "connections_max": limits.connections if limits is not None else None,
        }
    )
