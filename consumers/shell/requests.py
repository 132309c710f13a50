"""Asks the running publisher, and gathers what it answers."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisClusterException, RedisError

from bus.connection import Client, address
from bus.errors import BusUnreachable
from consumers.errors import RequestOverdue, RequestRefused, SymbolUnknown
from consumers.shell.publisher import lease_of, signin_trouble
from publisher.wire import EntryMalformed, Keys, Series
from publisher.wire.answers import Answer, Chunk, HistoryBar, Listing, Progress, Reply, decode_reply
from publisher.wire.commands import COMMAND_FIELD, COMMANDS_MAX, Action, Command

SILENCE_S_MAX: Final = 30
"""How long nothing may come; the publisher says every few seconds that it works on it."""
DEAD_S: Final = 5
"""After so much silence it is looked whether there is a publisher still."""
ANSWER_S_MAX: Final = 35
"""How long a series is waited for: longer than TradingView may take to answer the publisher."""
BLOCK_S_MAX: Final = 1.0
"""Longest wait in one call; below every socket time-out."""
BLOCK_S_MIN: Final = 0.01
"""Least wait; none at all would be a wait without end."""


@dataclass(slots=True)
class History:
    """What the publisher sent."""

    bars: list[HistoryBar] = field(default_factory=list)
    """Oldest first, each time once."""
    complete: bool = True
    message: str = ""
    """How much it is, and where it is not complete, why."""


def new_command(action: Action, *series: Series, **more: Any) -> Command:
    """Return a request with an ID that nobody else uses; `more` are fields of Command."""
    return Command(uuid.uuid4().hex, action, tuple(str(one) for one in series), **more)


@dataclass(frozen=True, slots=True)
class Requests:
    """The way to the publisher of one bus; threads may share it.

    What the bus does not do raises BusUnreachable.
    """

    client: Client
    keys: Keys
    url: str

    def send(self, command: Command) -> None:
        """Put a request on the bus; where no publisher runs, the next one finds it."""
        fields: Any = {COMMAND_FIELD: command.encode()}
        with self.reached():
            self.client.xadd(self.keys.commands, fields, maxlen=COMMANDS_MAX)

    def check(self, *, signed_in: bool = True) -> None:
        """Raise RequestRefused where no publisher runs, or it cannot sign in."""
        with self.reached():
            if lease_of(self.client, self.keys) is None:
                raise RequestRefused("no publisher is running: start one with `tvbus publish`")
            if signed_in and (trouble := signin_trouble(self.client, self.keys)):
                raise RequestRefused(f"the publisher is not signed in: {trouble}")

    def history(
        self,
        command: Command,
        on_progress: Callable[[Progress], None] = lambda _: None,
        timeout_s: float = math.inf,
    ) -> History:
        """Ask for bars of the past, and wait for all of them.

        Raises RequestRefused where there is no publisher, or it refuses or goes away,
        SymbolUnknown where TradingView does not know the symbol, and RequestOverdue
        where the time-out passes first.
        """
        self.check()
        self.send(command)
        history = History()
        for reply in self.replies(command, timeout_s):
            match reply:
                case Progress():
                    on_progress(reply)
                case Chunk():
                    # The publisher sends again what it does not know to have arrived.
                    last_ms = history.bars[-1].open_time_ms if history.bars else -1
                    history.bars += [bar for bar in reply.bars if bar.open_time_ms > last_ms]
                case Answer():
                    return _finished(history, reply)
        raise AssertionError("replies end with an error, or not")

    def search(self, command: Command, timeout_s: float = math.inf) -> Listing:
        """Ask for a symbol search; nobody must be signed in for it.

        Raises RequestRefused where there is no publisher, or it refuses or goes away,
        and RequestOverdue where the time-out passes first.
        """
        self.check(signed_in=False)
        self.send(command)
        for reply in self.replies(command, timeout_s):
            match reply:
                case Listing():
                    return reply
                case Answer():
                    raise refusal(reply)
        raise AssertionError("replies end with an error, or not")

    def answers(self, command: Command, timeout_s: float = math.inf) -> list[Answer]:
        """Return what is answered about the series of a request that was sent, as it comes.

        Some are missing where nothing came for ANSWER_S_MAX, or the time-out passed.
        """
        answers: list[Answer] = []
        end_s = time.monotonic() + timeout_s
        silent_until_s = time.monotonic() + ANSWER_S_MAX
        while len(answers) < len(command.series):
            left_s = min(end_s, silent_until_s) - time.monotonic()
            if left_s <= 0:
                break
            reply = self._pop(command, left_s)
            if isinstance(reply, Answer):
                answers.append(reply)
                silent_until_s = time.monotonic() + ANSWER_S_MAX
        return answers

    def replies(self, command: Command, timeout_s: float = math.inf) -> Iterator[Reply]:
        """Yield what is answered to a request that was sent, without end.

        Raises RequestRefused after too much silence, RequestOverdue after the time-out.
        """
        end_s = time.monotonic() + timeout_s
        silent_from_s = time.monotonic()
        while True:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise RequestOverdue(f"the publisher did not answer within {timeout_s:g} s")
            reply = self._pop(command, left_s)
            if reply is not None:
                silent_from_s = time.monotonic()
                yield reply
                continue
            self._check_silence(time.monotonic() - silent_from_s)

    def _check_silence(self, silent_s: float) -> None:
        if silent_s >= SILENCE_S_MAX:
            raise RequestRefused(
                f"no answer from the publisher for {SILENCE_S_MAX} s: see `tvbus status`"
            )
        if silent_s >= DEAD_S:
            with self.reached():
                lease = lease_of(self.client, self.keys)
            if lease is None:
                raise RequestRefused("the publisher is gone: start it again, then ask again")

    def _pop(self, command: Command, left_s: float) -> Reply | None:
        with self.reached():
            key = self.keys.replies(command.id)
            popped: Any = self.client.blpop(
                [key], timeout=min(max(left_s, BLOCK_S_MIN), BLOCK_S_MAX)
            )
        if popped is None:
            return None
        try:
            return decode_reply(popped[1])
        except EntryMalformed as error:
            raise RequestRefused(f"the publisher's answer cannot be understood: {error}") from None

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Turn what the bus does not do into BusUnreachable."""
        try:
            yield
        except (RedisError, RedisClusterException) as error:
            raise BusUnreachable(f"the bus at {address(self.url)} failed: {error}") from error


def refusal(answer: Answer) -> RequestRefused:
    """Return the error that an answer tells of."""
    kind = SymbolUnknown if answer.code == "symbol_unknown" else RequestRefused
    return kind(answer.message)


def _finished(history: History, answer: Answer) -> History:
    if not answer.accepted:
        raise refusal(answer)
    if answer.count is not None and answer.count != len(history.bars):
        raise RequestRefused(
            f"{len(history.bars)} of {answer.count} bars arrived, the others were lost on the "
            "way: ask again"
        )
    history.complete = answer.complete is not False
    history.message = answer.message
    return history
