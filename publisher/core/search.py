"""TradingView's symbol search: what to ask, and what the answers mean.

There are two endpoints. v3 answers `{"symbols_remaining": N, "symbols": […]}`, 50 a
page, and pages by `start` where it pages at all; v1 answers with a bare list. What
either makes of a wanted exchange or type is not certain, so the answer is filtered
here too, and where a narrow search finds nothing a wide one follows.

A futures root (`ES`) is found by the search and unknown to the websocket, which
takes `ES1!` or a dated contract: it is given with its contracts, and is not usable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from publisher.core.search_parsing import Found, Page
from publisher.wire import SYMBOL_LENGTH_MAX, Series

LIMIT_MAX: Final = 500
"""How many results may be wanted."""
PAGES_MAX: Final = 10
"""How many pages one search asks for, narrow and wide together."""
SUGGESTIONS_MAX: Final = 5
SUGGESTED_CONTRACTS_MAX: Final = 2
"""Contracts of one root among the suggestions."""

Version = Literal[1, 3]


@dataclass(frozen=True, slots=True)
class _Kind:
    asked: str
    """What v3's `search_type` calls it; v1 uses our word."""
    types: frozenset[str]
    specs: frozenset[str] = frozenset()
    """Items of any type that bear one of these `typespecs` belong to it too."""


KINDS: Final = MappingProxyType(
    {
        "stock": _Kind("stocks", frozenset({"stock", "dr", "right", "warrant"})),
        "fund": _Kind("funds", frozenset({"fund", "structured"})),
        "futures": _Kind("futures", frozenset({"futures"})),
        "forex": _Kind("forex", frozenset({"forex"})),
        "crypto": _Kind("crypto", frozenset({"crypto"}), frozenset({"crypto"})),
        "index": _Kind("indices", frozenset({"index"})),
        "bond": _Kind("bonds", frozenset({"bond"})),
        "economic": _Kind("economic", frozenset({"economic"})),
        "option": _Kind("options", frozenset({"option"})),
        "cfd": _Kind("cfd", frozenset({"cfd", "commodity"}), frozenset({"cfd"})),
    }
)
"""The types that a search can be narrowed to; TradingView's plurals are accepted."""

_PLURALS: Final = {kind.asked: name for name, kind in KINDS.items()}


class SearchInvalid(ValueError):
    """Nothing can be searched for like this; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for."""

    text: str
    exchange: str = ""
    """Upper case; empty: every exchange."""
    kind: str = ""
    """One of KINDS; empty: all."""
    limit: int = 20

    @classmethod
    def parse(cls, text: str, exchange: str = "", kind: str = "", limit: int = 20) -> Query:
        """Check what a person typed; `NASDAQ:AAPL` names the exchange too. Raises SearchInvalid."""
        text, exchange = text.strip(), exchange.strip().upper()
        first, colon, rest = text.partition(":")
        if colon and not exchange and rest.strip() and " " not in first:
            exchange, text = first.upper(), rest.strip()
        for what, value in (("the text", text), ("exchange", exchange)):
            _check_text(what, value)
        if not text:
            raise SearchInvalid("say what to look for, a symbol or a part of a name")
        if not 1 <= limit <= LIMIT_MAX:
            raise SearchInvalid(f"limit must be 1 to {LIMIT_MAX}, was {limit}")
        return cls(text, exchange, _parse_kind(kind), limit)


def _check_text(what: str, value: str) -> None:
    if len(value) > SYMBOL_LENGTH_MAX:
        raise SearchInvalid(
            f"{what} must have at most {SYMBOL_LENGTH_MAX} characters, had {len(value)}"
        )
    if not value.isprintable():
        raise SearchInvalid(f"{what} must be printable, was {value!r}")


def _parse_kind(typed: str) -> str:
    word = typed.strip().lower()
    kind = _PLURALS.get(word, word)
    if kind and kind not in KINDS:
        raise SearchInvalid(f"type must be one of {', '.join(KINDS)}, was {typed!r}")
    return kind


@dataclass(frozen=True, slots=True)
class Results:
    """What a search found, the best first."""

    found: tuple[Found, ...]
    more: int
    """How many more there are, at most."""
    unreadable: int


class Hunt:
    """One search: says what to ask next and gathers what comes; the caller asks."""

    def __init__(self, query: Query, version: Version) -> None:
        self._query = query
        self._version = version
        self._narrow = bool(query.exchange or query.kind)
        self._found: dict[tuple[str, str, bool], Found] = {}
        """By exchange, symbol and whether it is usable: an index may be named as a root is."""
        self._start = 0
        self._pages = 0
        self._remaining = 0
        self._unreadable = 0
        self.done = False
        """True once nothing more is to be asked."""

    def parameters(self) -> dict[str, str]:
        """Return what to ask now."""
        query, narrow = self._query, self._narrow
        exchange = query.exchange if narrow else ""
        common = {"text": query.text, "hl": "1", "exchange": exchange, "lang": "en"}
        if self._version == 1:
            kind = query.kind if narrow else ""
            return {**common, "type": kind, "domain": "production"}
        kind = KINDS[query.kind].asked if query.kind and narrow else "undefined"
        start = str(self._start)
        return {**common, "search_type": kind, "start": start, "domain": "production"}

    def receive(self, page: Page) -> None:
        """Take an answer to what was asked."""
        self._pages += 1
        self._remaining = page.remaining
        self._start += len(page.found) + page.unreadable
        count = len(self._found)
        self._found.update({(one.exchange, one.symbol, one.usable): one for one in page.found})
        # A page that brings nothing new is the last one again: it does not page.
        repeated = len(self._found) == count
        self._unreadable += 0 if repeated else page.unreadable
        ended = self._version == 1 or not page.remaining or repeated
        enough = len(self._wanted()) >= self._query.limit
        if enough or self._pages == PAGES_MAX:
            self.done = True
        elif ended:
            self.done = bool(self._wanted()) or not self.widen()

    def widen(self) -> bool:
        """Ask from now on without narrowing; False where that is the same."""
        widened, self._narrow = self._narrow, False
        self._start = self._remaining = 0
        return widened

    def results(self) -> Results:
        """Return what was found so far."""
        wanted = self._wanted()
        limit = self._query.limit
        more = max(0, len(wanted) - limit) + self._remaining
        return Results(tuple(wanted[:limit]), more, self._unreadable)

    def _wanted(self) -> list[Found]:
        return [one for one in self._found.values() if _belongs(one, self._query)]


def _belongs(one: Found, query: Query) -> bool:
    if query.exchange and query.exchange not in {one.exchange, one.exchange_name.upper()}:
        return False
    if not query.kind:
        return True
    kind = KINDS[query.kind]
    return one.kind in kind.types or bool(one.specs & kind.specs)


def suggest(series: Series, found: Iterable[Found]) -> list[Series]:
    """Return what may have been meant: the symbol elsewhere, then others, this exchange first."""
    offered = [(one, choice) for one in found for choice in _choices(one)]
    offered.sort(key=lambda pair: _distance(series, *pair))
    meant = (
        replace(series, symbol=choice.symbol, exchange=choice.exchange) for _, choice in offered
    )
    return [one for one in dict.fromkeys(meant) if one != series][:SUGGESTIONS_MAX]


def _choices(one: Found) -> Sequence[Found]:
    return (one,) if one.usable else one.contracts[:SUGGESTED_CONTRACTS_MAX]


def _distance(series: Series, one: Found, choice: Found) -> int:
    if series.symbol in {one.symbol, choice.symbol}:
        return 0
    return 1 if choice.exchange == series.exchange else 2
