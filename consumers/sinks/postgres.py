"""Bars in PostgreSQL: one row for each, and the group's position in the same transaction."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog

from bus.logs import redact, register_secret
from consumers.core.rows import Row, by_series, moment, newest
from consumers.errors import SinkRejected, SinkUnavailable, UsageError
from consumers.sinks.sink import BATCH_BARS, Sink
from publisher.wire import Bar, Series

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise UsageError(
        "postgres:URL needs psycopg: install it with `pip install 'tvbus[postgres]'`"
    ) from error

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]

log = structlog.get_logger("consumers")

CONNECT_S_MAX: Final = 10
STATEMENT_MS_MAX: Final = 30_000
"""How long the server may be at one statement, waiting for locks included."""
CALL_S_MAX: Final = 60.0
"""How long one transaction may take before the connection counts as lost."""

_CONNECTION: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_S_MAX,
    "application_name": "tvbus",
}

_CREATE_BARS: Final = """
CREATE TABLE tvbus_bars (
  series text NOT NULL,
  exchange text NOT NULL,
  symbol text NOT NULL,
  interval text NOT NULL,
  open_time timestamptz NOT NULL,
  open double precision NOT NULL,
  high double precision NOT NULL,
  low double precision NOT NULL,
  close double precision NOT NULL,
  volume double precision,
  end_time timestamptz,
  received_time timestamptz NOT NULL,
  closed_by text NOT NULL,
  gap boolean NOT NULL,
  revision integer NOT NULL,
  PRIMARY KEY (series, open_time)
)"""
_CREATE_POSITIONS: Final = """
CREATE TABLE tvbus_bar_positions (
  consumer_group text NOT NULL,
  series text NOT NULL,
  open_time timestamptz NOT NULL,
  PRIMARY KEY (consumer_group, series)
)"""
_TABLES: Final = {create.split()[2]: create for create in (_CREATE_BARS, _CREATE_POSITIONS)}
# Not `to_regclass`, which may not know yet what another one made while the lock was waited for.
_FIND_TABLE: Final = """
SELECT EXISTS (SELECT FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid))"""
# By name and not by extension, for only what this user can call is of use.
_FIND_TIMESCALE: Final = """
SELECT EXISTS (
  SELECT FROM pg_proc WHERE proname = 'create_hypertable' AND pg_function_is_visible(oid))"""
_MAKE_HYPERTABLE: Final = "SELECT create_hypertable('tvbus_bars'::regclass, 'open_time'::name)"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('tvbus_bars', 0))"

_PUT: Final = """
INSERT INTO tvbus_bars AS held
  (series, exchange, symbol, interval, open_time, open, high, low, close, volume,
   end_time, received_time, closed_by, gap, revision)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (series, open_time) DO UPDATE SET
  open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
  volume = excluded.volume, end_time = excluded.end_time,
  received_time = excluded.received_time, closed_by = excluded.closed_by,
  gap = excluded.gap OR held.gap, revision = excluded.revision
