"""A bar's effect in a database happens once, whatever comes twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consumer_world import BTC, ETH, Market

from consumers import Bar, Consumer, Context
from consumers.errors import HandlerInvalid, SinkUnavailable
from consumers.once import Once

MARKET = Market(None, "")  # type: ignore[arg-type]
SEEN = "CREATE TABLE seen (series TEXT, number INTEGER)"


def bar(number: int, series: Any = BTC) -> Bar:
    return MARKET.bar(series, number)


def context(replay_of: str | None = None, group: str = "g") -> Context:
    return Context(group, "7-0", replay_of=replay_of)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute(SEEN)
    connection.close()
    return tmp_path / "x.db"


class Shelf:
    """A handler that writes down what it saw, and can be told to fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.once = Once(self.connect)
        self.failing: Callable[[], None] = lambda: None
        self.handler = self.once(self.write)

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path)

    def write(self, value: Any, cursor: Any) -> None:
        for one in value if isinstance(value, list) else [value]:
            cursor.execute("INSERT INTO seen VALUES (?, ?)", (str(one.series), one.open))
        self.failing()

    def seen(self) -> list[tuple[str, int]]:
        connection = self.connect()
        rows = connection.execute("SELECT series, number - 100 FROM seen ORDER BY rowid").fetchall()
        connection.close()
        return [(name[:3], number) for name, number in rows]


def test_a_bar_that_comes_again_is_done_already(path: Path) -> None:
    shelf = Shelf(path)
    for number in (0, 1, 1, 0, 2):
        shelf.handler(bar(number), context())
    assert shelf.seen() == [("BTC", 0), ("BTC", 1), ("BTC", 2)]
    # So it is for another process.
    again = Shelf(path)
    again.handler(bar(2), context())
    again.handler(bar(3), context())
    assert again.seen()[3:] == [("BTC", 3)]


def test_series_groups_and_handlers_have_positions_of_their_own(path: Path) -> None:
    shelf = Shelf(path)
    shelf.handler(bar(5), context())
    shelf.handler(bar(5, ETH), context())
    shelf.handler(bar(5), context(group="other"))

    def another(value: Any, cursor: Any) -> None:
        shelf.write(value, cursor)

    shelf.once(another)(bar(5), context())
    assert shelf.seen() == [("BTC", 5), ("ETH", 5), ("BTC", 5), ("BTC", 5)]


def test_of_a_batch_only_what_is_not_done_is_handed_on(path: Path) -> None:
    shelf = Shelf(path)
    shelf.handler(bar(0), context())
    shelf.handler([bar(0), bar(4, ETH), bar(1), bar(2)], context())
    shelf.handler([bar(1), bar(2)], context())
    assert shelf.seen() == [("BTC", 0), ("BTC", 1), ("BTC", 2), ("ETH", 4)]


def test_a_failure_leaves_neither_result_nor_position(path: Path) -> None:
    shelf = Shelf(path)
    shelf.failing = lambda: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        shelf.handler(bar(0), context())
    assert shelf.seen() == []
    shelf.failing = lambda: None
    shelf.handler(bar(0), context())
    assert shelf.seen() == [("BTC", 0)]


def test_a_dead_letter_handed_over_again_is_done_once_though_newer_bars_are_done(
    path: Path,
) -> None:
    shelf = Shelf(path)
    shelf.handler(bar(5), context())
    for _ in range(2):
        shelf.handler(bar(1), context(replay_of="77-0"))
    shelf.handler(bar(6), context())
    assert shelf.seen() == [("BTC", 5), ("BTC", 1), ("BTC", 6)]


def test_a_database_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "absent" / "x.db")
    with pytest.raises(SinkUnavailable, match="no database: OperationalError"):
        shelf.handler(bar(0), context())
    assert SinkUnavailable.retryable


