"""Requests for a symbol search through the engine, and the thread that makes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest
from publisher_world import BTC, World

from publisher import engine
from publisher.core.search import Query, Results
from publisher.core.search_parsing import Found
from publisher.errors import ConnectFailed, PublisherError
from publisher.ports import Fact, SearchEnded, Searcher
from publisher.searches import CONTRACTS_MAX, SEARCH_MS_MAX, WAITING_MAX
from publisher.shell.search_worker import SearchWorker
from publisher.wire.answers import Answer, Listing, SymbolFound
from tests.waiting import eventually

APPLE = Found("AAPL", "NASDAQ", "Apple Inc.", "stock", "NASDAQ", "USD", "US")
ROOT = Found(
    *("ES", "CME_MINI", "E-mini", "futures", "CME", "USD", "US"),
    contracts=tuple(
        Found(f"ES{n}!", "CME_MINI", "", "futures", "CME", "USD", "US") for n in range(1, 99)
    ),
)
FOUND = Results((APPLE, ROOT), 7, 0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)
    return World(BTC)


def end(world: World, outcome: Results | PublisherError, request: str = "r1") -> None:
    world.inbox.put(SearchEnded(request, outcome))
    world.turn(2)


def events(world: World, name: str) -> list[str]:
    return [str(fact) for fact in world.store.events if fact["event"] == name]


def test_what_was_found_is_answered_with_its_contracts(world: World) -> None:
    world.command("search", text=" es ", exchange="cme_mini", kind="futures", limit=2)
    assert world.searcher.asked == [("r1", Query("es", "CME_MINI", "futures", 2))]
    assert world.replies() == []
    end(world, FOUND)
    [listing] = world.replies()
    assert isinstance(listing, Listing)
    assert listing.more == 7
    assert listing.found[0] == SymbolFound(
        "AAPL", "NASDAQ", "Apple Inc.", "stock", "NASDAQ", "USD", "US"
    )
    contracts = listing.found[1].contracts
    assert [one.symbol for one in contracts] == [f"ES{n}!" for n in range(1, CONTRACTS_MAX + 1)]
    assert len(events(world, "search.completed")) == 1


def test_a_search_needs_no_connection_to_tradingview(world: World) -> None:
    """Signing in or not, a search goes over the web."""
    world.command("search", text="apple")
    end(world, FOUND)
    assert len(world.replies()) == 1


def test_without_a_limit_twenty_are_wanted(world: World) -> None:
    world.command("search", text="NASDAQ:AAPL")
    assert world.searcher.asked == [("r1", Query("AAPL", "NASDAQ", "", 20))]


def test_what_cannot_be_searched_for_is_refused_with_the_reason(world: World) -> None:
    world.command("search", text="x", kind="sweets")
    [answer] = world.replies()
    assert (answer.accepted, answer.code) == (False, "invalid")
    assert answer.message.endswith("was 'sweets'")
    assert world.searcher.asked == []
    assert len(events(world, "search.refused")) == 1


def test_a_search_that_fails_is_refused_with_the_reason(world: World) -> None:
    world.command("search", text="x")
    end(world, ConnectFailed("too many; wait a minute"))
    assert world.replies() == [Answer("", False, "too many; wait a minute", "unanswered")]


def test_only_so_many_wait(world: World) -> None:
    for number in range(WAITING_MAX + 1):
        world.command("search", text="x", request=f"r{number}")
    assert len(world.searcher.asked) == WAITING_MAX
    [answer] = world.replies(f"r{WAITING_MAX}")
    assert (answer.accepted, answer.code) == (False, "busy")
    end(world, FOUND, "r0")
    world.command("search", text="x", request="another")
    assert world.searcher.asked[-1][0] == "another"


def test_the_same_request_again_is_one_search(world: World) -> None:
    world.command("search", text="x")
    world.command("search", text="x")
    end(world, FOUND)
    assert (len(world.searcher.asked), len(world.replies())) == (1, 1)


def test_what_takes_too_long_is_given_up_and_may_not_be_answered_twice(world: World) -> None:
    world.command("search", text="x")
    world.pass_ms(SEARCH_MS_MAX - 1_000)
    assert world.replies() == []
    world.pass_ms(2_000)
    [answer] = world.replies()
    assert (answer.accepted, answer.code) == (False, "unanswered")
    assert "within 25 s" in answer.message
    end(world, FOUND)
    assert len(world.replies()) == 1


def test_a_stop_refuses_what_is_not_done(world: World) -> None:
    world.command("search", text="x")
    stop = threading.Event()
    stop.set()
    world.engine.run(stop)
    [answer] = world.replies()
    assert (answer.accepted, answer.code) == (False, "stopped")


# The thread.


class Pages:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[Query] = []
        self.answers: queue.Queue[Results | BaseException] = queue.Queue()

    def find(self, query: Query) -> Results:
        self.asked.append(query)
        answer = self.answers.get(timeout=30)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def inbox() -> queue.Queue[Fact]:
    return queue.Queue(1)


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def worker(pages: Pages, inbox: queue.Queue[Fact]) -> Iterator[Searcher]:
    running = SearchWorker(pages.find, inbox)
    yield running
    running.stop()
    pages.answers.put(FOUND)


def test_searches_are_made_one_after_the_other(
    worker: Searcher, pages: Pages, inbox: queue.Queue[Fact]
) -> None:
    worker.search("a", Query("x"))
    worker.search("b", Query("y"))
    eventually(lambda: pages.asked == [Query("x")])
    pages.answers.put(FOUND)
    assert inbox.get(timeout=10) == SearchEnded("a", FOUND)
    failed = ConnectFailed("no network")
    pages.answers.put(failed)
    assert inbox.get(timeout=10) == SearchEnded("b", failed)


def test_an_outcome_waits_for_room_in_the_inbox(
    worker: Searcher, pages: Pages, inbox: queue.Queue[Fact]
) -> None:
    inbox.put(SearchEnded("before", FOUND))
    worker.search("a", Query("x"))
    pages.answers.put(FOUND)
    eventually(pages.answers.empty)
    assert inbox.get(timeout=10) == SearchEnded("before", FOUND)
    assert inbox.get(timeout=10) == SearchEnded("a", FOUND)


def test_a_crash_is_an_outcome_too_and_the_next_search_is_made(
    worker: Searcher, pages: Pages, inbox: queue.Queue[Fact]
) -> None:
    worker.search("a", Query("x"))
    pages.answers.put(ZeroDivisionError("secret"))
    ended = inbox.get(timeout=10)
    assert isinstance(ended, SearchEnded)
    assert str(ended.outcome) == "unexpected while searching, please report it: ZeroDivisionError"
    worker.search("b", Query("y"))
    pages.answers.put(FOUND)
    assert inbox.get(timeout=10) == SearchEnded("b", FOUND)


def test_after_the_end_nothing_follows(pages: Pages, inbox: queue.Queue[Fact]) -> None:
    worker = SearchWorker(pages.find, inbox)
    inbox.put(SearchEnded("before", FOUND))
    worker.search("a", Query("x"))
    worker.search("b", Query("y"))
    eventually(lambda: pages.asked)
    worker.stop()
    pages.answers.put(FOUND)
    eventually(lambda: not any(t.name == "search" for t in threading.enumerate()))
    assert (len(pages.asked), inbox.qsize()) == (1, 1)
