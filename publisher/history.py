"""Requests for history: fetched through the one session, handed over as the bus takes it.

One request is worked on at a time, beside the live series and in a chart session of
its own; a few more wait, others are refused. What goes wrong with it touches nobody
else. Nothing of it outlives this publisher: who asked will ask again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from publisher.codes import code_of
from publisher.core import session as heard
from publisher.core.bars import UNANSWERED_MAX
from publisher.core.budget import Budget
from publisher.core.decisions import AskMore, Moment, Reload
from publisher.core.history import Fetched, HistoryFill, Span
from publisher.core.session import Session
from publisher.delivery import Delivery
from publisher.history_request import (
    HistoryRequest,
    refusal,
    tell_completed,
    tell_started,
    too_dear,
)
from publisher.notes import Notes
from publisher.ports import Ports
from publisher.wire import Series, SeriesInvalid
from publisher.wire.answers import Answer, Code
from publisher.wire.commands import Command

WAITING_MAX: Final = 8
"""Requests that may wait while one is worked on."""
WAITING_MS_MAX: Final = 120_000
"""How long one may wait for its turn, and for a connection."""
WORKING_MS_MAX: Final = 300_000
"""How long one may take from its turn to its last answer."""
TRIES_MAX: Final = UNANSWERED_MAX + 1
"""How often one is begun; the last time it makes do with what comes."""
AHEAD_MAX: Final = 8
"""Answers that may wait for the bus before another chunk is made."""
PROGRESS_MS: Final = 2_000
"""How often who asked hears that somebody works on it, while the bus takes answers."""


class Histories:
    """Fetches and hands over what is asked for; the engine's thread owns it."""

    def __init__(
        self,
        ports: Ports,
        delivery: Delivery,
        notes: Notes,
        budget: Budget,
        settle_ms: int,
        *,
        bars_max: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`bars_max` tells the plan's window of intraday bars, None where it is not known."""
        self._ports = ports
        self._delivery = delivery
        self._notes = notes
        self._budget = budget
        self._settle_ms = settle_ms
        self._bars_max = bars_max
        self._waiting: deque[HistoryRequest] = deque()
        self._working: HistoryRequest | None = None
        self._accepted = 0

    @property
    def wanting(self) -> bool:
        """True while a request needs the connection."""
        return bool(self._waiting) or (self._working is not None and self._working.answer is None)

    @property
    def handing_over(self) -> bool:
        """True while bars wait that the bus may take now."""
        is_done = self._working is not None and self._working.answer is not None
        return is_done and self._delivery.trouble is None

    @property
    def _unfinished(self) -> list[HistoryRequest]:
        return [*([self._working] if self._working else []), *self._waiting]

    def accept(self, command: Command, now_ms: int) -> None:
        """Let a request wait for its turn, or refuse it."""
        try:
            series = Series.parse(command.series[0])
        except SeriesInvalid as error:
            self._turn_away(command, str(error), "invalid")
            return
        span = Span(command.bars, command.from_ms or 0, command.to_ms)
        fill = HistoryFill(series, span, self._bars_max())
        if (why := too_dear(self._budget, fill.requests, now_ms)) is not None:
            self._turn_away(command, *why)
        elif len(self._waiting) >= WAITING_MAX:
            busy = f"{WAITING_MAX} requests for history wait already: ask again in a minute"
            self._turn_away(command, busy, "busy")
        else:
            self._accepted += 1
            name = f"history {self._accepted}"
            deadline_ms = now_ms + WAITING_MS_MAX
            request = HistoryRequest(command, series, name, fill, now_ms, deadline_ms)
            self._waiting.append(request)

    def turn(self, session: Session | None, now_ms: int) -> None:
        """Do what is due."""
        self._expire(now_ms)
        if self._working is None and self._waiting and session is not None:
            self._working = self._waiting.popleft()
            self._working.deadline_ms = now_ms + WORKING_MS_MAX
        request = self._working
        if request is not None and session is not None and _is_due(request, now_ms):
            self._ask(request, session, now_ms)
        if request is not None and request.answer is not None:
            self._hand_over(request)
        self._tell_progress(now_ms)

    def hear(
        self, event: heard.SeriesEvent, session: Session, wall_ms: int, monotonic_ms: int
    ) -> None:
        """Take what the session heard of a request."""
        request = self._working
        if request is None or request.name != event.request:
            return
        match event:
            case heard.Resolved():
                request.fill.set_delay(event.info.delay_ms)
            case heard.BarsArrived():
                at = self._moment(request, session, wall_ms, monotonic_ms)
                at = replace(at, stated_ms=event.server_time_ms)
                request.fill.receive(event.bars, at)
            case heard.HistoryAnswered():
                request.update_period_ms = event.update_period_ms
                request.told_ms = None
                at = self._moment(request, session, wall_ms, monotonic_ms)
                self._go_on(request, request.fill.complete(event.exhausted, at), at)
            case heard.Refused():
                self._refuse(request, str(event.error), code_of(event.error))
            case heard.Interrupted():
                if event.unanswered:
                    request.fill.note_unanswered()
                self._again(request, event.reason)

    def interrupt(self, session: Session, reason: str) -> None:
        """A connection is gone: what was asked for on it must be asked for again."""
        request = self._working
        if request is not None and request.session is session:
            request.session = None
            self._again(request, reason)

    def stop(self) -> None:
        """Refuse what is not done; nothing of it goes on."""
        unfinished = self._unfinished
        self._waiting.clear()
        self._working = None
        for request in unfinished:
            message = "the publisher was stopped: ask again"
            answer = self._refuse(request, message, "stopped")
            self._delivery.answer(request.command.id, answer)

    def _moment(
        self, request: HistoryRequest, session: Session, wall_ms: int, monotonic_ms: int
    ) -> Moment:
        server_ms = session.server_now_ms(monotonic_ms)
        settle_ms = (self._settle_ms + request.update_period_ms) * session.speed
        return Moment(wall_ms, wall_ms if server_ms is None else server_ms, int(settle_ms))

    # Asking TradingView.

    def _ask(self, request: HistoryRequest, session: Session, now_ms: int) -> None:
        if self._delivery.trouble is not None:
            return  # nobody could be told
        if request.tries >= TRIES_MAX:
            message = f"given up after {TRIES_MAX} attempts: {request.trouble}"
            self._refuse(request, message, "unanswered")
            return
        if (why := too_dear(self._budget, request.fill.requests, now_ms)) is not None:
            self._refuse(request, *why)
            return
        if request.tries == 0:
            tell_started(self._notes, request)
        self._spend(request, now_ms)
        server_ms = session.server_now_ms(now_ms) or self._ports.clock.wall_ms()
        bars = request.fill.begin(server_ms)
        session.subscribe(request.series, bars, now_ms, request.name)
        request.session = session
        request.tries += 1
        request.trouble = "TradingView does not answer"

    def _go_on(
        self,
        request: HistoryRequest,
        outcome: AskMore | Reload | Fetched,
        at: Moment,
        code: Code = "",
    ) -> None:
        """Do what the fill decided; `code` says why it had to make do."""
        now_ms = self._ports.clock.monotonic_ms()
        match outcome:
            case Reload():
                self._again(request, outcome.reason)
            case Fetched(bars=[]) if code:
                self._refuse(request, outcome.reason, code)
            case Fetched():
                self._finish(request, outcome, code)
            case AskMore() if self._spend(request, now_ms):
                assert request.session is not None
                request.session.request_more(request.series, outcome.bars, now_ms, request.name)
            case AskMore():
                message, code = too_dear(self._budget, 1, now_ms) or ("", "")
                made_do = request.fill.cut_short(message, at)
                assert not isinstance(made_do, AskMore)
                self._go_on(request, made_do, at, code)

    def _spend(self, request: HistoryRequest, now_ms: int) -> bool:
        is_free = self._budget.spend(now_ms)
        request.spent += is_free
        return is_free

    def _again(self, request: HistoryRequest, reason: str) -> None:
        """Begin anew, later."""
        request.release()
        delay_ms = request.backoff.next_delay_ms(self._ports.rng)
        request.ask_at_ms = self._ports.clock.monotonic_ms() + delay_ms
        request.trouble = reason
        self._notes.tell(
            "history.interrupted",
            level="warning",
            series=request.series,
            reason=reason,
            retry_in_ms=delay_ms,
        )

    # Answering.

    def _finish(self, request: HistoryRequest, fetched: Fetched, code: Code) -> None:
        request.release()
        request.finish(fetched, code)
        tell_completed(self._notes, request, fetched, self._ports.clock.monotonic_ms())

    def _refuse(self, request: HistoryRequest, message: str, code: Code) -> Answer:
        request.release()
        self._tell_refused(request.command, message)
        return request.refuse(message, code)

    def _turn_away(self, command: Command, message: str, code: Code) -> None:
        self._delivery.answer(command.id, refusal(command, message, code))
        self._tell_refused(command, message)

    def _tell_refused(self, command: Command, message: str) -> None:
        series = command.series[0]
        self._notes.tell("history.refused", level="warning", series=series, reason=message)

    def _hand_over(self, request: HistoryRequest) -> None:
        """Let answers wait for the bus, a few at a time; then it is the next one's turn."""
        while self._delivery.answers_waiting < AHEAD_MAX and self._delivery.trouble is None:
            if not request.bars:
                assert request.answer is not None
                self._delivery.answer(request.command.id, request.answer)
                self._working = None
                return
            self._delivery.answer(request.command.id, request.next_chunk())

    def _tell_progress(self, now_ms: int) -> None:
        if self._delivery.trouble is not None:
            return
        for request in self._unfinished:
            is_due = request.told_ms is None or now_ms - request.told_ms >= PROGRESS_MS
            if request.answer is None and is_due:
                request.told_ms = now_ms
                self._delivery.answer(request.command.id, request.progress)

    def _expire(self, now_ms: int) -> None:
        request = self._working
        if request is not None and now_ms >= request.deadline_ms:
            message = f"not done within {WORKING_MS_MAX // 1000} s: {request.trouble}"
            if request.answer is not None:
                message = f"the bus did not take the bars within {WORKING_MS_MAX // 1000} s"
            answer = self._refuse(request, message, "unanswered")
            self._delivery.answer(request.command.id, answer)
            self._working = None
        while self._waiting and now_ms >= self._waiting[0].deadline_ms:
            waiting = self._waiting.popleft()
            why = "others are worked on" if self._working else waiting.trouble
            message = f"its turn did not come within {WAITING_MS_MAX // 1000} s: {why}"
            self._turn_away(waiting.command, message, "busy" if self._working else "unanswered")


def _is_due(request: HistoryRequest, now_ms: int) -> bool:
    is_asked = request.session is not None
    return not is_asked and request.answer is None and now_ms >= request.ask_at_ms
