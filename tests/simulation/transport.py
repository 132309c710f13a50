"""The publisher's ways to TradingView in virtual time: connection, sign-in and inbox."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from publisher.core.frames import Splitter, is_heartbeat, join
from publisher.core.tokens import Token
from publisher.errors import ConnectFailed, ConnectionLost, PublisherError, RemoteProtocolError
from publisher.ports import (
    Connected,
    Disconnected,
    Fact,
    Received,
    TokenDenied,
    TokenGranted,
)
from tests.simulation.connection import Connection
from tests.simulation.loop import Process
from tests.simulation.tradingview import TradingView

UPSTREAM_MS: Final = 40
"""How long what is sent is on its way."""
LOOK_MS: Final = 50
"""How old the look at a quiet connection is."""
RETRY_MS: Final = 200
"""How often an inbox that was full is tried again."""


class Inbox:
    """A queue that never waits: what comes later comes with a later turn."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._facts: deque[Fact] = deque()

    def get(self, *, timeout: float | None = None) -> Fact:
        """Return the oldest fact. Raises queue.Empty at once."""
        return self.get_nowait()

    def get_nowait(self) -> Fact:
        """Return the oldest fact. Raises queue.Empty."""
        if not self._facts:
            raise queue.Empty
        return self._facts.popleft()

    def put_nowait(self, fact: Fact) -> None:
        """Add a fact. Raises queue.Full."""
        if len(self._facts) >= self.maxsize:
            raise queue.Full
        self._facts.append(fact)

    def empty(self) -> bool:
        """Tell whether nothing waits."""
        return not self._facts


class SimTransport:
    """One connection at a time, as a thread of the publisher's process would have it."""

    def __init__(
        self, process: Process, service: TradingView, inbox: Inbox, wake: Callable[[], None]
    ) -> None:
        self._process = process
        self._service = service
        self._inbox = inbox
        self._wake = wake
        self._number = 0
        self._connection: Connection | None = None
        self._splitter = Splitter()
        self._unread: deque[Callable[[], None]] = deque()
        self._drained_ms: int | None = None
        """While something waits to be read: up to when all was."""

    @property
    def drained_ms(self) -> int:
        """Monotonic time up to which everything that arrived is in the inbox."""
        if self._connection is None:
            return 0
        if self._drained_ms is not None:
            return self._drained_ms
        return self._process.monotonic_ms() - LOOK_MS

    def open(self, connection: int) -> None:
        """Begin to connect; Connected or Disconnected follows."""
        self.close()
        self._number = connection
        self._process.loop.after(self._service.latency_ms(), lambda: self._connect(connection))

    def _connect(self, number: int) -> None:
        if number != self._number or not self._process.alive:
            return
        if self._process.frozen:
            self._process.loop.at(self._process.frozen_until_ms, lambda: self._connect(number))
            return
        self._connection = self._service.connect(self)
        self._splitter = Splitter()
        if self._connection is None:
            self._tell(Disconnected(number, ConnectFailed("connection refused")))
        else:
            self._tell(Connected(number))

    def send(self, frames: Sequence[str]) -> None:
        """Send frames in order."""
        connection, sent = self._connection, list(frames)
        if connection is not None:
            self._process.loop.after(UPSTREAM_MS, lambda: connection.receive(sent))

    def close(self) -> None:
        """End the connection; nothing of it follows."""
        self._number = -1
        self._unread.clear()
        self._drained_ms = None
        if self._connection is not None:
            self._connection.drop()
            self._connection = None

    # What the thread that reads does.

    def arrive(self, connection: Connection, text: str) -> None:
        """A message is there to be read."""
        if connection is self._connection:
            self._read(lambda: self._take(text))

    def ended(self, connection: Connection, error: PublisherError) -> None:
        """The end of the connection is there to be read."""
        if connection is self._connection:
            self._read(lambda: self._end(error))

    def _read(self, take: Callable[[], None]) -> None:
        if self._process.frozen or self._unread:
            if self._drained_ms is None:
                self._drained_ms = self._process.monotonic_ms() - LOOK_MS
            self._unread.append(take)
        else:
            take()

    def drain(self) -> None:
        """Read what came while the process was frozen."""
        while self._unread:
            self._unread.popleft()()
        self._drained_ms = None

    def _take(self, text: str) -> None:
        try:
            payloads = tuple(self._splitter.feed(text))
        except RemoteProtocolError as error:
            self._end(error)
            return
        self.send([join(payload) for payload in payloads if is_heartbeat(payload)])
        clock = self._process
        self._tell(Received(self._number, payloads, clock.wall_ms(), clock.monotonic_ms()))

    def _end(self, error: PublisherError) -> None:
        if self._connection is not None:
            self._connection.drop()
            self._connection = None
        self._unread.clear()
        self._tell(Disconnected(self._number, error))

    def _tell(self, fact: Fact) -> None:
        try:
            self._inbox.put_nowait(fact)
        except queue.Full:
            self._process.struck("inbox_full")
            if self._connection is not None:
                self._connection.drop()
                self._connection = None
            self._tell_overflow(self._number)
        self._wake()

    def _tell_overflow(self, number: int) -> None:
        if number != self._number:
            return
        error = ConnectionLost(f"{self._inbox.maxsize} messages are waiting; starting over")
        try:
            self._inbox.put_nowait(Disconnected(number, error))
        except queue.Full:
            self._process.loop.after(RETRY_MS, lambda: self._tell_overflow(number))
        self._wake()


