"""Competing for entries instead of holding series: no leases, and no order.

Every member reads every series; the server gives each entry to one of them. What a
member has had for longer than the lease time without a sign of life, another claims.
The reader is the same as with leases: these two classes stand in for its group and
its membership.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from redis.exceptions import RedisError

from bus.connection import Client
from consumers.core.ids import EntryId
from consumers.core.lanes import NEVER_MS
from consumers.core.standing import Standing
from consumers.errors import ConsumerError, GroupLost
from consumers.shell.group import Group, Leaving, Served, Serving, TakenOver
from consumers.shell.membership import REPLAYS_MAX, Membership
from consumers.shell.streams import PAGE, Entry, as_entry, named, translated
from consumers.shell.threads import Desk
from publisher.wire import Keys

RELEASED: Final = "#released"
"""Consumer name that holds what a member gave back when it stopped."""


class CompetingGroup(Group):
    """One consumer group as one of its competing members sees it; used by one thread."""

    def __init__(
        self, desk: Desk, client: Client, keys: Keys, *, group: str, member: str, lease_ms: int
    ) -> None:
        """Take a client for blocking reads; it stays the caller's to close."""
        super().__init__(client, keys, group, member)
        # The library's own reading of this reply loses what was trimmed.
        client.set_response_callback("XAUTOCLAIM", lambda reply, **_: reply)
        self._desk = desk
        self._lease_ms = lease_ms
        self._claim_ms: dict[str, int] = {}

    def take_over(self, requests: Mapping[str, int]) -> dict[str, TakenOver | ConsumerError]:
        """Tell where the group stands; what others have pending stays theirs."""
        taken: dict[str, TakenOver | ConsumerError] = {}
        for key, state in zip(requests, self.look(list(requests)), strict=True):
            if state is None:
                taken[key] = GroupLost(f"there is no group {self.group!r} in {key}")
            elif isinstance(state, ConsumerError):
                taken[key] = state
            else:
                taken[key] = TakenOver(state.position, state.delivered, 0, ())
        return taken

    def serve(self, requests: Sequence[Serving]) -> list[Served | ConsumerError]:
        """Acknowledge and read each stream; never blocks."""
        replies = self._pipeline(x for one in requests for x in self._commands(one))
        served: list[Served | ConsumerError] = []
        for one in requests:
            mine = [replies.pop(0) for _ in self._commands(one)]
            errors = [x for x in mine if isinstance(x, RedisError)]
            served.append(named(errors[0]) if errors else self._served(one, mine[-1:]))
        return [self._claim(x, y) for x, y in zip(requests, served, strict=True)]

    def _commands(self, one: Serving) -> list[tuple[Any, ...]]:
        commands: list[tuple[Any, ...]] = []
        if one.acks:
            commands.append(("XACK", one.key, self.group, *map(str, one.acks)))
        if one.count and one.cursor is None:
            who = ("GROUP", self.group, self.member, "COUNT", one.count)
            commands.append(("XREADGROUP", *who, "STREAMS", one.key, ">"))
        elif one.count:
            low = f"({one.cursor}"
            commands.append(("XPENDING", one.key, self.group, low, "+", one.count, self.member))
        return commands

    def _served(self, one: Serving, replies: list[Any]) -> Served | ConsumerError:
        if not one.count:
            return Served([])
        if one.cursor is not None:
            return self._own(one.key, replies[0])
        return Served([as_entry(x) for _, entries in replies[0] or () for x in entries])

    def _own(self, key: str, lines: Any) -> Served | ConsumerError:
        """Return own pending entries; reading them as such would count as an attempt."""
        ids = [x["message_id"] for x in lines]
        found = self._pipeline(("XRANGE", key, x, x) for x in ids)
        entries: list[Entry] = []
        for raw, reply in zip(ids, found, strict=True):
            if isinstance(reply, RedisError):
                return named(reply)
            entries.append(as_entry(reply[0]) if reply else (EntryId.parse(raw), {}))
        counts = {EntryId.parse(x["message_id"]): x["times_delivered"] for x in lines}
        return Served(entries, {entry: n for entry, n in counts.items() if n > 1})

    def _claim(self, one: Serving, served: Served | ConsumerError) -> Served | ConsumerError:
        """Add what other members abandoned, where it is time to look for that."""
        now_ms = self._desk.clock.monotonic_ms()
        if isinstance(served, ConsumerError) or one.cursor is not None or not one.count:
            return served
        if now_ms < self._claim_ms.get(one.key, 0):
            return served
        self._claim_ms[one.key] = now_ms + self._lease_ms // 3
        who = (one.key, self.group, self.member, self._lease_ms, "0-0", "COUNT", one.count)
        [reply] = self._pipeline([("XAUTOCLAIM", *who)])
        if isinstance(reply, RedisError):
            return named(reply)
        _, entries, *deleted = reply
        gone: list[Entry] = [(EntryId.parse(x), {}) for x in (deleted[0] if deleted else ())]
        if not entries and not gone:
            return served
        [lines] = self._pipeline([("XPENDING", one.key, self.group, "-", "+", PAGE, self.member)])
        if isinstance(lines, RedisError):
            return named(lines)
        own = self._own(one.key, lines)
        if isinstance(own, ConsumerError):
            return own
        self._desk.counts.claimed += len(entries)
        return Served([*gone, *own.entries], own.attempts)

    def raise_attempt(self, key: str, token: int, entry: EntryId) -> int:
        """Count one more attempt at an own pending entry; return its number, 0 without it."""
        del token
        text = str(entry)
        claimed, lines = self._pipeline(
            [
                ("XCLAIM", key, self.group, self.member, 0, text),
                ("XPENDING", key, self.group, text, text, 1, self.member),
            ]
        )
        for reply in (claimed, lines):
            if isinstance(reply, RedisError):
                raise named(reply) from reply
        return int(lines[0]["times_delivered"]) if lines else 0

    def hand_over(self, leaving: Sequence[Leaving]) -> list[ConsumerError | None]:
        """Acknowledge, and give the rest back so that any member may take it at once."""
        acks = [("XACK", x.key, self.group, *map(str, x.acks)) for x in leaving if x.acks]
        self._pipeline(acks)
        pending = [("XPENDING", x.key, self.group, "-", "+", PAGE, self.member) for x in leaving]
        outcomes: list[ConsumerError | None] = []
        for one, lines in zip(leaving, self._pipeline(pending), strict=True):
            if isinstance(lines, RedisError):
                outcomes.append(named(lines))
            else:
                self._release(one.key, lines)
                outcomes.append(None)
        return outcomes

    def _release(self, key: str, lines: Any) -> None:
        for number in {x["times_delivered"] for x in lines}:
            ids = [x["message_id"] for x in lines if x["times_delivered"] == number]
            # Whoever claims it counts one more, and nobody has failed at it.
            options = ("IDLE", self._lease_ms, "RETRYCOUNT", number - 1, "JUSTID")
            self._pipeline([("XCLAIM", key, self.group, RELEASED, 0, *ids, *options)])
        [left] = self._pipeline([("XPENDING", key, self.group, "-", "+", 1, self.member)])
        if left == []:
            self._pipeline([("XGROUP", "DELCONSUMER", key, self.group, self.member)])

    def keep(self) -> None:
        """Show that this member is still at work on what it has in hand."""
        with self._desk.lock:
            sources = [x for lane in self._desk.lanes.held() for x in lane.sources.values()]
            held = {x.key: sorted(x.unacked) for x in sources if x.unacked}
        self._pipeline(
            ("XCLAIM", key, self.group, self.member, 0, *map(str, ids), "JUSTID")
            for key, ids in held.items()
        )

    def _pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command, **_options(command))  # type: ignore[no-untyped-call]
        with translated():
            return pipeline.execute(raise_on_error=False)


