"""Symbol search over real HTTP: v3, then v1, and what each refusal says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from web_pages import Page, serve

from publisher.core.search import Query
from publisher.errors import ConnectFailed, RemoteProtocolError
from publisher.shell.search import SymbolSearch
from publisher.simulator import Kind, Simulator

ORIGIN = "https://www.tradingview.com"
V3, V1 = "/symbol_search/v3/", "/symbol_search/"


def item(symbol: str, exchange: str = "X") -> dict[str, Any]:
    return {"symbol": symbol, "exchange": exchange, "description": "", "type": "stock"}


def listed(symbols: list[dict[str, Any]], remaining: int = 0) -> Page:
    return 200, json.dumps({"symbols_remaining": remaining, "symbols": symbols}).encode()


def by_path(v3: Page, v1: Page) -> Callable[[str, dict[str, str]], Page]:
    return lambda path, _: v3 if path == V3 else v1


BARE = (200, json.dumps([item("OLD")]).encode())


def test_a_search_bears_the_origin_that_tradingview_wants() -> None:
    with serve(lambda *_: listed([item("AAPL", "NASDAQ")])) as pages:
        results = SymbolSearch(pages.url, ORIGIN).find(Query("M&M ü", "NASDAQ", "stock"))
    assert [one.symbol for one in results.found] == ["AAPL"]
    [(path, parameters)] = pages.asked
    assert path == V3
    assert (parameters["text"], parameters["exchange"]) == ("M&M ü", "NASDAQ")
    assert pages.headers[0]["Origin"] == ORIGIN
    assert pages.headers[0]["Referer"] == ORIGIN + "/"


def test_pages_follow_each_other_by_start() -> None:
    everything = [item(f"S{number}") for number in range(120)]

    def answer(_: str, parameters: dict[str, str]) -> Page:
        start = int(parameters["start"])
        return listed(everything[start : start + 50], max(0, 120 - start - 50))

    with serve(answer) as pages:
        results = SymbolSearch(pages.url, ORIGIN).find(Query("S", limit=110))
    assert [one.symbol for one in results.found] == [f"S{number}" for number in range(110)]
    assert results.more == 10
    assert [parameters["start"] for _, parameters in pages.asked] == ["0", "50", "100"]


def test_a_server_that_does_not_page_is_asked_twice_only() -> None:
    with serve(lambda *_: listed([item(f"S{n}") for n in range(50)], 9950)) as pages:
        results = SymbolSearch(pages.url, ORIGIN).find(Query("S", limit=500))
    assert (len(results.found), results.more) == (50, 9950)
    assert len(pages.asked) == 2


@pytest.mark.parametrize(
    "v3",
    [(404, b""), (410, b""), (301, b""), (400, b""), (403, b""), (503, b""), (200, b"<html>")],
)
def test_v1_is_asked_where_v3_gives_nothing_to_read(v3: Page) -> None:
    with serve(by_path(v3, BARE)) as pages:
        results = SymbolSearch(pages.url, ORIGIN).find(Query("old"))
    assert [one.symbol for one in results.found] == ["OLD"]
    assert pages.paths() == [V3, V1]


def test_a_narrow_search_that_is_not_understood_is_made_wide() -> None:
    def answer(_: str, parameters: dict[str, str]) -> Page:
        known = parameters["search_type"] == "undefined"
        return listed([item("AAPL")]) if known else (400, b"")

    with serve(answer) as pages:
        results = SymbolSearch(pages.url, ORIGIN).find(Query("a", kind="stock"))
    assert [one.symbol for one in results.found] == ["AAPL"]
    assert pages.paths() == [V3, V3]


@pytest.mark.parametrize(
    ("v3", "v1", "words"),
    [
        ((403, b""), (404, b""), r"refused the search \(403\): this address is not let in"),
        ((503, b""), (503, b""), r"is out of order \(503\): try again later"),
        ((404, b""), (404, b""), "answered 404 instead of symbols; check TVBUS_SEARCH_URL"),
        ((200, b"<html>"), (200, b"[1]"), "sent no JSON"),
    ],
)
def test_where_both_fail_the_first_reason_is_told(v3: Page, v1: Page, words: str) -> None:
    with serve(by_path(v3, v1)) as pages, pytest.raises(RemoteProtocolError, match=words):
        SymbolSearch(pages.url, ORIGIN).find(Query("a"))


@pytest.mark.parametrize(("v3", "asked"), [((429, b""), [V3]), ((404, b""), [V3, V1])])
def test_who_is_told_to_slow_down_asks_nothing_more(v3: Page, asked: list[str]) -> None:
    with (
        serve(by_path(v3, (429, b""))) as pages,
        pytest.raises(ConnectFailed, match=r"\(429\): too many; wait a minute"),
    ):
        SymbolSearch(pages.url, ORIGIN).find(Query("a"))
    assert pages.paths() == asked


# Against the simulator.


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(seed=1) as running:
        yield running


def texts(simulator: Simulator, query: Query) -> list[str]:
    results = SymbolSearch(simulator.search_url, ORIGIN).find(query)
    return [str(one.series("1m")) for one in results.found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query("AAPL"), ["AAPL-NASDAQ-1m"]),
        (Query("M&M"), ["M&M-NSE-1m"]),
        (Query("BAJAJ-AUTO"), ["BAJAJ-AUTO-NSE-1m"]),
        (Query("BRK.B"), ["BRK.B-NYSE-1m"]),
        (Query("btcusdt.p", kind="crypto"), ["BTCUSDT.P-BYBIT-1m"]),
        (Query("BTCUSD", "COINBASE"), ["BTCUSD-COINBASE-1m"]),
        (Query("005930", kind="stock"), ["005930-KRX-1m"]),
        (Query("no such thing"), []),
    ],
)
def test_the_simulators_symbols_are_found(
    simulator: Simulator, query: Query, expected: list[str]
) -> None:
    assert texts(simulator, query) == expected


def test_what_is_found_at_the_simulator_is_a_series_of_its_market(simulator: Simulator) -> None:
    results = SymbolSearch(simulator.search_url, ORIGIN).find(Query("USD", limit=100))
    assert len(results.found) > 30
    for one in results.found:
        simulator.truth(one.series("1D"), simulator.now_ms())


def test_the_simulators_futures_root_is_offered_by_its_contracts(simulator: Simulator) -> None:
    results = SymbolSearch(simulator.search_url, ORIGIN).find(Query("ES", "CME_MINI"))
    [root] = [one for one in results.found if one.symbol == "ES"]
    assert not root.usable
    assert str(root.contracts[0].series("1m")) == "ES1!-CME_MINI-1m"


def test_an_older_simulator_without_v3_is_searched_by_v1(simulator: Simulator) -> None:
    before = simulator.web_counts["search_v1"]
    simulator.faults.inject(Kind.SEARCH_V3_GONE)
    assert texts(simulator, Query("AAPL")) == ["AAPL-NASDAQ-1m"]
    assert simulator.web_counts["search_v1"] == before + 1


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Kind.WEB_ERROR, RemoteProtocolError, "out of order"),
        (Kind.WEB_FORBID, RemoteProtocolError, "is not let in"),
        (Kind.WEB_THROTTLE, ConnectFailed, "wait a minute"),
    ],
)
def test_the_simulators_refusals_are_told(
    simulator: Simulator, kind: Kind, error: type[Exception], words: str
) -> None:
    simulator.faults.inject(kind, count=2)
    try:
        with pytest.raises(error, match=words):
            texts(simulator, Query("AAPL"))
    finally:
        simulator.faults.clear()


def test_without_the_origin_the_simulator_refuses(simulator: Simulator) -> None:
    with pytest.raises(RemoteProtocolError, match="403"):
        SymbolSearch(simulator.search_url, "https://example.com").find(Query("AAPL"))


def test_nothing_found_is_no_error() -> None:
    with serve(lambda *_: listed([])) as pages:
        assert SymbolSearch(pages.url, ORIGIN).find(Query("zzz")).found == ()
