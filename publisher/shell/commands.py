"""Reads requests from `tv:commands` in a thread of its own and hands them to the engine."""

from __future__ import annotations

import queue
import random
import threading
from typing import Any, Final

import orjson
import structlog
from redis.exceptions import RedisClusterException, RedisError

from bus.connection import BLOCK_MS_MAX, Client
from publisher.core.backoff import Backoff
from publisher.ports import Commanded, CommandRefused, Fact
from publisher.wire import EntryMalformed, Keys
from publisher.wire.commands import COMMAND_FIELD, Command

READ_COUNT: Final = 100
POLL_S: Final = 0.2


class CommandReader(threading.Thread):
    """Begins behind the last request done, also by an earlier publisher."""

    def __init__(
        self, client: Client, keys: Keys, inbox: queue.Queue[Fact], stop: threading.Event
    ) -> None:
        super().__init__(name="commands", daemon=True)
        self._client = client
        self._keys = keys
        self._inbox = inbox
        self._stop_asked = stop
        self._position: bytes | None = None
        self._log = structlog.get_logger("publisher")

    def run(self) -> None:
        """Read until told to stop; a bus that is away is waited for."""
        rng = random.Random()  # noqa: S311, jitter
        backoff = Backoff(100, 5_000)
        while not self._stop_asked.is_set():
            try:
                self._read()
                backoff.reset()
            except (RedisError, RedisClusterException) as error:
                self._log.debug("commands.unreadable", reason=str(error))
                self._stop_asked.wait(backoff.next_delay_ms(rng) / 1000)

    def _read(self) -> None:
        if self._position is None:
            done: Any = self._client.hget(self._keys.publisher, "commands_id")
            self._position = done or b"0-0"
        streams: Any = {self._keys.commands: self._position}
        replies: Any = self._client.xread(streams, count=READ_COUNT, block=BLOCK_MS_MAX)
        for _, entries in replies or ():
            for entry_id, fields in entries:
                self._position = entry_id
                self._hand_over(entry_id.decode(), fields.get(COMMAND_FIELD, b""))

    def _hand_over(self, entry_id: str, text: bytes) -> None:
        fact: Fact
        try:
            fact = Commanded(Command.decode(text), entry_id)
        except EntryMalformed as error:
            fact = CommandRefused(_request_of(text), str(error), entry_id)
        while not self._stop_asked.is_set():
            try:
                return self._inbox.put(fact, timeout=POLL_S)
            except queue.Full:
                continue
        return None


def _request_of(text: bytes) -> str | None:
    """Return the ID of a request that cannot be understood otherwise."""
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    request = values.get("id") if isinstance(values, dict) else None
    return request if isinstance(request, str) and request else None
