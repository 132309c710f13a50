"""The last bars and then the new ones, as one run without gap or repetition."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Any

import pytest
from consumer_world import BTC, MINUTE_MS, T0, Events, Market, Server

from bus.errors import BusUnreachable
from consumers import Bar, join
from consumers.errors import EntryInvalid, UsageError
from publisher.wire import SeriesInvalid, encode_bar


def numbers(bars: Any, count: int) -> list[int]:
    return [(x.open_time_ms - T0) // MINUTE_MS for x in islice(bars, count)]


def test_the_last_bars_come_first_and_then_each_new_one(market: Market) -> None:
    market.publish(BTC, range(10))
    bars = join("BTCUSDT-BINANCE-1m", last=3, redis_url=market.url)
    assert numbers(bars, 2) == [7, 8]
    # These come in between, and belong behind the third.
    market.publish(BTC, [10, 11])
    assert numbers(bars, 3) == [9, 10, 11]
    market.publish(BTC, [12])
    assert numbers(bars, 1) == [12]
    bars.close()  # type: ignore[attr-defined]
    assert market.client.keys("tv:group:*") == []


def test_no_bar_is_missing_or_repeated_while_bars_flow(market: Market) -> None:
    market.publish(BTC, range(50))
    going = threading.Event()

    def flow() -> None:
        for number in range(50, 400):
            market.publish(BTC, [number])
            going.set()

    thread = threading.Thread(target=flow)
    thread.start()
    going.wait()
    bars = join(BTC, last=40, redis_url=market.url)
    seen = numbers(bars, 1)
    seen += numbers(bars, 399 - seen[0])
    thread.join()
    bars.close()  # type: ignore[attr-defined]
    assert seen == list(range(seen[0], 400))
    assert seen[0] >= 10


def test_a_stream_that_is_not_there_yet_is_waited_for(market: Market) -> None:
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            market.publish(BTC, range(3))
        return False

    bars = join(BTC, last=2, redis_url=market.url, stopped=stopped)
    assert numbers(bars, 3) == [0, 1, 2]
    bars.close()  # type: ignore[attr-defined]


def test_the_first_ones_are_as_they_were_corrected(market: Market) -> None:
    market.publish(BTC, range(3))
    name, payload = encode_bar(market.bar(BTC, 1, close=7.5, revision=1))
    market.client.xadd(market.keys.corrections(BTC), {name: payload})

    def closes(**options: Any) -> list[float]:
        bars = join(BTC, redis_url=market.url, **options)
        found = [x.close for x in islice(bars, 3)]
        bars.close()  # type: ignore[attr-defined]
        return found

    assert closes() == [100.5, 7.5, 102.5]
    assert closes(corrected=False) == [100.5, 101.5, 102.5]


def test_joining_outlives_the_server(own_server: Server, events: Events) -> None:
    with own_server.client() as client:
        market = Market(client, own_server.url)
        market.publish(BTC, range(3))
        bars = join(BTC, last=1, redis_url=market.url)
        assert numbers(bars, 1) == [2]
        own_server.kill()
        threading.Timer(0.3, lambda: (own_server.start(), market.publish(BTC, [3]))).start()
        assert numbers(bars, 1) == [3]
        assert events.named("bus.lost")
        bars.close()  # type: ignore[attr-defined]


def test_what_the_bus_lost_is_told(market: Market, events: Events) -> None:
    market.publish(BTC, range(3))
    bars = join(BTC, last=1, redis_url=market.url)
    assert numbers(bars, 1) == [2]
    market.publish(BTC, range(3, 6))
    market.client.xdel(market.keys.bars(BTC), *(f"{T0 + n * MINUTE_MS}-0" for n in (3, 4)))
    assert numbers(bars, 1) == [5]
    market.publish(BTC, [6], gap=True)
    assert numbers(bars, 1) == [6]
    bars.close()  # type: ignore[attr-defined]
    told = [(x["from_ms"], x["to_ms"], x["reason"]) for x in events.named("gap.seen")]
    opened = [T0 + n * MINUTE_MS for n in range(7)]
    assert told == [
        (opened[2], opened[4], "missing"),
        (opened[5], opened[6], "abandoned"),
    ]


def test_what_cannot_be_joined_is_told(market: Market) -> None:
    def first(*args: Any, **options: Any) -> Bar:
        return next(join(*args, **{"redis_url": market.url} | options))

    with pytest.raises(UsageError, match="last must be at least 1"):
        first(BTC, last=0)
    with pytest.raises(SeriesInvalid):
        first("BTC")
    with pytest.raises(BusUnreachable):
        first(BTC, redis_url="unix:///nowhere/at/all")
    market.client.xadd(market.keys.bars(BTC), {"bar": b"\xc1"}, id="7-0")
    with pytest.raises(EntryInvalid):
        first(BTC)
