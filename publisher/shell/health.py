"""Whether the publisher is well, for `/healthz`, and its numbers, for `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bus.health import HealthServer
from publisher.status import Status

TURN_AGE_MS_MAX: Final = 20_000
"""An engine that did not turn for longer is stuck; a slow bus takes up to 5 s a call."""

ReadStatus = Callable[[], Status | None]
"""Returns None while standing by."""


def serve_health(
    listen: str, read_status: ReadStatus, monotonic_ms: Callable[[], int]
) -> HealthServer:
    """Serve the publisher's health. Raises SettingsInvalid where the address is taken."""
    return HealthServer(
        listen, lambda: check(read_status(), monotonic_ms()), _StatusCollector(read_status)
    )


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
