"""One consumer group in the streams of series, as the holder of their leases sees it.

In the stream's group the consumer is called MEMBER#TOKEN, and the highest token among
its consumers rules: every script checks that first, in the same slot as the stream.
Commands of Redis 6.2 only. Every library exception becomes a named one here, and
nothing is repeated in secret.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from bus.connection import Client
from bus.scripts import Call, Script, run
from consumers.core.ids import EntryId
from consumers.core.start import Start
from consumers.errors import ConsumerError, GroupUnavailable
from consumers.shell.replies import created, position, refusal
from consumers.shell.streams import PAGE, Entry, named, start_position, translated
from consumers.shell.watch import Watch
from publisher.wire import Keys

PORTIONS_MAX: Final = 1_000
"""Calls of PAGE entries each that one take-over of a stream may need; beyond, it is not now."""

_TAKE_OVER: Final = Script.read("consumers.shell", "fence", "take_over")
_SERVE: Final = Script.read("consumers.shell", "fence", "serve")
_RETRY: Final = Script.read("consumers.shell", "fence", "retry")
_HAND_OVER: Final = Script.read("consumers.shell", "fence", "hand_over")
_CHECKPOINT: Final = Script.read("consumers.shell", "checkpoint")


@dataclass(frozen=True, slots=True)
class GroupState:
    """What the server knows of a group in one stream."""

    position: EntryId
    """Everything up to here was delivered and acknowledged."""
    delivered: EntryId
    """The highest entry that was delivered to anybody."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A stream that this member's token rules now."""

    position: EntryId
    """Everything up to here was delivered and acknowledged (by whomever)."""
    delivered: EntryId
    """The highest entry that was delivered; those between are own pending ones now."""
    entries: int
    """Pending entries that came over from other consumers."""
    trimmed: tuple[EntryId, ...]
    """Pending entries that the stream no longer has: acknowledged, never to be handled."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is asked of one stream."""

    key: str
    token: int
    acks: Sequence[EntryId] = ()
    cursor: EntryId | None = None
    """None: new entries. Else own pending ones after this, ZERO for all."""
    count: int = 0
    """At most so many; 0: only acknowledge and look whether the stream is still ours."""


@dataclass(frozen=True, slots=True)
class Served:
    """What one stream gave."""

    entries: list[Entry]
    """Fields are empty where an own pending entry is no longer in the stream."""
    attempts: Mapping[EntryId, int] = field(default_factory=dict)
    """Which attempt a pending entry is at, where it is not the first."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A stream that is given up cleanly: nothing of it is at a handler any more."""

    key: str
    token: int
    acks: Sequence[EntryId] = ()
    untouched: bool = True
    """No handler has had the lowest entry left pending since it came to this member (or
    since its last `raise_attempt`), so the next holder's first try does not count as one
    more attempt."""


