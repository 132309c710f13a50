"""The symbol search over real HTTP: recorded keys, paging, filters, futures and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from simulator_world import Client, capture, recorded, shape
from web_world import ORIGIN, Browser

from publisher.simulator import SYMBOLS, Simulator

NOVEMBER_MS = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 1000)
FUTURES_KEYS = {
    ".prefix", ".contracts", ".contracts[]", ".contracts[].symbol",
    ".contracts[].description", ".contracts[].typespecs", ".contracts[].typespecs[]",
}  # fmt: skip


@pytest.fixture
def market() -> Iterator[Simulator]:
    """A simulator on a day in November."""
    with Simulator(seed=7, speed=0, start_ms=NOVEMBER_MS) as running:
        yield running


@pytest.fixture
def browser(market: Simulator) -> Iterator[Browser]:
    """A browser without cookies; nobody needs to sign in to search."""
    with Browser(market) as opened:
        opened.url = market.search_url
        yield opened


def search_v3(browser: Browser, text: str, **options: object) -> dict[str, Any]:
    """Search as the browser's page does."""
    usual = {"hl": "1", "exchange": "", "lang": "en", "search_type": "undefined", "start": 0}
    query = {"text": text, **usual, "domain": "production", **options}
    response = browser.get("/symbol_search/v3/", params=query)
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def search_v1(browser: Browser, text: str, **options: str) -> list[dict[str, Any]]:
    """Search as older clients do."""
    query = {"text": text, "hl": "1", "exchange": "", "lang": "en", "type": "", **options}
    found: list[dict[str, Any]] = browser.get("/symbol_search/", params=query).json()
    return found


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["symbol"] for item in items]


def test_a_stock_found_by_version_3_has_the_recorded_keys_and_types(browser: Browser) -> None:
    answer = search_v3(browser, "AAPL")
    real = dict(shape(recorded("130"))) | dict(shape(recorded("131")))
    assert dict(shape(answer)) == real
    (item,) = answer["symbols"]
    assert (item["symbol"], item["exchange"], item["type"]) == ("<em>AAPL</em>", "NASDAQ", "stock")
    assert answer["symbols_remaining"] == 0


def test_every_other_item_has_some_of_the_recorded_keys_and_a_future_a_few_more(
    browser: Browser,
) -> None:
    real = set(
        dict(shape(recorded("130")["symbols"][0])) | dict(shape(recorded("131")["symbols"][0]))
    )
    for start in (0, 50):
        for item in search_v3(browser, "", start=start)["symbols"]:
            extra = {path for path, _ in shape(item)} - real
            assert extra == (FUTURES_KEYS if item["type"] == "futures" else set())


def test_version_1_answers_a_list_with_the_recorded_keys(browser: Browser) -> None:
    (item,) = search_v1(browser, "MSFT")
    real = json.loads(capture("132").splitlines()[1])
    assert dict(shape(item)) == dict(shape(real))
    same = ("symbol", "type", "exchange", "currency_code", "country", "typespecs")
    assert [item[key] for key in same] == [real[key] for key in same]


def test_every_symbol_is_listed_once_over_the_pages(browser: Browser) -> None:
    first = search_v3(browser, "")
    assert len(first["symbols"]) == 50
    rest = first["symbols_remaining"]
    assert rest == len(SYMBOLS) - 50 > 0
    second = search_v3(browser, "", start=50)
    assert len(second["symbols"]) == rest
    assert second["symbols_remaining"] == 0
    listed = []
    for item in first["symbols"] + second["symbols"]:
        exchange = item.get("prefix") or item["source_id"]
        symbol = item["contracts"][0]["symbol"] if "contracts" in item else item["symbol"]
        listed.append(f"{exchange}:{symbol}")
    assert sorted(listed) == sorted(SYMBOLS)
    assert search_v3(browser, "", start=5000) == {"symbols_remaining": 0, "symbols": []}
    assert len(search_v1(browser, "")) == 50


def test_matches_are_marked_where_the_client_wants_it(browser: Browser) -> None:
    (apple,) = search_v3(browser, "apple")["symbols"]
    assert (apple["symbol"], apple["description"]) == ("AAPL", "<em>Apple</em> Inc.")
    (apple,) = search_v3(browser, "apple", hl="0")["symbols"]
    assert apple["description"] == "Apple Inc."
    assert names(search_v1(browser, "btcusdt.p")) == ["<em>BTCUSDT.P</em>"]


