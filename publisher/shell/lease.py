"""The publisher's lease, kept in Redis by Redis's own clock."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisClusterException, RedisError

from bus.connection import Client
from bus.scripts import Call, Script, run
from publisher.errors import StoreUnavailable
from publisher.wire import Keys

LEASE_MS: Final = 4_000
"""How long a publisher that says nothing more keeps the lease."""

_LEASE: Final = Script.read("publisher.shell", "lease")


class RedisLease:
    """One holder at a time; each grant has a higher fencing token than all before."""

    def __init__(self, client: Client, keys: Keys, holder: str) -> None:
        self._client = client
        self._key = keys.publisher
        self._holder = holder

    def acquire(self) -> int | None:
        """Return a new token, None while another holds the lease. Raises StoreUnavailable."""
        return self._call("acquire", 0) or None

    def renew(self, token: int) -> bool:
        """Return whether the lease is still held. Raises StoreUnavailable."""
        return self._call("renew", token) == token

    def release(self, token: int) -> None:
        """Give the lease back. Raises StoreUnavailable."""
        self._call("release", token)

    def _call(self, action: str, token: int) -> int:
        call = Call(_LEASE, (self._key,), (action, self._holder, token, LEASE_MS))
        try:
            [reply] = run(self._client, [call])
        except (RedisError, RedisClusterException) as error:
            raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
        if isinstance(reply, RedisError):
            raise StoreUnavailable(f"Redis refused the lease, {self._key}: {reply}") from reply
        return int(reply)
