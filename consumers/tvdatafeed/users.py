"""Who follows which series on a bus, so that nobody unsubscribes what others use.

A hash holds `OBJECT SERIES` → when that entry expires, ms by the server's clock. Each
object renews its own; what a killed program left expires by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, Final

from consumers.shell.requests import Requests
from publisher.wire import Series

USE_MS: Final = 60_000
"""How long an entry counts after it was renewed."""
KEPT_MS: Final = 24 * 60 * 60 * 1000
"""When the hash goes where nobody renews anything."""


class Users:
    """The entries of one object. Each method raises BusUnreachable where the bus fails."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._client = requests.client
        self._keys = requests.keys
        self._key = requests.keys.group("tvdatafeed", "users")
        self._own = uuid.uuid4().hex

    def renew(self, followed: Collection[Series]) -> None:
        """Say that these are followed, for USE_MS from now on."""
        if not followed:
            return
        with self._requests.reached():
            expires_ms = self._now_ms() + USE_MS
            entries: Any = {self._entry(series): expires_ms for series in followed}
            self._client.hset(self._key, mapping=entries)
            self._client.pexpire(self._key, KEPT_MS)

    def leave(self, series: Collection[Series]) -> set[Series]:
        """Withdraw the own entries; return the series that nobody else is known to use.

        Others are known by an entry of theirs, or by a consumer group of the stream.
        """
        if not series:
            return set()
        with self._requests.reached():
            self._client.hdel(self._key, *map(self._entry, series))
            used = self._used_by_others()
            return {one for one in series if str(one) not in used and not self._has_group(one)}

    def _used_by_others(self) -> set[str]:
        now_ms = self._now_ms()
        known: Any = self._client.hgetall(self._key)
        expired = [name for name, until in known.items() if int(until) <= now_ms]
        if expired:
            self._client.hdel(self._key, *expired)
        names = {name.decode().partition(" ") for name in known if name not in expired}
        return {series for owner, _, series in names if owner != self._own}

    def _has_group(self, series: Series) -> bool:
        key = self._keys.bars(series)
        return self._client.type(key) == b"stream" and bool(self._client.xinfo_groups(key))

    def _entry(self, series: Series) -> str:
        return f"{self._own} {series}"

    def _now_ms(self) -> int:
        seconds, micros = self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000
