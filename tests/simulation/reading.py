"""What groups have read: what their handlers saw, and what the server says is done.

Entries that were delivered and are pending no more are done, by whichever command, so
this holds whatever a consumer says to the bus.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from publisher.wire import Bar, Series
from tests.simulation.bus import Bus
from tests.simulation.clients import Command
from tests.simulation.consuming import GIVE_UP, ConsumerProcess, group_of
from tests.simulation.leasing import Leasing
from tests.simulation.publishing import KEYS
from tests.simulation.records import Stream

PENDING_MAX: Final = 10_000


@dataclass
class Sights:
    """What a group's handlers have seen of one series."""

    called: set[int] = field(default_factory=set)
    handled: dict[int, int] = field(default_factory=dict)
    """Bars whose handler returned, and the serial of that call's beginning."""
    at_handler: dict[ConsumerProcess, tuple[int, int, int]] = field(default_factory=dict)
    """Who is at a handler now: open time, when it began, and the call's serial."""


class Reading:
    """Watches the groups; says at once what is wrong."""

    def __init__(
        self, bus: Bus, streams: dict[Series, Stream], fail: Callable[[str], None]
    ) -> None:
        self._loop = bus.loop
        self._client = bus.client
        self._streams = streams
        self._fail = fail
        self._by_bars = {KEYS.bars(series): series for series in streams}
        self._sights: dict[tuple[str, Series], Sights] = defaultdict(Sights)
        self._leasing = Leasing(bus, fail)
        bus.observers.append(self._observe)

    # What the handlers see.

    def handled(self, process: ConsumerProcess, bar: Bar, ended: bool | None) -> None:
        """Take note that a bar is handed to a handler (None), and how that ended.

        True where the handler returned, False where it raised.
        """
        sights = self._sights[process.group, bar.series]
        if ended is None:
            self._leasing.begins(process.name, bar)
            self._check_alone(process, bar, sights)
            self._check_repeat(process.group, bar, sights)
            self._check_order(process.group, bar, sights)
            sights.called.add(bar.open_time_ms)
            serial = self._leasing.tick()
            sights.at_handler[process] = (bar.open_time_ms, self._loop.now_ms, serial)
            return
        _, _, serial = sights.at_handler.pop(process)
        if ended:
            sights.handled[bar.open_time_ms] = serial

    def _check_alone(self, process: ConsumerProcess, bar: Bar, sights: Sights) -> None:
        for other, (open_time_ms, begun_ms, _) in list(sights.at_handler.items()):
            if not other.alive:
                del sights.at_handler[other]
            elif other is process:
                self._fail(f"{other.name} is at {bar.series} {open_time_ms} already")
            elif self._leasing.may_have_lost(other.name, begun_ms):
                self._loop.trace.counts["two at once, one without a lease"] += 1
            else:
                both = f"{other.name} is still at {open_time_ms}"
                self._fail(f"{process.name} sees {bar.series} {bar.open_time_ms} while {both}")

    def _check_repeat(self, group: str, bar: Bar, sights: Sights) -> None:
        serial = sights.handled.get(bar.open_time_ms)
        if serial is None:
            return
        if self._leasing.taken(group, KEYS.bars(bar.series)) < serial:
            self._fail(f"{group} sees {bar.series} {bar.open_time_ms} again, and nobody took over")
        self._loop.trace.counts["repeated at a take-over"] += 1

    def _check_order(self, group: str, bar: Bar, sights: Sights) -> None:
        open_time_ms = bar.open_time_ms
        if open_time_ms in sights.called:
            return
        if sights.called and open_time_ms < max(sights.called):
            self._fail(f"{group} sees {bar.series} {open_time_ms} after {max(sights.called)}")
        for earlier, entry in self._streams[bar.series].entries.items():
            if earlier >= open_time_ms or not entry.values or earlier in sights.handled:
                continue
            if not self._is_given_up(group, bar.series, earlier, sights):
                self._fail(f"{group} sees {bar.series} {open_time_ms} before {earlier}")

    def _is_given_up(self, group: str, series: Series, open_time_ms: int, sights: Sights) -> bool:
        """Tell whether a bar may be a dead letter, or about to be one."""
        if group not in GIVE_UP or open_time_ms not in sights.called:
            return False
        key = KEYS.bars(series)
        pending = {_first_ms(line["message_id"]) for line in self._pending(group, key)}
        return open_time_ms in pending or self._is_buried(group, key, open_time_ms)

    # What the server says is done.

    def _observe(self, name: str, command: Command, reply: Any) -> None:
        group = group_of(name)
        if group is None or isinstance(reply, Exception):
            return
        self._leasing.observe(group, name, command, reply)
        if command[0] in {"XACK", "EVALSHA"}:
            for argument in command[1:]:
                if argument in self._by_bars:
                    self._check_done(group, self._by_bars[argument])
        for series in self._leasing.kept(command, self._streams):
            self._check_kept(group, series)

    def _check_done(self, group: str, series: Series) -> None:
        key = KEYS.bars(series)
        doubtful = self._doubtful(group, series)
        if not doubtful or (position := self._position(group, key)) is None:
            return
        pending = {_first_ms(line["message_id"]) for line in self._pending(group, key)}
        for open_time_ms in doubtful:
            is_done = open_time_ms <= position[0] and open_time_ms not in pending
            if is_done and not self._is_buried(group, key, open_time_ms):
                self._fail(f"{group} is done with {series} {open_time_ms}, which no handler took")

    def _doubtful(self, group: str, series: Series) -> list[int]:
        handled = self._sights[group, series].handled
        entries = self._streams[series].entries
        return [ms for ms, entry in entries.items() if not entry.values or ms not in handled]

    def _check_kept(self, group: str, series: Series) -> None:
        """Check that everything up to the position kept aside is done."""
        raw: Any = self._client.hget(KEYS.group(group, "checkpoints"), str(series))
        if raw is None:
            return
        kept_ms, key = _first_ms(raw), KEYS.bars(series)
        for open_time_ms in self._doubtful(group, series):
            if open_time_ms <= kept_ms and not self._is_buried(group, key, open_time_ms):
                where = f"{series} {open_time_ms}, which no handler took"
                self._fail(f"{group} keeps {raw.decode()} as its position, beyond {where}")

    def _position(self, group: str, key: str) -> tuple[int, int] | None:
        """Return the last entry that was delivered to a group, None where it is not there."""
        found: Any = self._client.xinfo_groups(key) if self._client.exists(key) else []
        for line in found:
            if line["name"].decode() == group:
                first, second = line["last-delivered-id"].decode().split("-")
                return int(first), int(second)
        return None

    def _pending(self, group: str, key: str) -> list[Any]:
        found: Any = self._client.xpending_range(key, group, "-", "+", PENDING_MAX)
        return list(found)

    def _is_buried(self, group: str, key: str, first_ms: int) -> bool:
        letters: Any = self._client.xrange(KEYS.dead(group))
        return any(
            fields[b"key"].decode() == key and _first_ms(fields[b"id"]) == first_ms
            for _, fields in letters
        )

    def unread(self, group: str, series: Series) -> Iterator[str]:
        """Yield what a group has still to do."""
        key, stream = KEYS.bars(series), self._streams[series]
        position = self._position(group, key)
        if position is None:
            yield f"{group} does not read {series}"
            return
        pending = self._pending(group, key)
        if pending or position != stream.last_id:
            at = f"at {position} with {len(pending)} pending"
            yield f"{group} is {at} of {series}, not at {stream.last_id}"
            return
        handled = self._sights[group, series].handled
        for open_time_ms, entry in stream.entries.items():
            if entry.values is not None and open_time_ms in handled:
                continue
            if not self._is_buried(group, key, open_time_ms):
                yield f"{group} never handled {series} {open_time_ms}"

    def unshared(self, group: str) -> Iterator[str]:
        """Yield what is uneven among the members of a group."""
        yield from self._leasing.unshared(group, {str(series) for series in self._streams})


def _first_ms(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])
