"""`tvbus consume SINK` as a process: killed again and again, it keeps each bar once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from consumer_world import BTC, ETH, Market, Server, binary
from postgres_server import PASSWORD, Database, PostgresServer
from web_service import Service

from publisher.wire import Bar, encode_bar
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
KILLS = 6
BARS = 40
"""Published before each start, of each of two series."""
FIRST = 22 * 1440 + 15 * 60 + 6 - BARS * KILLS // 2
"""The bar's number half of all before the month is over."""

Row = tuple[str, int, float]
Read = Callable[[], list[Row]]


@pytest.fixture
def market() -> Iterator[Market]:
    with tempfile.TemporaryDirectory(prefix="tvbus-") as directory:
        server = Server(binary("valkey"), Path(directory))
        server.start()
        with server.client() as client:
            yield Market(client, server.url)
        server.kill()


@contextmanager
def csv_sink(folder: Path) -> Iterator[tuple[str, Read]]:
    def read() -> list[Row]:
        rows = []
        for path in (folder / "out").glob("*.csv"):
            # What a killed process left half is no row.
            lines = [x for x in path.read_text().splitlines(keepends=True) if x.endswith("\n")]
            for line in lines[1:]:
                cells = line.split(",")
                opened = pd.Timestamp(cells[0]).value // 1_000_000
                rows.append((path.stem, opened, float(cells[4])))
        return rows

    yield f"csv:{folder}/out", read


@contextmanager
def parquet_sink(folder: Path) -> Iterator[tuple[str, Read]]:
    def read() -> list[Row]:
        if not any((folder / "out").rglob("*.parquet")):
            return []
        try:
            frame = pd.read_parquet(folder / "out")
        except FileNotFoundError:  # a month became one file in this moment
            return read()
        opened = frame["open_time"].dt.as_unit("ms").astype("int64")
        return list(zip(frame["series"], opened, frame["close"], strict=True))

    yield f"parquet:{folder}/out", read


def rows_in(database: Database) -> list[Row]:
    ((found,),) = database.ask("SELECT count(*) FROM pg_class WHERE relname = 'tvbus_bars'")
    rows = database.ask("SELECT series, open_time, close FROM tvbus_bars") if found else []
    return [(series, round(at.timestamp() * 1000), close) for series, at, close in rows]


def rows_posted(service: Service) -> list[Row]:
    """Return what a receiver keeps, which knows a bar that comes again by its key."""
    kept = {headers["idempotency-key"]: body for _, headers, body in list(service.requests)}
    bars = sorted(map(json.loads, kept.values()), key=lambda bar: bar["revision"])
    newest = {(bar["series"], bar["open_time_ms"]): bar["close"] for bar in bars}
    return [(*place, close) for place, close in newest.items()]


@contextmanager
def postgres_sink(_folder: Path) -> Iterator[tuple[str, Read]]:
    with PostgresServer.running() as server:
        database = Database(server, "postgres")
        yield f"postgres:{database.url}", lambda: rows_in(database)


@contextmanager
def webhook_sink(_folder: Path) -> Iterator[tuple[str, Read]]:
    with running_service() as service:
        yield f"webhook:{service.url}", lambda: rows_posted(service)


@contextmanager
def running_service() -> Iterator[Service]:
    service = Service()
    try:
        yield service
    finally:
        service.stop()


