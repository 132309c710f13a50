"""Whether the publisher is well, for `/healthz`, and its numbers, for `/metrics`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bus.errors import SettingsInvalid
from bus.health import HealthServer
from publisher.status import Status

TURN_AGE_MS_MAX: Final = 20_000
"""An engine that did not turn for longer is stuck; a slow bus takes up to 5 s a call."""

PORT_RETRY_MS: Final = 5_000
"""How often a port that is taken is tried again."""

log = structlog.get_logger("publisher")

ReadStatus = Callable[[], Status | None]
"""Returns None while standing by."""


def serve_health(
    listen: str,
    read_status: ReadStatus,
    monotonic_ms: Callable[[], int],
    others: Sequence[Collector] = (),
) -> HealthServer:
    """Serve the publisher's health. Raises SettingsInvalid where the address is taken."""
    collectors = (_StatusCollector(read_status), *others)
    return HealthServer(listen, lambda: check(read_status(), monotonic_ms()), *collectors)


class HealthPort:
    """Serves the publisher's health as soon as its port is free; empty: nowhere.

    Another publisher on this machine may have the port: that hinders nobody from
    publishing, and whoever is left alone has it within `PORT_RETRY_MS`.
    """

    def __init__(
        self,
        listen: str,
        read_status: ReadStatus,
        monotonic_ms: Callable[[], int],
        others: Sequence[Collector] = (),
    ) -> None:
        """`others` have their metrics on the same page."""
        self._serve = partial(serve_health, listen, read_status, monotonic_ms, others)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health-port", daemon=True)
        if listen:
            self._thread.start()

    def close(self) -> None:
        """Serve no longer."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._closing.is_set():
            try:
                server = self._serve()
            except SettingsInvalid as error:
                if not told:
                    log.warning("health.unavailable", reason=str(error))
                told = True
                self._closing.wait(PORT_RETRY_MS / 1000)
                continue
            self._closing.wait()
            server.stop()


def check(status: Status | None, now_ms: int) -> tuple[bool, dict[str, object]]:
    """Return whether all is well, and the facts behind it."""
    if status is None:
        return True, {"state": "standby"}
    troubles = []
    if now_ms - status.turned_ms > TURN_AGE_MS_MAX:
        troubles.append("the engine is stuck")
    if status.series and not status.signed_in:
        troubles.append(f"not signed in: {status.signin_trouble or 'on the way'}")
    if status.series and not status.connected:
        troubles.append("not connected to TradingView")
    if status.store_trouble:
        troubles.append(status.store_trouble)
    facts = asdict(status)
    return not troubles, {"state": "publishing", "troubles": troubles, **facts}


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
            "tvbus_signed_in": (
                "1 while there is a token, anonymous or not",
                status is not None and bool(status.signed_in),
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
