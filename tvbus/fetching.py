"""Asks the running publisher for history, and gathers what it answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError

from bus.connection import address
from bus.errors import BusUnreachable
from consumers.errors import UsageError
from publisher.answers import Chunk, HistoryBar, Progress, Reply, decode_reply
from publisher.commands import COMMAND_FIELD, COMMANDS_MAX, Answer, Command
from publisher.errors import RequestRefused, SymbolUnknown
from publisher.wire import EntryMalformed, Series
from tvbus.report import lease_of, signin_trouble
from tvbus.shared import Bus
from tvbus.suggest import is_unknown

SILENCE_S_MAX: Final = 30
"""How long nothing may come; the publisher says every few seconds that it works on it."""
DEAD_S: Final = 5
"""After so much silence it is looked whether there is a publisher still."""


@dataclass(slots=True)
class History:
    """What the publisher sent."""

    bars: list[HistoryBar] = field(default_factory=list)
    """Oldest first, each time once."""
    complete: bool = True
    message: str = ""
    """How much it is, and where it is not complete, why."""


def history_command(
    series: Series, bars: int | None, from_ms: int | None, to_ms: int | None
) -> Command:
    """Return the request. Raises UsageError where the publisher would not understand it."""
    command = Command(uuid.uuid4().hex, "history", (str(series),), bars, from_ms, to_ms)
    try:
        return Command.decode(command.encode())
    except EntryMalformed as error:
        raise UsageError(str(error)) from None


def ask_history(bus: Bus, command: Command, on_progress: Callable[[Progress], None]) -> History:
    """Ask, and wait for all bars.

    Raises RequestRefused where there is no publisher, or it refuses or goes away,
    SymbolUnknown where TradingView does not know the symbol, and BusUnreachable where
    the bus fails.
    """
    try:
        if lease_of(bus) is None:
            raise RequestRefused("no publisher is running: start one with `tvbus publish`")
        if trouble := signin_trouble(bus):
            raise RequestRefused(f"the publisher is not signed in: {trouble}")
        fields: Any = {COMMAND_FIELD: command.encode()}
        bus.client.xadd(bus.keys.commands, fields, maxlen=COMMANDS_MAX)
        return _gather(bus, command, on_progress)
    except RedisError as error:
        raise BusUnreachable(f"the bus at {address(bus.url)} failed: {error}") from error


def _gather(bus: Bus, command: Command, on_progress: Callable[[Progress], None]) -> History:
    history = History()
    while True:
        match _next_reply(bus, command):
            case Progress() as progress:
                on_progress(progress)
            case Chunk() as chunk:
                # The publisher sends again what it does not know to have arrived.
                last_ms = history.bars[-1].open_time_ms if history.bars else -1
                history.bars += [bar for bar in chunk.bars if bar.open_time_ms > last_ms]
            case Answer() as answer:
                return _finished(history, answer)


def _next_reply(bus: Bus, command: Command) -> Reply:
    key = bus.keys.replies(command.id)
    for silent_s in range(SILENCE_S_MAX):
        # One second a call stays below every socket time-out.
        popped: Any = bus.client.blpop([key], timeout=1)
        if popped is not None:
            return _read(popped[1])
        if silent_s >= DEAD_S and lease_of(bus) is None:
            raise RequestRefused("the publisher is gone: start it again, then ask again")
    raise RequestRefused(f"no answer from the publisher for {SILENCE_S_MAX} s: see `tvbus status`")


def _read(text: bytes) -> Reply:
    try:
        return decode_reply(text)
    except EntryMalformed as error:
        raise RequestRefused(f"the publisher's answer cannot be understood: {error}") from None


def _finished(history: History, answer: Answer) -> History:
    if is_unknown(answer):
        raise SymbolUnknown(answer.message)
    if not answer.accepted:
        raise RequestRefused(answer.message)
    if answer.count is not None and answer.count != len(history.bars):
        raise RequestRefused(
            f"{len(history.bars)} of {answer.count} bars arrived, the others were lost on the "
            "way: ask again"
        )
    history.complete = answer.complete is not False
    history.message = answer.message
    return history
