"""What the publisher answers: elements of the list `tv:replies:ID`, which expires.

Each series of a request gets one last answer; progress and the bars of a request for
history come before it. A search is answered by a listing, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

from publisher.wire import EntryMalformed
from publisher.wire.commands import TIME_MS_MAX, whole

REPLIES_EXPIRE_MS: Final = 60_000
CHUNK_BARS_MAX: Final = 500
"""How many bars one element of the replies list holds."""

Code = Literal[
    "",
    "symbol_unknown",
    "series_refused",
    "store_refused",
    "invalid",
    "switched_off",
    "budget_spent",
    "busy",
    "unanswered",
    "stopped",
]
"""Why a request was refused, for programs; newer publishers may know more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The publisher's answer about one series of a request; the last one about it."""

    series: str
    accepted: bool
    message: str
    code: str = ""
    """Why it was refused, one of `Code` or a newer one; empty where it was not."""
    complete: bool | None = None
    """History: False where bars that were asked for are missing; the message says why."""
    count: int | None = None
    """History: how many bars were sent before this answer."""

    def encode(self) -> bytes:
        """Return the JSON that stands in the replies list."""
        values = {"series": self.series, "accepted": self.accepted, "message": self.message}
        more = {"code": self.code or None, "complete": self.complete, "count": self.count}
        return orjson.dumps(values | {k: v for k, v in more.items() if v is not None})

    @classmethod
    def decode(cls, text: bytes) -> Answer:
        """Read an answer. Raises EntryMalformed."""
        try:
            values = orjson.loads(text)
            series, accepted, message = values["series"], values["accepted"], values["message"]
        except (ValueError, KeyError, TypeError) as error:
            raise EntryMalformed(f"answer is malformed: {error!r}") from error
        if not isinstance(series, str) or not isinstance(message, str):
            raise EntryMalformed(f"series and message must be texts, was {text!r}")
        if not isinstance(accepted, bool):
            raise EntryMalformed(f"accepted must be true or false, was {accepted!r}")
        code, complete = values.get("code", ""), values.get("complete")
        if not isinstance(code, str):
            raise EntryMalformed(f"code must be text, was {code!r}")
        if complete is not None and not isinstance(complete, bool):
            raise EntryMalformed(f"complete must be true or false, was {complete!r}")
        count = whole(values, "count", 0, TIME_MS_MAX)
        return cls(series, accepted, message, code, complete, count)


class HistoryBar(NamedTuple):
    """A closed bar, in the order and the units of the contract's keys t o h l c v e."""

    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    end_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The request is being worked on."""

    series: str
    bars: int
    """How many have come from TradingView."""
    wanted: int | None
    """How many are asked for, None where that is not known."""

    def encode(self) -> bytes:
        """Return the JSON that stands in the replies list."""
        values = {"series": self.series, "progress": self.bars, "wanted": self.wanted}
        return orjson.dumps(values)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of the bars, oldest first; later chunks hold newer ones."""

    series: str
    bars: tuple[HistoryBar, ...]

    def encode(self) -> bytes:
        """Return the JSON that stands in the replies list."""
        return orjson.dumps({"series": self.series, "bars": [tuple(bar) for bar in self.bars]})


@dataclass(frozen=True, slots=True)
class SymbolFound:
    """A symbol that a search found."""

    symbol: str
    exchange: str
    """As a series names it: `CME_MINI` where people say CME."""
    description: str = ""
    kind: str = ""
    """TradingView's word, such as `stock` or `swap`; `type` on the bus."""
    exchange_name: str = ""
    currency: str = ""
    country: str = ""
    contracts: tuple[SymbolFound, ...] = ()
    """Of a futures root, which names no series itself; its contracts do."""

    def values(self) -> dict[str, Any]:
        """Return it as it stands on the bus."""
        own: dict[str, Any] = {key: getattr(self, name) for key, name in _FOUND.items()}
        contracts = [contract.values() for contract in self.contracts]
        return own | ({"contracts": contracts} if contracts else {})


_FOUND: Final = {
    "symbol": "symbol",
    "exchange": "exchange",
    "description": "description",
    "type": "kind",
    "exchange_name": "exchange_name",
    "currency": "currency",
    "country": "country",
}
"""Keys on the bus, and whose values they hold."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a search found, the best first: its one answer, unless it is refused."""

    found: tuple[SymbolFound, ...]
    more: int = 0
    """How many more there are, at most."""

    def encode(self) -> bytes:
        """Return the JSON that stands in the replies list."""
        results = [one.values() for one in self.found]
        message = f"{len(results)} symbols"
        values = {"series": "", "accepted": True, "message": message, "count": len(results)}
        return orjson.dumps(values | {"more": self.more, "results": results})


Reply = Answer | Progress | Chunk | Listing


def decode_reply(text: bytes) -> Reply:
    """Read an element of the replies list. Raises EntryMalformed."""
    try:
        values = orjson.loads(text)
        if not {"bars", "progress", "results"} & values.keys():
            return Answer.decode(text)
        if "results" in values:
            return Listing(tuple(map(_found, values["results"])), int(values["more"]))
        if "progress" in values:
            return Progress(values["series"], int(values["progress"]), _wanted(values))
        return Chunk(values["series"], tuple(_history_bar(bar) for bar in values["bars"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EntryMalformed(f"reply is malformed: {error!r}, was {text[:200]!r}") from error


def _wanted(values: dict[str, Any]) -> int | None:
    wanted = values.get("wanted")
    return None if wanted is None else int(wanted)


def _found(values: dict[str, Any]) -> SymbolFound:
    texts = {name: values[key] for key, name in _FOUND.items()}
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError(f"every value must be text, was {texts!r}")
    return SymbolFound(**texts, contracts=tuple(map(_found, values.get("contracts", ()))))


def _history_bar(values: list[Any]) -> HistoryBar:
    opened_ms, *prices, volume, end_ms = values[: len(HistoryBar._fields)]
    first, high, low, last = (float(price) for price in prices)
    return HistoryBar(
        int(opened_ms),
        first,
        high,
        low,
        last,
        None if volume is None else float(volume),
        None if end_ms is None else int(end_ms),
    )
