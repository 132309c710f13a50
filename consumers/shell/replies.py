"""What the server's answers about a group mean, in our types."""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError, ResponseError

from consumers.core.ids import EntryId
from consumers.errors import ConsumerError, Fenced, GroupLost, StreamRefused
from consumers.shell.streams import named


def refusal(key: str, group: str, member: str, reply: Any) -> ConsumerError | None:
    """Return why a script did not do what it was asked for a stream; None where it did."""
    if isinstance(reply, RedisError):
        return named(reply)
    match reply[0]:
        case b"FENCED":
            token = int(reply[1])
            return Fenced(f"{key} was taken over from {member} with token {token}", token)
        case b"LOST":
            return GroupLost(f"{key} has no group {group} in which {member} reads")
        case b"REFUSED":
            kind = reply[1].decode()
            return StreamRefused(f"key {key} holds a {kind}, not a stream: rename or delete it")
    return None


def created(reply: Any) -> bool | ConsumerError:
    """Return whether the group was made by this command."""
    if isinstance(reply, ResponseError):
        return False if "BUSYGROUP" in str(reply) else named(reply)
    return True


def position(delivered: EntryId, lowest_pending: bytes | None) -> EntryId:
    """Return up to where everything was delivered and acknowledged."""
    if not lowest_pending:
        return delivered
    return min(delivered, EntryId.parse(lowest_pending).before())
