"""Web servers for tests: pages as told, and raw ones that misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Page = tuple[int, bytes]


@dataclass
class Pages:
    """A server whose answers a test gives; it keeps what it was asked."""

    answer: Callable[[str, dict[str, str]], Page]
    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    date: str | None = None
    location: str | None = None

    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [path for path, _ in self.asked]


@contextlib.contextmanager
def serve(answer: Callable[[str, dict[str, str]], Page]) -> Iterator[Pages]:
    """Serve pages on a port of this machine."""
    pages = Pages(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, keep_blank_values=True)
            parameters = {name: values[0] for name, values in query.items()}
            pages.asked.append((parts.path, parameters))
            pages.headers.append(dict(self.headers))
            status, body = pages.answer(parts.path, parameters)
            self.send_response_only(status)
            if pages.date is not None:
                self.send_header("Date", pages.date)
            if pages.location is not None:
                self.send_header("Location", pages.location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815, the library calls it

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    pages.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield pages
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def serve_raw(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Let a function talk to each connection as it likes; the event tells it to end."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.02)
    ended = threading.Event()
    talks: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            talk(connection, ended)

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection = listener.accept()[0]
                talks.append(threading.Thread(target=handle, args=(connection,)))
                talks[-1].start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        ended.set()
        thread.join()
        for one in talks:
            one.join()
        listener.close()
