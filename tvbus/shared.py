"""What every command needs: settings with the shared flags, logs, and a way to stop."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import typer
from redis.exceptions import RedisError, ResponseError

from bus import logs
from bus.connection import Client, address, connect_writer
from bus.embedded import resolve_url
from bus.errors import BusUnreachable
from bus.settings import BusSettings
from consumers.shell.requests import Requests
from publisher.wire import Keys

Settings = TypeVar("Settings", bound=BusSettings)


@dataclass(frozen=True, slots=True)
class Shared:
    """The flags before the command's name."""

    flags: dict[str, Any]

    def settings(self, kind: type[Settings], **flags: Any) -> Settings:
        """Read the settings, and set up the logs, on stderr. Raises SettingsInvalid."""
        settings = kind.load(**(flags | _given(self.flags)))
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

    @property
    def requests(self) -> Requests:
        """The way to its publisher."""
        return Requests(self.client, self.keys, self.url)

    @classmethod
    def at(cls, url: str, prefix: str = "tv") -> Bus:
        """Return the bus at an address. Raises BusUnreachable where nothing answers."""
        client = connect_writer(url)
        try:
            client.ping()
        except ResponseError:
            pass  # it answers, though it may not take anything now: a full disk, say
        except RedisError as error:
            raise BusUnreachable(
                f"no bus at {address(url)}: {error}; is it running? See TVBUS_REDIS_URL"
            ) from error
        return cls(client, Keys(prefix), url)


def open_bus(context: typer.Context) -> Bus:
    """Connect to the bus that is there. Raises BusUnreachable with what to do."""
    settings = context.obj.settings(BusSettings)
    return Bus.at(resolve_url(settings), settings.prefix)


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; a second one ends at once."""
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    names = [name for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    for number in (getattr(signal, name) for name in names):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants to go on
            signal.signal(number, ask)
    return stop
