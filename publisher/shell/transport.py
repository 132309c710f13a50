"""The websocket to TradingView, read by a thread of its own.

The thread answers heartbeats at once, so that a slow bus never costs the
TradingView session, and hands everything else to the engine's inbox. It alone
touches the socket: what others want to send waits for it, so a peer that does
not read never holds up the engine, and no TLS connection has two users.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import websocket

from publisher.core.frames import Splitter, is_heartbeat, join
from publisher.errors import (
    ConnectFailed,
    ConnectionLost,
    ConnectThrottled,
    PublisherError,
    RemoteProtocolError,
)
from publisher.ports import Clock, Connected, Disconnected, Fact, Received

CONNECT_TIMEOUT_S: Final = 10.0
STALL_TIMEOUT_S: Final = 15.0
"""How long one frame may stop in its middle, or a send may block."""
POLL_S: Final = 0.2
"""How often a quiet connection is looked at, to say that nothing is waiting."""
CLOSE_S_MAX: Final = 0.3
"""How long a close may wait for the goodbye to be sent."""
FRAMES_WAITING_MAX: Final = 50_000
"""Frames that may wait to be sent; beyond, the connection is given up."""
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest message that is read; beyond, the connection is given up."""


class WebSocketTransport:
    """One connection at a time; the next one replaces the last."""

    def __init__(self, url: str, origin: str, clock: Clock, inbox: queue.Queue[Fact]) -> None:
        self._url = url
        self._origin = origin
        self._clock = clock
        self._inbox = inbox
        self._reader: _Reader | None = None

    @property
    def drained_ms(self) -> int:
        """Monotonic time up to which everything that arrived is in the inbox."""
        return self._reader.drained_ms if self._reader else 0

    def open(self, connection: int) -> None:
        """Begin to connect; Connected or Disconnected follows in the inbox."""
        self.close()
        self._reader = _Reader(connection, self._url, self._origin, self._clock, self._inbox)
        self._reader.start()

    def send(self, frames: Sequence[str]) -> None:
        """Send frames in order. A failure shows as Disconnected."""
        if self._reader is not None:
            self._reader.send(frames)

    def close(self) -> None:
        """End the connection; nothing of it follows."""
        if self._reader is not None:
            self._reader.stop()
            self._reader = None


class _Socket(websocket.WebSocket):
    """Gives up on a message before it fills the memory."""

    unread_bytes = 0

    def _recv(self, bufsize: int) -> bytes:
        data: bytes = super()._recv(bufsize)  # type: ignore[no-untyped-call]
        self.unread_bytes += len(data)
        if self.unread_bytes > MESSAGE_BYTES_MAX:
            raise websocket.WebSocketPayloadException(
                f"a message has more than {MESSAGE_BYTES_MAX} bytes"
            )
        return data


