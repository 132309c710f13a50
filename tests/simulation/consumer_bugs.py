"""Bugs planted in consumers: what their handlers see, say to the bus and take from it differ.

Where the bus' scripts guard, the script is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from consumers.core.ids import EntryId
from consumers.shell import group as group_scripts
from consumers.shell.departure import Departure
from consumers.shell.membership import Membership
from publisher.wire import MINUTE_MS, Bar
from tests.simulation.clients import Command
from tests.simulation.consuming import ConsumerProcess
from tests.simulation.planting import Bug, Planting, method, script
from tests.simulation.publishing import KEYS
from tests.simulation.scripts import script_of

Take = Callable[[ConsumerProcess, Bar], Any]


def _handling(take: Take) -> Callable[[], Planting]:
    """Let something else be done with a bar than to hand it to the handler."""
    return lambda: mock.patch.object(ConsumerProcess, "take", take)


def _acknowledge_first(process: ConsumerProcess, bar: Bar) -> Any:
    key, entry_id = KEYS.bars(bar.series), f"{bar.open_time_ms}-0"
    process.client.execute_command("XACK", key, process.group, entry_id)
    return process.handle(bar)


def _forgive(process: ConsumerProcess, bar: Bar) -> Any:
    try:
        return process.handle(bar)
    except ValueError:
        return process.say("the handler's failure is taken for success")


def _drop_some(process: ConsumerProcess, bar: Bar) -> Any:
    return process.handle(bar) if bar.open_time_ms // bar.series.interval_ms % 10 else None


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


def _read_only_new(command: Command) -> Command:
    return _replaced(command, 7, ">") if script_of(command) == "serve" else command


def _remakes(command: Command) -> bool:
    return command[:2] == ("XGROUP", "CREATE") and command[4] != "0-0"


def _make_no_group(command: Command) -> Command:
    return _replaced(command, 3, "nobody") if _remakes(command) else command


def _begin_at_the_end(command: Command) -> Command:
    return _replaced(command, 4, "$") if _remakes(command) else command


def _begin_again(command: Command) -> Command:
    return _replaced(command, 4, "0-0") if _remakes(command) else command


def _keep_ahead(command: Command) -> Command:
    if script_of(command) != "checkpoint":
        return command
    name, token, text = command[6:9]
    entry = EntryId.parse(text)
    return (*command[:6], name, token, f"{entry.ms + MINUTE_MS}-0", *command[9:])


def _bury_elsewhere(command: Command) -> Command:
    buries = command[0] == "XADD" and ":dead" in command[1]
    return _replaced(command, 1, "elsewhere") if buries else command


def _script(name: str, *changes: tuple[str, str]) -> Callable[[], Planting]:
    """Let one of the streams' scripts be another one."""

    return lambda: script(group_scripts, name, *changes)


def _hand_over_at_once(self: Departure) -> dict[str, int]:
    with self.desk.lock:
        leaving = [x for x in self.desk.lanes.held() if x.leaving]
    return self._give_up(leaving) if leaving else {}


def _held_for_ever() -> Planting:
    def make(real: Any) -> Any:
        return lambda self, *args: replace(real(self, *args), valid_until_ms=2**62)

    return method(Membership, "_standing", make)


BUGS: Final = (
    Bug("acknowledges before the handler", _handling(_acknowledge_first)),
    Bug("acknowledges what the handler failed at", _handling(_forgive), 2),
    Bug("drops every tenth bar", _handling(_drop_some)),
    Bug("acknowledges nothing", _sending(_never_acknowledge)),
    Bug("does not read again what was delivered before", _sending(_read_only_new), 2),
    Bug("does not make a lost group again", _sending(_make_no_group), 26),
    Bug("makes a lost group at the end of the stream", _sending(_begin_at_the_end), 26),
    Bug("makes a lost group at the beginning of the stream", _sending(_begin_again), 26),
    Bug("keeps a position that it has not reached", _sending(_keep_ahead), 1),
    Bug("does not keep what it gives up", _sending(_bury_elsewhere), 7),
    Bug(
        "ignores the fence when it reads",
        _script("_SERVE", ("if refused then", "if refused and refused[1] ~= 'FENCED' then")),
        0,
    ),
    Bug(
        "ignores the fence when it takes over",
        _script("_TAKE_OVER", ("if highest >= tonumber(token) then", "if false then")),
        23,
    ),
    Bug(
        "takes over nothing of a dead member",
        _script(
            "_TAKE_OVER",
            ("redis.call('XPENDING', key, group, '-', '+', room, other)", "{}"),
            ("redis.call('XGROUP', 'DELCONSUMER', key, group, other)", "do end"),
        ),
        24,
    ),
    Bug(
        "hands over while a bar is at the handler",
        lambda: mock.patch.object(Departure, "hand_over", _hand_over_at_once),
        24,
    ),
    Bug("goes on after its lease", _held_for_ever, 5),
)
