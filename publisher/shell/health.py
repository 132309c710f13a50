"""`/healthz` for supervisors and `/metrics` for Prometheus, on a local port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from publisher.errors import SettingsError
from publisher.status import Status

TURN_AGE_MS_MAX: Final = 20_000
"""An engine that did not turn for longer is stuck; a slow bus takes up to 5 s a call."""

ReadStatus = Callable[[], Status | None]


class HealthServer:
    """Serves until stopped; `read_status` returns None while standing by."""

    def __init__(
        self, listen: str, read_status: ReadStatus, monotonic_ms: Callable[[], int]
    ) -> None:
        host, _, port = listen.rpartition(":")
        handler = _handler(read_status, monotonic_ms)
        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), handler)
        except OSError as error:
            raise SettingsError(
                f"TVBUS_LISTEN {listen!r} cannot be used: {error.strerror or error}; "
                "set another address or an empty one"
            ) from error
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        """The port in use, also where 0 was asked for."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def check(status: Status | None, now_ms: int) -> tuple[bool, dict[str, object]]:
    """Return whether all is well, and the facts behind it."""
    if status is None:
        return True, {"state": "standby"}
    troubles = []
    if now_ms - status.turned_ms > TURN_AGE_MS_MAX:
        troubles.append("the engine is stuck")
    if status.series and not status.connected:
        troubles.append("not connected to TradingView")
    if status.store_trouble:
        troubles.append(status.store_trouble)
    facts = asdict(status)
    return not troubles, {"state": "publishing", "troubles": troubles, **facts}


def _handler(
    read_status: ReadStatus, monotonic_ms: Callable[[], int]
) -> type[BaseHTTPRequestHandler]:
    registry = CollectorRegistry()
    registry.register(_StatusCollector(read_status))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                well, facts = check(read_status(), monotonic_ms())
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


class _StatusCollector(Collector):
    def __init__(self, read_status: ReadStatus) -> None:
        self._read_status = read_status

    def collect(self) -> Iterator[Metric]:
        status = self._read_status()
        gauges = {
            "tvbus_active": ("1 while this publisher holds the lease", status is not None),
            "tvbus_connected": (
                "1 while connected to TradingView",
                status is not None and status.connected,
            ),
            "tvbus_series": ("Series wanted", status.series if status else 0),
            "tvbus_series_live": ("Series live", status.live if status else 0),
            "tvbus_bars_waiting": (
                "Closed bars that wait for the bus",
                status.waiting_bars if status else 0,
            ),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=float(value))
        events = CounterMetricFamily(
            "tvbus_events", "Facts by name; see docs/operations.md", labels=["event"]
        )
        for event, count in sorted((status.counts if status else {}).items()):
            events.add_metric([event], count)
        yield events
