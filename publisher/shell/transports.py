"""Several connections to TradingView at a time, each with a reading thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from publisher.shell.transport import WebSocketTransport


class Transports:
    """Connections by their numbers; `make` returns a transport for one."""

    def __init__(self, make: Callable[[], WebSocketTransport]) -> None:
        self._make = make
        self._standing: dict[int, WebSocketTransport] = {}

    def open(self, connection: int) -> None:
        """Begin to connect; Connected or Disconnected follows in the inbox."""
        self.close(connection)
        self._standing[connection] = self._make()
        self._standing[connection].open(connection)

    def send(self, connection: int, frames: Sequence[str]) -> None:
        """Send frames in order. A failure shows as Disconnected."""
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
