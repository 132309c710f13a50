"""The volume of each day in SQLite, each bar counted exactly once though it may come twice.

tvbus consume volumes:on_bar --group volumes --start oldest

Kill it as often as you like, or run several: what is counted and how far each series is
are committed in one transaction. psycopg.connect(…) works as well.
"""

import sqlite3

from consumers import Bar
from consumers.once import Once

TABLE = """
CREATE TABLE IF NOT EXISTS volumes (
    series TEXT, day TEXT, volume REAL, bars INTEGER, PRIMARY KEY (series, day)
)"""
COUNT = """
INSERT INTO volumes VALUES (?, ?, ?, 1) ON CONFLICT (series, day)
DO UPDATE SET volume = volume + excluded.volume, bars = bars + 1"""


def connect() -> sqlite3.Connection:
    """Open the database, waiting for whoever else writes to it."""
    connection = sqlite3.connect("volumes.db", timeout=30)
    connection.execute(TABLE)
    return connection


once = Once(connect)


@once
def on_bar(bar: Bar, cursor: sqlite3.Cursor) -> None:
    """Count one bar. Adding is no statement that may run twice, and it does not."""
    cursor.execute(COUNT, (str(bar.series), f"{bar.open_time:%Y-%m-%d}", bar.volume or 0.0))