class _Reader(threading.Thread):
    def __init__(
        self, connection: int, url: str, origin: str, clock: Clock, inbox: queue.Queue[Fact]
    ) -> None:
        super().__init__(name=f"tradingview-{connection}", daemon=True)
        self._connection = connection
        self._url = url
        self._origin = origin
        self._clock = clock
        self._inbox = inbox
        self._splitter = Splitter()
        self._stopping = threading.Event()
        self._socket: Any = None
        self._waiting: deque[str] = deque()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self.drained_ms = 0

    def run(self) -> None:
        try:
            self._connect()
            self._read()
        except PublisherError as error:
            self._tell(Disconnected(self._connection, error))
        finally:
            self._say_goodbye()
            self._woken.close()
            self._waker.close()

    def stop(self) -> None:
        """Stop reading and close; returns soon, whatever the peer does."""
        self._stopping.set()
        self._wake()
        open_socket = self._socket
        if open_socket is None or threading.current_thread() is self:
            return
        self.join(CLOSE_S_MAX)
        if self.is_alive():
            # It waits for the rest of a frame, or for the peer to read.
            with contextlib.suppress(OSError, AttributeError):
                open_socket.sock.shutdown(socket.SHUT_RDWR)

    def send(self, frames: Sequence[str]) -> None:
        """Let frames wait to be sent; a failure shows as Disconnected."""
        self._waiting.extend(frames)
        self._wake()

    def _wake(self) -> None:
        # A full pipe wakes as well as one more byte; a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._waker.send(b"!")

    def _connect(self) -> None:
        try:
            self._socket = websocket.create_connection(
                self._url,
                timeout=CONNECT_TIMEOUT_S,
                origin=self._origin,
                class_=_Socket,
                redirect_limit=0,  # a token goes where the settings say, nowhere else
                skip_utf8_validation=True,  # it is checked below, 4.5 times faster
                sockopt=((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),),
            )
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise _connect_error(self._url, error) from error
        self._socket.settimeout(STALL_TIMEOUT_S)
        self._tell(Connected(self._connection))

    def _read(self) -> None:
        while not self._stopping.is_set():
            self._send_waiting()
            # The time is taken first: what arrived before it is read by then,
            # even if this process is stopped for a while in between.
            looked_ms = self._clock.monotonic_ms()
            if not self._readable(0):
                if not self._splitter.rest:
                    self.drained_ms = looked_ms
                if not self._readable(POLL_S):
                    continue
            self._take(self._receive())

    def _send_waiting(self) -> None:
        if len(self._waiting) > FRAMES_WAITING_MAX:
            raise ConnectionLost(f"more than {FRAMES_WAITING_MAX} frames wait to be sent")
        while self._waiting and not self._stopping.is_set():
            self._send(self._waiting.popleft())

    def _send(self, frame: str) -> None:
        try:
            self._socket.send(frame)
        except (websocket.WebSocketException, OSError) as error:
            raise ConnectionLost(f"the connection to TradingView was lost: {error}") from error

    def _readable(self, timeout_s: float) -> bool:
        raw = self._socket.sock
        if raw is None:
            raise ConnectionLost("the connection was closed here")
        if isinstance(raw, ssl.SSLSocket) and raw.pending():
            return True
        try:
            ready = select.select([raw, self._woken], [], [], timeout_s)[0]
            if self._woken in ready:
                self._woken.recv(4096)
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"the connection was closed here: {error}") from error
        return raw in ready

    def _receive(self) -> str:
        self._socket.unread_bytes = 0
        try:
            opcode, data = self._socket.recv_data(control_frame=True)
        except (websocket.WebSocketException, OSError, AttributeError) as error:
            raise ConnectionLost(f"the connection to TradingView was lost: {error}") from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise ConnectionLost(f"TradingView closed the connection ({_close_reason(data)})")
        if opcode not in {websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY}:
            return ""
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"a message must be UTF-8: {error}") from error

    def _take(self, message: str) -> None:
        payloads = tuple(self._splitter.feed(message))
        for payload in payloads:
            if is_heartbeat(payload):
                self._send(join(payload))
        if payloads:
            self._tell(
                Received(
                    self._connection,
                    payloads,
                    self._clock.wall_ms(),
                    self._clock.monotonic_ms(),
                )
            )

    def _tell(self, fact: Fact) -> None:
        """Hand a fact to the engine; an engine that does not keep up loses the connection."""
        if self._stopping.is_set():
            return
        try:
            self._inbox.put_nowait(fact)
        except queue.Full:
            # Nothing is lost for good: the next connection asks for history again.
            self._shut()
            overflow = ConnectionLost(f"{self._inbox.maxsize} messages are waiting; starting over")
            while not self._stopping.wait(POLL_S):
                try:
                    self._inbox.put_nowait(Disconnected(self._connection, overflow))
                except queue.Full:
                    continue
                self._stopping.set()

    def _say_goodbye(self) -> None:
        if self._socket is None:
            return
        if self._stopping.is_set():
            with contextlib.suppress(websocket.WebSocketException, OSError, AttributeError):
                self._socket.settimeout(CLOSE_S_MAX)
                self._socket.send_close()
        self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            self._socket.shutdown()


def _close_reason(data: bytes) -> str:
    code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
    text = data[2:].decode("utf-8", "replace")
    return f"code {code}" + (f", {text}" if text else "")


def _connect_error(url: str, error: Exception) -> ConnectFailed:
    where = urlsplit(url).netloc.rpartition("@")[2]
    if isinstance(error, websocket.WebSocketBadStatusException):
        status = error.status_code
        if status == 429:
            return ConnectThrottled(
                f"{where} refused (429): too many connections or requests; slow down, or check "
                "TVBUS_WS_URL"
            )
        meaning = {
            403: "refused (403): this address or Origin is not let in",
        }.get(status, f"answered {status} instead of a websocket")
        return ConnectFailed(f"{where} {meaning}; check TVBUS_WS_URL")
    if isinstance(error, socket.gaierror | websocket.WebSocketAddressException):
        return ConnectFailed(f"{where} cannot be found: {error}; check the network and DNS")
    if isinstance(error, ssl.SSLError):
        return ConnectFailed(f"no secure connection to {where}: {error}")
    if isinstance(error, websocket.WebSocketTimeoutException | TimeoutError):
        return ConnectFailed(f"{where} did not answer within {CONNECT_TIMEOUT_S:.0f} s")
    if isinstance(error, OSError):
        return ConnectFailed(f"no connection to {where}: {error}")
    return ConnectFailed(f"{where} is not a websocket: {error}; check TVBUS_WS_URL")
