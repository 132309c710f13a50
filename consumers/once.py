"""Each bar's effect in a SQL database exactly once: result and position in one transaction.

A consumer hands over each bar at least once: after a crash between a handler's end
and its acknowledgement the bar comes again. Here the handler's own statements and
the position of the series are committed together, so a bar that comes again is
seen to be done, and the handler is not called.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from consumers.context import Context
from consumers.core.handlers import IN_ORDER_ONLY, name_of
from consumers.errors import HandlerInvalid, SinkUnavailable
from publisher.wire import Bar, Series

TABLE: Final = "handled_by_tvbus"

_MARKS: Final = {"qmark": "?", "format": "%s", "pyformat": "%s"}
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (consumer_group TEXT NOT NULL, handler TEXT NOT NULL, "
    "series TEXT NOT NULL, open_time_ms BIGINT NOT NULL, "
    "PRIMARY KEY (consumer_group, handler, series))"
)


class Connection(Protocol):
    """A DB-API connection, as sqlite3 and psycopg have; not in autocommit mode."""

    def cursor(self) -> Any:
        """Return a cursor."""
        ...

    def commit(self) -> object:
        """End the transaction; all of it counts."""
        ...

    def rollback(self) -> object:
        """End the transaction; nothing of it counts."""
        ...

    def close(self) -> object:
        """Release it."""
        ...


class Once:
    """Makes of a function that takes a bar and a cursor a handler with effects exactly once.

        once = Once(lambda: sqlite3.connect("averages.db"))

        @app.on("*-BINANCE-1m")
        @once
        def on_bar(bar, cursor):
            cursor.execute("INSERT INTO …", …)

    What the function does with its cursor is committed together with the position
    of the series, in the table `handled_by_tvbus`, which is made when it is missing.
    With `batch=` it takes a list of bars, of which those that are done are left out.
    It must not commit by itself. It needs the order within a series, so it is for
    `on` alone and not for an `unordered` consumer.

    A bar that a person has handed over again from the dead letters is done once too.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """Take a function that connects; it is called when needed, again after a failure."""
        self._connect = connect
        self._connection: Connection | None = None
        self._mark = ""

    def __call__(self, function: Callable[[Any, Any], object]) -> Callable[[Any, Context], None]:
        """Return the handler. Raises HandlerInvalid for what cannot be one.

        The handler raises SinkUnavailable, so that bars wait and none is given up,
        while there is no database or where its connection cannot be used: it is in
        autocommit mode, or its module has a parameter style other than `?` or `%s`.
        """
        name = name_of(function)
        if inspect.iscoroutinefunction(function):
            raise HandlerInvalid(f"{name} is async, and @once is for plain functions alone")
        place = f"{getattr(function, '__module__', '')}.{name}"

        def handler(value: Bar | list[Bar], context: Context) -> None:
            self._handle(function, place, value, context)

        functools.update_wrapper(handler, function)
        del handler.__wrapped__  # type: ignore[attr-defined] # its signature is another one
        setattr(handler, IN_ORDER_ONLY, True)
        return handler

    def close(self) -> None:
        """Close the connection, where there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _handle(
        self,
        function: Callable[[Any, Any], object],
        place: str,
        value: Bar | list[Bar],
        context: Context,
    ) -> None:
        connection = self._connected()
        cursor = connection.cursor()
        try:
            bars = value if isinstance(value, list) else [value]
            fresh = self._fresh(cursor, place, bars, context)
            if fresh:
                function(fresh if isinstance(value, list) else value, cursor)
            connection.commit()
        except BaseException as error:
            self._undo(connection, error)
            raise
        cursor.close()

    def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        try:
            connection = self._connect()
        except Exception as error:  # allow: each database has its own errors
            raise SinkUnavailable(f"no database: {type(error).__name__}: {error}") from error
        try:
            self._mark = _parameter_mark(connection)
            cursor = connection.cursor()
            cursor.execute(_CREATE)
            connection.commit()
            cursor.execute(f"DELETE FROM {TABLE} WHERE consumer_group = ''")  # noqa: S608
            _check_transaction(connection)
            connection.rollback()
        except Exception as error:  # allow: each database has its own errors
            connection.close()
            if isinstance(error, SinkUnavailable):
                raise
            raise SinkUnavailable(
                f"the table {TABLE} cannot be made: {type(error).__name__}: {error}"
            ) from error
        self._connection = connection
        return connection

    def _undo(self, connection: Connection, error: BaseException) -> None:
        """Roll back; what cannot be rolled back is a connection that is gone."""
        try:
            connection.rollback()
        except Exception:  # noqa: BLE001  # allow: each database has its own errors
            self._connection = None
            with suppress(Exception):
                connection.close()
            raise SinkUnavailable(
                f"the database went away: {type(error).__name__}: {error}"
            ) from error

    def _fresh(self, cursor: Any, place: str, bars: list[Bar], context: Context) -> list[Bar]:
        """Move the positions; return the bars that are not done yet."""
        by_series: dict[Series, list[Bar]] = {}
        for bar in bars:
            by_series.setdefault(bar.series, []).append(bar)
        fresh: list[Bar] = []
        for series, some in by_series.items():
            # What is handed over again by itself has a place by itself.
            name = f"{series} {context.replay_of}" if context.replay_of else str(series)
            done_ms = self._position(cursor, (context.group, place, name))
            new = [bar for bar in some if done_ms is None or bar.open_time_ms > done_ms]
            if new:
                key = (context.group, place, name)
                self._move(cursor, key, done_ms, new[-1].open_time_ms)
                fresh += new
        return fresh

    def _position(self, cursor: Any, key: tuple[str, str, str]) -> int | None:
        where = self._where()
        cursor.execute(f"SELECT open_time_ms FROM {TABLE} WHERE {where}", key)  # noqa: S608
        row = cursor.fetchone()
        return None if row is None else int(row[0])

    def _move(
        self, cursor: Any, key: tuple[str, str, str], from_ms: int | None, to_ms: int
    ) -> None:
        mark = self._mark
        if from_ms is None:
            marks = ", ".join([mark] * 4)
            statement = f"INSERT INTO {TABLE} VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
            cursor.execute(statement, (*key, to_ms))
        else:
            cursor.execute(
                f"UPDATE {TABLE} SET open_time_ms = {mark} "  # noqa: S608
                f"WHERE {self._where()} AND open_time_ms = {mark}",
                (to_ms, *key, from_ms),
            )
        if cursor.rowcount != 1:
            raise SinkUnavailable(f"another process is at work on {key[2]}")

    def _where(self) -> str:
        mark = self._mark
        return f"consumer_group = {mark} AND handler = {mark} AND series = {mark}"


def _parameter_mark(connection: Connection) -> str:
    name = type(connection).__module__.partition(".")[0]
    style = getattr(sys.modules.get(name), "paramstyle", None)
    if style not in _MARKS:
        raise SinkUnavailable(
            f"Once needs a database module whose paramstyle is one of {', '.join(_MARKS)}, "
            f"such as sqlite3 or psycopg; that of {name!r} is {style!r}"
        )
    return _MARKS[style]


def _check_transaction(connection: Any) -> None:
    """Refuse a connection that commits each statement by itself; one was just run."""
    autocommit = getattr(connection, "autocommit", False) is True
    if autocommit or getattr(connection, "in_transaction", True) is False:
        raise SinkUnavailable(
            "Once needs a connection that is not in autocommit mode, "
            "so that result and position are committed together"
        )
