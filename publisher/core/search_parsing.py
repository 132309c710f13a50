"""What TradingView's symbol search answers, read into symbols that a series can name."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from publisher.errors import RemoteProtocolError
from publisher.wire import Series, SeriesInvalid

DESCRIPTION_CHARACTERS_MAX: Final = 200
CONTRACTS_MAX: Final = 200
"""Contracts of one root that are read."""

_TAG: Final = re.compile(r"</?em>", re.IGNORECASE)
# Without its semicolon `&LT` is part of a name, as in `L&T`, and no entity.
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@dataclass(frozen=True, slots=True)
class Found:
    """One symbol that TradingView knows."""

    symbol: str
    exchange: str
    """As the websocket knows it, and so the series: `CME_MINI` where people say CME."""
    description: str
    kind: str
    """TradingView's word, such as `stock` or `swap`."""
    exchange_name: str
    currency: str
    country: str
    specs: frozenset[str] = frozenset()
    contracts: tuple[Found, ...] = ()
    """Of a futures root, which is not usable itself."""

    @property
    def usable(self) -> bool:
        """False for a futures root: the websocket does not know it."""
        return not self.contracts

    def series(self, interval: str) -> Series:
        """Return its series at an interval in canonical form."""
        return Series(self.symbol, self.exchange, interval)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    found: tuple[Found, ...]
    remaining: int
    """How many more TradingView says there are."""
    unreadable: int
    """Items that name no symbol, or one that no series can have."""


def read_page(body: bytes) -> Page:
    """Read an answer of either endpoint. Raises RemoteProtocolError where it is none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RemoteProtocolError(f"TradingView's search sent no JSON: {error}") from None
    items = answer.get("symbols") if isinstance(answer, dict) else answer
    if not isinstance(items, list):
        raise RemoteProtocolError("TradingView's search sent no list of symbols")
    read = [_read_item(item) for item in items]
    found = tuple(one for one in read if one is not None)
    if items and not found:
        raise RemoteProtocolError("TradingView's search sent symbols that cannot be read")
    remaining = answer.get("symbols_remaining") if isinstance(answer, dict) else 0
    return Page(found, _count(remaining), len(items) - len(found))


def _count(value: Any) -> int:
    """Return a number of symbols, 0 where it is none."""
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def _read_item(item: Any) -> Found | None:
    if not isinstance(item, dict):
        return None
    one = _read_symbol(item, None)
    if one is None:
        return None
    listed = item.get("contracts")
    contracts = listed[:CONTRACTS_MAX] if isinstance(listed, list) else []
    read = (_read_symbol(part, one) for part in contracts if isinstance(part, dict))
    return replace(one, contracts=tuple(part for part in read if part is not None))


def _read_symbol(item: dict[str, Any], root: Found | None) -> Found | None:
    """Read an item, or a contract, which has of itself what differs from its root."""
    own = (_plain(item.get(name)) for name in ("prefix", "source_id", "exchange"))
    exchange = next(filter(None, own), root.exchange if root else "")
    specs = item.get("typespecs")
    found = Found(
        _plain(item.get("symbol")).upper(),
        exchange.upper(),
        _plain(item.get("description")) or (root.description if root else ""),
        _plain(item.get("type")) or (root.kind if root else ""),
        _plain(item.get("exchange")) or (root.exchange_name if root else ""),
        _plain(item.get("currency_code")) or (root.currency if root else ""),
        _plain(item.get("country")) or (root.country if root else ""),
        frozenset(map(str, specs)) if isinstance(specs, list) else frozenset(),
    )
    try:
        found.series("1D")
    except SeriesInvalid:
        return None
    return found


def _plain(value: Any) -> str:
    """Return a text without tags, entities and what could rewrite a terminal."""
    if not isinstance(value, str):
        return ""
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), _TAG.sub("", value))
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:DESCRIPTION_CHARACTERS_MAX]
