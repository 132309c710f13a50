"""How an answer to a request names, for programs, what went wrong."""

from __future__ import annotations

from publisher.errors import PublisherError, SeriesError, StoreError, SymbolUnknown
from publisher.wire.answers import Code


def code_of(error: PublisherError) -> Code:
    """Return how an answer names what went wrong."""
    if isinstance(error, SymbolUnknown):
        return "symbol_unknown"
    if isinstance(error, SeriesError):
        return "series_refused"
    return "store_refused" if isinstance(error, StoreError) else "unanswered"