class SimTransports:
    """Several connections at a time, each as `SimTransport` has one."""

    def __init__(self, make: Callable[[], SimTransport]) -> None:
        self._make = make
        self._standing: dict[int, SimTransport] = {}

    def open(self, connection: int) -> None:
        """Begin to connect; Connected or Disconnected follows."""
        self.close(connection)
        self._standing[connection] = self._make()
        self._standing[connection].open(connection)

    def send(self, connection: int, frames: Sequence[str]) -> None:
        """Send frames in order."""
        if connection in self._standing:
            self._standing[connection].send(frames)

    def close(self, connection: int) -> None:
        """End a connection; nothing of it follows."""
        transport = self._standing.pop(connection, None)
        if transport is not None:
            transport.close()

    def drained_ms(self, connection: int) -> int:
        """Monotonic time up to which everything that arrived is in the inbox."""
        transport = self._standing.get(connection)
        return transport.drained_ms if transport is not None else 0

    def drain(self) -> None:
        """Read what came while the process was frozen."""
        for transport in list(self._standing.values()):
            transport.drain()

    def close_all(self) -> None:
        """End all connections, as the end of a process does."""
        for connection in list(self._standing):
            self.close(connection)


class SimTokens:
    """The way to a token."""

    def __init__(
        self, process: Process, service: TradingView, inbox: Inbox, wake: Callable[[], None]
    ) -> None:
        self._process = process
        self._service = service
        self._inbox = inbox
        self._wake = wake
        self._asked = False

    def ask(self, rejected: Token | None = None) -> None:
        """Begin to obtain a token; TokenGranted or TokenDenied follows."""
        if not self._asked:
            self._asked = True
            self._process.loop.after(3 * self._service.latency_ms(), self._answer)

    def changed(self) -> bool:
        """Nobody signs in by hand."""
        return False

    def _answer(self) -> None:
        if not self._process.alive:
            return
        answer = self._service.sign_in()
        fact: Any
        if isinstance(answer, Token):
            fact = TokenGranted(answer, self._process.monotonic_ms())
        else:
            fact = TokenDenied(answer)
        try:
            self._inbox.put_nowait(fact)
        except queue.Full:
            self._process.loop.after(RETRY_MS, self._answer)
            return
        self._asked = False
        self._wake()
