"""Looks at TradingView from outside: one HEAD to its page, one to its websocket's host."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from publisher.errors import ConnectFailed
from publisher.settings import ORIGIN, PublisherSettings
from publisher.web import ask, place
from tvbus.doctor.facts import PageFacts

LOOK_S_MAX: Final = 8.0
DATE_STEP_MS: Final = 1_000
"""A Date header tells whole seconds."""


def look_page(settings: PublisherSettings) -> PageFacts:
    """Ask TradingView's page for nothing but its headers."""
    return _look(settings.web_url + "/")


def look_socket(settings: PublisherSettings) -> PageFacts:
    """Ask the websocket's host the same: its name, its port and TLS are tried, no session."""
    parts = urlsplit(settings.ws_url)
    scheme = "https" if parts.scheme == "wss" else "http"
    return _look(parts._replace(scheme=scheme).geturl())


def _look(url: str) -> PageFacts:
    begun_ms = time.time_ns() // 1_000_000
    try:
        reply = ask(url, method="HEAD", headers={"Origin": ORIGIN}, timeout_s=LOOK_S_MAX)
    except ConnectFailed as error:
        return PageFacts(place(url), trouble=str(error))
    ended_ms = time.time_ns() // 1_000_000
    ahead_ms = drift_ms(reply.headers, begun_ms, ended_ms)
    return PageFacts(place(url), reply.status, ahead_ms=ahead_ms)


def drift_ms(headers: Mapping[str, str], begun_ms: int, ended_ms: int) -> int | None:
    """Return how far a clock is certainly ahead of the one that wrote the Date header.

    Negative where it is behind, 0 where they may agree, None where nothing was told: a
    page from a cache, which has an Age, tells an older time.
    """
    if headers.get("Age", "0").strip() != "0":
        return None
    try:
        date_ms = int(parsedate_to_datetime(headers.get("Date", "")).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, begun_ms - date_ms - DATE_STEP_MS) + min(0, ended_ms - date_ms)
