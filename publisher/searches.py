"""Requests for a symbol search: made one after the other beside the engine, and answered here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from publisher.codes import code_of
from publisher.core.search import Query, Results, SearchInvalid
from publisher.core.search_parsing import Found
from publisher.delivery import Delivery
from publisher.errors import PublisherError
from publisher.notes import Notes
from publisher.ports import SearchEnded, Searcher
from publisher.wire.answers import Answer, Code, Listing, SymbolFound
from publisher.wire.commands import Command

WAITING_MAX: Final = 8
"""Searches that may be on the way or wait for their turn."""
SEARCH_MS_MAX: Final = 25_000
"""How long one may take, with its wait; who asks waits for 30 s."""
RESULTS: Final = 20
"""How many results are found where nobody says how many."""
CONTRACTS_MAX: Final = 50
"""Contracts of a futures root in an answer."""


@dataclass(frozen=True, slots=True)
class _Asked:
    query: Query
    at_ms: int


class Searches:
    """Searches that somebody waits for; the engine's thread owns them."""

    def __init__(self, searcher: Searcher, delivery: Delivery, notes: Notes) -> None:
        self._searcher = searcher
        self._delivery = delivery
        self._notes = notes
        self._asked: dict[str, _Asked] = {}

    def accept(self, command: Command, now_ms: int) -> None:
        """Begin a search, or refuse it; asked for again under the same ID, it is the same one."""
        if command.id in self._asked:
            return
        try:
            query = Query.parse(
                command.text or "",
                command.exchange or "",
                command.kind or "",
                command.limit or RESULTS,
            )
        except SearchInvalid as error:
            self._refuse(command.id, str(error), "invalid")
            return
        if len(self._asked) >= WAITING_MAX:
            busy = f"{WAITING_MAX} searches wait already: ask again in a few seconds"
            self._refuse(command.id, busy, "busy")
            return
        self._asked[command.id] = _Asked(query, now_ms)
        self._searcher.search(command.id, query)

    def hear(self, ended: SearchEnded, now_ms: int) -> None:
        """Answer who asked, unless that was given up."""
        asked = self._asked.pop(ended.request, None)
        if asked is None:
            return
        match ended.outcome:
            case Results() as results:
                listing = Listing(tuple(map(_symbol, results.found)), results.more)
                self._delivery.answer(ended.request, listing)
                self._notes.tell(
                    "search.completed",
                    text=asked.query.text,
                    results=len(results.found),
                    took_ms=now_ms - asked.at_ms,
                )
            case PublisherError() as error:
                self._refuse(ended.request, str(error), code_of(error))

    def expire(self, now_ms: int) -> None:
        """Give up what takes too long."""
        for request, asked in list(self._asked.items()):
            if now_ms - asked.at_ms >= SEARCH_MS_MAX:
                del self._asked[request]
                overdue = f"TradingView's search did not answer within {SEARCH_MS_MAX // 1000} s"
                self._refuse(request, overdue, "unanswered")

    def stop(self) -> None:
        """Refuse what is not done."""
        for request in self._asked:
            self._refuse(request, "the publisher was stopped: ask again", "stopped")
        self._asked.clear()

    def _refuse(self, request: str, message: str, code: Code) -> None:
        self._delivery.answer(request, Answer("", accepted=False, message=message, code=code))
        self._notes.tell("search.refused", level="warning", reason=message)


def _symbol(found: Found) -> SymbolFound:
    return SymbolFound(
        found.symbol,
        found.exchange,
        found.description,
        found.kind,
        found.exchange_name,
        found.currency,
        found.country,
        tuple(_symbol(contract) for contract in found.contracts[:CONTRACTS_MAX]),
    )
