"""One connection's conversation with TradingView, without the connection.

Theory of operation
-------------------
A TradingView connection carries any number of *chart sessions*. A free account
may hold one series in each, so every series gets a chart session of its own,
and with it isolation: whatever TradingView says of one chart session, down to
ending it, touches one series. A series that is asked for again gets a new
chart session, so answers to the old one find nobody and are dropped. A request
for history gets one of its own too, beside the live one of the same series.

A series is asked for in one burst (`chart_create_session`, `resolve_symbol`,
`create_series`); nothing has to be awaited in between. TradingView answers
`series_loading`, `symbol_resolved`, one or more `timescale_update` and
`series_completed`, and from then on sends bars unasked. An unknown symbol is
answered by *two* errors for one cause; the second finds the slot refused.

    requested ──resolved──▶ resolved ──completed──▶ live ──ask──▶ extending
        │                      │                     │  ◀─completed─┘
        └──────────────────────┴────── refused ──────┴──▶ refused

Bars may come in every state but refused: the server's order is not relied on.

Nothing is said before the hello. The caller brings the time with every call,
sends what `outgoing` returns, and calls `expire` at `next_deadline_ms`.
Heartbeats are answered below this module, at once, on the reading thread; here
they only prove that the peer lives.
"""

from __future__ import annotations

import random
import shlex
import string
from dataclasses import dataclass
from typing import Any, Final

from publisher.core import messages as said
from publisher.core import requests
from publisher.core.frames import join
from publisher.core.parsing import parse
from publisher.core.session_events import (
    TRANSITIONS,
    BarsArrived,
    Ended,
    Event,
    HistoryAnswered,
    Interrupted,
    Limit,
    Noted,
    Opened,
    Refused,
    Resolved,
    SeriesEvent,
    Signal,
    State,
)
from publisher.errors import (
    AccountStopped,
    ConnectionLost,
    LocalProtocolError,
    PeerSilent,
    PublisherError,
    RemoteProtocolError,
    SeriesError,
    SeriesRefused,
    SessionExpired,
    SymbolUnknown,
)
from publisher.wire import Series

__all__ = [
    "ANSWER_MS_MAX",
    "HELLO_MS_MAX",
    "SILENCE_MS_MAX",
    "TRANSITIONS",
    "BarsArrived",
    "Ended",
    "Event",
    "HistoryAnswered",
    "Interrupted",
    "Noted",
    "Opened",
    "Refused",
    "Resolved",
    "SeriesEvent",
    "Session",
    "Signal",
    "State",
]

HELLO_MS_MAX: Final = 10_000
"""How long the first message may take."""
SILENCE_MS_MAX: Final = 30_000
"""How long nothing at all may come; heartbeats come about every 5 s."""
ANSWER_MS_MAX: Final = 30_000
"""How long a series may take to answer a request."""

_SLOT: Final = "sds_1"
_SYMBOL: Final = "sds_sym_1"
_TURNAROUND: Final = "s1"
_ID_LETTERS: Final = string.ascii_letters + string.digits
_AWAITING: Final = frozenset({State.REQUESTED, State.RESOLVED, State.EXTENDING})


@dataclass(slots=True)
class _Slot:
    series: Series
    request: str
    session: str
    deadline_ms: int
    state: State = State.REQUESTED


