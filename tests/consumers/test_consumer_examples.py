"""The examples, as a user would run them."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from consumer_world import BTC, ETH, Market

from publisher.wire import Series
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
LEASE_S = 0.6


@pytest.fixture
def consume(market: Market, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `tvbus consume` on an example, in a directory of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(target: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tvbus", "consume", target, "--group", "g"]
        command += ["--start", "oldest", "--lease-seconds", str(LEASE_S), *options]
        path = f"{ROOT / 'examples'}:{ROOT}"
        settings = {"TVBUS_REDIS_URL": market.url, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        with (tmp_path / f"out{len(processes)}.txt").open("w") as out:
            process = subprocess.Popen(command, env=os.environ | settings, cwd=tmp_path, stdout=out)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_volumes_count_each_bar_once_though_processes_are_killed(
    market: Market, tmp_path: Path, consume: Callable[..., subprocess.Popen[bytes]]
) -> None:
    rng = random.Random(4)
    market.list_series(BTC, ETH)
    published = 0

    def counted() -> dict[str, tuple[int, float]]:
        if not (tmp_path / "volumes.db").exists():
            return {}
        connection = sqlite3.connect(tmp_path / "volumes.db", timeout=30)
        try:
            rows = connection.execute(
                "SELECT series, sum(bars), sum(volume) FROM volumes GROUP BY series"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}
        finally:
            connection.close()
        return {series: (bars, volume) for series, bars, volume in rows}

    running = [consume("volumes:on_bar"), consume("volumes:on_bar")]
    for _ in range(5):
        for series in (BTC, ETH):
            market.publish(series, range(published, published + 60))
        published += 60
        goal = 2 * published - rng.randint(5, 115)
        eventually(lambda goal=goal: sum(x[0] for x in counted().values()) >= goal)
        victim = running.pop(rng.randrange(2))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        running.append(consume("volumes:on_bar"))
    whole = {str(x): (published, 7.0 * published) for x in (BTC, ETH)}
    eventually(lambda: all(counted().get(x, (0,))[0] >= y[0] for x, y in whole.items()))
    eventually(lambda: market.pending(BTC) == market.pending(ETH) == 0)
    assert counted() == whole


def averages(folder: Path) -> dict[tuple[str, str], set[str]]:
    """What all processes said, by series and minute."""
    said: dict[tuple[str, str], set[str]] = {}
    for path in folder.glob("out*.txt"):
        for at, series, average in re.findall(
            r"^(\d\d:\d\d) (\S+) .* average ([\d.]+)$", path.read_text(), re.MULTILINE
        ):
            said.setdefault((series, at), set()).add(average)
    return said


def test_averages_are_right_though_their_process_is_killed(
    market: Market, tmp_path: Path, consume: Callable[..., subprocess.Popen[bytes]]
) -> None:
    sol = Series("SOLUSDT", "BINANCE", "1m")
    every = (BTC, ETH, sol)
    market.list_series(*every)
    published = 0

    def publish(bars: int) -> None:
        nonlocal published
        for series in every:
            market.publish(series, range(published, published + bars))
        published += bars

    def everything_said() -> bool:
        return len(averages(tmp_path)) == 3 * published

    publish(30)
    first, second = consume("strategy:on_bar"), consume("strategy:on_bar")
    eventually(everything_said)
    publish(5)
    eventually(everything_said)
    first.send_signal(signal.SIGKILL)
    publish(5)
    eventually(everything_said)
    third = consume("strategy:on_bar")
    leases = market.keys.group("g", "leases")

    def holders() -> set[bytes]:
        return {x.split()[0] for x in market.client.hvals(leases)}

    eventually(lambda: len(holders()) == 2)
    publish(5)
    eventually(everything_said)
    second.terminate()
    assert second.wait(10) == 0
    publish(5)
    eventually(everything_said)
    assert third.poll() is None
    for series in every:
        for number in range(published):
            known = [100.5 + n for n in range(max(0, number - 19), number + 1)]
            at = f"{market.bar(series, number).open_time:%H:%M}"
            assert averages(tmp_path)[str(series), at] == {f"{sum(known) / len(known):.2f}"}


def test_a_consumer_may_be_told_to_end_at_a_failure(
    market: Market, tmp_path: Path, consume: Callable[..., subprocess.Popen[bytes]]
) -> None:
    (tmp_path / "mine.py").write_text(
        "def trade(bars):\n    print(len(bars), flush=True)\n    raise ValueError('no taste')\n"
    )
    market.publish(BTC, range(3))
    stop = ("--on-failure", "stop", "--attempts", "2", "--batch", "2", "--series", str(BTC))
    process = consume("mine:trade", *stop)
    assert process.wait(20) == 1
    assert (tmp_path / "out0.txt").read_text().split() == ["2", "1", "1"]
    assert market.pending(BTC) == 3
    assert market.client.xlen(market.keys.dead("g")) == 0
