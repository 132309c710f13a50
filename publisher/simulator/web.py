"""The web server, in threads of its own; plain HTTP, one request a connection."""

from __future__ import annotations

import socket
import threading
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from publisher.simulator.clock import SimulatedClock
from publisher.simulator.faults import Faults, Kind
from publisher.simulator.site import Request, Response, Site

REQUEST_S_MAX: Final = 10
"""How long who asks may take to say what, real seconds."""

BODY_BYTES_MAX: Final = 64_000

_STOP_POLL_S: Final = 0.02


class WebServer:
    """Serves from `start` to `stop`; both may be called from any thread, once each."""

    def __init__(
        self, site: Site, clock: SimulatedClock, faults: Faults, host: str, port: int
    ) -> None:
        self.port = port
        """The port it listens on; chosen by the system where 0 was asked for."""
        self._host = host
        self._stopping = threading.Event()
        self._handler = _handler(site, clock, faults, self._stopping)
        self._server: _Server | None = None

    def start(self) -> None:
        """Begin to listen. Raises OSError where the port cannot be had."""
        try:
            kind = _Server6 if ":" in self._host else _Server
            self._server = kind((self._host, self.port), self._handler)
        except OSError as error:
            where = f"cannot bind {self._host}:{self.port}: {error.strerror or error}"
            raise OSError(error.errno, where.lower()) from error
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, args=(_STOP_POLL_S,), name="web", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop listening; answers that wait are given up."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who asked is gone."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _handler(
    site: Site, clock: SimulatedClock, faults: Faults, stopping: threading.Event
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S_MAX

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            self._answer(self.rfile.read(int(length)))

        def _answer(self, body: bytes) -> None:
            slow = faults.take_request(Kind.SLOW_WEB)
            if slow is not None and stopping.wait(slow.duration_s):
                return
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(str(self.command), path, query, headers, body)
            self._reply(site.answer(request, clock.now_ms()))

        def _reply(self, response: Response) -> None:
            self.send_response(response.status)
            self.send_header("Content-Type", response.content_type)
            self.send_header("Content-Length", str(len(response.body)))
            if response.location:
                self.send_header("Location", response.location)
            for name, value in response.cookies.items():
                # Without Secure, which a client keeps from plain HTTP.
                self.send_header("Set-Cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax")
            self.end_headers()
            self.wfile.write(response.body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            """Return the simulated time, for the Date header."""
            return formatdate(clock.now_ms() / 1000, usegmt=True)

        def version_string(self) -> str:
            """Return what TradingView calls itself."""
            return "tv"

        def log_message(self, *_: object) -> None:
            """Say nothing: `Simulator.web_counts` tells."""

    return Handler
