"""Bugs planted in consumers: what their handlers see, and what they say to the bus, differ.

Nothing here knows how a consumer is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from unittest import mock

from publisher.wire import Bar
from tests.simulation.clients import Command
from tests.simulation.consuming import ConsumerProcess, script_of
from tests.simulation.planting import Bug, Planting
from tests.simulation.publishing import KEYS

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
    # What is to be acknowledged stands at the end.
    ends = {"serve": 9, "hand_over": 8}
    return command[: ends.get(script_of(command), len(command))]


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
    Bug("acknowledges what the handler failed at", _handling(_forgive)),
    Bug("drops every tenth bar", _handling(_drop_some)),
    Bug("acknowledges nothing", _sending(_never_acknowledge)),
    Bug("does not make a lost group again", _sending(_make_no_group)),
    Bug("begins at the end of a stream", _sending(_begin_at_the_end)),
    Bug("does not keep what it gives up", _sending(_bury_elsewhere)),
)
