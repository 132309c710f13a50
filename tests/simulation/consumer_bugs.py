"""Bugs planted in consumers: what their handlers see, and what they say to the bus, differ.

Nothing here knows how a consumer is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from unittest import mock

from publisher.wire import Bar
from tests.simulation.clients import Command
from tests.simulation.consuming import ConsumerProcess
from tests.simulation.planting import Bug, Planting
from tests.simulation.publishing import KEYS

NEVER_MS: Final = 10**12
NOWHERE: Final = "99999999999999-0"
"""An ID beyond all entries."""

Take = Callable[[ConsumerProcess, Bar], None]


def _handling(take: Take) -> Callable[[], Planting]:
    """Let something else be done with a bar than to hand it to the handler."""
    return lambda: mock.patch.object(ConsumerProcess, "take", take)


def _acknowledge_first(process: ConsumerProcess, bar: Bar) -> None:
    key, entry_id = KEYS.bars(bar.series), f"{bar.open_time_ms}-0"
    process.client.execute_command("XACK", key, process.group, entry_id)
    process.handle(bar)


def _forgive(process: ConsumerProcess, bar: Bar) -> None:
    try:
        process.handle(bar)
    except ValueError:
        process.say("the handler's failure is taken for success")


def _drop_some(process: ConsumerProcess, bar: Bar) -> None:
    if bar.open_time_ms // bar.series.interval_ms % 10:
        process.handle(bar)


def _sending(change: Callable[[Command], Command]) -> Callable[[], Planting]:
    """Let something else be sent to the bus."""
    return lambda: mock.patch.object(
        ConsumerProcess, "sends", lambda self, command: change(command)
    )


def _replaced(command: Command, place: int, argument: Any) -> Command:
    return (*command[:place], argument, *command[place + 1 :])


def _never_acknowledge(command: Command) -> Command:
    return (*command[:3], NOWHERE) if command[0] == "XACK" else command


def _never_claim(command: Command) -> Command:
    return _replaced(command, 4, NEVER_MS) if command[0] == "XAUTOCLAIM" else command


def _read_only_new(command: Command) -> Command:
    if command[0] != "XREADGROUP":
        return command
    streams = (len(command) - command.index("STREAMS") - 1) // 2
    after = [x if x == ">" else NOWHERE for x in command[-streams:]]
    return (*command[:-streams], *after)


def _overlook_others(command: Command) -> Command:
    asks_for_all = command[0] == "XPENDING" and len(command) == 6
    return _replaced(command, 4, "0-1") if asks_for_all else command


def _make_no_group(command: Command) -> Command:
    remakes = command[:2] == ("XGROUP", "CREATE") and command[4] != "0-0"
    return _replaced(command, 3, "nobody") if remakes else command


def _begin_at_the_end(command: Command) -> Command:
    return _replaced(command, 4, "$") if command[:2] == ("XGROUP", "CREATE") else command


def _bury_elsewhere(command: Command) -> Command:
    buries = command[0] == "XADD" and ":dead" in command[1]
    return _replaced(command, 1, "elsewhere") if buries else command


BUGS: Final = (
    Bug("acknowledges before the handler", _handling(_acknowledge_first)),
    Bug(
        "acknowledges what the handler failed at",
        _handling(_forgive),
        needs=frozenset({"handler_fails"}),
    ),
    Bug("drops every tenth bar", _handling(_drop_some)),
    Bug("acknowledges nothing", _sending(_never_acknowledge)),
    Bug(
        "takes over nothing",
        _sending(_never_claim),
        needs=frozenset({"consumer_killed", "handler_killed"}),
    ),
    Bug(
        "does not read again what was delivered before",
        _sending(_read_only_new),
        needs=frozenset({"consumer_killed", "handler_killed", "reply_lost", "stall_after"}),
    ),
    Bug(
        "does not wait for what others hold",
        _sending(_overlook_others),
        needs=frozenset({"consumer_killed", "handler_killed"}),
    ),
    Bug(
        "does not make a lost group again",
        _sending(_make_no_group),
        needs=frozenset({"flushed", "failed_over", "evicted"}),
    ),
    Bug("begins at the end of a stream", _sending(_begin_at_the_end)),
    Bug("does not keep what it gives up", _sending(_bury_elsewhere), needs=frozenset({"alien"})),
)
