"""What a request for history is answered besides its last word: progress, and the bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from publisher.commands import Answer
from publisher.wire import EntryMalformed

CHUNK_BARS_MAX: Final = 500
"""How many bars one element of the replies list holds."""


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


Reply = Answer | Progress | Chunk


def decode_reply(text: bytes) -> Reply:
    """Read an element of the replies list. Raises EntryMalformed."""
    try:
        values = orjson.loads(text)
        if not {"bars", "progress"} & values.keys():
            return Answer.decode(text)
        if "progress" in values:
            return Progress(values["series"], int(values["progress"]), _wanted(values))
        return Chunk(values["series"], tuple(_bar(bar) for bar in values["bars"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EntryMalformed(f"reply is malformed: {error!r}, was {text[:200]!r}") from error


def _wanted(values: dict[str, Any]) -> int | None:
    wanted = values.get("wanted")
    return None if wanted is None else int(wanted)


def _bar(values: list[Any]) -> HistoryBar:
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