class Session:
    """The conversation of one connection. Not thread-safe; one owner."""

    def __init__(self, token: str, now_ms: int, rng: random.Random) -> None:
        self._rng = rng
        self._slots: dict[str, _Slot] = {}
        self._sessions: dict[tuple[Series, str], str] = {}
        self._outgoing = [requests.set_auth_token(token), requests.set_locale()]
        self._hello_deadline_ms: int | None = now_ms + HELLO_MS_MAX
        self._received_ms = now_ms
        self._server_time_ms: int | None = None
        self._server_seen_ms = now_ms
        self.speed = 1.0
        """How fast the server's clock runs; other than 1 only against the simulator."""

    # What the caller asks for.

    def subscribe(self, series: Series, bars: int, now_ms: int, request: str = "") -> None:
        """Ask for a series, its newest bars first. Raises LocalProtocolError if it is there.

        A `request` of its own gets bars beside the live ones; its events bear its name.
        """
        if (series, request) in self._sessions:
            raise LocalProtocolError(f"{series} is subscribed already")
        session = "cs_" + "".join(self._rng.choices(_ID_LETTERS, k=12))
        self._sessions[series, request] = session
        self._slots[session] = _Slot(series, request, session, now_ms + ANSWER_MS_MAX)
        self._outgoing += [
            requests.chart_create_session(session),
            requests.switch_timezone(session),
            requests.resolve_symbol(session, _SYMBOL, series),
            requests.create_series(
                session,
                _SLOT,
                turnaround=_TURNAROUND,
                symbol_id=_SYMBOL,
                interval=series.interval,
                bars=bars,
            ),
        ]

    def renew(self, token: str) -> None:
        """Go on with another token; nothing that was asked for is touched."""
        self._outgoing.append(requests.set_auth_token(token))

    def request_more(self, series: Series, bars: int, now_ms: int, request: str = "") -> None:
        """Ask for older bars. Raises LocalProtocolError unless the series is live."""
        session = self._sessions.get((series, request))
        slot = self._slots.get(session or "")
        if slot is None or not self._move(slot, Signal.ASK):
            raise LocalProtocolError(f"{series} is not live")
        slot.deadline_ms = now_ms + ANSWER_MS_MAX
        self._outgoing.append(requests.request_more_data(slot.session, _SLOT, bars))

    def unsubscribe(self, series: Series, request: str = "") -> None:
        """Let go of a series; of one that is not there, do nothing."""
        session = self._sessions.pop((series, request), None)
        if session is not None:
            del self._slots[session]
            self._outgoing.append(requests.chart_delete_session(session))

    def outgoing(self) -> list[str]:
        """Return the frames to send now, in order, each to be sent once."""
        if self._hello_deadline_ms is not None:
            return []
        frames = [join(payload) for payload in self._outgoing]
        self._outgoing.clear()
        return frames

    @property
    def size(self) -> int:
        """How many chart sessions there are."""
        return len(self._slots)

    # Time.

    def server_now_ms(self, now_ms: int) -> int | None:
        """Return TradingView's time as far as known, never ahead of it; None before the hello."""
        if self._server_time_ms is None:
            return None
        return self._server_time_ms + int((now_ms - self._server_seen_ms) * self.speed)

    @property
    def received_ms(self) -> int:
        """When the last payload came, heartbeats included."""
        return self._received_ms

    def next_deadline_ms(self) -> int:
        """Return when `expire` has something to do if nothing comes before."""
        deadlines = [slot.deadline_ms for slot in self._slots.values() if slot.state in _AWAITING]
        deadlines.append(self._received_ms + SILENCE_MS_MAX)
        if self._hello_deadline_ms is not None:
            deadlines.append(self._hello_deadline_ms)
        return min(deadlines)

    def expire(self, now_ms: int) -> list[Event]:
        """Return what follows from the time alone."""
        if self._hello_deadline_ms is not None and now_ms >= self._hello_deadline_ms:
            return [Ended(PeerSilent(f"no hello within {HELLO_MS_MAX} ms"))]
        if now_ms >= self._received_ms + SILENCE_MS_MAX:
            return [Ended(PeerSilent(f"nothing received for {SILENCE_MS_MAX} ms"))]
        overdue = [
            slot
            for slot in self._slots.values()
            if slot.state in _AWAITING and now_ms >= slot.deadline_ms
        ]
        return [self._give_up(slot) for slot in overdue]

    # What TradingView says.

    def receive(self, payload: str, now_ms: int) -> list[Event]:
        """Return what a payload means. Raises RemoteProtocolError where it means nothing."""
        self._received_ms = now_ms
        message = parse(payload)
        self._note_time(getattr(message, "server_time_ms", None), now_ms)
        match message:
            case said.Heartbeat() | said.Ignored():
                return []
            case said.Hello():
                self._hello_deadline_ms = None
                self.speed = message.simulator_speed
                return [Opened(message.server_time_ms)]
            case said.ConnectionRefused():
                return [Ended(_connection_error(message.reason))]
            case said.Unknown():
                return [Noted("unknown", message.kind)]
            case _:
                return self._receive_for_slot(message, now_ms)

    def _receive_for_slot(self, message: Any, now_ms: int) -> list[Event]:
        slot = self._slots.get(message.session or "")
        if slot is None:
            # Answers to a chart session that was closed meanwhile are normal.
            return [Noted("stray", type(message).__name__)]
        if not isinstance(message, said.BarsReceived) or message.server_time_ms is not None:
            # Live updates, which bear no time, must not keep an unanswered request waiting.
            slot.deadline_ms = now_ms + ANSWER_MS_MAX
        match message:
            case said.SeriesLoading():
                return self._moved(slot, Signal.LOADING, None)
            case said.SymbolResolved():
                resolved = Resolved(slot.series, message.info, slot.request)
                return self._moved(slot, Signal.RESOLVED, resolved)
            case said.BarsReceived():
                return self._bars(slot, message)
            case said.SeriesCompleted():
                answered = HistoryAnswered(
                    slot.series,
                    message.update_mode,
                    message.update_period_ms,
                    message.exhausted,
                    slot.request,
                )
                return self._moved(slot, Signal.COMPLETED, answered)
            case said.SymbolRefused() | said.SlotRefused() | said.ChartRefused():
                return self._refuse(slot, message)
            case said.DataCleared():
                return [self._interrupt(slot, "TradingView cleared its data")]
            case _:
                return [
                    Noted("malformed", f"{message.kind}: {message.reason}"),
                    self._interrupt(slot, f"malformed {message.kind}"),
                ]

    def _bars(self, slot: _Slot, message: said.BarsReceived) -> list[Event]:
        bars = message.slots.get(_SLOT)
        if bars is None or not bars.values:
            return []
        if bars.turnaround not in {None, _TURNAROUND}:
            return [Noted("stray", f"turnaround {bars.turnaround}")]
        event = BarsArrived(slot.series, bars, message.server_time_ms, slot.request)
        return self._moved(slot, Signal.BARS, event)

    def _refuse(
        self, slot: _Slot, message: said.SymbolRefused | said.SlotRefused | said.ChartRefused
    ) -> list[Event]:
        limit = _limit_of(message)
        if limit:
            # It is not this series that is refused.
            return [self._interrupt(slot, f"TradingView says: {message.reason}", limit=limit)]
        if not self._move(slot, Signal.REFUSED):
            return []
        return [Refused(slot.series, _series_error(slot.series, message), slot.request)]

    def _interrupt(
        self, slot: _Slot, reason: str, *, overdue: bool = False, limit: Limit = ""
    ) -> Interrupted:
        unanswered = overdue and slot.state is State.EXTENDING
        self.unsubscribe(slot.series, slot.request)
        return Interrupted(slot.series, reason, unanswered, overdue, limit, slot.request)

    def _give_up(self, slot: _Slot) -> Interrupted:
        reason = f"no answer within {ANSWER_MS_MAX} ms"
        return self._interrupt(slot, reason, overdue=True)

    def _moved(self, slot: _Slot, signal: Signal, event: Event | None) -> list[Event]:
        if not self._move(slot, signal):
            return [Noted("stray", f"{signal.name.lower()} while {slot.state.name.lower()}")]
        return [] if event is None else [event]

    def _move(self, slot: _Slot, signal: Signal) -> bool:
        state = TRANSITIONS.get((slot.state, signal))
        if state is None:
            return False
        slot.state = state
        return True

    def _note_time(self, server_time_ms: int | None, now_ms: int) -> None:
        if server_time_ms is None:
            return
        known_ms = self.server_now_ms(now_ms)
        # Stamps age on their way, so the latest one is the truest and never ahead.
        if known_ms is None or server_time_ms > known_ms:
            self._server_time_ms, self._server_seen_ms = server_time_ms, now_ms


