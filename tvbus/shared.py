"""What every command needs: settings with the shared flags, logs, and a way to stop."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import structlog
import typer
from pydantic import SecretStr
from redis.exceptions import RedisError

from bus import logs
from bus.connection import Client, address, connect_writer
from bus.embedded import resolve_url
from bus.errors import BusUnreachable
from bus.settings import BusSettings
from publisher.wire import Keys

AWAIT_S = 0.5
"""How often a bus that is not there yet is looked for."""

log = structlog.get_logger("tvbus")

Settings = TypeVar("Settings", bound=BusSettings)


@dataclass(frozen=True, slots=True)
class Shared:
    """The flags before the command's name."""

    flags: dict[str, Any]

    def settings(self, kind: type[Settings], **flags: Any) -> Settings:
        """Read the settings, and set up the logs, on stderr. Raises SettingsInvalid."""
        settings = kind.load(**(flags | _given(self.flags)))
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if isinstance(value, SecretStr) and name != "redis_url":
                logs.register_secret(value)
        logs.configure(settings.log_format, settings.log_level, sys.stderr)
        return settings


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


@dataclass(slots=True)
class Bus:
    """The bus as a looking command sees it."""

    client: Client
    keys: Keys
    url: str

    @classmethod
    def at(cls, url: str, prefix: str = "tv") -> Bus:
        """Return the bus at an address. Raises BusUnreachable where nothing answers."""
        client = connect_writer(url)
        try:
            client.ping()
        except RedisError as error:
            raise BusUnreachable(
                f"no bus at {address(url)}: {error}. Is it running? See TVBUS_REDIS_URL"
            ) from error
        return cls(client, Keys(prefix), url)


def open_bus(context: typer.Context) -> Bus:
    """Connect to the bus that is there. Raises BusUnreachable with what to do."""
    settings = context.obj.settings(BusSettings)
    return Bus.at(resolve_url(settings), settings.prefix)


def await_url(settings: BusSettings, *, wait: bool) -> str:
    """Return the address of the bus, once there is one. Raises BusUnreachable unless `wait`."""
    told = False
    while True:
        try:
            return resolve_url(settings)
        except BusUnreachable as error:
            if not wait:
                raise
            if not told:
                log.warning("bus.awaited", reason=str(error))
                told = True
            time.sleep(AWAIT_S)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; a second one ends at once."""
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop
