"""Payloads read into messages.

A payload is JSON `{"m": NAME, "p": [...]}`; the hello alone has no `m`. Kinds
that nobody knows become Unknown, known ones of another shape Malformed: both
are counted, neither ends the connection. Shapes are those of recorded messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from publisher.core.frames import is_heartbeat
from publisher.core.messages import (
    BarsReceived,
    ChartRefused,
    ConnectionRefused,
    DataCleared,
    Heartbeat,
    Hello,
    Ignored,
    Malformed,
    Message,
    SeriesCompleted,
    SeriesLoading,
    SlotBars,
    SlotRefused,
    SymbolInfo,
    SymbolRefused,
    SymbolResolved,
    Unknown,
)
from publisher.core.points import finite
from publisher.errors import RemoteProtocolError

_IGNORED: Final = frozenset(
    {
        "series_timeframe",
        "series_deleted",
        "study_loading",
        "study_completed",
        "study_deleted",
        "study_error",
        "tickmark_update",
        "index_update",
        "studies_metadata",
        "first_bar_time",
        "quote_completed",
        "quote_list_fields",
        "qsd",
        "protocol_switched",
    }
)
"""Kinds that TradingView may send and that no series needs."""

SPEED_MAX: Final = 1e6
"""Beyond, a hello's speed is no speed, and the connection is taken for a real one."""
DELAY_S_MAX: Final = 7 * 86_400
"""Longest delay of a symbol that is believed; recorded ones are 900 s."""


def parse(payload: str) -> Message:
    """Read one payload. Raises RemoteProtocolError where it is no message at all."""
    if is_heartbeat(payload):
        return Heartbeat(payload)
    body = _parse_json(payload)
    if not isinstance(body, dict):
        raise RemoteProtocolError(f"a payload must be a JSON object, was {payload[:60]!r}")
    kind = body.get("m")
    if kind is None and "session_id" in body:
        return _hello(body)
    if not isinstance(kind, str):
        raise RemoteProtocolError(f"a payload must have 'm', was {payload[:60]!r}")
    reader = _READERS.get(kind)
    if reader is None:
        return Ignored(kind) if kind in _IGNORED else Unknown(kind[:60])
    parameters = body.get("p")
    try:
        return reader(_Parameters(parameters, _time_ms(body.get("t_ms"))))
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        first = parameters[0] if isinstance(parameters, list) and parameters else None
        return Malformed(kind, first if isinstance(first, str) else None, str(error))


def _parse_json(payload: str) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        pass
    # Python's reader also knows NaN, so that one bad bar costs no connection.
    try:
        body = json.loads(payload)
        # Half characters would pass here and fail where the text is written.
        json.dumps(body, ensure_ascii=False).encode()
        return body
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"a payload must be JSON, was {payload[:60]!r}") from None


def _time_ms(value: Any) -> int | None:
    number = finite(value)
    return None if number is None or not 0 < number < 1e15 else int(number)


def _seconds_ms(value: Any) -> int | None:
    number = finite(value)
    return None if number is None else _time_ms(number * 1000)


def _hello(body: dict[str, Any]) -> Hello:
    session_id = body["session_id"]
    speed = finite(body.get("simulator_speed"))
    return Hello(
        session_id if isinstance(session_id, str) else "",
        _time_ms(body.get("timestampMs")),
        1.0 if speed is None or not 0 < speed <= SPEED_MAX else speed,
    )


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The list `p` and the server's time; each getter raises what `parse` translates."""

    values: Any
    server_time_ms: int | None

    def text(self, index: int) -> str:
        value = self.at(index)
        if not isinstance(value, str):
            raise TypeError(f"parameter {index} must be text, was {str(value)[:60]!r}")
        return value

    def table(self, index: int) -> dict[str, Any]:
        value = self.at(index)
        if not isinstance(value, dict):
            raise TypeError(f"parameter {index} must be an object, was {str(value)[:60]!r}")
        return value

    def at(self, index: int) -> Any:
        if not isinstance(self.values, list):
            raise TypeError(f"p must be a list, was {str(self.values)[:60]!r}")
        if index >= len(self.values):
            raise LookupError(f"parameter {index} is missing")
        return self.values[index]

    def rest(self, index: int) -> tuple[str, ...]:
        return tuple(
            value if isinstance(value, str) else str(value) for value in self.values[index:]
        )


