"""How far groups are behind, on the publisher's page for Prometheus.

The publisher knows nothing of groups; this stands beside it, reads the bus with a
client of its own, in the thread of whoever asks, and only where somebody asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from bus.connection import Client, connect_writer
from bus.errors import BusError
from consumers.core.lag import Lag
from consumers.errors import ConsumerError
from consumers.lag import GroupLag, LagReport, read_lag
from publisher.wire import Keys
from tvbus.report import summaries
from tvbus.shared import Bus

FRESH_MS: Final = 5_000
"""The bus is asked at most so often, whoever asks and whatever came of it."""
COUNTED_MAX: Final = 5_000
"""Unread entries counted in all: the engine shares this process."""
ROWS_MAX: Final = 2_000
"""Pairs of group and series on the page; those furthest behind are told."""

log = structlog.get_logger("tvbus")


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read, None where the bus could not be."""

    report: LagReport | None
    until_ms: int


class GroupMetrics(Collector):
    """The metrics of all groups of a bus."""

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        now_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        """Connect to nothing yet."""
        self._url = redis_url
        self._keys = Keys(prefix)
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._last = _Read(None, 0)
        self._told = False

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as of at most FRESH_MS ago."""
        with self._lock:
            if self._now_ms() >= self._last.until_ms:
                self._last = _Read(self._read(), self._now_ms() + FRESH_MS)
            report = self._last.report
        yield GaugeMetricFamily(
            "tvbus_groups_readable",
            "1 where the bus told how far groups are behind",
            value=float(report is not None),
        )
        if report is not None:
            yield GaugeMetricFamily(
                "tvbus_groups_left_out",
                "Groups of which nothing is told",
                value=float(report.left_out),
            )
            yield from _of_groups(report.groups)
            yield from _of_series(report.groups)

    def close(self) -> None:
        """Let go of the bus, unless somebody is asking it now."""
        if self._lock.acquire(blocking=False):
            self._disconnect()
            self._lock.release()

    def _read(self) -> LagReport | None:
        try:
            client = self._client = self._client or connect_writer(self._url)
            lines = summaries(Bus(client, self._keys, self._url))
            report = read_lag(client, self._keys, [x.series for x in lines], COUNTED_MAX)
        except (RedisError, OSError, BusError, ConsumerError) as error:
            self._disconnect()
            if not self._told:
                log.warning("groups.unreadable", reason=str(error))
            self._told = True
            return None
        self._told = False
        return report

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


def _of_groups(groups: Sequence[GroupLag]) -> Iterator[Metric]:
    values: dict[str, tuple[str, Callable[[GroupLag], int]]] = {
        "tvbus_group_members": ("Processes that share its series", lambda x: x.members),
        "tvbus_group_dead_letters": ("Entries given up on", lambda x: x.dead_letters),
        "tvbus_group_unread_sum": ("Entries not handed out", lambda x: x.totals.unread),
        "tvbus_group_pending_sum": ("Entries not acknowledged", lambda x: x.totals.pending),
        "tvbus_group_oldest_pending_ms_max": (
            "Age of the oldest of these",
            lambda x: x.totals.oldest_pending_ms,
        ),
        "tvbus_group_time_lag_ms_max": (
            "From the newest bar to the last one acknowledged",
            lambda x: x.totals.time_lag_ms,
        ),
        "tvbus_group_quality": (
            "Of unread: 0 exact, 1 counted, 2 estimated, 3 at least",
            lambda x: x.totals.quality,
        ),
    }
    for name, (text, value) in values.items():
        family = GaugeMetricFamily(name, text, labels=["group"])
        for group in groups:
            family.add_metric([group.group], float(value(group)))
        yield family


def _of_series(groups: Sequence[GroupLag]) -> Iterator[Metric]:
    rows = [(group.group, x.name, x.lag) for group in groups for x in group.series]
    rows.sort(key=lambda row: (-row[2].time_lag_ms, row[0], row[1]))
    yield GaugeMetricFamily(
        "tvbus_group_series_left_out",
        "Pairs of group and series beyond what this page tells",
        value=float(max(0, len(rows) - ROWS_MAX)),
    )
    values: dict[str, tuple[str, Callable[[Lag], int]]] = {
        "tvbus_group_unread": ("Entries not handed out", lambda x: x.unread),
        "tvbus_group_pending": ("Entries not acknowledged", lambda x: x.pending),
        "tvbus_group_oldest_pending_ms": (
            "Since the oldest of these was last handed out",
            lambda x: x.oldest_pending_ms,
        ),
        "tvbus_group_time_lag_ms": (
            "From the newest bar to the last one acknowledged",
            lambda x: x.time_lag_ms,
        ),
    }
    for name, (text, value) in values.items():
        family = GaugeMetricFamily(name, text, labels=["group", "series"])
        for group, series, lag in rows[:ROWS_MAX]:
            family.add_metric([group, series], float(value(lag)))
        yield family
