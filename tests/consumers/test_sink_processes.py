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
from pathlib import Path

import pandas as pd
import pytest
from consumer_world import BTC, ETH, Market, Server, binary
from postgres_server import Database, PostgresServer
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


@contextmanager
def postgres_sink(_folder: Path) -> Iterator[tuple[str, Read]]:
    with PostgresServer.running() as server:
        database = Database(server, "postgres")

        def read() -> list[Row]:
            ((found,),) = database.ask("SELECT count(*) FROM pg_class WHERE relname = 'tvbus_bars'")
            if not found:
                return []
            rows = database.ask("SELECT series, open_time, close FROM tvbus_bars")
            return [(series, round(at.timestamp() * 1000), close) for series, at, close in rows]

        yield f"postgres:{database.url}", read


@contextmanager
def webhook_sink(_folder: Path) -> Iterator[tuple[str, Read]]:
    service = Service()

    def read() -> list[Row]:
        # A receiver knows a bar that comes again by its key.
        kept = {headers["idempotency-key"]: body for _, headers, body in list(service.requests)}
        bars = sorted(map(json.loads, kept.values()), key=lambda bar: bar["revision"])
        newest = {(bar["series"], bar["open_time_ms"]): bar["close"] for bar in bars}
        return [(*place, close) for place, close in newest.items()]

    try:
        yield f"webhook:{service.url}", read
    finally:
        service.stop()


@contextmanager
def consume(market: Market, target: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a consumer, and kill it at the end of the context."""
    command = [sys.executable, "-m", "tvbus", "consume", target, "--group", "g", "--name", "one"]
    command += ["--start", "oldest", "--lease-seconds", "1"]
    settings = {"TVBUS_REDIS_URL": market.url, "PYTHONPATH": str(ROOT), "TVBUS_LOG_FORMAT": "json"}
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
