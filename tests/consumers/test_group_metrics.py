"""What Prometheus is told of groups and of consumer processes."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from consumer_world import BTC, ETH, MINUTE_MS, Events, Market, Server
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from bus.health import HealthServer
from consumers.lag import read_lag
from consumers.shell.metrics import ConsumerMetrics
from publisher.shell.health import serve_health
from tvbus import group_metrics
from tvbus.group_metrics import FRESH_MS, GroupMetrics

KEY = "tv:bars:{BTCUSDT-BINANCE-1m}"


def numbers(collector: Collector) -> dict[str, float]:
    """Return what the page shows, by name and labels."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    found = [re.fullmatch(r"(\S+) (\S+)", line) for line in lines if not line.startswith("#")]
    return {x[1]: float(x[2]) for x in found if x is not None}


class Clock:
    """A clock that a test sets."""

    now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(market: Market, clock: Clock) -> Iterator[GroupMetrics]:
    market.list_series(BTC, ETH)
    for series, bars in ((BTC, 20), (ETH, 4)):
        market.publish(series, range(bars))
        market.client.xgroup_create(market.keys.bars(series), "g", "0")
    made = GroupMetrics(market.url, "tv", clock)
    yield made
    made.close()


def test_every_group_and_series_is_on_the_page(market: Market, metrics: GroupMetrics) -> None:
    [[_, entries]] = market.client.xreadgroup("g", "one", {KEY: ">"}, count=5)
    market.client.xack(KEY, "g", *[x[0] for x in entries[:3]])
    market.client.xclaim(KEY, "g", "one", 0, [entries[3][0]], idle=70_000, justid=True)
    market.client.xadd("tv:dead:{g}", {"reason": "x"})
    found = numbers(metrics)
    ages = [found.pop(name) for name in [x for x in found if "oldest_pending" in x]]
    assert sorted(x // 10_000 for x in ages) == [0, 7, 7]
    assert found == {
        "tvbus_groups_readable": 1,
        "tvbus_groups_left_out": 0,
        'tvbus_group_members{group="g"}': 1,
        'tvbus_group_dead_letters{group="g"}': 1,
        'tvbus_group_unread_sum{group="g"}': 19,
        'tvbus_group_pending_sum{group="g"}': 2,
        'tvbus_group_time_lag_ms_max{group="g"}': 17 * MINUTE_MS,
        'tvbus_group_quality{group="g"}': 1,
        "tvbus_group_series_left_out": 0,
        'tvbus_group_unread{group="g",series="BTCUSDT-BINANCE-1m"}': 15,
        'tvbus_group_unread{group="g",series="ETHUSDT-BINANCE-1m"}': 4,
        'tvbus_group_pending{group="g",series="BTCUSDT-BINANCE-1m"}': 2,
        'tvbus_group_pending{group="g",series="ETHUSDT-BINANCE-1m"}': 0,
        'tvbus_group_time_lag_ms{group="g",series="BTCUSDT-BINANCE-1m"}': 17 * MINUTE_MS,
        'tvbus_group_time_lag_ms{group="g",series="ETHUSDT-BINANCE-1m"}': 4 * MINUTE_MS,
    }


def test_the_bus_is_asked_every_few_seconds_at_most(
    market: Market, metrics: GroupMetrics, clock: Clock
) -> None:
    name = 'tvbus_group_unread_sum{group="g"}'
    assert numbers(metrics)[name] == 24
    market.publish(BTC, [20])
    clock.now_ms = FRESH_MS - 1
    assert numbers(metrics)[name] == 24
    clock.now_ms = FRESH_MS
    assert numbers(metrics)[name] == 25


def test_nobody_is_asked_before_somebody_asks(market: Market, clock: Clock) -> None:
    before = market.client.info("stats")["total_connections_received"]
    registry = CollectorRegistry()
    registry.register(GroupMetrics(market.url, "tv", clock))
    assert market.client.info("stats")["total_connections_received"] == before


def test_rows_beyond_the_limit_are_counted_and_the_worst_are_told(
    metrics: GroupMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_metrics, "ROWS_MAX", 1)
    found = numbers(metrics)
    assert found["tvbus_group_series_left_out"] == 1
    assert found['tvbus_group_unread_sum{group="g"}'] == 24
    assert [x for x in found if x.startswith("tvbus_group_unread{")] == [
        'tvbus_group_unread{group="g",series="BTCUSDT-BINANCE-1m"}'
    ]


def test_a_bus_that_is_gone_is_told_once_and_nothing_old_is_shown(
    own_server: Server, clock: Clock, events: Events
) -> None:
    metrics = GroupMetrics(own_server.url, "tv", clock)
    with own_server.client() as client:
        client.xgroup_create("tv:events", "watch", mkstream=True)
    assert numbers(metrics)['tvbus_group_unread_sum{group="watch"}'] == 0
    own_server.kill()
    for clock.now_ms in (FRESH_MS, 2 * FRESH_MS):
        assert numbers(metrics) == {"tvbus_groups_readable": 0}
    assert len(events.named("groups.unreadable")) == 1
    own_server.start()
    assert numbers(metrics) == {"tvbus_groups_readable": 0}, "asked too soon"
    clock.now_ms = 3 * FRESH_MS
    assert numbers(metrics)["tvbus_groups_readable"] == 1
    metrics.close()


def test_an_address_that_leads_nowhere_leaves_the_page_as_it_is(clock: Clock) -> None:
    metrics = GroupMetrics("redis+cluster://127.0.0.1:1", "tv", clock)
    server = serve_health("127.0.0.1:0", lambda: None, clock, [metrics])
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as reply:
        page = reply.read().decode()
    server.stop()
    assert "tvbus_active 0.0" in page
    assert "tvbus_groups_readable 0.0" in page


def test_a_stop_does_not_wait_for_who_asks(
    metrics: GroupMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on, went_on = threading.Event(), threading.Event(), threading.Event()

    def slow(*arguments: object) -> object:
        asked.set()
        go_on.wait(5)
        went_on.set()
        return read_lag(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(group_metrics, "read_lag", slow)
    found: list[dict[str, float]] = []
    thread = threading.Thread(target=lambda: found.append(numbers(metrics)))
    thread.start()
    assert asked.wait(20)
    metrics.close()
    assert not went_on.is_set()
    go_on.set()
    thread.join()
    assert found[0]["tvbus_groups_readable"] == 1


def test_a_consumer_tells_what_it_did() -> None:
    trouble = ""
    collector = ConsumerMetrics("g", lambda: {"handled": 7, "dead_lettered": 1}, lambda: trouble)
    server = HealthServer("127.0.0.1:0", lambda: (True, {}), collector)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as reply:
        page = reply.read().decode()
    server.stop()
    assert 'tvbus_consumer_total{group="g",what="handled"} 7.0' in page
    assert 'tvbus_consumer_total{group="g",what="dead_lettered"} 1.0' in page
    assert 'tvbus_consumer_connected{group="g"} 1.0' in page
    trouble = "gone"
    assert numbers(collector)['tvbus_consumer_connected{group="g"}'] == 0