def test_a_table_that_cannot_be_made_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("this is no database, but some text that is long enough")
    with pytest.raises(SinkUnavailable, match="handled_by_tvbus cannot be made: DatabaseError"):
        Shelf(tmp_path / "x.db").handler(bar(0), context())


class Fragile:
    """A connection that goes away when it is told to; otherwise sqlite's."""

    def __init__(self, real: sqlite3.Connection, gone: list[int]) -> None:
        self.real, self.gone = real, gone

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def rollback(self) -> None:
        if self.gone:
            self.real.close()
            raise sqlite3.OperationalError("the server went away")
        self.real.rollback()


Fragile.__module__ = "sqlite3"


def test_a_database_that_goes_away_is_connected_to_again(path: Path) -> None:
    shelf, gone, connected = Shelf(path), list[int](), list[Fragile]()

    def connect() -> Any:
        connected.append(Fragile(sqlite3.connect(path), gone))
        return connected[-1]

    handler = Once(connect)(shelf.write)
    handler(bar(0), context())
    gone.append(1)
    shelf.failing = lambda: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(SinkUnavailable, match="went away: ZeroDivisionError"):
        handler(bar(1), context())
    gone.clear()
    shelf.failing = lambda: None
    handler(bar(1), context())
    assert shelf.seen() == [("BTC", 0), ("BTC", 1)]
    assert len(connected) == 2


def test_a_position_that_another_process_moved_meanwhile_is_looked_at_again(path: Path) -> None:
    shelf = Shelf(path)
    shelf.handler(bar(0), context())

    class Late(Fragile):
        def cursor(self) -> Any:
            return Slow(self.real.cursor())

    class Slow:
        def __init__(self, real: sqlite3.Cursor) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def fetchone(self) -> Any:
            row = self.real.fetchone()
            shelf.handler(bar(1), context())
            return row

    Late.__module__ = "sqlite3"
    late = Once(lambda: Late(sqlite3.connect(path), []))(shelf.write)
    with pytest.raises(SinkUnavailable, match="another process is at work on BTCUSDT"):
        late(bar(1), context())
    assert shelf.seen() == [("BTC", 0), ("BTC", 1)]


def test_a_connection_that_commits_by_itself_is_refused_before_anything_is_done(
    path: Path,
) -> None:
    shelf = Shelf(path)
    alone = Once(lambda: sqlite3.connect(path, isolation_level=None))(shelf.write)
    for _ in range(2):
        with pytest.raises(SinkUnavailable, match="not in autocommit mode"):
            alone(bar(0), context())
    shelf.handler(bar(0), context())
    assert shelf.seen() == [("BTC", 0)]


def test_an_unknown_parameter_style_is_refused() -> None:
    class Odd:
        def close(self) -> None: ...

    with pytest.raises(SinkUnavailable, match=r"paramstyle is one of qmark, format, pyformat"):
        Once(Odd)(lambda value, cursor: None)(bar(0), context())  # type: ignore[arg-type]


def test_it_is_for_plain_functions_in_order_alone(path: Path) -> None:
    shelf = Shelf(path)

    async def later(value: Any, cursor: Any) -> None: ...

    with pytest.raises(HandlerInvalid, match="later is async"):
        shelf.once(later)
    with pytest.raises(HandlerInvalid, match=r"write keeps a position: register it with @app\.on"):
        Consumer("g").on_correction(str(BTC))(shelf.handler)  # type: ignore[type-var]
    with pytest.raises(HandlerInvalid, match="the order that an unordered consumer does not have"):
        Consumer("g", unordered=True).on(str(BTC))(shelf.handler)
    Consumer("g").on(str(BTC), batch=5)(shelf.handler)


def test_closing_is_for_good_until_it_is_needed(path: Path) -> None:
    shelf = Shelf(path)
    shelf.once.close()
    shelf.handler(bar(0), context())
    shelf.once.close()
    shelf.handler(bar(1), context())
    assert shelf.seen() == [("BTC", 0), ("BTC", 1)]
