"""Bars in a real PostgreSQL: one row each, positions with them, through every trouble."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from consumer_world import BTC, ETH, MINUTE_MS, T0, Events
from postgres_server import PASSWORD, Database, PostgresServer

from consumers.errors import SinkError, SinkRejected, SinkUnavailable, UsageError
from consumers.sinks import postgres
from consumers.sinks.postgres import PostgresSink
from publisher.wire import Bar, Series

numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer.running() as running:
        yield running


@pytest.fixture
def database(server: PostgresServer) -> Database:
    name = f"test{next(numbers)}"
    server.ask(f"CREATE DATABASE {name}")
    return Database(server, name)


@pytest.fixture
def sink(database: Database) -> Iterator[PostgresSink]:
    made = PostgresSink(database.url, "g")
    yield made
    made.close()


def bar(number: int, series: Series = BTC, **changes: Any) -> Bar:
    opened = T0 + number * MINUTE_MS
    made = Bar(
        *(series, opened, 100.1 + number, 101.5 + number, 99.25, 100.2 + number, 7.5),
        *(opened + MINUTE_MS, opened - MINUTE_MS, opened + MINUTE_MS + 41, "next"),
    )
    return replace(made, **changes)


def stored(database: Database, series: Series = BTC) -> list[tuple[int, float]]:
    rows = database.ask(
        "SELECT open_time, close FROM tvbus_bars "
        f"WHERE series = '{series}' ORDER BY series, open_time"
    )
    return [((round(time.timestamp() * 1000) - T0) // MINUTE_MS, close) for time, close in rows]


def closes(*at: int) -> list[tuple[int, float]]:
    return [(number, 100.2 + number) for number in at]


def position(database: Database, group: str = "g", series: Series = BTC) -> int | None:
    rows = database.ask(
        "SELECT open_time FROM tvbus_bar_positions "
        f"WHERE consumer_group = '{group}' AND series = '{series}'"
    )
    return (round(rows[0][0].timestamp() * 1000) - T0) // MINUTE_MS if rows else None


def test_a_row_says_what_the_bar_says(sink: PostgresSink, database: Database) -> None:
    odd = Series("BRK/B", "NYSE", "5m", extended=True)
    sink.write([bar(0), bar(1, odd, volume=None, end_time_ms=None, gap=True, closed_by="history")])
    first = datetime(2025, 10, 9, 8, 54, tzinfo=UTC)
    second = first.replace(minute=55)
    assert database.ask("SELECT * FROM tvbus_bars ORDER BY open_time") == [
        (
            *("BTCUSDT-BINANCE-1m", "BINANCE", "BTCUSDT", "1m", first),
            *(100.1, 101.5, 99.25, 100.2, 7.5, second),
            *(second.replace(microsecond=41_000), "next", False, 0),
        ),
        (
            *("BRK/B-NYSE-5m+extended", "NYSE", "BRK/B", "5m+extended", second),
            *(101.1, 102.5, 99.25, 101.2, None, None),
            *(second.replace(minute=56, microsecond=41_000), "history", True, 0),
        ),
    ]


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_bars_that_come_again_or_in_any_order_stand_once(
    sink: PostgresSink, database: Database, batch: int
) -> None:
    order = list(range(40)) * 2
    random.Random(batch).shuffle(order)
    for first in range(0, len(order), batch):
        sink.write([bar(number) for number in order[first : first + batch]])
    assert stored(database) == closes(*range(40))


def test_the_position_is_the_newest_bar_of_each_series_and_group(
    sink: PostgresSink, database: Database
) -> None:
    sink.write([bar(3), bar(5), bar(4), bar(1, ETH)])
    assert (position(database), position(database, series=ETH)) == (5, 1)
    sink.write([bar(2)])
    sink.correct(bar(9, revision=1))
    assert position(database) == 5
    other = PostgresSink(database.url, "other")
    other.write([bar(2)])
    other.close()
    assert (position(database), position(database, "other")) == (5, 2)


def test_rows_and_position_are_stored_together_or_not_at_all(
    sink: PostgresSink, database: Database
) -> None:
    sink.write([bar(0)])
    database.ask(
        "ALTER TABLE tvbus_bar_positions "
        "ADD CONSTRAINT never CHECK (open_time < '2000-1-1') NOT VALID"
    )
    with pytest.raises(SinkRejected, match="never"):
        sink.write([bar(1), bar(2)])
    assert (stored(database), position(database)) == (closes(0), 0)


def test_a_correction_takes_the_place_of_the_row_and_stays(
    sink: PostgresSink, database: Database
) -> None:
    bars = [bar(number, gap=number == 2) for number in range(4)]
    sink.write(bars)
    sink.correct(bar(2, revision=1, close=1.5))
    sink.correct(bar(-3, revision=1))
    sink.write([*bars, bar(3, received_ms=T0 * 2, close=2.5)])
    assert stored(database) == [(-3, 97.2), *closes(0, 1), (2, 1.5), (3, 2.5)]
    found = database.ask("SELECT gap, revision FROM tvbus_bars ORDER BY open_time")
    assert found == [(False, 1), (False, 0), (False, 0), (True, 1), (False, 0)]


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({"revision": 1, "close": 3.0, "received_ms": 1}, 3.0),
        ({"close": 3.0}, 100.2),
        ({"close": 3.0, "received_ms": T0 * 2}, 3.0),
        ({"volume": None, "received_ms": T0 * 2, "closed_by": "history"}, 100.2),
        ({"received_ms": T0 * 2, "closed_by": "history"}, 100.2),
        ({"close": 3.0, "received_ms": 5}, 100.2),
    ],
)
def test_the_newer_word_about_a_bar_stays(
    sink: PostgresSink, database: Database, changes: dict[str, Any], stays: float
) -> None:
    sink(bar(0))
    sink(bar(0, **changes))
    assert stored(database) == [(0, stays)]
    (row,) = database.ask("SELECT volume IS NULL, closed_by FROM tvbus_bars")
    replaced = "volume" in changes
    assert row == (replaced, "history" if replaced else "next")


def test_several_processes_may_make_the_tables_and_write_at_once(database: Database) -> None:
    errors: list[SinkError] = []
    start = threading.Barrier(6)

    def write(number: int) -> None:
        sink = PostgresSink(database.url, f"g{number}")
        order = list(range(30))
        random.Random(number).shuffle(order)
        pair = (BTC, ETH) if number % 2 else (ETH, BTC)
        start.wait(10)
        try:
            for first in range(0, 30, 10):
                some = order[first : first + 10]
                sink.write([bar(x, series) for series in pair for x in some])
        except SinkError as error:
            errors.append(error)
        finally:
            sink.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert stored(database) == stored(database, ETH) == closes(*range(30))


def test_a_server_that_comes_back_is_written_to_again(
    sink: PostgresSink, database: Database, events: Events
) -> None:
    sink(bar(0))
    database.server.crash()
    for _ in range(2):
        with pytest.raises(SinkUnavailable) as caught:
            sink(bar(1))
        assert caught.value.retryable
    database.server.start()
    sink(bar(1))
    assert stored(database) == closes(0, 1)
    assert len(events.named("sink.connected")) == 2


def test_a_server_that_does_not_answer_is_given_up_for_now(
    sink: PostgresSink, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink(bar(0))
    ((pid,),) = database.ask(
        f"SELECT pid FROM pg_stat_activity WHERE datname = '{database.name}' "
        "AND application_name = 'tvbus'"
    )
    monkeypatch.setattr(postgres, "CALL_S_MAX", 0.2)
    signal_to(pid, signal.SIGSTOP)
    try:
        with pytest.raises(SinkUnavailable, match="connection"):
            sink(bar(1))
    finally:
        signal_to(pid, signal.SIGCONT)
    sink(bar(1))
    assert stored(database) == closes(0, 1)


def signal_to(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)


def test_a_lock_that_somebody_keeps_is_waited_for_but_not_for_ever(
    sink: PostgresSink, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink(bar(0))
    monkeypatch.setattr(postgres, "STATEMENT_MS_MAX", 50)
    with psycopg.connect(database.url) as other:
        other.execute("LOCK tvbus_bars")
        with pytest.raises(SinkUnavailable, match="statement timeout"):
            sink(bar(1))
    sink(bar(1))
    assert stored(database) == closes(0, 1)


@pytest.mark.parametrize(
    "poison",
    [
        bar(1, Series("A\0B", "X", "1m")),
        bar(1, revision=2**40),
    ],
)
def test_a_bar_that_no_column_can_hold_is_rejected_and_others_go_on(
    sink: PostgresSink, database: Database, poison: Bar
) -> None:
    with pytest.raises(SinkRejected) as caught:
        sink(poison)
    assert not caught.value.retryable
    sink(bar(0))
    assert stored(database) == closes(0)


def test_who_may_write_need_not_be_the_owner(database: Database) -> None:
    owner = PostgresSink(database.url, "g")
    owner(bar(0))
    owner.close()
    database.ask(f"CREATE ROLE {database.name}_w LOGIN PASSWORD '{PASSWORD}'")
    database.ask(f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, {database.name}_w")
    writer = PostgresSink(database.server.url(database.name, f"{database.name}_w"), "g")
    with pytest.raises(SinkUnavailable, match="permission denied for table tvbus_bars"):
        writer(bar(1))
    database.ask(
        f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {database.name}_w"
    )
    writer(bar(1))
    writer.close()
    assert stored(database) == closes(0, 1)


def test_a_new_table_becomes_a_hypertable_where_timescale_is(
    database: Database, events: Events
) -> None:
    # TimescaleDB itself is not here: a function of the same name shows that it is called.
    database.ask("CREATE TABLE called (name text, at text)")
    database.ask(
        "CREATE FUNCTION create_hypertable(r regclass, n name) RETURNS void LANGUAGE sql "
        "AS 'INSERT INTO called VALUES (r, n)'"
    )
    for _ in range(2):
        sink = PostgresSink(database.url, "g")
        sink(bar(0))
        sink.close()
    assert database.ask("SELECT * FROM called") == [("tvbus_bars", "open_time")]
    assert [(x["table"], x["hypertable"]) for x in events.named("sink.created")] == [
        ("tvbus_bars", True),
        ("tvbus_bar_positions", False),
    ]


def test_a_wrong_password_is_told_without_it(database: Database) -> None:
    sink = PostgresSink(database.server.url(database.name, password="planted-wrong-7Qz"), "g")
    with pytest.raises(SinkUnavailable, match="password authentication failed") as caught:
        sink(bar(0))
    assert "planted" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:not@planted@h/x", "host=h planted-pass", "x"])
def test_an_address_that_cannot_be_read_is_told_without_its_words(url: str) -> None:
    with pytest.raises(UsageError, match="write postgres:postgresql") as caught:
        PostgresSink(url, "g")
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_password_may_come_from_where_libpq_looks(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = f"postgresql://owner@127.0.0.1:{database.server.port}/{database.name}"
    sink = PostgresSink(url, "g")
    sink(bar(0))
    sink.close()
    assert stored(database) == closes(0)
