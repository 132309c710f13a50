"""The contract of requests: what programs ask of the running publisher.

A request is an entry of `tv:commands` whose field `command` holds JSON; what comes
back on `tv:replies:ID` is in `answers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import orjson

from publisher.wire import EntryMalformed

COMMAND_FIELD: Final = b"command"
COMMANDS_MAX: Final = 1_000
"""How many requests the stream keeps, about."""
HISTORY_BARS_MAX: Final = 40_000
"""How many bars one request for history takes, and how many it looks back."""
SEARCH_RESULTS_MAX: Final = 100
"""How many symbols one search through the bus finds."""
TIME_MS_MAX: Final = 253_402_300_799_999
"""The end of the year 9999."""

Action = Literal["subscribe", "unsubscribe", "history", "search"]
_ACTIONS: Final = get_args(Action)


@dataclass(frozen=True, slots=True)
class Command:
    """A request to the publisher, answered on `Keys.replies(id)`."""

    id: str
    action: Action
    series: tuple[str, ...] = ()
    """Texts as typed; the publisher parses them and answers each. History takes one."""
    bars: int | None = None
    """History: the newest so many closed bars, or else those of a span of time."""
    from_ms: int | None = None
    """History: bars that open at this time or later."""
    to_ms: int | None = None
    """History: bars that open before this time; None is no limit."""
    text: str | None = None
    """Search: a symbol, or a part of a name."""
    exchange: str | None = None
    """Search: only this exchange."""
    kind: str | None = None
    """Search: only this type, `type` on the bus: stock, fund, futures, forex, crypto, …"""
    limit: int | None = None
    """Search: how many results at most."""

    def encode(self) -> bytes:
        """Return the JSON for the entry's field `command`."""
        span = {"bars": self.bars, "from_ms": self.from_ms, "to_ms": self.to_ms}
        sought = {"text": self.text, "exchange": self.exchange, "type": self.kind}
        more = span | sought | {"limit": self.limit}
        given = {name: value for name, value in more.items() if value is not None}
        return orjson.dumps({"id": self.id, "action": self.action, "series": self.series} | given)

    @classmethod
    def decode(cls, text: bytes) -> Command:
        """Read a request. Raises EntryMalformed."""
        try:
            values = orjson.loads(text)
            request, action = values["id"], values["action"]
            series = values["series"] if action != "search" else []
        except (ValueError, KeyError, TypeError) as error:
            raise EntryMalformed(f"command is malformed: {error!r}") from error
        if not isinstance(request, str) or not request:
            raise EntryMalformed(f"id must be text, was {request!r}")
        if action not in _ACTIONS:
            raise EntryMalformed(
                f"action must be subscribe, unsubscribe, history or search, was {action!r}"
            )
        if not isinstance(series, list) or not all(isinstance(typed, str) for typed in series):
            raise EntryMalformed(f"series must be a list of texts, was {series!r}")
        if action == "search":
            return cls(request, action, **_sought(values))
        if action != "history":
            return cls(request, action, tuple(series))
        if len(series) != 1:
            raise EntryMalformed(f"history is of one series, was {series!r}")
        return cls(request, action, tuple(series), **_span(values))


def _span(values: dict[str, Any]) -> dict[str, Any]:
    """Return which bars of history are asked for. Raises EntryMalformed."""
    bars = whole(values, "bars", 1, HISTORY_BARS_MAX)
    from_ms = whole(values, "from_ms", 0, TIME_MS_MAX)
    to_ms = whole(values, "to_ms", 0, TIME_MS_MAX)
    if (bars is None) == (from_ms is None):
        raise EntryMalformed("history is asked for by bars or by from_ms, one of them")
    if to_ms is not None and from_ms is None:
        raise EntryMalformed("to_ms goes with from_ms")
    if to_ms is not None and from_ms is not None and to_ms <= from_ms:
        raise EntryMalformed(f"to_ms must be later than from_ms ({from_ms}), was {to_ms}")
    return {"bars": bars, "from_ms": from_ms, "to_ms": to_ms}


def _sought(values: dict[str, Any]) -> dict[str, Any]:
    """Return what is searched for. Raises EntryMalformed."""
    texts = {name: values.get(name) for name in ("text", "exchange", "type")}
    for name, value in texts.items():
        if not isinstance(value, str) and (value is not None or name == "text"):
            raise EntryMalformed(f"{name} must be text, was {value!r}")
    limit = whole(values, "limit", 1, SEARCH_RESULTS_MAX)
    return {
        "text": texts["text"],
        "exchange": texts["exchange"],
        "kind": texts["type"],
        "limit": limit,
    }


def whole(values: dict[str, Any], name: str, least: int, most: int) -> int | None:
    """Return a number that may be absent. Raises EntryMalformed where it is none."""
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise EntryMalformed(f"{name} must be a whole number from {least} to {most}, was {value!r}")
    return value
