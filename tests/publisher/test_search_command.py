"""`tvbus search`, and what the command line suggests for unknown symbols."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from publisher_servers import Server
from web_pages import Page, serve

from publisher.settings import WebSettings
from publisher.wire import Keys, Series
from publisher.wire.answers import Answer
from publisher.wire.commands import Command
from tests.command_runs import Run
from tvbus import suggest

FOUND: list[dict[str, Any]] = [
    {
        "symbol": "<em>AAPL</em>",
        "description": "Apple [Inc]",
        "type": "stock",
        "exchange": "NASDAQ",
        "currency_code": "USD",
    },
    {"symbol": "BRK.B", "description": "Berkshire", "type": "stock", "exchange": "NYSE"},
    {"symbol": "TWO WORDS", "description": "", "type": "stock", "exchange": "X"},
    {"symbol": ""},
    {
        "symbol": "ES",
        "description": "E-mini",
        "type": "futures",
        "exchange": "CME",
        "prefix": "CME_MINI",
        "contracts": [{"symbol": f"ES{n}!"} for n in range(1, 9)],
    },
]


def listed(symbols: list[dict[str, Any]], remaining: int = 0) -> Page:
    return 200, json.dumps({"symbols_remaining": remaining, "symbols": symbols}).encode()


def test_the_first_column_can_be_pasted_and_a_root_cannot(run: Run) -> None:
    with serve(lambda *_: listed(FOUND, 9950)) as pages:
        ended = run("search", "apple", "inc", "--interval", "4h", TVBUS_SEARCH_URL=pages.url)
    assert ended.code == 0, ended.err
    assert pages.asked[0][1]["text"] == "apple inc"
    rows = ended.lines[1:]
    assert rows[0] == ["AAPL-NASDAQ-4H", "Apple", "[Inc]", "stock", "NASDAQ", "USD"]
    assert rows[1][0] == "BRK.B-NYSE-4H"
    assert rows[2][0] == "TWO%20WORDS-X-4H"
    assert " ".join(rows[3]).startswith("ES: take a contract E-mini futures CME")
    assert [row[0] for row in rows[4:10]] == [f"ES{n}!-CME_MINI-4H" for n in range(1, 7)]
    assert ended.out.count("ES-CME_MINI") == 0
    assert "2 more: --json" in ended.out
    assert "up to 9950 more" in ended.out
    assert "no series can name them: 1" in ended.out


def test_programs_get_json(run: Run) -> None:
    with serve(lambda *_: listed(FOUND, 3)) as pages:
        ended = run("search", "x", "--json", "--limit", "9", TVBUS_SEARCH_URL=pages.url)
    answer = json.loads(ended.out)
    assert [one["series"] for one in answer["results"]] == [
        "AAPL-NASDAQ-1D",
        "BRK.B-NYSE-1D",
        "TWO%20WORDS-X-1D",
        None,
    ]
    assert answer["results"][0]["description"] == "Apple [Inc]"
    assert [one["series"] for one in answer["results"][3]["contracts"]] == [
        f"ES{n}!-CME_MINI-1D" for n in range(1, 9)
    ]
    assert answer["more"] == 3


@pytest.mark.parametrize(
    ("flags", "hint"),
    [((), "fewer letters"), (("--exchange", "X"), "without --exchange and --type")],
)
def test_nothing_found_is_a_failure_with_a_hint(
    run: Run, flags: tuple[str, ...], hint: str
) -> None:
    with serve(lambda *_: listed([])) as pages:
        ended = run("search", "zzz", *flags, TVBUS_SEARCH_URL=pages.url)
        assert (ended.code, "nothing found for 'zzz'" in ended.out) == (1, True)
        assert hint in ended.out
        ended = run("search", "zzz", "--json", TVBUS_SEARCH_URL=pages.url)
        assert (ended.code, json.loads(ended.out)["results"]) == (1, [])


def test_a_filter_of_the_command_reaches_the_results(run: Run) -> None:
    with serve(lambda *_: listed(FOUND)) as pages:
        ended = run(
            *("search", "x", "--exchange", "cme_mini", "--type", "futures"),
            TVBUS_SEARCH_URL=pages.url,
        )
        assert pages.asked[0][1]["exchange"] == "CME_MINI"
    assert {row[0] for row in ended.lines[1:-2]} == {
        "ES:",
        *(f"ES{n}!-CME_MINI-1D" for n in range(1, 7)),
    }


def test_a_refusal_is_one_line(run: Run) -> None:
    with serve(lambda *_: (403, b"")) as pages:
        ended = run("search", "x", TVBUS_SEARCH_URL=pages.url)
    assert ended.code == 1
    assert ended.err.startswith("tvbus: 127.0.0.1")
    assert ended.err.count("\n") == 1
    assert "(403)" in ended.err


# Suggestions.

AAPL = [
    {"symbol": "AAPL", "exchange": "NASDAQ", "type": "stock"},
    {"symbol": "AAPLE", "exchange": "NYSE", "type": "stock"},
]
UNKNOWN = Answer(
    "AAPL-NYSE-5m", False, "TradingView does not know NYSE:AAPL: try something", "symbol_unknown"
)


def settings(url: str) -> WebSettings:
    return WebSettings(search_url=url)


def test_suggestions_keep_interval_and_options() -> None:
    with serve(lambda *_: listed(AAPL)) as pages:
        series = Series.parse("AAPL-NYSE-5m+extended")
        assert suggest.suggestions(settings(pages.url), series) == [
            "AAPL-NASDAQ-5m+extended",
            "AAPLE-NYSE-5m+extended",
        ]


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [
        (UNKNOWN, True),
        (Answer("A-B-1m", False, "TradingView refused A-B-1m", "series_refused"), False),
        (Answer("A-B-1m", True, "live"), False),
    ],
)
def test_only_an_unknown_symbol_is_searched_for(answer: Answer, unknown: bool) -> None:
    assert suggest.is_unknown(answer) is unknown
    with serve(lambda *_: listed(AAPL)) as pages:
        suggest.did_you_mean(settings(pages.url), [answer])
        assert bool(pages.asked) is unknown


def test_a_search_that_fails_suggests_nothing() -> None:
    assert suggest.suggestions(settings("http://127.0.0.1:1"), Series("A", "B", "1m")) == []
    assert suggest.did_you_mean(settings("http://127.0.0.1:1"), [UNKNOWN]) == {}


def test_many_unknown_symbols_are_not_all_searched_for() -> None:
    answers = [Answer(f"S{n}-X-1m", False, "", "symbol_unknown") for n in range(20)] + [
        Answer("no series", False, "", "symbol_unknown")
    ]
    with serve(lambda *_: listed(AAPL)) as pages:
        lines = suggest.did_you_mean(settings(pages.url), answers)
        assert len(pages.asked) == len(lines) == suggest.SEARCHED_MAX
        assert suggest.did_you_mean(settings(pages.url), answers[-1:]) == {}


def test_after_a_slow_answer_nothing_more_is_searched_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suggest, "SUGGEST_S_MAX", 0.1)
    answers = [Answer(f"S{n}-X-1m", False, "", "symbol_unknown") for n in range(3)]
    ended = threading.Event()

    def answer(*_: Any) -> Page:
        ended.wait()
        return listed(AAPL)

    with serve(answer) as pages:
        begun_s = time.monotonic()
        assert suggest.did_you_mean(settings(pages.url), answers) == {}
        assert time.monotonic() - begun_s < 5
        ended.set()
    assert len(pages.asked) == 1


def test_subscribe_says_what_may_have_been_meant(run: Run, valkey: Server) -> None:
    client, keys = valkey.client(), Keys("suggesting")
    client.hset(keys.publisher, mapping={"holder": "me", "token": 1, "expires_ms": 2**60})

    def answer_requests() -> None:
        entry: Any = client.xread({keys.commands: "0"}, block=4000)
        command = Command.decode(entry[0][1][0][1][b"command"])
        client.rpush(keys.replies(command.id), UNKNOWN.encode())

    publisher = threading.Thread(target=answer_requests)
    publisher.start()
    with serve(lambda *_: listed(AAPL)) as pages:
        ended = run(
            *("--prefix", "suggesting", "subscribe", "AAPL-NYSE-5m"),
            TVBUS_SEARCH_URL=pages.url,
            TVBUS_REDIS_URL=valkey.url,
        )
    publisher.join()
    assert ended.code == 1
    assert ended.out.splitlines() == [
        f"no  AAPL-NYSE-5m  {UNKNOWN.message}",
        "    AAPL-NYSE-5m: did you mean AAPL-NASDAQ-5m, AAPLE-NYSE-5m?",
        "    tried again now and then; `tvbus unsubscribe AAPL-NYSE-5m` forgets it",
    ]
