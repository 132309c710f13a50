"""Reading streams without a group, and our names for what can go wrong there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bus.connection import Client
from consumers.core.ids import ZERO, EntryId
from consumers.core.start import Start
from consumers.errors import ConsumerError, GroupLost, GroupUnavailable, StreamRefused

PAGE: Final = 1_000
"""Entries per call where a range is read."""

Fields = Mapping[bytes, bytes]
Entry = tuple[EntryId, Fields]
"""The fields are empty where the entry was trimmed before it was read."""


def named(error: RedisError) -> ConsumerError:
    """Return our name for what the server or the connection said."""
    text = str(error)
    if isinstance(error, ResponseError):
        if text.startswith(("NOGROUP", "UNBLOCKED")):
            return GroupLost(text)
        if text.startswith("WRONGTYPE"):
            return StreamRefused(text)
    return GroupUnavailable(f"{type(error).__name__}: {text}")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's exceptions into ours."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, ResponseError) as error:
        raise named(error) from error
    except RedisClusterException as error:
        raise GroupUnavailable(f"the cluster cannot be reached: {error}") from error


def as_entry(raw: tuple[bytes, Fields | None]) -> Entry:
    """Return an entry as the library hands it, in our types."""
    return EntryId.parse(raw[0]), raw[1] or {}


def forwards(client: Client, key: str, low: str = "-", high: str = "+") -> Iterator[Entry]:
    """Yield the entries of a range, oldest first, in bounded pages."""
    while True:
        with translated():
            page = _entries(client.xrange(key, low, high, count=PAGE))
        yield from page
        if len(page) < PAGE:
            return
        low = f"({page[-1][0]}"


def backwards(
    client: Client, key: str, wanted: int, low: str = "-", high: str = "+"
) -> Iterator[Entry]:
    """Yield at most so many entries of a range, newest first, in bounded pages."""
    while wanted > 0:
        size = min(PAGE, wanted)
        with translated():
            page = _entries(client.xrevrange(key, high, low, count=size))
        yield from page
        if len(page) < size:
            return
        wanted -= size
        high = f"({page[-1][0]}"


def start_position(client: Client, key: str, start: Start) -> EntryId:
    """Return the ID after which reading begins by this rule, in this stream, now."""
    wanted = {"newest": 0, "last": start.value}.get(start.kind)
    if wanted is None:
        return start.position(ZERO, None)
    newest = before_last = None
    for number, (entry, _) in enumerate(backwards(client, key, wanted + 1)):
        newest = newest or entry
        before_last = entry if number == wanted else None
    return start.position(newest or ZERO, before_last)


def _entries(page: Any) -> list[Entry]:
    return [as_entry(x) for x in cast(list[tuple[bytes, Fields]], page)]
