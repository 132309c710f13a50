"""The symbol search of the simulated TradingView, both versions. Pure: time is passed in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Final

from publisher.simulator.calendar import utc_day
from publisher.simulator.symbol_info import SOURCES, TYPES
from publisher.simulator.symbols import SYMBOLS, Symbol

PAGE: Final = 50
"""Symbols in one answer."""

CONTRACTS: Final = 4
"""Dated contracts of a future that are listed, the next to expire first."""

_CONTINUOUS: Final = "1!"
_MONTHS: Final = MappingProxyType({3: "H", 6: "M", 9: "U", 12: "Z"})
_EVERY_TYPE: Final = frozenset({"", "undefined"})
_KINDS: Final = MappingProxyType(
    {
        "stock": ("stock",),
        "stocks": ("stock",),
        "futures": ("futures",),
        "forex": ("forex",),
        "crypto": ("crypto", "swap"),
        "index": ("index",),
        "indices": ("index",),
        "economic": ("economic",),
    }
)
"""What each `search_type` finds; one that is not here finds nothing."""

_V1_KEYS: Final = (
    *("symbol", "description", "type", "exchange", "currency_code", "logoid"),
    *("provider_id", "country", "typespecs", "prefix", "contracts"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A symbol as the search lists it: futures by their root, which is not a symbol itself."""

    name: str
    symbol: Symbol

    @property
    def is_root(self) -> bool:
        """True for a future."""
        return self.name != self.symbol.name

    @property
    def kind(self) -> str:
        """What `search_type` calls it."""
        return "economic" if self.symbol.exchange == "ECONOMICS" else self.symbol.kind

    @property
    def exchange(self) -> str:
        """The exchange as people know it."""
        return self.symbol.exchange.partition("_")[0] if self.is_root else self.symbol.exchange


def search_v3(query: Mapping[str, str], now_ms: int) -> dict[str, Any]:
    """Return the answer of version 3: a page that begins at `start`, and how many remain."""
    text = query.get("start", "")
    start = int(text) if text.isascii() and text.isdecimal() else 0
    found = _find(query, query.get("search_type", ""))
    mark = _marker(query)
    return {
        "symbols_remaining": max(0, len(found) - start - PAGE),
        "symbols": [_item(one, mark, now_ms) for one in found[start : start + PAGE]],
    }


def search_v1(query: Mapping[str, str], now_ms: int) -> list[dict[str, Any]]:
    """Return the answer of version 1: the first page, with fewer keys."""
    mark = _marker(query)
    items = [_item(one, mark, now_ms) for one in _find(query, query.get("type", ""))[:PAGE]]
    return [{key: item[key] for key in _V1_KEYS if key in item} for item in items]


def _listed() -> Iterator[Found]:
    for symbol in SYMBOLS.values():
        is_future = symbol.kind == "futures"
        yield Found(symbol.name.removesuffix(_CONTINUOUS) if is_future else symbol.name, symbol)


def _find(query: Mapping[str, str], search_type: str) -> list[Found]:
    """Return what matches, best first."""
    prefix, _, text = query.get("text", "").strip().upper().rpartition(":")
    wanted = {exchange for exchange in (prefix, query.get("exchange", "").upper()) if exchange}
    ranked = []
    for found in _listed():
        right = wanted <= {found.exchange, found.symbol.exchange}
        if right and _is_of(found, search_type) and (rank := _rank(found, text)) is not None:
            ranked.append((rank, found))
    return [found for _, found in sorted(ranked, key=lambda pair: pair[0])]


def _is_of(found: Found, search_type: str) -> bool:
    return search_type in _EVERY_TYPE or found.kind in _KINDS.get(search_type, ())


def _rank(found: Found, text: str) -> int | None:
    if text in {found.name, found.symbol.name}:
        return 0
    if found.name.startswith(text):
        return 1
    if text in found.name:
        return 2
    return 3 if text in found.symbol.description.upper() else None


def _marker(query: Mapping[str, str]) -> Callable[[str], str]:
    text = query.get("text", "").strip().rpartition(":")[2]
    if query.get("hl") != "1" or not text:
        return lambda value: value
    pattern = re.compile(re.escape(text), re.IGNORECASE)
    return lambda value: pattern.sub(lambda match: f"<em>{match[0]}</em>", value)


def _item(found: Found, mark: Callable[[str], str], now_ms: int) -> dict[str, Any]:
    symbol = found.symbol
    country, source, _ = SOURCES.get(symbol.exchange, ("", symbol.exchange, ""))
    country = country or ("US" if symbol.kind == "stock" else "")
    type_, typespecs = TYPES[symbol.kind]
    logo = symbol.name.lower()
    item: dict[str, Any] = {
        "symbol": mark(found.name),
        "description": mark(symbol.description),
        "type": "economic" if found.kind == "economic" else type_,
        "exchange": found.exchange,
        "found_by_isin": False,
        "found_by_cusip": False,
        "currency_code": symbol.currency,
        "currency-logoid": f"country/{symbol.currency[:2]}",
        "logoid": logo,
        "logo": {"style": "single", "logoid": logo},
        "provider_id": symbol.exchange.lower(),
        "source_logoid": f"source/{symbol.exchange}",
        "source2": {"id": symbol.exchange, "name": source},
        "source_id": symbol.exchange,
        "typespecs": [] if found.is_root else list(typespecs),
    }
    if country:
        item["country"] = country
    if symbol.kind == "stock":
        item |= {"cusip": "000000000", "isin": f"{country}0000000000", "cik_code": "0000000000"}
        item["is_primary_listing"] = True
    if found.is_root:
        item |= {"prefix": symbol.exchange, "contracts": _contracts(found, utc_day(now_ms))}
    return item


def _contracts(found: Found, today: date) -> list[dict[str, Any]]:
    description = found.symbol.description
    continuous = {
        "symbol": found.symbol.name,
        "description": description,
        "typespecs": ["continuous", "synthetic"],
    }
    return [continuous] + [
        {
            "symbol": f"{found.name}{_MONTHS[month.month]}{month.year}",
            "description": f"{description} ({month:%b %Y})",
            "typespecs": [],
        }
        for month in _expiries(today)
    ]


def _expiries(today: date) -> list[date]:
    quarters = [
        date(year, month, 1)
        for year in (today.year, today.year + 1, today.year + 2)
        for month in _MONTHS
    ]
    return [quarter for quarter in quarters if quarter >= today.replace(day=1)][:CONTRACTS]
