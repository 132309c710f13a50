"""Tokens are obtained in a thread of its own, one at a time, and told through the inbox."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from publisher_world import FakeClock

from publisher.core.tokens import ANONYMOUS, Token
from publisher.errors import CredentialsRejected, SignInError
from publisher.ports import Fact, TokenDenied, TokenGranted, TokenSource
from publisher.shell.token_worker import TokenWorker
from tests.waiting import eventually


class Source:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[Token | None] = []
        self.answers: queue.Queue[Token | BaseException] = queue.Queue()

    def obtain(self, rejected: Token | None) -> Token:
        self.asked.append(rejected)
        answer = self.answers.get(timeout=30)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def inbox() -> queue.Queue[Fact]:
    return queue.Queue(1)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def worker(source: Source, inbox: queue.Queue[Fact]) -> Iterator[TokenWorker]:
    running = TokenWorker(source.obtain, FakeClock(), inbox)
    yield running
    running.stop()
    source.answers.put(ANONYMOUS)


def threads() -> int:
    return sum(thread.name == "signin" for thread in threading.enumerate())


def test_it_is_a_token_source(worker: TokenWorker) -> None:
    source: TokenSource = worker
    assert source is worker


def test_the_thread_starts_with_the_first_request(
    worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]
) -> None:
    eventually(lambda: threads() == 0, "workers of other tests have ended")
    worker.ask()
    assert threads() == 1
    source.answers.put(ANONYMOUS)
    inbox.get(timeout=30)
    worker.ask()
    assert threads() == 1


def test_a_token_is_granted(worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]) -> None:
    source.answers.put(ANONYMOUS)
    worker.ask()
    assert inbox.get(timeout=30) == TokenGranted(ANONYMOUS, 1_000_000)
    assert source.asked == [None]


def test_a_rejected_token_is_passed_on(
    worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]
) -> None:
    source.answers.put(ANONYMOUS)
    worker.ask(ANONYMOUS)
    inbox.get(timeout=30)
    assert source.asked == [ANONYMOUS]


def test_a_failure_is_told(worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]) -> None:
    error = CredentialsRejected("wrong")
    source.answers.put(error)
    worker.ask()
    assert inbox.get(timeout=30) == TokenDenied(error)


def test_a_bug_is_told_without_what_it_says(
    worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]
) -> None:
    source.answers.put(KeyError("geheim"))
    worker.ask()
    fact = inbox.get(timeout=30)
    assert isinstance(fact, TokenDenied)
    assert isinstance(fact.error, SignInError)
    assert "KeyError" in str(fact.error)
    assert "geheim" not in str(fact.error)
    source.answers.put(ANONYMOUS)
    worker.ask()
    assert isinstance(inbox.get(timeout=30), TokenGranted)


def test_asked_again_meanwhile_it_does_nothing(
    worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]
) -> None:
    for _ in range(5):
        worker.ask()
    eventually(lambda: source.asked, "it is asked")
    worker.ask()
    source.answers.put(ANONYMOUS)
    inbox.get(timeout=30)
    source.answers.put(ANONYMOUS)
    worker.ask(ANONYMOUS)
    inbox.get(timeout=30)
    assert source.asked == [None, ANONYMOUS]


class HastyInbox(queue.Queue[Fact]):
    """Read by somebody who asks again before the worker gets any further."""

    def __init__(self) -> None:
        super().__init__(1)
        self.worker: TokenWorker | None = None

    def put_nowait(self, item: Fact) -> None:
        super().put_nowait(item)
        if self.worker is not None:
            asking = threading.Thread(target=self.worker.ask, args=(ANONYMOUS,))
            self.worker = None
            asking.start()
            asking.join(0.05)


def test_who_reads_the_answer_may_ask_at_once(source: Source) -> None:
    inbox = HastyInbox()
    worker = inbox.worker = TokenWorker(source.obtain, FakeClock(), inbox)
    for _ in range(2):
        source.answers.put(ANONYMOUS)
    worker.ask()
    for _ in range(2):
        assert isinstance(inbox.get(timeout=10), TokenGranted)
    assert source.asked == [None, ANONYMOUS]
    worker.stop()


def test_a_full_inbox_is_waited_for(
    worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]
) -> None:
    in_the_way: Any = object()
    inbox.put(in_the_way)
    source.answers.put(ANONYMOUS)
    worker.ask()
    eventually(lambda: source.asked and source.answers.empty(), "the token is there")
    assert inbox.get() is in_the_way
    assert isinstance(inbox.get(timeout=30), TokenGranted)


def test_nothing_follows_a_stop(
    worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]
) -> None:
    worker.ask()
    eventually(lambda: source.asked, "it is asked")
    worker.stop()
    source.answers.put(ANONYMOUS)
    worker.ask()
    eventually(lambda: threads() == 0, "the thread has ended")
    assert inbox.empty()


def test_a_stop_ends_the_wait_for_a_full_inbox(
    worker: TokenWorker, source: Source, inbox: queue.Queue[Fact]
) -> None:
    in_the_way: Any = object()
    inbox.put(in_the_way)
    source.answers.put(ANONYMOUS)
    worker.ask()
    eventually(lambda: source.asked and source.answers.empty(), "the token is there")
    worker.stop()
    eventually(lambda: threads() == 0, "the thread has ended")


def test_what_was_never_asked_can_be_stopped(worker: TokenWorker) -> None:
    worker.stop()
    worker.ask()


def test_it_tells_whether_somebody_signed_in_since_it_asked(
    source: Source, inbox: queue.Queue[Fact]
) -> None:
    stamps = {"now": 1}
    worker = TokenWorker(source.obtain, FakeClock(), inbox, lambda: stamps["now"])
    assert not worker.changed()
    stamps["now"] = 2
    assert worker.changed()
    worker.ask()
    eventually(lambda: source.asked, "it asks")
    assert not worker.changed(), "it is on the way"
    stamps["now"] = 3  # signing in stored a session of its own
    source.answers.put(ANONYMOUS)
    assert isinstance(inbox.get(timeout=10), TokenGranted)
    eventually(lambda: not worker.changed(), "what it stored itself is no person")
    stamps["now"] = 4
    worker.ask()
    source.answers.put(CredentialsRejected("no"))
    assert isinstance(inbox.get(timeout=10), TokenDenied)
    eventually(worker.changed, "what did not help may help next time")
    worker.stop()