class Group:
    """One consumer group as one member sees it; used by one thread.

    Several streams in one call go in one round trip. A call raises GroupUnavailable
    where the server cannot be reached; what is wrong with one stream is told in its
    place: Fenced, GroupLost (no stream, no group, or a group made anew since
    `take_over`), StreamRefused (not a stream), GroupUnavailable (not now).
    """

    def __init__(self, client: Client, keys: Keys, group: str, member: str) -> None:
        """Take a client for blocking reads; it stays the caller's to close."""
        self._client = client
        self._keys = keys
        self._watch = Watch(client)
        self.group = group
        self.member = member

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
                lowest = pending["min"] if isinstance(pending, dict) else None
                return GroupState(position(delivered, lowest), delivered)
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
        return {key: created(reply) for key, reply in zip(positions, replies, strict=True)}

    def take_over(self, requests: Mapping[str, int]) -> dict[str, TakenOver | ConsumerError]:
        """Let this member rule streams (key → token); nobody with a lower token reads on.

        All that other consumers have pending becomes its own. Delivery counts do not
        change, but for the lowest entry's: it may have been at a handler, so it counts
        as tried once more. Doing it again with the same token changes nothing.
        """
        taken: dict[str, TakenOver | ConsumerError] = {}
        moved = dict.fromkeys(requests, 0)
        trimmed: dict[str, list[EntryId]] = {key: [] for key in requests}
        left = list(requests)
        for _ in range(PORTIONS_MAX):
            calls = [self._call(_TAKE_OVER, key, requests[key], PAGE) for key in left]
            for key, reply in zip(list(left), self._run(calls), strict=True):
                if isinstance(reply, ConsumerError):
                    taken[key] = reply
                    left.remove(key)
                    continue
                _, is_done, number, gone, delivered, lowest = reply
                moved[key] += number
                trimmed[key] += map(EntryId.parse, gone)
                if is_done:
                    end = EntryId.parse(delivered)
                    gone = tuple(sorted(trimmed[key]))
                    taken[key] = TakenOver(position(end, lowest), end, moved[key], gone)
                    left.remove(key)
            if not left:
                break
        for key in left:
            taken[key] = GroupUnavailable(f"{key} has more pending than goes at once")
        return taken

    def serve(self, requests: Sequence[Serving]) -> list[Served | ConsumerError]:
        """Acknowledge and read each stream, where it is still ours; never blocks.

        Reading own pending entries changes no delivery count.
        """
        calls = [
            self._call(
                _SERVE,
                x.key,
                x.token,
                ">" if x.cursor is None else str(x.cursor),
                x.count,
                *map(str, x.acks),
            )
            for x in requests
        ]
        return [
            reply if isinstance(reply, ConsumerError) else _served(reply[1])
            for reply in self._run(calls)
        ]

    def raise_attempt(self, key: str, token: int, entry: EntryId) -> int:
        """Count one more attempt at an own pending entry; return its number.

        Call it before the entry goes to a handler again. 0: it is no longer pending
        (trimmed, or somebody acknowledged it by hand). Raises what is told in place
        by the other calls.
        """
        [reply] = self._run([self._call(_RETRY, key, token, str(entry))])
        if isinstance(reply, ConsumerError):
            raise reply
        return int(reply[1])

    def hand_over(self, leaving: Sequence[Leaving]) -> list[ConsumerError | None]:
        """Acknowledge, and leave the rest pending for the next holder."""
        calls = [
            self._call(_HAND_OVER, x.key, x.token, int(x.untouched), *map(str, x.acks))
            for x in leaving
        ]
        return [x if isinstance(x, ConsumerError) else None for x in self._run(calls)]

    def wait(
        self, after: Mapping[str, EntryId], block_ms: int, wake: int | None = None
    ) -> set[str]:
        """Wait until a stream has an entry after the given one; return those that have.

        Changes nothing in the streams, so it may go on while leases come and go. Ends
        after `block_ms` with nothing, or as soon as the file descriptor `wake` can be
        read (a socket or pipe that another thread writes to; it is not read here).
        A deleted stream or group is not noticed: `serve` with count 0 tells.
        """
        return self._watch.wait(after, block_ms, wake)

    def checkpoints(self, names: Collection[str]) -> dict[str, EntryId]:
        """Return the positions kept beside the streams, of names that have one."""
        wanted = list(names)
        if not wanted:
            return {}
        with translated():
            found: Any = self._client.hmget(self._keys.group(self.group, "checkpoints"), wanted)
        return {name: EntryId.parse(text) for name, text in zip(wanted, found, strict=True) if text}

    def save_checkpoints(self, positions: Mapping[str, EntryId], tokens: Mapping[str, int]) -> None:
        """Keep positions (name → all up to here is acknowledged) beside the streams.

        A name counts only while this member holds its lease by this token; one without
        a token only ever rises.
        """
        keys = (self._keys.group(self.group, x) for x in ("leases", "checkpoints"))
        parts = [
            part
            for name, position in positions.items()
            for part in (name, tokens.get(name, ""), str(position))
        ]
        with translated():
            [reply] = run(self._client, [Call(_CHECKPOINT, tuple(keys), (self.member, *parts))])
        if isinstance(reply, RedisError):
            raise named(reply) from reply

    def close(self) -> None:
        """Give back the connections on which `wait` waits."""
        self._watch.close()

    def _call(self, script: Script, key: str, token: int, *arguments: Any) -> Call:
        return Call(script, (key,), (self.group, f"{self.member}#{token}", token, *arguments))

    def _run(self, calls: Sequence[Call]) -> list[Any]:
        """Return each call's reply, or what is wrong with its stream."""
        with translated():
            replies = run(self._client, calls)
        return [
            refusal(call.keys[0], self.group, self.member, reply) or reply
            for call, reply in zip(calls, replies, strict=True)
        ]

    def _pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        with translated():
            return pipeline.execute(raise_on_error=False)


def _served(lines: Any) -> Served:
    entries: list[Entry] = []
    attempts: dict[EntryId, int] = {}
    for raw, flat, *deliveries in lines:
        entry, fields = EntryId.parse(raw), iter(flat)
        entries.append((entry, dict(zip(fields, fields, strict=True))))
        if deliveries and deliveries[0] > 1:
            attempts[entry] = deliveries[0]
    return Served(entries, attempts)
