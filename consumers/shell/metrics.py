"""What a consumer process tells Prometheus: of the process, not of each series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class ConsumerMetrics(Collector):
    """The metrics of one consumer, read when somebody asks."""

    group: str
    read_counts: Callable[[], Mapping[str, int]]
    """What happened since the start, by name."""
    read_trouble: Callable[[], str]
    """Why nothing comes from the bus; empty while all is well."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as of now."""
        counter = CounterMetricFamily(
            "tvbus_consumer",
            "What a consumer did; see docs/operations.md",
            labels=["group", "what"],
        )
        for what, count in self.read_counts().items():
            counter.add_metric([self.group, what], count)
        yield counter
        connected = GaugeMetricFamily(
            "tvbus_consumer_connected", "1 while the bus answers", labels=["group"]
        )
        connected.add_metric([self.group], float(not self.read_trouble()))
        yield connected
