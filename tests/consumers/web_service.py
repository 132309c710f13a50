"""A web service for tests of what is posted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing where the other side has gone."""


class Service:
    """A web service that remembers what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda _: None
        self.status = 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): text for name, text in self.headers.items()}
                service.requests.append((self.path, headers, body))
                service.connections.add(self.client_address)
                service.answer(self)
                self.send_response(service.status)
                self.send_header("Location", "https://elsewhere.example/planted")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None: ...

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/planted-path-7Qz"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