def _series_loading(p: _Parameters) -> SeriesLoading:
    return SeriesLoading(p.text(0), p.text(1), p.text(2), p.server_time_ms)


def _symbol_resolved(p: _Parameters) -> SymbolResolved:
    return SymbolResolved(p.text(0), p.text(1), _symbol_info(p.table(2)), p.server_time_ms)


def _symbol_info(info: dict[str, Any]) -> SymbolInfo:
    def text(name: str) -> str:
        value = info.get(name)
        return value if isinstance(value, str) else ""

    def number(name: str, default: float) -> float:
        value = finite(info.get(name))
        return default if value is None else value

    source = text("full_name")
    return SymbolInfo(
        name=text("pro_name") or source,
        source=source,
        description=text("description"),
        kind=text("type"),
        currency=text("currency_id") or text("currency_code"),
        timezone=text("timezone"),
        session=text("session"),
        holidays=text("session_holidays"),
        corrections=_session_corrections(info),
        price_scale=number("pricescale", 1),
        minimum_move=number("minmov", 1),
        delay_ms=int(min(max(0, number("delay", 0)), DELAY_S_MAX) * 1000),
        has_volume=text("visible_plots_set") != "ohlc",
    )


def _session_corrections(info: dict[str, Any]) -> str:
    """The subsession in use says on which days its hours differ."""
    parts = info.get("subsessions")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and part.get("id") == info.get("subsession_id"):
            correction = part.get("session-correction")
            return correction if isinstance(correction, str) else ""
    return ""


def _symbol_refused(p: _Parameters) -> SymbolRefused:
    return SymbolRefused(p.text(0), p.text(1), p.text(2), p.rest(3), p.server_time_ms)


def _bars_received(p: _Parameters) -> BarsReceived:
    slots = {}
    for slot, content in p.table(1).items():
        # Studies stand under `st`; an axis without bars has neither.
        if isinstance(content, dict) and "s" in content:
            slots[slot] = _slot_bars(content)
    return BarsReceived(p.text(0), slots, p.server_time_ms)


def _slot_bars(content: dict[str, Any]) -> SlotBars:
    points = content["s"]
    if not isinstance(points, list):
        raise TypeError(f"s must be a list, was {str(points)[:60]!r}")
    last = content.get("lbs")
    turnaround = content.get("t")
    return SlotBars(
        values=tuple(tuple(point["v"]) for point in points),
        turnaround=turnaround if isinstance(turnaround, str) else None,
        close_time_ms=_seconds_ms(last.get("bar_close_time")) if isinstance(last, dict) else None,
    )


def _series_completed(p: _Parameters) -> SeriesCompleted:
    flags = p.values[4] if len(p.values) > 4 and isinstance(p.values[4], dict) else {}
    exhausted = flags.get("data_completed")
    return SeriesCompleted(
        session=p.text(0),
        slot=p.text(1),
        update_mode=p.text(2),
        turnaround=p.text(3),
        update_period_ms=_seconds_ms(flags.get("rt_update_period")) or 0,
        exhausted=exhausted if isinstance(exhausted, str) else None,
        server_time_ms=p.server_time_ms,
    )


def _slot_refused(p: _Parameters) -> SlotRefused:
    reason = p.at(3)
    if isinstance(reason, dict):
        reason = reason.get("error", reason)
    return SlotRefused(p.text(0), p.text(1), p.text(2), str(reason), p.server_time_ms)


def _chart_refused(p: _Parameters) -> ChartRefused:
    return ChartRefused(p.text(0), p.text(1), " ".join(p.rest(2)))


def _connection_refused(p: _Parameters) -> ConnectionRefused:
    # It ends the connection, whatever its shape.
    reasons = p.values if isinstance(p.values, list) else [p.values]
    return ConnectionRefused(" ".join(str(reason) for reason in reasons))


_READERS: Final[Mapping[str, Callable[[_Parameters], Message]]] = {
    "series_loading": _series_loading,
    "symbol_resolved": _symbol_resolved,
    "symbol_error": _symbol_refused,
    "timescale_update": _bars_received,
    "du": _bars_received,
    "series_completed": _series_completed,
    "series_error": _slot_refused,
    "critical_error": _chart_refused,
    "clear_data": lambda p: DataCleared(p.text(0)),
    "protocol_error": _connection_refused,
}
