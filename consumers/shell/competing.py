"""What a consumer that competes for bars says to Redis: everything about one group.

Several streams in one call share a server; on a cluster each slot group gets
its own `Group`. Commands of Redis 6.2 only. Every library exception becomes a
named one here, and nothing is repeated in secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.exceptions import RedisError, ResponseError

from bus.connection import Client
from consumers.core.ids import EntryId
from consumers.core.start import Start
from consumers.errors import ConsumerError, GroupUnavailable, StreamRefused
from consumers.shell.streams import (
    PAGE,
    Entry,
    Fields,
    as_entry,
    named,
    start_position,
    translated,
)

DEAD_LETTERS_MAX: Final = 100_000
"""About so many dead letters are kept per group; beyond, the oldest go."""
RELEASED: Final = "released"
"""Consumer name that holds what a member gave back when it stopped."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """What the server knows of a group in one stream."""

    position: EntryId
    """Everything up to here was delivered and acknowledged."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What was taken over in one stream."""

    entries: list[Entry]
    trimmed: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry given up on."""

    key: str
    entry: EntryId
    reason: str
    fields: Fields


class Competing:
    """One consumer group as one of its competing members sees it; used by one thread."""

    def __init__(self, client: Client, group: str, member: str, dead_key: str) -> None:
        # The library's own reading of this reply loses what was trimmed.
        client.set_response_callback("XAUTOCLAIM", lambda reply, **_: reply)
        self._client = client
        self.group = group
        self.member = member
        self._dead_key = dead_key

    def look(self, keys: Sequence[str]) -> list[GroupState | ConsumerError | None]:
        """Tell of each stream where the group stands, None where it does not exist."""
        replies = self._pipeline(
            command
            for key in keys
            for command in (("XINFO GROUPS", key), ("XPENDING", key, self.group))
        )
        return [self._state(replies[i], replies[i + 1]) for i in range(0, len(replies), 2)]

    def _state(self, groups: Any, pending: Any) -> GroupState | ConsumerError | None:
        if isinstance(groups, ResponseError):
            return None if "no such key" in str(groups) else named(groups)
        for line in groups:
            if line["name"] == self.group.encode():
                delivered = EntryId.parse(line["last-delivered-id"])
                if isinstance(pending, dict) and pending["min"]:
                    delivered = min(delivered, EntryId.parse(pending["min"]).before())
                return GroupState(delivered)
        return None

    def start_position(self, key: str, start: Start) -> EntryId:
        """Return the position that a start rule means in this stream now."""
        return start_position(self._client, key, start)

    def create(self, positions: Mapping[str, EntryId]) -> dict[str, bool | ConsumerError]:
        """Create the group where it is missing; tell of each stream whether it was.

        A stream that does not exist yet is made, empty, so that nothing
        published from now on is missed.
        """
        replies = self._pipeline(
            ("XGROUP", "CREATE", key, self.group, str(position), "MKSTREAM")
            for key, position in positions.items()
        )
        return {key: _created(reply) for key, reply in zip(positions, replies, strict=True)}

    def read(
        self,
        cursors: Mapping[str, EntryId | None],
        count: int,
        block_ms: int | None,
        acks: Mapping[str, Sequence[EntryId]],
    ) -> dict[str, list[Entry]]:
        """Acknowledge, then read: after each cursor own pending entries, else new ones.

        The acknowledgements hold as soon as they arrive, whatever the read does.
        """
        read: list[Any] = ["XREADGROUP", "GROUP", self.group, self.member, "COUNT", count]
        read += [] if block_ms is None else ["BLOCK", block_ms]
        after = [">" if cursor is None else str(cursor) for cursor in cursors.values()]
        replies = self._pipeline([*self._acks(acks), (*read, "STREAMS", *cursors, *after)])
        for reply in replies[:-1]:
            _raise_if_down(reply)
        streams = _checked(replies[-1])
        return {key.decode(): [as_entry(x) for x in entries] for key, entries in streams}

    def acknowledge(self, acks: Mapping[str, Sequence[EntryId]]) -> None:
        """Acknowledge entries."""
        for reply in self._pipeline(self._acks(acks)):
            _raise_if_down(reply)

    def _acks(self, acks: Mapping[str, Sequence[EntryId]]) -> list[tuple[Any, ...]]:
        return [("XACK", key, self.group, *map(str, ids)) for key, ids in acks.items() if ids]

    def claim(self, keys: Sequence[str], idle_ms: int, count: int) -> dict[str, Claimed]:
        """Take over entries that their holders have not touched for so long, to handle now."""
        claimed = {}
        for key, (entries, trimmed) in self._autoclaim(keys, idle_ms, count, ()).items():
            claimed[key] = Claimed([_entry_from_pairs(x) for x in entries], trimmed)
        return claimed

    def take_over(self, keys: Sequence[str], idle_ms: int) -> dict[str, tuple[int, int]]:
        """Make such entries own pending ones; tell how many, and how many were trimmed."""
        replies = self._autoclaim(keys, idle_ms, PAGE, ("JUSTID",))
        return {key: (len(entries), trimmed) for key, (entries, trimmed) in replies.items()}

    def _autoclaim(
        self, keys: Sequence[str], idle_ms: int, count: int, options: tuple[str, ...]
    ) -> dict[str, tuple[list[Any], int]]:
        who = (self.group, self.member, idle_ms, "0-0", "COUNT", count, *options)
        replies = self._pipeline(("XAUTOCLAIM", key, *who) for key in keys)
        found = {}
        for key, reply in zip(keys, replies, strict=True):
            _, entries, *deleted = _checked(reply)
            present = [x for x in entries if x is not None]
            trimmed = len(entries) - len(present) + (len(deleted[0]) if deleted else 0)
            found[key] = (present, trimmed)
        return found

    def others_hold(self, key: str, barrier: EntryId | None) -> EntryId | None:
        """Return the highest entry up to the barrier that another member holds."""
        end = "+" if barrier is None else str(barrier)
        with translated():
            lines = self._client.xpending_range(key, self.group, "-", end, PAGE)
        own = self.member.encode()
        held = [cast(bytes, x["message_id"]) for x in lines if x["consumer"] != own]
        return EntryId.parse(held[-1]) if held else None

    def other_members(self, keys: Sequence[str], idle_ms: int) -> dict[str, bool]:
        """Tell of each stream whether another member was there within this time."""
        replies = self._pipeline(("XINFO CONSUMERS", key, self.group) for key in keys)
        own = {self.member.encode(), RELEASED.encode()}
        return {
            key: any(x["name"] not in own and x["idle"] < idle_ms for x in _checked(reply))
            for key, reply in zip(keys, replies, strict=True)
        }

    def keep(self, held: Mapping[str, Iterable[EntryId]]) -> None:
        """Show that this member is still at work on these entries."""
        self._claim_own(held, self.member, ())

    def release(self, held: Mapping[str, Iterable[EntryId]], idle_ms: int) -> None:
        """Give entries back so that any member may take them at once."""
        self._claim_own(held, RELEASED, ("IDLE", idle_ms))

    def _claim_own(
        self, held: Mapping[str, Iterable[EntryId]], member: str, options: tuple[Any, ...]
    ) -> None:
        commands = [
            ("XCLAIM", key, self.group, member, 0, *map(str, ids), *options, "JUSTID")
            for key, ids in ((key, list(ids)) for key, ids in held.items())
            if ids
        ]
        for reply in self._pipeline(commands):
            _checked(reply)

    def leave(self, keys: Sequence[str]) -> None:
        """Remove this member's name from the streams in which it holds nothing."""
        replies = self._pipeline(
            ("XPENDING", key, self.group, "-", "+", 1, self.member) for key in keys
        )
        free = [key for key, reply in zip(keys, replies, strict=True) if reply == []]
        self._pipeline(("XGROUP", "DELCONSUMER", key, self.group, self.member) for key in free)

    def bury(self, letter: DeadLetter, now_ms: int) -> None:
        """Copy an entry to the dead letters, then acknowledge it.

        Raises StreamRefused where the server answers and does not take the
        copy; the entry stays pending then.
        """
        fields: dict[Any, Any] = {
            "reason": letter.reason,
            "key": letter.key,
            "id": str(letter.entry),
            "consumer": self.member,
            "buried_ms": now_ms,
        }
        fields |= {b"original." + name: value for name, value in letter.fields.items()}
        limit = DEAD_LETTERS_MAX
        with translated():
            try:
                self._client.xadd(self._dead_key, fields, maxlen=limit, approximate=True)
            except ResponseError as error:
                raise StreamRefused(f"{self._dead_key}: {error}") from error
            self._client.xack(letter.key, self.group, str(letter.entry))

    def _pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command, **_options(command))  # type: ignore[no-untyped-call]
        with translated():
            return pipeline.execute(raise_on_error=False)


def _options(command: tuple[Any, ...]) -> dict[str, bool]:
    """The library must be told which of two shapes a reply has."""
    justid = command[-1] == "JUSTID"
    detail = command[0] == "XPENDING" and len(command) > 3
    return {"parse_justid": True} if justid else {"parse_detail": True} if detail else {}


def _entry_from_pairs(raw: tuple[bytes, list[bytes] | None]) -> Entry:
    pairs = iter(raw[1] or ())
    return EntryId.parse(raw[0]), dict(zip(pairs, pairs, strict=True))


def _checked(reply: Any) -> Any:
    if isinstance(reply, RedisError):
        raise named(reply) from reply
    return reply


def _raise_if_down(reply: Any) -> None:
    # An acknowledgement for a group that is gone has nothing left to do.
    if isinstance(reply, RedisError) and isinstance(named(reply), GroupUnavailable):
        raise named(reply) from reply


def _created(reply: Any) -> bool | ConsumerError:
    if isinstance(reply, ResponseError):
        return False if "BUSYGROUP" in str(reply) else named(reply)
    return True
