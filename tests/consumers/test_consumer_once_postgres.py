"""Exactly once in PostgreSQL: with two processes at the same bar, and a server that crashes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import psycopg
import pytest
from consumer_world import BTC, Market
from postgres_server import Database, PostgresServer

from consumers import Bar, Context
from consumers.errors import SinkUnavailable
from consumers.once import Once

MARKET = Market(None, "")  # type: ignore[arg-type]
CONTEXT = Context("g", "7-0")
BARS = [MARKET.bar(BTC, number) for number in range(200)]
numbers = count()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer.running() as running:
        yield running


@pytest.fixture
def database(server: PostgresServer) -> Database:
    name = f"once{next(numbers)}"
    server.ask(f"CREATE DATABASE {name}")
    made = Database(server, name)
    made.ask("CREATE TABLE seen (number BIGINT)")
    return made


def write(value: Bar | list[Bar], cursor: Any) -> None:
    for bar in value if isinstance(value, list) else [value]:
        cursor.execute("INSERT INTO seen VALUES (%s)", (int(bar.open) - 100,))


def seen(database: Database) -> list[int]:
    return [row[0] for row in database.ask("SELECT number FROM seen ORDER BY number")]


def test_two_processes_at_the_same_bars_do_each_once(database: Database) -> None:
    begun = threading.Barrier(2)
    refused: list[str] = []

    def process() -> None:
        once = Once(lambda: psycopg.connect(database.url))
        handler = once(write)
        begun.wait()
        for bar in BARS:
            while True:
                try:
                    handler(bar, CONTEXT)
                except SinkUnavailable as error:
                    refused.append(str(error))  # the consumer hands it over again
                    continue
                break
        once.close()

    threads = [threading.Thread(target=process) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen(database) == list(range(200))
    assert [x for x in refused if "another process is at work" in x], "they never met"


def test_a_batch_is_one_transaction(database: Database) -> None:
    once = Once(lambda: psycopg.connect(database.url))
    failing = True

    def fail_first(bars: list[Bar], cursor: Any) -> None:
        write(bars, cursor)
        if failing:
            raise ValueError("no")

    handler = once(fail_first)
    with pytest.raises(ValueError, match="no"):
        handler(BARS[:5], CONTEXT)
    assert seen(database) == []
    failing = False
    handler(BARS[:5], CONTEXT)
    handler(BARS[:7], CONTEXT)
    assert seen(database) == list(range(7))
    once.close()


def test_a_server_that_crashed_is_connected_to_again(
    database: Database, server: PostgresServer
) -> None:
    once = Once(lambda: psycopg.connect(database.url))
    handler = once(write)
    handler(BARS[0], CONTEXT)
    server.crash()
    with pytest.raises(SinkUnavailable, match="the database went away"):
        handler(BARS[1], CONTEXT)
    with pytest.raises(SinkUnavailable, match="no database"):
        handler(BARS[1], CONTEXT)
    server.start()
    handler(BARS[1], CONTEXT)
    handler(BARS[1], CONTEXT)
    assert seen(database) == [0, 1]
    once.close()


def test_a_connection_that_commits_by_itself_is_refused(database: Database) -> None:
    handler = Once(lambda: psycopg.connect(database.url, autocommit=True))(write)
    with pytest.raises(SinkUnavailable, match="not in autocommit mode"):
        handler(BARS[0], CONTEXT)
    assert seen(database) == []
