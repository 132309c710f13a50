"""Where the bus is: given, from the settings, or the embedded server's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from redis.exceptions import RedisError

from bus import embedded
from bus.connection import Client, address, connect_writer
from bus.errors import BusUnreachable, SettingsInvalid
from bus.settings import BusSettings
from publisher.wire import Keys

_stand_ins: list[Bus] = []


@contextmanager
def standing_in(bus: Bus) -> Iterator[None]:
    """Let everything in this process that looks for a bus find this one: for tests."""
    _stand_ins.append(bus)
    try:
        yield
    finally:
        _stand_ins.remove(bus)


@dataclass(frozen=True, slots=True)
class Bus:
    """The address of a bus and the names in it."""

    keys: Keys
    state_dir: Path
    given_url: str | None

    @classmethod
    def find(cls, redis_url: str | None, prefix: str | None, state_dir: Path | None = None) -> Self:
        """Read what is not given from the settings. Raises SettingsInvalid."""
        if _stand_ins:
            return cast(Self, _stand_ins[-1])
        settings = BusSettings.load(state_dir=state_dir)
        secret = settings.redis_url
        url = redis_url or (secret.get_secret_value() if secret is not None else None)
        try:
            return cls(Keys(prefix or settings.prefix), settings.state_dir, url)
        except ValueError as error:
            raise SettingsInvalid(str(error)) from None

    def url(self) -> str:
        """Return the address now. Raises BusUnreachable where nothing tells one."""
        if self.given_url is not None:
            return self.given_url
        found = embedded.find_url(self.state_dir)
        if found is None:
            raise BusUnreachable(embedded.NO_BUS)
        return found

    def open(self) -> Client:
        """Return a connected client for short commands. Raises BusUnreachable."""
        url = self.url()
        client = connect_writer(url)
        try:
            client.ping()
        except (RedisError, OSError) as error:
            client.close()
            raise BusUnreachable(
                f"no bus at {address(url)}: {error}; check TVBUS_REDIS_URL and the server"
            ) from error
        return client