@contextmanager
def consume(
    market: Market, target: str, folder: Path, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a consumer, and kill it at the end of the context."""
    command = [sys.executable, "-m", "tvbus", "consume", target, "--group", "g", "--name", "one"]
    command += ["--start", "oldest", "--lease-seconds", "1"]
    settings = {"TVBUS_REDIS_URL": market.url, "PYTHONPATH": str(ROOT), "TVBUS_LOG_FORMAT": "json"}
    settings |= more
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=os.environ | settings, cwd=folder, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def rows_of(bars: list[Bar]) -> list[Row]:
    newest = {(str(bar.series), bar.open_time_ms): bar.close for bar in bars}
    return sorted((*place, close) for place, close in newest.items())


def publish(market: Market, numbers: range) -> list[Bar]:
    """Publish bars, and a correction of the first one."""
    told = []
    for series in (BTC, ETH):
        market.publish(series, numbers)
        told += [market.bar(series, number) for number in numbers]
        corrected = market.bar(series, numbers[0], revision=1, close=-0.125)
        name, payload = encode_bar(corrected)
        market.client.xadd(market.keys.corrections(series), {name: payload})
        told.append(corrected)
    return told


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", [csv_sink, parquet_sink, postgres_sink, webhook_sink])
def test_kill_9_at_any_moment_loses_no_bar_and_stores_none_twice(
    market: Market, tmp_path: Path, make: Callable[[Path], contextmanager[tuple[str, Read]]]
) -> None:
    rng = random.Random(7)
    market.list_series(BTC, ETH)
    published: list[Bar] = []
    with make(tmp_path) as (target, read):
        for round_ in range(KILLS):
            first = FIRST + round_ * BARS
            published += publish(market, range(first, first + BARS))
            with consume(market, target, tmp_path):
                goal = len(read()) + rng.randint(1, BARS)
                eventually(lambda goal=goal: len(read()) >= goal, "some bars are stored")
            rows = Counter((series, at) for series, at, _ in read())
            assert not [row for row, times in rows.items() if times > 1], "a row stands twice"
        published += publish(market, range(FIRST + KILLS * BARS, FIRST + (KILLS + 1) * BARS))
        with consume(market, target, tmp_path) as process:
            expected = rows_of(published)
            eventually(lambda: sorted(read()) == expected, "all bars are stored, and corrected")
            eventually(lambda: market.pending(BTC) == market.pending(ETH) == 0, "all is done")
            process.terminate()
            assert process.wait(10) == 0
        assert sorted(read()) == expected
        assert len(expected) == 2 * (KILLS + 1) * BARS
    log = (tmp_path / "log").read_text()
    assert "handler.failed" not in log
    assert "planted" not in log


def told(folder: Path, event: str) -> list[dict[str, Any]]:
    """Return the events of a name in the log, which must hold no secret."""
    path = folder / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    assert not [line for line in lines if "planted" in line]
    events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [x for x in events if x["event"] == event]


SECRETIVE = {"TVBUS_LOG_LEVEL": "debug", "TVBUS_WEBHOOK_SECRET": "planted-secret-7Qz"}


def dead_letters(market: Market) -> list[dict[bytes, bytes]]:
    entries: Any = market.client.xrange(market.keys.dead("g"))
    return [fields for _, fields in entries]


def test_a_service_that_is_down_is_waited_for_and_nothing_is_given_up(
    market: Market, tmp_path: Path
) -> None:
    market.list_series(BTC)
    with running_service() as service:
        service.status = 503
        published = [market.bar(BTC, number) for number in range(20)]
        market.publish(BTC, range(20))
        settings = SECRETIVE | {"TVBUS_WEBHOOK_URL": service.url}
        with consume(market, "webhook:", tmp_path, **settings) as process:
            eventually(lambda: len(told(tmp_path, "handler.failed")) >= 3, "it is tried again")
            service.status = 200
            service.requests.clear()
            eventually(lambda: len(rows_posted(service)) == 20, "all bars are posted")
            assert rows_posted(service) == rows_of(published)
            eventually(lambda: market.pending(BTC) == 0, "all is done")
            process.terminate()
            assert process.wait(10) == 0
    assert dead_letters(market) == []
    assert "answered 503" in told(tmp_path, "handler.failed")[0]["error"]


def test_a_bar_that_the_service_refuses_goes_to_the_dead_letters_alone(
    market: Market, tmp_path: Path
) -> None:
    market.list_series(BTC)
    refused = market.bar(BTC, 7)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        key = handler.headers["Idempotency-Key"]
        service.status = 422 if key == f"{BTC}:{refused.open_time_ms}" else 200

    with running_service() as service:
        service.answer = answer
        market.publish(BTC, range(12))
        with consume(market, f"webhook:{service.url}", tmp_path, **SECRETIVE):
            eventually(lambda: len(rows_posted(service)) == 12, "each bar was posted")
            eventually(lambda: market.pending(BTC) == 0, "all is done")
    (letter,) = dead_letters(market)
    assert f"{refused.open_time_ms}-0".encode() in letter.values()
    assert b"answered 422" in b" ".join(letter.values())
    assert b"planted" not in b" ".join(letter.values())
    assert len(told(tmp_path, "handler.gave_up")) == 1


def test_a_database_that_lets_nobody_in_is_waited_for(market: Market, tmp_path: Path) -> None:
    market.list_series(BTC)
    market.publish(BTC, range(20))
    with PostgresServer.running() as server:
        database = Database(server, "postgres")
        server.ask("ALTER ROLE owner PASSWORD 'another'")
        settings = SECRETIVE | {"TVBUS_POSTGRES_URL": database.url}
        with consume(market, "postgres:", tmp_path, **settings):
            eventually(lambda: told(tmp_path, "handler.failed"), "it is tried")
            server.ask(f"ALTER ROLE owner PASSWORD '{PASSWORD}'")
            eventually(lambda: len(rows_in(database)) == 20, "all bars are stored")
            eventually(lambda: market.pending(BTC) == 0, "all is done")
    assert dead_letters(market) == []
    assert "password authentication failed" in told(tmp_path, "handler.failed")[0]["error"]
