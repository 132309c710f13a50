"""One chart session: its symbols and its series. Pure; time is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

from publisher.simulator.chart import ChartSeries
from publisher.simulator.market import Market
from publisher.simulator.periods import CALENDAR_INTERVALS, Instrument, listing_ms
from publisher.simulator.plan import Limits, Message, Slot
from publisher.simulator.requests import RESOLUTIONS, Refused, instrument_of, refusal, span_ms
from publisher.simulator.symbol_info import symbol_info

Later = Callable[[int], list[Message]]
"""Makes the answer to a request when the time has come; its argument is that time, ms."""

NODE: Final = "sim1-charts-free-1-tvbs-simul-1"
_SYMBOLS_MAX: Final = 200
_BARS_DEFAULT: Final = 300


@dataclass
class Answers:
    """What a request is answered: at once, and with the data."""

    now: list[Message] = field(default_factory=list)
    later: list[Later] = field(default_factory=list)


@dataclass
class _Request:
    slot: Slot
    symbol_id: str
    resolution: str
    count: int
    timeframe: str


class ChartSession:
    """Holds what one `chart_create_session` made. Not safe in several threads."""

    def __init__(self, market: Market, limits: Limits, session: str, period_s: int) -> None:
        self._market = market
        self._limits = limits
        self._session = session
        self._flags = {"rt_update_period": period_s}
        self._timezone: str | None = None
        self._symbols: dict[str, Instrument | None] = {}
        self._requests: dict[str, _Request] = {}
        self._series: dict[str, ChartSeries] = {}

    @property
    def series_live(self) -> int:
        """How many series get live updates."""
        return sum(series.live for series in self._series.values())

    def advance(self, now_ms: int, update_ms: float) -> list[Message]:
        """Return the live updates that are due."""
        messages: list[Message] = []
        for series in self._series.values():
            if series.live and series.due_ms <= now_ms:
                messages += series.advance(now_ms, update_ms)
        return messages

    @property
    def due_ms(self) -> float:
        """When `advance` has something to do again, simulated ms."""
        return min(
            (series.due_ms for series in self._series.values() if series.live), default=1e300
        )

    def switch_timezone(self, parameters: list[Any]) -> Answers:
        """Shift the axis marks; bar times stay UTC."""
        (zone,) = _read(parameters, str)
        if zone != "exchange":
            try:
                ZoneInfo(zone)
            except (ValueError, OSError, KeyError):
                raise Refused("invalid timezone") from None
            self._timezone = zone
        return Answers()

    def resolve_symbol(self, parameters: list[Any]) -> Answers:
        """Look a symbol up under an id of the client's choice."""
        symbol_id, text = _read(parameters, str, str)
        if symbol_id in self._symbols:
            raise Refused("duplicate id")
        if len(self._symbols) >= _SYMBOLS_MAX:
            raise Refused("invalid parameters")
        self._symbols[symbol_id] = instrument_of(text)
        return Answers(later=[lambda _: [self._resolution(symbol_id)]])

    def create_series(self, parameters: list[Any]) -> Answers:
        """Ask for a symbol's history and for its live updates."""
        series, turnaround, symbol_id, resolution, count = _read(
            parameters[:5], str, str, str, str, int
        )
        timeframe = _read(parameters[5:], str)[0] if len(parameters) > 5 else ""
        slot = Slot(self._session, series, turnaround)
        request = _Request(slot, symbol_id, resolution, count, timeframe)
        self._check(request)
        if series in self._requests:
            raise Refused("duplicate id")
        if len(self._requests) >= self._limits.series_per_chart:
            raise Refused("exceed limit of series in the session")
        self._requests[series] = request
        return Answers([self._loading(slot)], [lambda now_ms: self._start(request, now_ms)])

    def modify_series(self, parameters: list[Any]) -> Answers:
        """Give a series another symbol, interval or range."""
        series, turnaround, symbol_id, resolution = _read(parameters[:4], str, str, str, str)
        timeframe = next((text for text in parameters[4:] if isinstance(text, str)), "")
        before = self._requests.get(series)
        if before is None:
            raise Refused("invalid parameters")
        slot = Slot(self._session, series, turnaround)
        request = _Request(slot, symbol_id, resolution, before.count, timeframe)
        self._check(request)
        self._requests[series] = request
        self._series.pop(series, None)
        return Answers([self._loading(slot)], [lambda now_ms: self._restart(request, now_ms)])

    def remove_series(self, parameters: list[Any]) -> Answers:
        """Forget a series."""
        (series,) = _read(parameters, str)
        if self._requests.pop(series, None) is None:
            raise Refused("invalid parameters")
        self._series.pop(series, None)
        return Answers()

    def request_more_data(self, parameters: list[Any]) -> Answers:
        """Ask for older bars."""
        series, count = _read(parameters, str, int)
        if series not in self._requests or count < 1:
            raise Refused("invalid parameters")
        return Answers(later=[lambda _: self._more(series, count)])

    def get_first_bar_time(self, parameters: list[Any]) -> Answers:
        """Ask when a symbol's history begins."""
        symbol_id, _resolution = _read(parameters, str, str)
        instrument = self._symbols.get(symbol_id)
        if instrument is None:
            raise Refused("invalid parameters")
        first_s = listing_ms(instrument.symbol) // 1000
        answer: Message = {"m": "first_bar_time", "p": [self._session, symbol_id, first_s]}
        return Answers(later=[lambda _: [answer]])

    def _check(self, request: _Request) -> None:
        known = request.resolution in RESOLUTIONS or refusal(request.resolution) is not None
        if not known or request.count < 1 or request.symbol_id not in self._symbols:
            raise Refused("invalid parameters")

    def _resolution(self, symbol_id: str) -> Message:
        instrument = self._symbols[symbol_id]
        if instrument is None:
            return {"m": "symbol_error", "p": [self._session, symbol_id, "invalid symbol"]}
        if group := instrument.symbol.group:
            denied = [self._session, symbol_id, "permission denied", "group", group]
            return {"m": "symbol_error", "p": denied}
        info = symbol_info(instrument)
        return {"m": "symbol_resolved", "p": [self._session, symbol_id, info]}

    def _loading(self, slot: Slot) -> Message:
        return {"m": "series_loading", "p": [slot.chart, slot.series, slot.turnaround]}

    def _refusal(self, request: _Request) -> Message | None:
        instrument = self._symbols[request.symbol_id]
        node = f"{NODE}@{NODE}"
        reason: str | None = None
        if instrument is None or instrument.symbol.group:
            reason = "resolve error"
        elif request.resolution not in RESOLUTIONS:
            reason, node = refusal(request.resolution), "undefined"
        elif not instrument.symbol.intraday and not _is_daily(request.resolution):
            name = instrument.symbol.full_name
            reason = f"unsupported resolution: {name}, {request.resolution}"
        if reason is None:
            return None
        slot = request.slot
        return {"m": "series_error", "p": [slot.chart, slot.series, slot.turnaround, reason, node]}

    def _open(self, request: _Request) -> ChartSeries:
        instrument = self._symbols[request.symbol_id]
        assert instrument is not None
        interval = RESOLUTIONS[request.resolution]
        return ChartSeries(
            self._market, request.slot, instrument, interval, self._limits, timezone=self._timezone
        )

    def _start(self, request: _Request, now_ms: int) -> list[Message]:
        if self._requests.get(request.slot.series) is not request:
            return []
        if (refused := self._refusal(request)) is not None:
            return [refused]
        series = self._open(request)
        self._series[request.slot.series] = series
        history, flag = series.snapshot(now_ms, request.count, span_ms(request.timeframe))
        return [history, self._completed(series, flag)]

    def _restart(self, request: _Request, now_ms: int) -> list[Message]:
        started = self._start(request, now_ms)
        series = self._series.get(request.slot.series)
        if series is None or len(started) < 2:
            return started
        history, completed = started
        ticks = series.ticks()
        return [
            series.empty(),
            self._resolution(request.symbol_id),
            history,
            *([ticks] if ticks is not None else []),
            completed,
        ]

    def _more(self, series_id: str, count: int) -> list[Message]:
        series = self._series.get(series_id)
        if series is None:
            return []
        history, flag = series.more(count)
        return [*([history] if history is not None else []), self._completed(series, flag)]

    def _completed(self, series: ChartSeries, flag: str | None) -> Message:
        slot, delay_s = series.slot, series.instrument.symbol.delay_s
        mode = f"delayed_streaming_{delay_s}" if delay_s else "streaming"
        flags = self._flags if flag is None else {**self._flags, "data_completed": flag}
        return {
            "m": "series_completed",
            "p": [slot.chart, slot.series, mode, slot.turnaround, flags],
        }


def _is_daily(resolution: str) -> bool:
    return RESOLUTIONS[resolution] in CALENDAR_INTERVALS


def _read(parameters: list[Any], *types: type) -> list[Any]:
    """Return the parameters if there are as many as types and each is of its type."""
    if len(parameters) != len(types):
        raise Refused("invalid parameters")
    for value, type_ in zip(parameters, types, strict=True):
        if not isinstance(value, type_) or isinstance(value, bool):
            raise Refused("invalid parameters")
    return parameters
