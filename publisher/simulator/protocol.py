"""The TradingView side of one connection. Pure: no socket and no clock.

Give it the client's payloads with `receive`, take what is to be sent from
`poll`. Answers wait until the poll after the request, so that a burst of
requests is answered in one go and `series_loading` comes first, as recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

import orjson

from publisher.simulator.chart_session import ChartSession, Later
from publisher.simulator.market import Market
from publisher.simulator.plan import Limits, Message
from publisher.simulator.quotes import QuoteSession
from publisher.simulator.requests import Refused, arguments, erlang
from publisher.simulator.tokens import Tokens

Expired = Literal["mute", "refuse"]
"""What a live connection does when its token is good no longer: heartbeats alone, or end.

Both were reported; neither was recorded as it happened.
"""

BAD_TOKEN: Final = "bad auth token"  # noqa: S105 - words of an error

_ANSWERS_MAX: Final = 5000
"""Requests that may wait for their answer; more end the connection."""

_NEVER: Final = 1e300


class Protocol:
    """Answers one client. Not safe in several threads."""

    def __init__(
        self, market: Market, limits: Limits, tokens: Tokens, expired: Expired = "mute"
    ) -> None:
        self.closing = False
        """True after an error that ends the connection."""
        self._market = market
        self._limits = limits
        self._tokens = tokens
        self._expired = expired
        self._token: str | None = None
        self._plan = ""
        self._now_ms = 0
        self._charts: dict[str, ChartSession] = {}
        self._quotes: dict[str, QuoteSession] = {}
        self._now: list[Message] = []
        self._later: deque[Later] = deque()

    def receive(self, payload: str, now_ms: int, *, throttled: bool = False) -> None:
        """Take one message of the client; `throttled` refuses a new session."""
        self._now_ms = now_ms
        try:
            message = orjson.loads(payload)
            name, parameters = message["m"], message["p"]
        except (ValueError, KeyError, TypeError):
            self.fail("wrong data")
            return
        if not isinstance(name, str) or not isinstance(parameters, list):
            self.fail("wrong data")
            return
        try:
            if throttled:
                raise Refused("max sessions rate reached")
            self._dispatch(name, parameters)
        except Refused as refused:
            info = f'method: {name}. args: "{arguments(parameters[1:])}"'
            text = name if refused.reason == "invalid_parameters" else info
            self._now.append({"m": "critical_error", "p": [*parameters[:1], refused.reason, text]})
        if len(self._later) > _ANSWERS_MAX:
            self.fail("too many requests")

    def poll(self, now_ms: int, update_ms: float) -> list[Message]:
        """Return what is to be sent now; `update_ms` is simulated, between updates."""
        messages = self._due(now_ms, update_ms)
        if self.closing or not self._has_lapsed(now_ms):
            return messages
        if self._expired == "mute":
            return []
        self.fail(BAD_TOKEN)
        messages, self._now = self._now, []
        return messages

    def _due(self, now_ms: int, update_ms: float) -> list[Message]:
        messages, self._now = self._now, []
        for chart in self._charts.values():
            messages += chart.advance(now_ms, update_ms)
        for quotes in self._quotes.values():
            messages += quotes.advance(now_ms, update_ms)
        # Last, so that a series' live updates come in a message after its history.
        while self._later:
            messages += self._later.popleft()(now_ms)
        return messages

    @property
    def due_ms(self) -> float:
        """When `poll` is to be called again at the latest, simulated ms."""
        if self._later or self._now:
            return 0.0
        due = [chart.due_ms for chart in self._charts.values()]
        due += [quotes.due_ms for quotes in self._quotes.values()]
        return min(due, default=_NEVER)

    @property
    def series_live(self) -> int:
        """How many series get live updates."""
        return sum(chart.series_live for chart in self._charts.values())

    def _dispatch(self, name: str, parameters: list[Any]) -> None:
        if (on_chart := _ON_CHART.get(name)) is not None:
            chart = self._session(self._charts, name, parameters)
            if chart is not None:
                answers = on_chart(chart, parameters[1:])
                self._now += answers.now
                self._later += answers.later
        elif (handler := _HANDLERS.get(name)) is not None:
            handler(self, name, parameters)

    def _session(self, sessions: dict[str, Any], name: str, parameters: list[Any]) -> Any:
        session = sessions.get(_text(parameters, 0))
        if session is None:
            terms = erlang(parameters[1:])
            self.fail(f'{{unknown_session_id,<<"{name}">>,<<"{parameters[0]}">>,\n {terms}}}')
        return session

    def _set_auth_token(self, _: str, parameters: list[Any]) -> None:
        token = _text(parameters, 0)
        plan = self._tokens.plan_of(token, self._now_ms)
        if plan is None:
            self.fail(BAD_TOKEN)
            return
        self._token, self._plan = token, plan

    def _has_lapsed(self, now_ms: int) -> bool:
        return self._token is not None and self._tokens.plan_of(self._token, now_ms) is None

    def _chart_create_session(self, _: str, parameters: list[Any]) -> None:
        session = _text(parameters, 0)
        self._check_new(self._charts, session)
        period_s = 0 if self._plan else 5
        self._charts[session] = ChartSession(self._market, self._limits, session, period_s)

    def _chart_delete_session(self, name: str, parameters: list[Any]) -> None:
        if self._session(self._charts, name, parameters) is not None:
            del self._charts[parameters[0]]

    def _quote_create_session(self, _: str, parameters: list[Any]) -> None:
        session = _text(parameters, 0)
        self._check_new(self._quotes, session)
        self._quotes[session] = QuoteSession(self._market, session)

    def _quote_delete_session(self, name: str, parameters: list[Any]) -> None:
        if self._session(self._quotes, name, parameters) is not None:
            del self._quotes[parameters[0]]

    def _quote_set_fields(self, name: str, parameters: list[Any]) -> None:
        quotes = self._session(self._quotes, name, parameters)
        if quotes is not None:
            quotes.fields = {field for field in parameters[1:] if isinstance(field, str)}

    def _quote_add_symbols(self, name: str, parameters: list[Any]) -> None:
        quotes = self._session(self._quotes, name, parameters)
        if quotes is None:
            return
        # Since 2024 a trailing {"flags": […]} is refused, and in another spelling.
        if not all(isinstance(symbol, str) for symbol in parameters[1:]):
            raise Refused("invalid_parameters")
        for symbol in parameters[1:]:
            self._later.append(_adding(quotes, symbol))

    def _quote_remove_symbols(self, name: str, parameters: list[Any]) -> None:
        quotes = self._session(self._quotes, name, parameters)
        for symbol in parameters[1:] if quotes is not None else []:
            quotes.remove(str(symbol))

    def _check_new(self, sessions: dict[str, Any], session: str) -> None:
        if session in sessions:
            raise Refused("duplicate id")
        if len(sessions) >= self._limits.sessions:
            raise Refused("Max state sessions reached")

    def fail(self, text: str) -> None:
        """End the connection with a `protocol_error`."""
        self._now.append({"m": "protocol_error", "p": [text]})
        self._charts.clear()
        self._quotes.clear()
        self._later.clear()
        self.closing = True


def _adding(quotes: QuoteSession, symbol: str) -> Later:
    return lambda now_ms: quotes.add(symbol, now_ms)


def _text(parameters: list[Any], index: int) -> str:
    if index >= len(parameters) or not isinstance(parameters[index], str):
        raise Refused("invalid parameters")
    text: str = parameters[index]
    return text


_ON_CHART: Final = {
    "switch_timezone": ChartSession.switch_timezone,
    "resolve_symbol": ChartSession.resolve_symbol,
    "create_series": ChartSession.create_series,
    "modify_series": ChartSession.modify_series,
    "remove_series": ChartSession.remove_series,
    "request_more_data": ChartSession.request_more_data,
    "get_first_bar_time": ChartSession.get_first_bar_time,
}

_HANDLERS: Final[dict[str, Callable[[Protocol, str, list[Any]], None]]] = {
    "set_auth_token": Protocol._set_auth_token,
    "chart_create_session": Protocol._chart_create_session,
    "chart_delete_session": Protocol._chart_delete_session,
    "quote_create_session": Protocol._quote_create_session,
    "quote_delete_session": Protocol._quote_delete_session,
    "quote_set_fields": Protocol._quote_set_fields,
    "quote_add_symbols": Protocol._quote_add_symbols,
    "quote_remove_symbols": Protocol._quote_remove_symbols,
}
