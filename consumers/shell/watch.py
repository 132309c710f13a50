"""Waits until streams have something new, on connections of its own.

The command waits in the server, the thread at the sockets, so that a ring ends the
wait at once while the command goes on. A cluster takes no command over several slots:
there each slot has its own connection.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from redis.cluster import RedisCluster
from redis.exceptions import AskError, MovedError, ResponseError, TryAgainError

from bus.connection import BLOCK_MS_MAX, READ_MARGIN_MS, Client
from consumers.core.ids import EntryId
from consumers.errors import GroupUnavailable
from consumers.shell.streams import named, translated

_LED_ELSEWHERE: Final = (MovedError, AskError, TryAgainError)
_OVERDUE_S: Final = (BLOCK_MS_MAX + READ_MARGIN_MS) / 1000


@dataclass(slots=True)
class _Flight:
    """A connection, and what its command waits for."""

    pool: Any
    connection: Any
    after: dict[str, EntryId] = field(default_factory=dict)
    """Empty while no command is under way."""
    overdue_s: float = 0.0

    def aim(self, after: Mapping[str, EntryId]) -> None:
        """Wait for these streams, or go on where that tells no later of them."""
        if all(key in self.after and self.after[key] <= entry for key, entry in after.items()):
            return
        if self.after:
            self.connection.disconnect()
        block = ("COUNT", 1, "BLOCK", BLOCK_MS_MAX, "STREAMS")
        self.connection.send_command("XREAD", *block, *after, *map(str, after.values()))
        self.after, self.overdue_s = dict(after), time.monotonic() + _OVERDUE_S

    def land(self, after: Mapping[str, EntryId]) -> set[str]:
        """Read the reply; return the streams that have something after these entries."""
        asked, self.after = self.after, {}
        try:
            reply = self.connection.read_response()
        except ResponseError as error:
            if not isinstance(error, _LED_ELSEWHERE) and isinstance(named(error), GroupUnavailable):
                raise
            # Whoever reads these next is led to the new place, or told what is wrong with one.
            return asked.keys() & after.keys()
        found = {key.decode(): EntryId.parse(entries[0][0]) for key, entries in reply or ()}
        return {key for key, entry in after.items() if found.get(key, entry) > entry}

    def close(self) -> None:
        """Give the connection back, closed: a reply may still come."""
        self.connection.disconnect()
        self.pool.release(self.connection)


class Watch:
    """Waits for entries of streams; used by one thread."""

    def __init__(self, client: Client) -> None:
        """Take a client; it stays the caller's to close."""
        self._client = client
        self._flights: dict[int, _Flight] = {}

    def wait(self, after: Mapping[str, EntryId], block_ms: int, wake: int | None) -> set[str]:
        """Return the streams that have an entry after the given one.

        Nothing at all after `block_ms`, or when the descriptor `wake` can be read.
        Raises GroupUnavailable.
        """
        until_s = time.monotonic() + block_ms / 1000
        try:
            with translated():
                while True:
                    self._aim(after)
                    found = self._look(after, until_s, wake)
                    if found is not None:
                        return found
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give all connections back."""
        for flight in self._flights.values():
            flight.close()
        self._flights.clear()

    def _aim(self, after: Mapping[str, EntryId]) -> None:
        by_slot = self._by_slot(after)
        for slot in self._flights.keys() - by_slot.keys():
            self._flights.pop(slot).close()
        for slot, some in by_slot.items():
            if slot not in self._flights:
                pool = self._pool(next(iter(some)))
                self._flights[slot] = _Flight(pool, pool.get_connection())
            self._flights[slot].aim(some)

    def _look(
        self, after: Mapping[str, EntryId], until_s: float, wake: int | None
    ) -> set[str] | None:
        """Wait once; None where a command ended and told nothing new."""
        with selectors.DefaultSelector() as selector:
            for slot, flight in self._flights.items():
                selector.register(flight.connection._sock, selectors.EVENT_READ, slot)
            if wake is not None:
                selector.register(wake, selectors.EVENT_READ)
            overdue_s = min((x.overdue_s for x in self._flights.values()), default=until_s)
            now_s = time.monotonic()
            events = selector.select(max(0.0, min(until_s, overdue_s) - now_s))
        if not events:
            if time.monotonic() >= overdue_s < until_s:
                raise GroupUnavailable("the server does not answer a read that should have ended")
            return set() if time.monotonic() >= until_s else None
        slots = [key.data for key, _ in events if key.data is not None]
        found = [self._land(self._flights[slot], after) for slot in slots]
        return set().union(*found) or (None if len(slots) == len(events) else set())

    @staticmethod
    def _land(flight: _Flight, after: Mapping[str, EntryId]) -> set[str]:
        # What came may be the encryption's own talk.
        return flight.land(after) if flight.connection.can_read(0) else set()

    def _by_slot(self, after: Mapping[str, EntryId]) -> dict[int, dict[str, EntryId]]:
        by_slot: dict[int, dict[str, EntryId]] = {}
        for key, entry in after.items():
            slot = int(cast(Any, self._client).keyslot(key)) if self._is_cluster else 0
            by_slot.setdefault(slot, {})[key] = entry
        return by_slot

    def _pool(self, key: str) -> Any:
        client: Any = self._client
        if self._is_cluster:
            client = client.get_redis_connection(client.get_node_from_key(key))
        return client.connection_pool

    @property
    def _is_cluster(self) -> bool:
        # It is no subclass of the client it stands for.
        return RedisCluster in type(self._client).__mro__
