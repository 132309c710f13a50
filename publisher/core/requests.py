"""What the publisher says to TradingView, each as one payload of ASCII-only JSON.

ASCII-only, because then bytes, characters and UTF-16 units are the same number
and no reader can count the frame's length differently.
"""

from __future__ import annotations

import json

from publisher.core.messages import RESOLUTIONS
from publisher.wire import Series


def set_auth_token(token: str) -> str:
    """Tell who asks; may be said again on a live connection."""
    return _payload("set_auth_token", token)


def set_locale() -> str:
    """Ask for English texts."""
    return _payload("set_locale", "en", "US")


def chart_create_session(session: str) -> str:
    """Open a chart session; any unique text names it."""
    return _payload("chart_create_session", session, "")


def chart_delete_session(session: str) -> str:
    """Close a chart session and all that is in it."""
    return _payload("chart_delete_session", session)


def switch_timezone(session: str) -> str:
    """Keep the axis in UTC; bar times are UTC in any zone."""
    return _payload("switch_timezone", session, "Etc/UTC")


def resolve_symbol(session: str, symbol_id: str, series: Series) -> str:
    """Name the symbol of a series, with the options that change its data."""
    symbol = {
        "symbol": f"{series.exchange}:{series.symbol}",
        "adjustment": "dividends" if series.dividends else "splits",
    }
    if series.extended:
        symbol["session"] = "extended"
    if series.currency:
        symbol["currency-id"] = series.currency
    return _payload("resolve_symbol", session, symbol_id, "=" + _json(symbol))


def create_series(
    session: str, slot: str, *, turnaround: str, symbol_id: str, interval: str, bars: int
) -> str:
    """Ask for the newest bars of a resolved symbol and for all that follow."""
    resolution = RESOLUTIONS[interval]
    return _payload("create_series", session, slot, turnaround, symbol_id, resolution, bars, "")


def request_more_data(session: str, slot: str, bars: int) -> str:
    """Ask for so many bars before the oldest one received."""
    return _payload("request_more_data", session, slot, bars)


def _payload(name: str, *parameters: object) -> str:
    return _json({"m": name, "p": list(parameters)})


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
