"""One consumer group in the streams of series, as the holder of their leases sees it.

In the stream's group the consumer is called MEMBER#TOKEN, and the highest token among
its consumers rules: every script checks that first, in the same slot as the stream.
Commands of Redis 6.2 only. Every library exception becomes a named one here, and
nothing is repeated in secret.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bus.connection import Client
from consumers.core.ids import EntryId
from consumers.core.start import Start
from consumers.errors import ConsumerError
from consumers.shell.streams import Entry
from publisher.wire import Keys


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
        raise NotImplementedError

    def look(self, keys: Sequence[str]) -> list[GroupState | ConsumerError | None]:
        """Tell of each stream where the group stands, None where it does not exist."""
        raise NotImplementedError

    def start_position(self, key: str, start: Start) -> EntryId:
        """Return the position that a start rule means in this stream now."""
        raise NotImplementedError

    def create(self, positions: Mapping[str, EntryId]) -> dict[str, bool | ConsumerError]:
        """Create the group where it is missing; tell of each stream whether it was.

        A stream that does not exist yet is made, empty, so that nothing
        published from now on is missed.
        """
        raise NotImplementedError

    def take_over(self, requests: Mapping[str, int]) -> dict[str, TakenOver | ConsumerError]:
        """Let this member rule streams (key → token); nobody with a lower token reads on.

        All that other consumers have pending becomes its own. Delivery counts do not
        change, but for the lowest entry's: it may have been at a handler, so it counts
        as tried once more. Doing it again with the same token changes nothing.
        """
        raise NotImplementedError

    def serve(self, requests: Sequence[Serving]) -> list[Served | ConsumerError]:
        """Acknowledge and read each stream, where it is still ours; never blocks.

        Reading own pending entries changes no delivery count.
        """
        raise NotImplementedError

    def raise_attempt(self, key: str, token: int, entry: EntryId) -> int:
        """Count one more attempt at an own pending entry; return its number.

        Call it before the entry goes to a handler again. 0: it is no longer pending
        (trimmed, or somebody acknowledged it by hand). Raises what is told in place
        by the other calls.
        """
        raise NotImplementedError

    def hand_over(self, leaving: Sequence[Leaving]) -> list[ConsumerError | None]:
        """Acknowledge, and leave the rest pending for the next holder."""
        raise NotImplementedError

    def wait(
        self, after: Mapping[str, EntryId], block_ms: int, wake: int | None = None
    ) -> set[str]:
        """Wait until a stream has an entry after the given one; return those that have.

        Changes nothing in the streams, so it may go on while leases come and go. Ends
        after `block_ms` with nothing, or as soon as the file descriptor `wake` can be
        read (a socket or pipe that another thread writes to; it is not read here).
        A deleted stream or group is not noticed: `serve` with count 0 tells.
        """
        raise NotImplementedError

    def checkpoints(self, names: Collection[str]) -> dict[str, EntryId]:
        """Return the positions kept beside the streams, of names that have one."""
        raise NotImplementedError

    def save_checkpoints(self, positions: Mapping[str, EntryId], tokens: Mapping[str, int]) -> None:
        """Keep positions (name → all up to here is acknowledged) beside the streams.

        A name counts only while this member holds its lease by this token; one without
        a token only ever rises.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give back the connections on which `wait` waits."""
        raise NotImplementedError