class NoLeases(Membership):
    """A member that reads all it wants."""

    def __init__(self, group: CompetingGroup, client: Client, keys: Keys, lease_ms: int) -> None:
        """Describe the member; nothing is sent before the first beat."""
        super().__init__(client, keys, group.group, group.member, lease_ms)
        self._competing = group
        self._replays_key = keys.group(group.group, "replays")
        self._held: set[str] = set()

    def beat(
        self, wanted: Collection[str], released: Mapping[str, int], now_ms: int, floor: int = 0
    ) -> Standing:
        """Keep what is in hand, and hold all that is wanted."""
        del now_ms, floor
        self._competing.keep()
        self._held = (self._held - released.keys()) | set(wanted)
        return Standing(
            leases=dict.fromkeys(self._held, 1),
            handing_over=frozenset(self._held.difference(wanted)),
            members=1,
            again_ms=self._lease_ms // 5,
            valid_until_ms=NEVER_MS,
            replays=self._replays(),
        )

    def _replays(self) -> dict[str, str]:
        """Take dead letters that are asked for again; what is taken is no other member's."""
        with translated():
            asked = cast(dict[bytes, bytes], self._client.hgetall(self._replays_key))
            some = list(asked.items())[:REPLAYS_MAX]
            return {
                letter.decode(): name.decode()
                for letter, name in some
                if name.decode() in self._held and self._client.hdel(self._replays_key, letter)
            }

    def leave(self) -> None:
        """Nothing is held, so nothing is given up."""


def _options(command: tuple[Any, ...]) -> dict[str, bool]:
    """The library must be told which of two shapes a reply has."""
    justid = command[-1] == "JUSTID"
    detail = command[0] == "XPENDING" and len(command) > 3
    return {"parse_justid": True} if justid else {"parse_detail": True} if detail else {}
