"""The contract of requests: what programs ask of the running publisher, and its answers.

A request is an entry of `tv:commands` whose field `command` holds JSON; the answers
are pushed to the list `tv:replies:ID`, which expires. Each series of a request gets
one last answer; bars and progress of a request for history come before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson

from publisher.wire import EntryMalformed

COMMAND_FIELD: Final = b"command"
COMMANDS_MAX: Final = 1_000
"""How many requests the stream keeps, about."""
REPLIES_EXPIRE_MS: Final = 60_000
HISTORY_BARS_MAX: Final = 40_000
"""How many bars one request for history takes, and how many it looks back."""
TIME_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999."""

Action = Literal["subscribe", "unsubscribe", "history"]
_ACTIONS: Final = get_args(Action)

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
class Command:
    """A request to the publisher, answered on `Keys.replies(id)`."""

    id: str
    action: Action
    series: tuple[str, ...]
    """Texts as typed; the publisher parses them and answers each. History takes one."""
    bars: int | None = None
    """History: the newest so many closed bars, or else those of a span of time."""
    from_ms: int | None = None
    """History: bars that open at this time or later."""
    to_ms: int | None = None
    """History: bars that open before this time; None is no limit."""

    def encode(self) -> bytes:
        """Return the JSON for the entry's field `command`."""
        span = {"bars": self.bars, "from_ms": self.from_ms, "to_ms": self.to_ms}
        given = {name: value for name, value in span.items() if value is not None}
        return orjson.dumps({"id": self.id, "action": self.action, "series": self.series} | given)

    @classmethod
    def decode(cls, text: bytes) -> Command:
        """Read a request. Raises EntryMalformed."""
        try:
            values = orjson.loads(text)
            request, action, series = values["id"], values["action"], values["series"]
        except (ValueError, KeyError, TypeError) as error:
            raise EntryMalformed(f"command is malformed: {error!r}") from error
        if not isinstance(request, str) or not request:
            raise EntryMalformed(f"id must be text, was {request!r}")
        if action not in _ACTIONS:
            raise EntryMalformed(
                f"action must be subscribe, unsubscribe or history, was {action!r}"
            )
        if not isinstance(series, list) or not all(isinstance(typed, str) for typed in series):
            raise EntryMalformed(f"series must be a list of texts, was {series!r}")
        if action != "history":
            return cls(request, action, tuple(series))
        if len(series) != 1:
            raise EntryMalformed(f"history is of one series, was {series!r}")
        return cls(request, action, tuple(series), **_span(values))


def _span(values: dict[str, Any]) -> dict[str, int | None]:
    """Return which bars of history are asked for. Raises EntryMalformed."""
    bars = _whole(values, "bars", 1, HISTORY_BARS_MAX)
    from_ms = _whole(values, "from_ms", 0, TIME_MS_MAX)
    to_ms = _whole(values, "to_ms", 0, TIME_MS_MAX)
    if (bars is None) == (from_ms is None):
        raise EntryMalformed("history is asked for by bars or by from_ms, one of them")
    if to_ms is not None and from_ms is None:
        raise EntryMalformed("to_ms goes with from_ms")
    if to_ms is not None and from_ms is not None and to_ms <= from_ms:
        raise EntryMalformed(f"to_ms must be later than from_ms ({from_ms}), was {to_ms}")
    return {"bars": bars, "from_ms": from_ms, "to_ms": to_ms}


def _whole(values: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise EntryMalformed(f"{name} must be a whole number from {least} to {most}, was {value!r}")
    return value


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
        count = _whole(values, "count", 0, TIME_MS_MAX)
        return cls(series, accepted, message, code, complete, count)


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
        return Chunk(values["series"], tuple(_history_bar(bar) for bar in values["bars"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EntryMalformed(f"reply is malformed: {error!r}, was {text[:200]!r}") from error


def _wanted(values: dict[str, Any]) -> int | None:
    wanted = values.get("wanted")
    return None if wanted is None else int(wanted)


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
