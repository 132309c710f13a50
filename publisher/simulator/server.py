"""The WebSocket server, in a thread of its own."""

from __future__ import annotations

import asyncio
import http
import threading
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from publisher.simulator.connection import Connection, World
from publisher.simulator.faults import Kind

PATH: Final = "/socket.io/websocket"
CONNECTIONS_MAX: Final = 64

_START_S_MAX: Final = 10.0
_MESSAGE_BYTES_MAX: Final = 1 << 20
_BUFFER_BYTES: Final = 1 << 22


class SimulatorServer:
    """Listens from `start` to `stop`; both may be called from any thread, once each."""

    def __init__(self, world: World, host: str, port: int) -> None:
        self.port = port
        """The port it listens on; chosen by the system where 0 was asked for."""
        self._world = world
        self._host = host
        self._connections: dict[int, Connection] = {}
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    def start(self) -> None:
        """Begin to listen. Raises OSError where the port cannot be had."""
        self._thread.start()
        if not self._ready.wait(_START_S_MAX):
            raise TimeoutError(f"simulator did not start in {_START_S_MAX} s")
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        self._world.faults.wake = self.wake

    def stop(self) -> None:
        """End all connections and stop listening."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def connections(self) -> list[int]:
        """The numbers of the connections that are open, oldest first."""
        return list(self._connections)

    def wake(self) -> None:
        """Make every connection look at the time and the faults at once."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for connection in self._connections.values():
            connection.wake()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await serve(
            self._handle,
            self._host,
            self.port,
            process_request=self._process_request,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            max_size=_MESSAGE_BYTES_MAX,
            write_limit=_BUFFER_BYTES,
            server_header="tv",
        )
        async with server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._stop.wait()
            self._shut(server)

    def _shut(self, server: Server) -> None:
        server.close(close_connections=False)
        for connection in list(server.connections):
            connection.transport.abort()

    def _process_request(self, socket: ServerConnection, request: Request) -> Response | None:
        fault = self._world.faults.take_handshake()
        if fault is not None and fault.kind is Kind.THROTTLE:
            return socket.respond(http.HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests\n")
        if fault is not None or "tradingview.com" not in request.headers.get("Origin", ""):
            return socket.respond(http.HTTPStatus.FORBIDDEN, "Forbidden\n")
        if request.path.partition("?")[0] != PATH:
            return socket.respond(http.HTTPStatus.NOT_FOUND, "Not Found\n")
        if len(self._connections) >= CONNECTIONS_MAX:
            return socket.respond(http.HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests\n")
        return None

    async def _handle(self, socket: ServerConnection) -> None:
        self._number += 1
        connection = Connection(self._world, socket, self._number)
        self._connections[connection.number] = connection
        try:
            await connection.run()
        finally:
            del self._connections[connection.number]