def _limit_of(message: said.SymbolRefused | said.SlotRefused | said.ChartRefused) -> Limit:
    """Return whether TradingView wants less, in the words that people reported."""
    reason = message.reason.lower()
    if not isinstance(message, said.ChartRefused) or "session" not in reason:
        return ""
    if "rate" in reason:
        return "rate"
    return "size" if reason.startswith("max") else ""


def _connection_error(reason: str) -> PublisherError:
    if "bad auth token" in reason:
        return SessionExpired(f"TradingView does not accept the token any more: {reason}")
    if "banned" in reason:
        return AccountStopped(
            f"TradingView says {reason!r}: nothing is tried again; look at tradingview.com in a "
            "browser, and when it is settled run `tvbus login`, or `tvbus logout` without account"
        )
    if "unknown_session_id" in reason:
        return RemoteProtocolError(f"TradingView lost a chart session: {reason}")
    return ConnectionLost(f"TradingView ended the connection: {reason}")


def _series_error(
    series: Series, message: said.SymbolRefused | said.SlotRefused | said.ChartRefused
) -> SeriesError:
    name = f"{series.exchange}:{series.symbol}"
    if isinstance(message, said.ChartRefused):
        return SeriesRefused(f"TradingView refused {series}: {message.reason} {message.details}")
    if isinstance(message, said.SlotRefused):
        return SeriesRefused(f"TradingView refused {series}: {message.reason}")
    if message.reason == "invalid symbol":
        return SymbolUnknown(
            f"TradingView does not know {name}: try `tvbus search {shlex.quote(series.symbol)}`"
        )
    details = " ".join(message.details)
    return SeriesRefused(f"TradingView does not give {name}: {message.reason} {details}".rstrip())
