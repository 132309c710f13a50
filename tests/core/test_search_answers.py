"""What TradingView's symbol search says, and what is asked of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import recordings
from hypothesis import given
from hypothesis import strategies as st
from recordings import needs_recordings

from publisher.core.search import (
    KINDS,
    LIMIT_MAX,
    PAGES_MAX,
    SUGGESTIONS_MAX,
    Hunt,
    Query,
    SearchInvalid,
    suggest,
)
from publisher.core.search_parsing import DESCRIPTION_CHARACTERS_MAX, Found, Page, read_page
from publisher.errors import RemoteProtocolError
from publisher.wire import SYMBOL_LENGTH_MAX, Series


def item(symbol: Any = "AAPL", exchange: str = "NASDAQ", **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "description": "", "type": "stock", "exchange": exchange, **more}


def page(*items: Any, remaining: Any = 0) -> Page:
    return read_page(json.dumps({"symbols_remaining": remaining, "symbols": items}).encode())


ES = item(
    "<em>ES</em>",
    "CME",
    type="futures",
    description="E-mini S&amp;P 500 Futures",
    prefix="CME_MINI",
    currency_code="USD",
    contracts=[
        {"symbol": "<em>ES</em>1!", "typespecs": ["continuous", "synthetic"]},
        {"symbol": "ESZ2026", "description": "Dec 2026"},
        {"no": "symbol"},
        "nothing",
    ],
)


# What is read.


@needs_recordings
def test_a_recorded_answer_of_v3_is_read() -> None:
    answer = read_page(recordings.text("130-search-v3-C.json").encode())
    assert answer.found == (
        Found("C", "NYSE", "Citigroup, Inc.", "stock", "NYSE", "USD", "US", frozenset({"common"})),
    )
    assert (answer.remaining, answer.unreadable) == (9950, 0)
    (galicia,) = read_page(recordings.text("131-search-v3-GGAL.json").encode()).found
    assert galicia.description == "Grupo Financiero Galicia S.A."
    assert str(galicia.series("1D")) == "GGAL-NASDAQ-1D"


@needs_recordings
def test_recorded_items_of_v1_are_read() -> None:
    lines = recordings.text("132-search-v1-items.txt").split("\n")
    items = [line if line.startswith("{") else "{" + line for line in lines if line.strip()]
    answer = read_page(f"[{','.join(items)}]".encode())
    assert [str(one.series("1D")) for one in answer.found] == [
        "ANZ-ASX-1D",
        "MSFT-NASDAQ-1D",
        "IBM-NYSE-1D",
    ]
    assert (answer.remaining, answer.unreadable) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"symbol": "<em>BTC</em>USDT.P", "exchange": "BYBIT"}, "BTCUSDT.P-BYBIT-1m"),
        ({"symbol": "BRK.B", "exchange": "NYSE"}, "BRK.B-NYSE-1m"),
        ({"symbol": "<em>M&amp;M</em>", "exchange": "NSE"}, "M&M-NSE-1m"),
        ({"symbol": "L&LT", "exchange": "NSE"}, "L&LT-NSE-1m"),
        ({"symbol": "BAJAJ-AUTO", "exchange": "NSE"}, "BAJAJ-AUTO-NSE-1m"),
        ({"symbol": "TWO WORDS", "exchange": "X"}, "TWO%20WORDS-X-1m"),
        ({"symbol": "삼성", "exchange": "KRX"}, "%EC%82%BC%EC%84%B1-KRX-1m"),
        ({"symbol": "ES1!", "exchange": "CME", "prefix": "CME_MINI"}, "ES1!-CME_MINI-1m"),
        ({"symbol": "A", "exchange": "Cboe One", "source_id": "BATS"}, "A-BATS-1m"),
        ({"symbol": "A", "exchange": "E", "source_id": "S", "prefix": "P"}, "A-P-1m"),
        ({"symbol": "A", "exchange": "E", "source_id": "", "prefix": None}, "A-E-1m"),
        ({"symbol": "abc", "exchange": "nyse"}, "ABC-NYSE-1m"),
    ],
)
def test_a_result_becomes_the_text_of_a_series(fields: dict[str, Any], text: str) -> None:
    (found,) = page(fields).found
    assert str(found.series("1m")) == text
    assert Series.parse(text) == found.series("1m")


@pytest.mark.parametrize(
    "fields",
    [
        None,
        "AAPL",
        {},
        item(""),
        item("<em></em>"),
        item(17),
        item("X", exchange=""),
        item("X" * (SYMBOL_LENGTH_MAX + 1)),
    ],
)
def test_a_result_that_names_no_series_is_counted_and_left_out(fields: Any) -> None:
    answer = page(item("GOOD"), fields)
    assert [one.symbol for one in answer.found] == ["GOOD"]
    assert answer.unreadable == 1


def test_texts_lose_tags_entities_and_what_rewrites_a_terminal() -> None:
    description = "\x1b[31m<em>Mahindra</em> &amp; &lt;b&gt;\u202e  &#77;\nend" + "x" * 500
    (found,) = page(item(description=description, currency_code=["INR"])).found
    assert found.description.startswith("[31mMahindra & <b> M end")
    assert len(found.description) == DESCRIPTION_CHARACTERS_MAX
    assert found.currency == ""


def test_a_root_has_its_contracts_and_is_not_usable() -> None:
    (root,) = page(ES).found
    assert not root.usable
    assert root.description == "E-mini S&P 500 Futures"
    assert [str(one.series("5m")) for one in root.contracts] == [
        "ES1!-CME_MINI-5m",
        "ESZ2026-CME_MINI-5m",
    ]
    first, dated = root.contracts
    assert first.usable
    assert (first.description, dated.description) == (root.description, "Dec 2026")
    assert (first.kind, first.currency, first.exchange_name) == ("futures", "USD", "CME")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Access denied</html>",
        b"null",
        b"7",
        b'"AAPL"',
        b"{}",
        b'{"symbols":{}}',
        b'{"symbols":null}',
        b"[1, 2]",
        b'{"symbols":[{"name":"AAPL"}]}',
        b'{"symbols":[' + b"[" * 5000,
        b'["\xff"]',
    ],
)
def test_what_is_no_answer_is_told_as_the_peers_fault(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="TradingView's search sent"):
        read_page(body)


@pytest.mark.parametrize(
    ("remaining", "count"), [(7, 7), (0, 0), (-3, 0), ("7", 0), (None, 0), (True, 0), (1.5, 0)]
)
def test_a_number_of_remaining_symbols_that_is_none_counts_as_zero(
    remaining: Any, count: int
) -> None:
    assert page(item(), remaining=remaining).remaining == count


LEAF = st.none() | st.integers() | st.text(max_size=20)
CONTRACT = st.fixed_dictionaries({}, optional={"symbol": LEAF, "exchange": LEAF})
ITEM = st.fixed_dictionaries(
    {"symbol": LEAF, "exchange": LEAF},
    optional={
        "prefix": LEAF,
        "description": LEAF,
        "typespecs": LEAF | st.lists(LEAF, max_size=2),
        "contracts": LEAF | st.lists(CONTRACT | LEAF, max_size=2),
    },
)


@given(st.lists(ITEM | LEAF, max_size=3))
def test_any_list_is_read_or_refused_and_what_is_read_is_a_series(items: list[Any]) -> None:
    try:
        answer = read_page(json.dumps(items).encode())
    except RemoteProtocolError:
        return
    for found in answer.found:
        for one in (found, *found.contracts):
            assert Series.parse(str(one.series("1D"))) == one.series("1D")
            assert one.description.isprintable()


# What is asked.


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        (("  apple inc ", "nasdaq", "Stock"), Query("apple inc", "NASDAQ", "stock")),
        (("NASDAQ:AAPL",), Query("AAPL", "NASDAQ")),
        (("nasdaq:M&M", "", "stocks"), Query("M&M", "NASDAQ", "stock")),
        (("BTC", "BINANCE", "indices"), Query("BTC", "BINANCE", "index")),
        (("a:b", "BINANCE"), Query("a:b", "BINANCE")),
        (("X:",), Query("X:")),
        (("two words: more",), Query("two words: more")),
        (("삼성전자",), Query("삼성전자")),
    ],
)
def test_what_a_person_types_is_understood(typed: tuple[str, ...], query: Query) -> None:
    assert Query.parse(*typed) == query


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("",), "say what to look for"),
        (("  ",), "say what to look for"),
        (("x" * (SYMBOL_LENGTH_MAX + 1),), "at most 128 characters, had 129"),
        (("x", "y" * 200), "exchange must have at most 128"),
        (("a\x1bb",), "printable"),
        (("caf\udce9",), "printable"),
        (("x", "", "etf"), "stock, fund, futures, forex, crypto, index"),
        (("x", "", "", 0), f"limit must be 1 to {LIMIT_MAX}, was 0"),
        (("x", "", "", LIMIT_MAX + 1), "limit must be"),
    ],
)
def test_what_cannot_be_searched_for_is_refused_with_a_reason(
    typed: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(SearchInvalid, match=words):
        Query.parse(*typed)


def test_v3_is_asked_as_the_browser_asks() -> None:
    assert Hunt(Query("AAPL"), 3).parameters() == {
        "text": "AAPL",
        "hl": "1",
        "exchange": "",
        "lang": "en",
        "search_type": "undefined",
        "start": "0",
        "domain": "production",
    }


def test_v1_is_asked_as_its_clients_ask() -> None:
    assert Hunt(Query("AAPL", "NASDAQ", "index"), 1).parameters() == {
        "text": "AAPL",
        "hl": "1",
        "exchange": "NASDAQ",
        "lang": "en",
        "type": "index",
        "domain": "production",
    }


def symbols(first: int, count: int) -> list[dict[str, Any]]:
    return [item(f"S{number}") for number in range(first, first + count)]


def test_pages_are_asked_for_until_there_is_enough() -> None:
    hunt = Hunt(Query("S", limit=60), 3)
    hunt.receive(page(*symbols(0, 50), remaining=100))
    assert not hunt.done
    assert hunt.parameters()["start"] == "50"
    hunt.receive(page(*symbols(50, 50), remaining=50))
    assert hunt.done
    results = hunt.results()
    assert [one.symbol for one in results.found] == [f"S{number}" for number in range(60)]
    assert results.more == 40 + 50


def test_what_could_not_be_read_moves_the_next_page_too() -> None:
    hunt = Hunt(Query("S", limit=60), 3)
    hunt.receive(page(*symbols(0, 49), {}, remaining=100))
    assert hunt.parameters()["start"] == "50"
    assert hunt.results().unreadable == 1


def test_a_page_that_repeats_the_last_one_ends_the_search() -> None:
    hunt = Hunt(Query("S", limit=200), 3)
    for _ in range(2):
        hunt.receive(page(*symbols(0, 49), {}, remaining=100))
    assert hunt.done
    assert len(hunt.results().found) == 49
    assert (hunt.results().more, hunt.results().unreadable) == (100, 1)


def test_a_search_ends_with_the_last_page_and_after_so_many() -> None:
    hunt = Hunt(Query("S", limit=LIMIT_MAX), 3)
    hunt.receive(page(*symbols(0, 3), remaining=0))
    assert hunt.done
    endless = Hunt(Query("S", limit=LIMIT_MAX), 3)
    for number in range(PAGES_MAX):
        assert not endless.done
        endless.receive(page(item(f"S{number}"), remaining=1000))
    assert endless.done


@pytest.mark.parametrize("first", ["index", "root"])
def test_an_index_is_found_beside_the_futures_root_of_the_same_name(first: str) -> None:
    index = item("NIFTY", "NSE", type="index")
    root = item("NIFTY", "NSE", type="futures", contracts=[{"symbol": "NIFTY1!"}])
    hunt = Hunt(Query("NIFTY"), 3)
    hunt.receive(page(*((index, root) if first == "index" else (root, index))))
    found = hunt.results().found
    assert sorted((one.kind, one.usable) for one in found) == [("futures", False), ("index", True)]


def test_v1_has_one_page() -> None:
    hunt = Hunt(Query("S", limit=60), 1)
    hunt.receive(read_page(json.dumps(symbols(0, 50)).encode()))
    assert hunt.done
    assert hunt.results().more == 0


MIXED = (
    item("AAPL", "NASDAQ"),
    item("AAPLUSD", "Bybit", source_id="BYBIT", type="swap", typespecs=["crypto", "perpetual"]),
    item("AAPL", "GETTEX", type="dr"),
    item("SPX", "Cboe", prefix="CBOE", type="index", typespecs=["main", "cfd"]),
    ES,
)


@pytest.mark.parametrize(
    ("exchange", "kind", "found"),
    [
        ("NASDAQ", "", ["AAPL-NASDAQ"]),
        ("", "stock", ["AAPL-NASDAQ", "AAPL-GETTEX"]),
        ("", "crypto", ["AAPLUSD-BYBIT"]),
        ("BYBIT", "stock", []),
        ("CME", "", ["ES-CME_MINI"]),
        ("CME_MINI", "futures", ["ES-CME_MINI"]),
        ("", "cfd", ["SPX-CBOE"]),
        ("", "index", ["SPX-CBOE"]),
    ],
)
def test_what_the_server_does_not_filter_is_filtered_here(
    exchange: str, kind: str, found: list[str]
) -> None:
    hunt = Hunt(Query("x", exchange, kind), 3)
    hunt.receive(page(*MIXED))
    assert [f"{one.symbol}-{one.exchange}" for one in hunt.results().found] == found


def test_where_a_narrow_search_finds_nothing_a_wide_one_follows() -> None:
    hunt = Hunt(Query("ES", "CME_MINI", "futures"), 3)
    narrow = hunt.parameters()
    assert (narrow["exchange"], narrow["search_type"]) == ("CME_MINI", "futures")
    hunt.receive(page())
    assert not hunt.done
    wide = hunt.parameters()
    assert (wide["exchange"], wide["search_type"], wide["start"]) == ("", "undefined", "0")
    hunt.receive(page(*MIXED))
    assert hunt.done
    assert [one.symbol for one in hunt.results().found] == ["ES"]
    nothing = Hunt(Query("ES", "CME_MINI"), 1)
    nothing.receive(page())
    assert nothing.parameters()["exchange"] == ""
    nothing.receive(page())
    assert nothing.done
    assert nothing.results().found == ()


def test_a_search_that_is_wide_already_is_not_repeated() -> None:
    hunt = Hunt(Query("zzz"), 3)
    hunt.receive(page())
    assert hunt.done
    assert not hunt.widen()


# What may have been meant.


def test_the_symbol_on_other_exchanges_comes_first_then_this_exchange() -> None:
    meant = suggest(
        Series("AAPL", "NYSE", "5m", extended=True),
        page(
            item("AAPLX", "LSE"),
            item("AAPLE", "NYSE"),
            item("AAPL", "NYSE"),
            item("AAPL", "NASDAQ"),
            item("AAPL", "NASDAQ"),
            *(item(f"AAPL{n}", "BIST") for n in range(9)),
        ).found,
    )
    assert list(map(str, meant[:3])) == [
        "AAPL-NASDAQ-5m+extended",
        "AAPLE-NYSE-5m+extended",
        "AAPLX-LSE-5m+extended",
    ]
    assert len(meant) == SUGGESTIONS_MAX


def test_of_a_root_its_first_contracts_are_suggested() -> None:
    assert list(map(str, suggest(Series("ES", "CME_MINI", "1D"), page(ES).found))) == [
        "ES1!-CME_MINI-1D",
        "ESZ2026-CME_MINI-1D",
    ]


def test_every_type_has_a_plural_that_is_accepted() -> None:
    for name, kind in KINDS.items():
        assert Query.parse("x", kind=kind.asked).kind == name
