"""What a program makes of the publisher's answers; the tests play the publisher."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from consumer_world import BTC, ETH, Market

from bus.connection import connect_writer
from bus.errors import BusUnreachable
from consumers.errors import RequestOverdue, RequestRefused, SymbolUnknown
from consumers.shell import requests
from consumers.shell.requests import History, Requests, new_command
from publisher.wire.answers import Answer, Chunk, HistoryBar, Listing, Progress, Reply, SymbolFound
from publisher.wire.commands import Command
from tests.waiting import eventually

NAME = str(BTC)
OPENED_MS = 1_700_000_040_000


def some(*minutes: int) -> Chunk:
    return Chunk(
        NAME,
        tuple(HistoryBar(OPENED_MS + m * 60_000, 1.0, 2.0, 0.5, 1.5, 9.0, None) for m in minutes),
    )


def ended(count: int, *, complete: bool = True) -> Answer:
    return Answer(NAME, True, f"{count} bars", complete=complete, count=count)


@pytest.fixture
def asked(market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    """The way to a publisher that holds the lease, and little patience."""
    monkeypatch.setattr(requests, "SILENCE_S_MAX", 2)
    monkeypatch.setattr(requests, "ANSWER_S_MAX", 2)
    monkeypatch.setattr(requests, "DEAD_S", 1)
    take_lease(market)
    client = connect_writer(market.url)
    yield Requests(client, market.keys, market.url)
    client.close()


def take_lease(market: Market, **more: Any) -> None:
    lease = {"holder": "x", "token": 1, "expires_ms": 10**14, **more}
    market.client.hset(market.keys.publisher, mapping=lease)


def reply(market: Market, command: Command, *replies: Reply) -> None:
    for one in replies:
        market.client.rpush(market.keys.replies(command.id), one.encode())


def answered(
    market: Market, asked: Requests, *replies: Reply
) -> tuple[History, list[Progress], Command]:
    """Ask for history with the answers there already."""
    command = new_command("history", BTC, bars=5)
    seen: list[Progress] = []
    reply(market, command, *replies)
    return asked.history(command, seen.append), seen, command


def test_what_is_asked_stands_on_the_bus_and_the_bars_come_in_order(
    market: Market, asked: Requests
) -> None:
    replies = (Progress(NAME, 2, 5), some(0, 1), some(2), ended(3))
    history, seen, command = answered(market, asked, *replies)
    assert [bar.open_time_ms for bar in history.bars] == [OPENED_MS + m * 60_000 for m in range(3)]
    assert (history.complete, history.message, seen) == (True, "3 bars", [Progress(NAME, 2, 5)])
    [(_, fields)] = market.client.xrange("tv:commands")
    assert Command.decode(fields[b"command"]) == command
    assert (command.action, command.series, command.bars) == ("history", (NAME,), 5)


def test_no_two_requests_share_an_id() -> None:
    assert len({new_command("subscribe", BTC).id for _ in range(100)}) == 100


def test_what_comes_twice_is_taken_once(market: Market, asked: Requests) -> None:
    replies = (some(0, 1), some(2), some(0, 1), some(2), some(3), ended(4))
    history, *_ = answered(market, asked, *replies)
    assert len(history.bars) == 4


def test_an_incomplete_answer_says_so(market: Market, asked: Requests) -> None:
    history, *_ = answered(market, asked, some(0), ended(1, complete=False))
    assert not history.complete


def test_bars_that_were_lost_on_the_way_are_noticed(market: Market, asked: Requests) -> None:
    with pytest.raises(RequestRefused, match="1 of 3 bars arrived"):
        answered(market, asked, some(0), ended(3))


def test_a_refusal_is_told_with_its_reason(market: Market, asked: Requests) -> None:
    spent = Answer(NAME, False, "spent: ask again in 12 min", "budget_spent")
    with pytest.raises(RequestRefused, match="ask again in 12 min") as refused:
        answered(market, asked, some(0), spent)
    assert not isinstance(refused.value, SymbolUnknown)


def test_an_unknown_symbol_has_an_error_of_its_own(market: Market, asked: Requests) -> None:
    unknown = Answer(NAME, False, "TradingView does not know it", "symbol_unknown")
    with pytest.raises(SymbolUnknown, match="does not know"):
        answered(market, asked, unknown)


def test_an_answer_that_cannot_be_understood_is_shown(market: Market, asked: Requests) -> None:
    command = new_command("history", BTC, bars=5)
    market.client.rpush(market.keys.replies(command.id), b'{"news":1}')
    with pytest.raises(RequestRefused, match=r"cannot be understood.*news"):
        asked.history(command)


def test_without_a_publisher_nothing_is_asked(market: Market, asked: Requests) -> None:
    market.client.delete(market.keys.publisher)
    with pytest.raises(RequestRefused, match="no publisher is running: start one"):
        asked.history(new_command("history", BTC, bars=5))
    assert market.client.xlen("tv:commands") == 0


def test_a_publisher_that_is_not_signed_in_says_why(market: Market, asked: Requests) -> None:
    session = '{"fencing_token":1,"connected":false,"trouble":"a captcha is asked for"}'
    take_lease(market, session=session)
    with pytest.raises(RequestRefused, match="not signed in: a captcha is asked for"):
        asked.check()
    asked.check(signed_in=False)


def test_a_publisher_that_says_nothing_is_not_waited_for_without_end(
    market: Market, asked: Requests
) -> None:
    with pytest.raises(RequestRefused, match="no answer from the publisher for 2 s"):
        answered(market, asked)


def test_the_callers_time_out_counts_where_it_is_shorter(market: Market, asked: Requests) -> None:
    command = new_command("history", BTC, bars=5)
    reply(market, command, Progress(NAME, 2, 5))
    with pytest.raises(RequestOverdue, match=r"did not answer within 0\.2 s") as overdue:
        asked.history(command, timeout_s=0.2)
    assert overdue.value.retryable


def test_a_publisher_that_went_away_is_told(market: Market, asked: Requests) -> None:
    command = new_command("history", BTC, bars=5)
    reply(market, command, Progress(NAME, 2, 5))
    with pytest.raises(RequestRefused, match="the publisher is gone"):
        asked.history(command, lambda _: market.client.delete("tv:publisher"))


def test_a_bus_that_fails_meanwhile_is_told(market: Market, asked: Requests) -> None:
    command = new_command("history", BTC, bars=5)
    market.client.set(market.keys.replies(command.id), "a text of somebody else")
    with pytest.raises(BusUnreachable, match=r"the bus at unix://.* failed"):
        asked.history(command)
    assert market.client.ping()


# Searching.


def test_a_search_is_answered_by_a_listing(market: Market, asked: Requests) -> None:
    command = new_command("search", text="es", exchange="CME", limit=5)
    listing = Listing((SymbolFound("ES", "CME_MINI", contracts=(SymbolFound("ES1!", "CME"),)),), 3)
    reply(market, command, Progress("", 0, None), listing)
    assert asked.search(command) == listing
    [(_, fields)] = market.client.xrange("tv:commands")
    assert Command.decode(fields[b"command"]) == command


def test_a_refused_search_says_why(market: Market, asked: Requests) -> None:
    command = new_command("search", text="es")
    reply(market, command, Answer("", False, "8 searches wait already", "busy"))
    with pytest.raises(RequestRefused, match="8 searches wait"):
        asked.search(command)


# Answers about several series.


def test_each_series_has_its_answer(market: Market, asked: Requests) -> None:
    command = new_command("subscribe", BTC, ETH)
    two = [Answer(str(ETH), True, "live"), Answer(NAME, False, "full")]
    reply(market, command, two[0], Progress(NAME, 1, 2), two[1])
    assert asked.answers(command) == two


def test_answers_that_do_not_come_are_missing(market: Market, asked: Requests) -> None:
    command = new_command("subscribe", BTC, ETH)
    reply(market, command, Answer(NAME, True, "live"))
    assert [one.series for one in asked.answers(command)] == [NAME]
    assert asked.answers(new_command("subscribe", BTC), timeout_s=0.05) == []


def test_each_answer_renews_the_patience(market: Market, asked: Requests) -> None:
    command = new_command("subscribe", BTC, ETH)
    begun_s = time.monotonic()

    def answer_late() -> None:
        for series, after_s in ((BTC, 1.2), (ETH, 2.4)):
            eventually(lambda s=after_s: time.monotonic() - begun_s > s)
            reply(market, command, Answer(str(series), True, "live"))

    publisher = threading.Thread(target=answer_late)
    publisher.start()
    answers = asked.answers(command)
    publisher.join()
    assert len(answers) == 2
