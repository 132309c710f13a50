"""One request for history while the engine keeps it, and what is said of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from publisher.core.backoff import Backoff
from publisher.core.budget import Budget
from publisher.core.history import Fetched, HistoryFill
from publisher.core.session import Session
from publisher.notes import Notes
from publisher.wire import Bar, Series
from publisher.wire.answers import CHUNK_BARS_MAX, Answer, Chunk, Code, HistoryBar, Progress
from publisher.wire.commands import Command

RETRY_BASE_MS: Final = 1_000
RETRY_MS_MAX: Final = 15_000

_SETTING: Final = "TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class HistoryRequest:
    """What is known of one request; times are monotonic."""

    command: Command
    series: Series
    name: str
    """Its name in the session."""
    fill: HistoryFill
    accepted_ms: int
    deadline_ms: int
    """When it is refused unless it is done, or its turn has come."""
    session: Session | None = None
    """The session that is asked for it, None while none is."""
    ask_at_ms: int = 0
    """TradingView is not asked before."""
    tries: int = 0
    spent: int = 0
    """Requests to TradingView so far."""
    trouble: str = "no connection to TradingView"
    """Why it is not done yet."""
    backoff: Backoff = field(default_factory=lambda: Backoff(RETRY_BASE_MS, RETRY_MS_MAX))
    told_ms: int | None = None
    """When progress was told last, None where it is to be told now."""
    update_period_ms: int = 0
    bars: deque[Bar] = field(default_factory=deque)
    """What was fetched and is not handed over yet, oldest first."""
    answer: Answer | None = None
    """The last word, once it is known."""

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self.command.series[0], self.fill.progress, self.fill.wanted)

    def release(self) -> None:
        """Ask for it no more."""
        if self.session is not None:
            self.session.unsubscribe(self.series, self.name)
            self.session = None

    def refuse(self, message: str, code: Code) -> Answer:
        """Let the last word be a refusal."""
        self.bars.clear()
        self.answer = refusal(self.command, message, code)
        return self.answer

    def finish(self, fetched: Fetched, code: Code) -> None:
        """Let what was found be handed over; `code` says why it is less than was asked for."""
        self.bars.extend(fetched.bars)
        text, count = self.command.series[0], len(fetched.bars)
        message = _summary(fetched, self.fill.wanted)
        self.answer = Answer(text, True, message, code, fetched.complete, count)

    def next_chunk(self) -> Chunk:
        """Take the oldest bars that are not handed over yet."""
        taken = [self.bars.popleft() for _ in range(min(CHUNK_BARS_MAX, len(self.bars)))]
        return Chunk(self.command.series[0], tuple(_history_bar(bar) for bar in taken))


def refusal(command: Command, message: str, code: Code) -> Answer:
    """Return the answer that refuses a request."""
    return Answer(command.series[0], False, message, code, complete=False, count=0)


def too_dear(budget: Budget, requests: int, now_ms: int) -> tuple[str, Code] | None:
    """Return why so many requests to TradingView cannot be spent now, None where they can."""
    most = budget.requests_max
    if most == 0:
        return f"requests for history are switched off by {_SETTING}", "switched_off"
    free_at_ms = budget.free_at_ms(requests, now_ms)
    if free_at_ms == now_ms:
        return None
    rule = f"history may cost {most} requests to TradingView in an hour ({_SETTING})"
    if free_at_ms is None:
        return f"{rule} and this one costs {requests} at least: ask for fewer bars", "budget_spent"
    wait = _in_words(free_at_ms - now_ms)
    return f"{rule} and they are spent: ask again in {wait}", "budget_spent"


def tell_started(notes: Notes, request: HistoryRequest) -> None:
    """Tell that a request's turn came."""
    asked = request.command
    notes.tell(
        "history.started",
        series=request.series,
        bars=asked.bars,
        from_ms=asked.from_ms,
        to_ms=asked.to_ms,
    )


def tell_completed(notes: Notes, request: HistoryRequest, fetched: Fetched, now_ms: int) -> None:
    """Tell what was found."""
    notes.tell(
        "history.completed",
        series=request.series,
        bars=len(fetched.bars),
        complete=fetched.complete,
        reason=fetched.reason,
        requests=request.spent,
        took_ms=now_ms - request.accepted_ms,
    )


def _summary(fetched: Fetched, wanted: int | None) -> str:
    count = len(fetched.bars)
    if fetched.complete:
        return f"{count} bars"
    begins = ""
    if fetched.bars:
        opened = _EPOCH + timedelta(milliseconds=fetched.bars[0].open_time_ms)
        begins = f", the first of {opened.isoformat().replace('+00:00', 'Z')}"
    asked = "" if wanted is None else f" of {wanted}"
    return f"{count}{asked} bars{begins}: {fetched.reason}"


def _history_bar(bar: Bar) -> HistoryBar:
    prices = (bar.open, bar.high, bar.low, bar.close)
    return HistoryBar(bar.open_time_ms, *prices, bar.volume, bar.end_time_ms)


def _in_words(wait_ms: int) -> str:
    """Return a wait as a person says it, rounded up."""
    seconds = -(-wait_ms // 1000)
    return f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"
