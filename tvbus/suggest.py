"""What may have been meant where TradingView does not know a symbol."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Final

import structlog

from publisher.core.search import Query, SearchInvalid, suggest
from publisher.errors import PublisherError
from publisher.settings import ORIGIN, WebSettings
from publisher.shell.search import SymbolSearch
from publisher.wire import Series, SeriesInvalid
from publisher.wire.answers import Answer

SUGGEST_S_MAX: Final = 3.0
"""How long one question may take; a suggestion is not worth a long wait."""
SEARCHED_MAX: Final = 5
"""How many refused series of one command are searched for."""


def is_unknown(answer: Answer) -> bool:
    """Whether the publisher says that TradingView does not know the symbol."""
    return not answer.accepted and answer.code == "symbol_unknown"


def suggestions(settings: WebSettings, series: Series) -> list[str]:
    """Return series that may have been meant, the likeliest first; none where searching fails."""
    search = SymbolSearch(settings.search_url, ORIGIN, SUGGEST_S_MAX)
    try:
        results = search.find(Query.parse(series.symbol, limit=50))
    except (PublisherError, SearchInvalid) as error:
        structlog.get_logger("tvbus").debug("search.failed", reason=str(error))
        return []
    return [str(one) for one in suggest(series, results.found)]


def advice(meant: list[str]) -> str:
    """Return what to say of suggestions; empty where there are none."""
    return f"did you mean {', '.join(meant)}?" if meant else ""


def did_you_mean(settings: WebSettings, answers: Iterable[Answer]) -> dict[str, str]:
    """Return a line for each refused series that has suggestions, by its text.

    Only the first few are searched for, and none after a slow answer.
    """
    unknown = [answer.series for answer in answers if is_unknown(answer)]
    end_s = time.monotonic() + SUGGEST_S_MAX
    lines = {}
    for text in unknown[:SEARCHED_MAX]:
        with contextlib.suppress(SeriesInvalid):
            if line := advice(suggestions(settings, Series.parse(text))):
                lines[text] = line
        if time.monotonic() > end_s:
            break
    return lines
