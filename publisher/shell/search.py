"""Symbol search at TradingView over HTTP: v3, and v1 where v3 gives nothing to read."""

from __future__ import annotations

from typing import Final

from publisher.core.search import Hunt, Query, Results, Version
from publisher.core.search_parsing import read_page
from publisher.errors import ConnectFailed, RemoteProtocolError
from publisher.web import ask, place

SEARCH_S_MAX: Final = 10.0
"""How long one page may take."""

_PATHS: Final = {3: "/symbol_search/v3/", 1: "/symbol_search/"}
_MISUNDERSTOOD: Final = frozenset({400, 422})


class SymbolSearch:
    """Searches need no account; TradingView wants its own Origin, else it answers 403."""

    def __init__(self, url: str, origin: str, timeout_s: float = SEARCH_S_MAX) -> None:
        self._url = url
        self._headers = {"Origin": origin, "Referer": f"{origin}/"}
        self._timeout_s = timeout_s

    def find(self, query: Query) -> Results:
        """Search, page after page until there is enough.

        Raises ConnectFailed where nothing answers, or asks to slow down, and
        RemoteProtocolError where neither endpoint gives an answer that can be read.
        """
        try:
            return self._hunt(query, 3)
        except RemoteProtocolError as first:
            try:
                return self._hunt(query, 1)
            except RemoteProtocolError:
                raise first from None

    def _hunt(self, query: Query, version: Version) -> Results:
        hunt = Hunt(query, version)
        url = self._url + _PATHS[version]
        while not hunt.done:
            reply = ask(
                url,
                parameters=hunt.parameters(),
                headers=self._headers,
                timeout_s=self._timeout_s,
            )
            if reply.status in _MISUNDERSTOOD and hunt.widen():
                continue
            if reply.status != 200:
                raise _refusal(url, reply.status)
            hunt.receive(read_page(reply.body))
        return hunt.results()


def _refusal(url: str, status: int) -> ConnectFailed | RemoteProtocolError:
    where = place(url)
    if status == 429:
        return ConnectFailed(f"{where} refused the search (429): too many; wait a minute")
    if status == 403:
        return RemoteProtocolError(
            f"{where} refused the search (403): this address is not let in; try another network"
        )
    if status >= 500:
        return RemoteProtocolError(f"{where} is out of order ({status}): try again later")
    return RemoteProtocolError(
        f"{where} answered {status} instead of symbols; check TVBUS_SEARCH_URL"
    )
