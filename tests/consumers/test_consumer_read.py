"""Stored bars read once, and series watched without a group."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pandas as pd
import pytest
from consumer_world import BTC, ETH, MINUTE_MS, T0, Events, Market, Server

from bus.errors import BusUnreachable, SettingsInvalid
from consumers import Bar, Series, follow, history, read_bars, read_frame
from consumers.errors import EntryInvalid, FrameUnavailable, StreamRefused, UsageError
from consumers.shell import streams
from publisher.wire import SeriesInvalid, encode_bar

AT_3 = T0 + 3 * MINUTE_MS


def numbers(bars: list[Bar]) -> list[int]:
    return [(x.open_time_ms - T0) // MINUTE_MS for x in bars]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAGE", 4)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, range(10)),
        ({"start": AT_3}, range(3, 10)),
        ({"start": AT_3 + 1}, range(4, 10)),
        ({"end": AT_3}, range(3)),
        ({"start": str(T0), "end": datetime.fromtimestamp(AT_3 / 1000, UTC)}, range(3)),
        ({"start": datetime.fromtimestamp(AT_3 / 1000, UTC).isoformat()}, range(3, 10)),
        ({"last": 3}, range(7, 10)),
        ({"last": 4}, range(6, 10)),
        ({"last": 9}, range(1, 10)),
        ({"last": 50}, range(10)),
        ({"last": 2, "end": AT_3}, range(1, 3)),
        ({"start": AT_3, "end": AT_3}, range(0)),
    ],
)
def test_the_bars_of_a_range_are_read(
    market: Market, choice: dict[str, Any], expected: range
) -> None:
    market.publish(BTC, range(10))
    bars = read_bars("BTCUSDT-BINANCE-1m", redis_url=market.url, **choice)
    assert numbers(bars) == list(expected)
    assert bars == [market.bar(BTC, n) for n in expected]


def test_a_series_without_a_stream_has_no_bars(market: Market) -> None:
    assert read_bars(ETH, redis_url=market.url) == []
    assert read_frame(ETH, redis_url=market.url).empty


def test_the_newest_revision_replaces_a_bar(market: Market) -> None:
    market.publish(BTC, range(3))
    for revision, close in ((1, 55.0), (2, 66.0)):
        bar = market.bar(BTC, 1, close=close, revision=revision)
        name, payload = encode_bar(bar)
        market.client.xadd(market.keys.corrections(BTC), {name: payload})
    stale = market.bar(BTC, 1, close=55.0, revision=1)
    name, payload = encode_bar(stale)
    market.client.xadd(market.keys.corrections(BTC), {name: payload})
    assert [x.close for x in read_bars(BTC, redis_url=market.url)] == [100.5, 66.0, 102.5]
    plain = read_bars(BTC, redis_url=market.url, corrected=False)
    assert [x.close for x in plain] == [100.5, 101.5, 102.5]


def test_the_environment_names_the_bus(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVBUS_REDIS_URL", market.url)
    monkeypatch.setenv("TVBUS_PREFIX", "other")
    market.publish(BTC, range(2))
    assert read_bars(BTC) == []
    assert len(read_bars(BTC, prefix="tv")) == 2


@pytest.mark.parametrize(
    ("series", "choice", "error"),
    [
        ("nonsense", {}, SeriesInvalid),
        (BTC, {"start": "2025-11-01"}, UsageError),
        (BTC, {"end": "soon"}, UsageError),
        (BTC, {"last": 0}, UsageError),
        (BTC, {"prefix": "a b"}, SettingsInvalid),
        (BTC, {"redis_url": "http://nowhere"}, SettingsInvalid),
        (BTC, {"redis_url": "unix:///nowhere/at/all"}, BusUnreachable),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(
    market: Market, series: Any, choice: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        read_bars(series, **({"redis_url": market.url} | choice))
    assert "\n" not in str(caught.value)


def test_an_entry_that_cannot_be_decoded_is_named(market: Market) -> None:
    market.client.xadd(market.keys.bars(BTC), {"bar": b"\xc1"}, id="7-0")
    with pytest.raises(EntryInvalid, match=r"tv:bars:\{BTCUSDT-BINANCE-1m\} 7-0: "):
        read_bars(BTC, redis_url=market.url)


def test_a_key_of_another_type_is_named(market: Market) -> None:
    market.client.set(market.keys.bars(BTC), "x")
    with pytest.raises(StreamRefused):
        read_bars(BTC, redis_url=market.url)


def test_a_frame_is_indexed_by_open_time_in_utc(market: Market) -> None:
    market.publish(BTC, range(2))
    market.publish(BTC, [2], volume=None)
    frame = read_frame(BTC, redis_url=market.url)
    assert list(frame.columns) == ["open", "high", "low", "close", "volume"]
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert str(frame.index.tz) == "UTC"
    assert frame.index[1] == pd.Timestamp(T0 + MINUTE_MS, unit="ms", tz="UTC")
    assert frame["close"].tolist() == [100.5, 101.5, 102.5]
    assert frame["volume"].isna().tolist() == [False, False, True]
    assert all(str(x) in {"float64", "Float64"} for x in frame.dtypes)


def test_a_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(FrameUnavailable, match=r"tvbus\[pandas\]"):
        history.read_frame(BTC)


def take(bars: Iterator[Bar], count: int) -> list[tuple[Series, int]]:
    return [(x.series, (x.open_time_ms - T0) // MINUTE_MS) for x in islice(bars, count)]


def test_series_are_followed_from_where_one_wants(market: Market) -> None:
    market.publish(BTC, range(5))
    bars = follow(str(BTC), start="last:2", redis_url=market.url)
    assert take(bars, 2) == [(BTC, 3), (BTC, 4)]
    market.publish(BTC, [5])
    assert take(bars, 1) == [(BTC, 5)]
    bars.close()  # type: ignore[attr-defined]
    assert not market.client.exists("tv:group:{g}:x")


def test_a_followed_pattern_finds_new_series(market: Market) -> None:
    market.list_series(BTC)
    market.publish(BTC, [0])
    bars = follow("*-BINANCE-1m", start="oldest", redis_url=market.url)
    assert take(bars, 1) == [(BTC, 0)]
    market.list_series(ETH)
    market.publish(ETH, [0])
    assert take(bars, 1) == [(ETH, 0)]
    bars.close()  # type: ignore[attr-defined]


def test_forming_bars_are_followed_on_request(market: Market) -> None:
    market.publish(BTC, [0])
    bars = follow(str(BTC), start="oldest", forming=True, redis_url=market.url)
    assert take(bars, 1) == [(BTC, 0)]
    name, payload = encode_bar(market.bar(BTC, 1, closed_by="forming"))
    market.client.xadd(market.keys.forming(BTC), {name: payload})
    assert next(bars).closed_by == "forming"
    bars.close()  # type: ignore[attr-defined]


def test_following_steps_over_what_it_cannot_read(market: Market, events: Events) -> None:
    market.client.xadd(market.keys.bars(BTC), {"bar": b"\xc1"}, id="7-0")
    market.client.set(market.keys.bars(ETH), "x")
    market.publish(BTC, [0])
    bars = follow(str(BTC), str(ETH), start="oldest", redis_url=market.url)
    assert take(bars, 1) == [(BTC, 0)]
    assert events.wait("series.refused")["key"] == market.keys.bars(ETH)
    assert events.wait("entry.refused")["id"] == "7-0"
    bars.close()  # type: ignore[attr-defined]


def test_a_followed_stream_that_becomes_something_else_stops_no_other(
    market: Market, events: Events
) -> None:
    market.publish(BTC, [0])
    market.publish(ETH, [0])
    bars = follow(str(BTC), str(ETH), start="oldest", redis_url=market.url)
    assert sorted(take(bars, 2)) == [(BTC, 0), (ETH, 0)]
    market.client.delete(market.keys.bars(ETH))
    market.client.set(market.keys.bars(ETH), "x")
    market.publish(BTC, [1])
    assert take(bars, 1) == [(BTC, 1)]
    events.wait("series.refused")
    bars.close()  # type: ignore[attr-defined]


def test_following_outlives_the_server(own_server: Server, events: Events) -> None:
    with own_server.client() as client:
        market = Market(client, own_server.url)
        market.publish(BTC, [0])
        asked = 0

        def stopped() -> bool:
            nonlocal asked
            asked += 1
            if asked == 2:
                own_server.kill()
            if asked == 4:
                own_server.start()
                market.publish(BTC, [1])
            return len(events.named("bus.found")) > 0

        bars = follow(str(BTC), start="oldest", redis_url=market.url, stopped=stopped)
        assert [n for _, n in take(bars, 9)] == [0, 1]
        assert len(events.named("bus.lost")) == 1


def test_following_nothing_yet_waits(market: Market) -> None:
    asked = iter([False, True])
    bars = follow("*", redis_url=market.url, stopped=lambda: next(asked))
    assert list(bars) == []