WHERE excluded.revision > held.revision
  OR excluded.revision = held.revision AND excluded.received_time > held.received_time
  AND (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume,
       excluded.end_time)
  IS DISTINCT FROM (held.open, held.high, held.low, held.close, held.volume, held.end_time)"""
"""The rule of `Row.replaces`, and `Row.over`."""
_MOVE: Final = """
INSERT INTO tvbus_bar_positions AS held (consumer_group, series, open_time) VALUES (%s, %s, %s)
ON CONFLICT (consumer_group, series) DO UPDATE SET open_time = excluded.open_time
WHERE excluded.open_time > held.open_time"""


class PostgresSink(Sink):
    """Keep bars in the table `tvbus_bars`, made where there is none.

    Each call is one transaction. `tvbus_bar_positions` tells the newest open time that
    a group has stored of a series; what is told there is in `tvbus_bars` too. With
    TimescaleDB a new table becomes a hypertable.
    """

    batch = BATCH_BARS

    def __init__(self, url: str, group: str) -> None:
        """Read where the server is: a URL, or `key=value` words; nothing is connected yet.

        What is not said comes from libpq's PGHOST, PGPASSWORD and so on. Raises UsageError.
        """
        self._group = group
        self._connection: Connection | None = None
        try:
            said = conninfo_to_dict(url)
            if "@" in str(said.get("host")):
                raise psycopg.ProgrammingError("the password has an @")
        except psycopg.Error:
            # The reason repeats words of the address, and one may be a password.
            raise UsageError(
                "the address of PostgreSQL cannot be read: "
                "write postgres:postgresql://HOST:5432/DATABASE?user=USER, "
                "the password in PGPASSWORD"
            ) from None
        self._parameters: dict[str, Any] = {**_CONNECTION, **said}
        register_secret(str(said.get("password") or ""))
        register_secret(os.environ.get("PGPASSWORD"))

    def write(self, bars: Sequence[Bar]) -> None:
        """Keep bars, and move the group's positions. Raises SinkUnavailable, SinkRejected."""
        self._store(bars, positions=True)

    def correct(self, bar: Bar) -> None:
        """Let a bar take the place of another; positions stay. Raises like `write`."""
        self._store([bar], positions=False)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _store(self, bars: Sequence[Bar], *, positions: bool) -> None:
        # Always in the same order: two processes must not wait for each other's rows.
        stored = {series: newest(rows) for series, rows in by_series(bars).items()}
        rows = [x for series in sorted(stored) for x in _rows(series, stored[series].values())]
        newest_ms = {series: max(stored[series]) for series in sorted(stored)}
        try:
            connection = self._connected()
            with _ended(connection), connection.transaction(), connection.cursor() as cursor:
                _limit(cursor)
                cursor.executemany(_PUT, rows)
                if positions:
                    cursor.executemany(_MOVE, self._positions(newest_ms))
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise SinkRejected(_told(error)) from error
        except (psycopg.Error, OSError) as error:
            self.close()
            raise SinkUnavailable(_told(error)) from error

    def _positions(self, newest_ms: Mapping[Series, int]) -> list[tuple[Any, ...]]:
        return [(self._group, str(series), moment(at)) for series, at in newest_ms.items()]

    def _connected(self) -> Connection:
        """Return the connection, made and with tables where it is new."""
        if self._connection is None:
            connection = psycopg.connect(
                **self._parameters,
                autocommit=True,
                # Poolers between here and the server do not keep prepared statements.
                prepare_threshold=None,
            )
            self._connection = connection
            with _ended(connection), connection.transaction(), connection.cursor() as cursor:
                _limit(cursor)
                _create(cursor)
            log.info("sink.connected", host=connection.info.host, database=connection.info.dbname)
        return self._connection


def _create(cursor: Cursor) -> None:
    """Make the tables that are missing, and only these: who may write need not be the owner."""
    if not _missing(cursor):
        return
    cursor.execute(_LOCK)
    for name in _missing(cursor):
        cursor.execute(_TABLES[name])
        hypertable = _TABLES[name] == _CREATE_BARS and _first(cursor.execute(_FIND_TIMESCALE))
        if hypertable:
            cursor.execute(_MAKE_HYPERTABLE)
        log.info("sink.created", table=name, hypertable=hypertable)


def _missing(cursor: Cursor) -> list[str]:
    return [name for name in _TABLES if not _first(cursor.execute(_FIND_TABLE, (name,)))]


def _first(cursor: Cursor) -> bool:
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def _limit(cursor: Cursor) -> None:
    cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_MS_MAX}")


@contextmanager
def _ended(connection: Connection) -> Iterator[None]:
    """End what the server does not answer to, as if the connection had been lost."""
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:
        timer = threading.Timer(CALL_S_MAX, _shut, (twin,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):  # lost in the same moment
        connected.shutdown(socket.SHUT_RDWR)


def _rows(series: Series, rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    interval = str(series).rpartition("-")[2]
    for row in rows:
        yield (
            *(str(series), series.exchange, series.symbol, interval, moment(row.open_time_ms)),
            *row[1:6],
            None if row.end_time_ms is None else moment(row.end_time_ms),
            moment(row.received_ms),
            *row[8:],
        )


def _told(error: Exception) -> str:
    return redact(f"PostgreSQL: {' '.join(str(error).split())}")
