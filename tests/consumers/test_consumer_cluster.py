"""A consumer on a Redis Cluster: each series in a slot of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from consumer_world import Market, Recorder, Running, Server

from bus.connection import connect_writer
from consumers import Consumer, Gap, Series
from tests.bus.clusters import cluster_of
from tests.waiting import eventually

Start = Callable[..., Running]
SERIES = [Series(f"S{number}USDT", "BINANCE", "1m") for number in range(8)]


@pytest.fixture
def clustered(shared_server: Server, tmp_path: Path) -> Iterator[Market]:
    with cluster_of(shared_server.binary, tmp_path / "cluster", 3) as ports:
        url = f"redis+cluster://127.0.0.1:{ports[0]}"
        client = connect_writer(url)
        yield Market(client, url)
        client.close()


def publish(market: Market, series: Series, numbers: range, **changes: Any) -> None:
    for number in numbers:
        market.publish(series, [number], **changes)


@pytest.mark.parametrize("unordered", [False, True])
def test_two_members_share_series_of_every_slot(
    clustered: Market, start: Start, unordered: bool
) -> None:
    for series in SERIES:
        publish(clustered, series, range(5))
    seen = Recorder()
    names = [str(x) for x in SERIES]
    members = [start(clustered, seen, *names, name=x, unordered=unordered) for x in ("one", "two")]
    seen.wait(lambda: len(seen.bars) >= 40)
    members[0].stop()
    for series in SERIES:
        publish(clustered, series, range(5, 8))
    seen.wait(lambda: all(7 in seen.numbers(x) for x in SERIES))
    for series in SERIES:
        numbers = seen.numbers(series)
        assert sorted(numbers) == list(range(8))
        assert unordered or numbers == sorted(numbers)
        eventually(lambda s=series: clustered.pending(s) == 0)
    members[1].stop()


def test_poison_gaps_and_kept_positions_work_over_slots(clustered: Market, start: Start) -> None:
    series = SERIES[0]
    publish(clustered, series, range(2))
    publish(clustered, series, range(5, 7))
    seen, gaps = Recorder(), list[Gap]()
    seen.failing = lambda bar: bar.open == 101.0

    def also(app: Consumer) -> None:
        app.on_gap(str(series))(gaps.append)

    running = start(clustered, seen, str(series), attempts=2, also=also)
    seen.wait(lambda: seen.numbers(series) == [0, 5, 6])
    assert [x.reason for x in gaps] == ["missing"]
    eventually(lambda: clustered.pending(series) == 0)
    assert clustered.client.xlen(clustered.keys.dead("g")) == 1
    running.stop()
    kept = cast(dict[bytes, bytes], clustered.client.hgetall("tv:group:{g}:checkpoints"))
    assert kept == {str(series).encode(): f"{clustered.bar(series, 6).open_time_ms}-0".encode()}