def test_the_symbol_itself_comes_before_what_resembles_it(browser: Browser) -> None:
    found = names(search_v3(browser, "BTCUSD", hl="0")["symbols"])
    assert found[:3] == ["BTCUSD"] * 3
    assert set(found[3:]) == {"BTCUSDT", "BTCUSDT.P"}
    assert search_v3(browser, "no such thing")["symbols"] == []


def test_the_exchange_selects(browser: Browser) -> None:
    (item,) = search_v3(browser, "BTCUSD", exchange="COINBASE", hl="0")["symbols"]
    assert (item["symbol"], item["exchange"]) == ("BTCUSD", "COINBASE")
    assert search_v3(browser, "coinbase:btcusd", hl="0")["symbols"] == [item]
    assert names(search_v1(browser, "BTC", exchange="BYBIT", hl="0")) == ["BTCUSDT.P"]
    assert search_v3(browser, "COINBASE:BTCUSD", exchange="BINANCE")["symbols"] == []


@pytest.mark.parametrize(
    ("search_type", "kinds"),
    [
        ("stocks", {"stock"}),
        ("stock", {"stock"}),
        ("crypto", {"spot", "swap"}),
        ("forex", {"forex"}),
        ("futures", {"futures"}),
        ("indices", {"index"}),
        ("economic", {"economic"}),
        ("etf", set()),
    ],
)
def test_the_search_type_selects_in_version_3_and_the_type_in_version_1(
    browser: Browser, search_type: str, kinds: set[str]
) -> None:
    found = search_v3(browser, "", search_type=search_type)["symbols"]
    assert {item["type"] for item in found} == kinds
    assert {item["type"] for item in search_v1(browser, "", type=search_type)} == kinds
    unfiltered = search_v3(browser, "", type=search_type)
    assert unfiltered["symbols_remaining"] == len(SYMBOLS) - 50, "version 3 knows no `type`"


def test_a_future_is_a_root_with_contracts(browser: Browser, market: Simulator) -> None:
    (item,) = search_v3(browser, "ES", search_type="futures", hl="0")["symbols"][:1]
    assert (item["symbol"], item["type"]) == ("ES", "futures")
    assert (item["exchange"], item["prefix"]) == ("CME", "CME_MINI")
    continuous, *dated = item["contracts"]
    assert continuous == {
        "symbol": "ES1!",
        "description": "S&P 500 E-mini Futures",
        "typespecs": ["continuous", "synthetic"],
    }
    assert names(dated) == ["ESZ2026", "ESH2027", "ESM2027", "ESU2027"]
    assert dated[0]["description"] == "S&P 500 E-mini Futures (Dec 2026)"
    assert search_v3(browser, "ES1!", hl="0")["symbols"] == [item]
    # Both match: a description has "Futures".
    assert names(search_v3(browser, "ES", exchange="CME_MINI", hl="0")["symbols"]) == ["ES", "NQ"]
    old, _ = search_v1(browser, "ES", exchange="CME", hl="0")
    assert old["contracts"] == item["contracts"]
    with Client(market.url) as client:
        assert client.ask("CME_MINI:ES", "1", 2)["m"] == "series_error", "a root is no symbol"
    with Client(market.url) as client:
        assert client.ask("CME_MINI:ES1!", "1", 2)["m"] == "series_completed"


@pytest.mark.parametrize("path", ["/symbol_search/v3/", "/symbol_search/"])
def test_without_an_origin_of_tradingview_the_search_is_forbidden(
    browser: Browser, path: str
) -> None:
    for origin in (
        None,
        "https://example.com",
        "https://nottradingview.com",
        "http://[",
        ORIGIN + ".",
    ):
        response = browser.get(path, params={"text": "AAPL"}, headers={"Origin": origin})
        assert response.status_code == 403, origin
    for origin in (ORIGIN, "https://www.tradingview.com/", "https://de.tradingview.com"):
        response = browser.get(path, params={"text": "AAPL"}, headers={"Origin": origin})
        assert response.status_code == 200, origin


def test_searches_are_counted_by_version(browser: Browser, market: Simulator) -> None:
    search_v3(browser, "AAPL")
    search_v3(browser, "AAPL")
    search_v1(browser, "AAPL")
    assert market.web_counts == {"search_v3": 2, "search_v1": 1}


@pytest.mark.parametrize("start", ["", "-5", "x", "²"])
def test_a_start_that_is_no_number_begins_at_the_first(browser: Browser, start: str) -> None:
    assert len(search_v3(browser, "", start=start)["symbols"]) == 50
