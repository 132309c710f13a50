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
from tests.simulation.consuming import group_of
from tests.simulation.publishing import KEYS
from tests.simulation.records import Stream

ACKNOWLEDGES: Final = frozenset({"XACK", "EVALSHA"})
"""What may end that an entry is pending."""
PENDING_MAX: Final = 10_000


@dataclass
class Sights:
    """What a group's handler has seen of one series."""

    called: set[int] = field(default_factory=set)
    handled: set[int] = field(default_factory=set)


class Reading:
    """Watches the groups; says at once what is wrong."""

    def __init__(
        self, bus: Bus, streams: dict[Series, Stream], fail: Callable[[str], None]
    ) -> None:
        self._client = bus.client
        self._streams = streams
        self._fail = fail
        self._by_bars = {KEYS.bars(series): series for series in streams}
        self._sights: dict[tuple[str, Series], Sights] = defaultdict(Sights)
        bus.observers.append(self._observe)

    def handled(self, group: str, bar: Bar, returned: bool) -> None:
        """Take note that a bar is handed to a group's handler, and that that returned."""
        sights = self._sights[group, bar.series]
        open_time_ms = bar.open_time_ms
        if returned:
            sights.handled.add(open_time_ms)
            return
        if open_time_ms not in sights.called:
            if sights.called and open_time_ms < max(sights.called):
                self._fail(f"{group} sees {bar.series} {open_time_ms} after {max(sights.called)}")
            for earlier, entry in self._streams[bar.series].entries.items():
                if earlier < open_time_ms and entry.values and earlier not in sights.handled:
                    self._fail(f"{group} sees {bar.series} {open_time_ms} before {earlier}")
        sights.called.add(open_time_ms)

    def _observe(self, name: str, command: Command, reply: Any) -> None:
        group = group_of(name)
        if group is None or command[0] not in ACKNOWLEDGES or isinstance(reply, Exception):
            return
        for argument in command[1:]:
            if argument in self._by_bars:
                self._check_done(group, self._by_bars[argument])

    def _check_done(self, group: str, series: Series) -> None:
        key, handled = KEYS.bars(series), self._sights[group, series].handled
        entries = self._streams[series].entries
        doubtful = [ms for ms, entry in entries.items() if not entry.values or ms not in handled]
        if not doubtful or (position := self._position(group, key)) is None:
            return
        pending = {_first_ms(line["message_id"]) for line in self._pending(group, key)}
        for open_time_ms in doubtful:
            is_done = open_time_ms <= position[0] and open_time_ms not in pending
            if is_done and not self._is_buried(group, key, open_time_ms):
                self._fail(f"{group} is done with {series} {open_time_ms}, which no handler took")

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


def _first_ms(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])
