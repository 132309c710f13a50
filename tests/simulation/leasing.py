"""Who of a group may read what: by what the server granted, fenced and was told.

A member's lease lasts LEASE_MS from its last beat that the server did. What a script
did for a token that another had overruled, it did against the fence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Final

from consumers.core.ids import ZERO, EntryId
from publisher.wire import Bar, Series
from tests.simulation.bus import Bus
from tests.simulation.clients import Command
from tests.simulation.consuming import LEASE_MS
from tests.simulation.publishing import KEYS
from tests.simulation.scripts import script_of

RULED: Final = frozenset({"take_over", "serve", "retry", "hand_over"})
"""Scripts that a stream does for its ruler alone."""
NEVER_MS: Final = -(10**15)


class Leasing:
    """Keeps its own record of leases; says at once what is wrong."""

    def __init__(self, bus: Bus, fail: Callable[[str], None]) -> None:
        self._loop = bus.loop
        self._client = bus.client
        self._fail = fail
        self._serial = count(1)
        self._beaten_ms: dict[str, int] = {}
        self._lapsed_ms: dict[str, int] = defaultdict(lambda: NEVER_MS)
        """When a member was last found to have been without a lease."""
        self._reset_ms = NEVER_MS
        self._rulers: dict[tuple[str, str], int] = {}
        """Group and stream → the highest token that took it over."""
        self._taken: dict[tuple[str, str], int] = {}
        self._incarnations: dict[str, str] = {}
        self._acked: set[tuple[str, str]] = set()
        """Member and stream of which it acknowledged something in this life."""
        self._told: dict[tuple[str, str], EntryId] = {}
        """Member and name → the position kept aside, as the server last told it."""
        self._holders: dict[tuple[str, bytes], str] = {}
        bus.on_reset.append(self._reset)

    def tick(self) -> int:
        """Return the next serial; they tell what came before what."""
        return next(self._serial)

    def begins(self, name: str, bar: Bar) -> None:
        """A handler of this member gets a bar now."""
        left_ms = self._beaten_ms.get(name, NEVER_MS) + LEASE_MS - self._loop.now_ms
        if left_ms <= 0:
            where = f"{bar.series} {bar.open_time_ms}"
            self._fail(f"{name} hands over {where} {-left_ms} ms after its lease")

    def may_have_lost(self, name: str, since_ms: int) -> bool:
        """Tell whether a member may have been without its lease at some time since then."""
        overdue = self._loop.now_ms >= self._beaten_ms.get(name, NEVER_MS) + LEASE_MS
        # What a failover brought back is known to a member by its next beat.
        forgotten = self._reset_ms >= since_ms - LEASE_MS
        return overdue or forgotten or self._lapsed_ms[name] >= since_ms

    def taken(self, group: str, key: str) -> int:
        """Return the serial of the last time that somebody took a stream over."""
        return self._taken.get((group, key), 0)

    # What the server did.

    def observe(self, group: str, name: str, command: Command, reply: Any) -> None:
        """Look at one command that the server did for a member."""
        script = script_of(command)
        if script == "beat" and reply[0] == b"BEAT":
            self._beat(group, name, command, reply)
        elif script in RULED:
            self._rule(group, name, script, command, reply[0])
        elif command[0] == "HMGET" and command[1] == KEYS.group(group, "checkpoints"):
            for field, value in zip(command[2:], reply, strict=True):
                self._told[name, field] = ZERO if value is None else EntryId.parse(value)
        elif command[:2] == ("XGROUP", "CREATE") and reply:
            self._make(command[3], name, command)

    def _beat(self, group: str, name: str, command: Command, reply: Any) -> None:
        now_ms, incarnation = self._loop.now_ms, command[8]
        if self._incarnations.get(name) != incarnation:
            self._incarnations[name] = incarnation
            self._acked = {x for x in self._acked if x[0] != name}
            self._told = {x: at for x, at in self._told.items() if x[0] != name}
        if now_ms >= self._beaten_ms.get(name, now_ms) + LEASE_MS:
            self._lapsed_ms[name] = now_ms
            self._count("lease lapsed")
        self._beaten_ms[name] = now_ms
        for held in reply[3][::2]:
            before = self._holders.get((group, held))
            self._holders[group, held] = name
            if before not in {None, name}:
                self._count("lease moved")

    def _rule(self, group: str, name: str, script: str, command: Command, status: bytes) -> None:
        key, token = command[3], int(command[6])
        if status in {b"FENCED", b"LOST"}:
            self._count(f"consumer {status.decode().lower()}")
            return
        ruler = self._rulers.get((group, key), 0)
        if token < ruler:
            self._fail(f"{key} does {script} for {name} with token {token} after {ruler}")
        self._rulers[group, key] = token
        if script == "take_over":
            self._taken[group, key] = self.tick()
        if script == "serve" and len(command) > 9:
            self._acked.add((name, key))

    def _make(self, group: str, name: str, command: Command) -> None:
        key = command[2]
        groups: Any = self._client.xinfo_groups(key)
        [begins] = [
            EntryId.parse(x["last-delivered-id"]) for x in groups if x["name"] == group.encode()
        ]
        series = key[key.index("{") + 1 : key.index("}")]
        kept = self._told.get((name, series), ZERO)
        if begins < kept:
            self._fail(f"{name} makes the group in {key} at {begins}, before {kept} that is kept")
        if begins == ZERO and (name, key) in self._acked:
            self._fail(f"{name} makes the group in {key} at {begins}, where it has read before")
        if kept > ZERO:
            self._count("group made at its checkpoint")

    def kept(self, command: Command, streams: Iterable[Series]) -> list[Series]:
        """Return the series whose positions a command keeps aside."""
        if script_of(command) != "checkpoint":
            return []
        return [series for series in streams if str(series) in command[6::3]]

    def _reset(self) -> None:
        self._reset_ms = self._loop.now_ms
        self._rulers.clear()

    def _count(self, kind: str) -> None:
        self._loop.trace.counts[kind] += 1

    # In the end.

    def unshared(self, group: str, names: set[str]) -> Iterator[str]:
        """Yield what nobody holds, and whether somebody holds more than is fair."""
        leases: Mapping[Any, Any] = self._client.hgetall(KEYS.group(group, "leases"))
        members: Mapping[Any, Any] = self._client.hgetall(KEYS.group(group, "members"))
        holders = {name.decode(): lease.split()[0] for name, lease in leases.items()}
        if names - holders.keys():
            yield f"nobody of {group} holds {names - holders.keys()}"
        shares = Counter(holder for name, holder in holders.items() if name in names)
        each = [shares[member] for member in members]
        if not each or sum(each) != len(names) or max(each) - min(each) > 1:
            yield f"the members of {group} hold {dict(shares)} and are {sorted(members)}"
