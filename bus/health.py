"""`/healthz` for supervisors and `/metrics` for Prometheus, on a local port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from bus.errors import SettingsInvalid

STOP_POLL_S: Final = 0.05
REQUEST_S_MAX: Final = 10
"""How long who asks may take to say what."""

Check = Callable[[], tuple[bool, Mapping[str, object]]]
"""Tells whether all is well, and the facts behind it."""


class HealthServer:
    """Serves until stopped, from threads of its own.

    Raises SettingsInvalid where the address cannot be used.
    """

    def __init__(self, listen: str, check: Check, *metrics: Collector) -> None:
        host, _, port = listen.rpartition(":")
        handler = _handler(check, metrics)
        try:
            self._server = _server_kind(host)((host.strip("[]"), int(port)), handler)
        except OSError as error:
            raise SettingsInvalid(
                f"TVBUS_LISTEN {listen!r} cannot be used: {error.strerror or error}; "
                "set another one, or none with --listen ''"
            ) from error
        self.port = self._server.server_address[1]
        """The port in use, also where 0 was asked for."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_S,), name="health", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who asked is gone, and will ask again."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_kind(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server


def _handler(check: Check, metrics: Iterable[Collector]) -> type[BaseHTTPRequestHandler]:
    registry = CollectorRegistry()
    for collector in metrics:
        registry.register(collector)

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S_MAX

        def do_GET(self) -> None:
            if self.path == "/healthz":
                well, facts = check()
                self._reply(200 if well else 503, "application/json", orjson.dumps(facts))
            elif self.path == "/metrics":
                self._reply(200, "text/plain; version=0.0.4", generate_latest(registry))
            else:
                self._reply(404, "text/plain", b"try /healthz or /metrics\n")

        def _reply(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: a supervisor asks every few seconds."""

    return Handler
