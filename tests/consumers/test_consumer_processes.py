"""Consumers as processes: killed, stopped by signals, and with the server gone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from consumer_world import BTC, ETH, Events, Market, Recorder, Running, Server

from tests.waiting import eventually

Start = Callable[..., Running]

PROGRAM = textwrap.dedent(
    """
    import os, sys, threading
    import redis
    from consumers import Consumer, Tuning

    tuning = Tuning(block_ms=100, checkpoint_ms=100)
    name = sys.argv[1] if len(sys.argv) > 1 else None
    app = Consumer("g", "oldest", name=name, tuning=tuning, lease_ms=600)
    seen = redis.Redis(unix_socket_path=os.environ["TVBUS_REDIS_URL"][7:])
    pace = threading.Event()

    @app.on("*-BINANCE-1m")
    def handle(bar):
        seen.rpush(f"seen:{bar.series}", f"{os.getpid()} {bar.open_time_ms}")
        pace.wait(0.0005)

    app.run()
    seen.rpush("left", os.getpid())
    """
)


def launch(market: Market, folder: Path, name: str | None) -> subprocess.Popen[bytes]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), *([name] if name else [])]
    settings = {"TVBUS_REDIS_URL": market.url, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        command, env=os.environ | settings, cwd=folder, stdout=subprocess.DEVNULL
    )


def seen_by(market: Market, series: object) -> list[tuple[int, int]]:
    lines = market.client.lrange(f"seen:{series}", 0, -1)
    pairs = [line.decode().split() for line in lines]
    return [(int(pid), int(opened)) for pid, opened in pairs]


@pytest.mark.parametrize("name", ["steady", None])
def test_kill_9_at_any_moment_loses_no_bar_and_keeps_the_order(
    market: Market, tmp_path: Path, name: str | None
) -> None:
    rng = random.Random(20)
    kills = 10
    market.list_series(BTC, ETH)
    published = 0

    def publish() -> None:
        nonlocal published
        market.publish(BTC, range(published, published + 150))
        market.publish(ETH, range(published, published + 150))
        published += 150

    for _ in range(kills):
        publish()
        process = launch(market, tmp_path, name)
        before = len(seen_by(market, BTC))
        goal = before + rng.randint(1, 120)
        eventually(lambda goal=goal: len(seen_by(market, BTC)) >= goal)
        process.send_signal(signal.SIGKILL)
        process.wait()
    publish()
    process = launch(market, tmp_path, name)
    last = market.bar(BTC, published - 1).open_time_ms
    eventually(lambda: all((process.pid, last) in seen_by(market, x) for x in (BTC, ETH)))
    eventually(lambda: market.pending(BTC) == market.pending(ETH) == 0)
    process.terminate()
    assert process.wait(5) == 0
    assert market.client.lrange("left", 0, -1) == [str(process.pid).encode()]
    for series in (BTC, ETH):
        handled = seen_by(market, series)
        expected = {market.bar(series, n).open_time_ms for n in range(published)}
        assert {opened for _, opened in handled} == expected
        for pid in {pid for pid, _ in handled}:
            own = [opened for by, opened in handled if by == pid]
            assert own == sorted(set(own)), "the bars did not rise, or one came twice"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_bar_in_hand_finish_and_ends_cleanly(
    market: Market, tmp_path: Path, stop: signal.Signals
) -> None:
    market.list_series(BTC)
    market.publish(BTC, range(3000))
    process = launch(market, tmp_path, None)
    eventually(lambda: len(seen_by(market, BTC)) > 20)
    process.send_signal(stop)
    assert process.wait(5) == 0
    handled = len(seen_by(market, BTC))
    assert handled < 3000
    lines = market.client.xpending_range(market.keys.bars(BTC), "g", "-", "+", 5000)
    left = {int(x["message_id"].split(b"-")[0]) for x in lines}
    assert not left & {opened for _, opened in seen_by(market, BTC)}


def test_a_restarted_server_is_waited_for_and_nothing_is_lost(
    own_server: Server, start: Start, events: Events
) -> None:
    with own_server.client() as client:
        market = Market(client, own_server.url)
        seen = Recorder()
        market.publish(BTC, range(100))
        running = start(market, seen)
        seen.wait(lambda: len(seen.bars) == 100)
        own_server.kill()
        events.wait("bus.lost")
        own_server.start()
        market.publish(BTC, range(100, 200))
        seen.wait(lambda: 199 in seen.numbers())
        events.wait("bus.found", 2)
        assert sorted(set(seen.numbers())) == list(range(200))
        assert len(events.named("bus.lost")) == 1
        eventually(lambda: market.pending(BTC) == 0)
        running.stop()


def test_a_consumer_stops_in_time_while_the_server_is_away(
    own_server: Server, start: Start, events: Events
) -> None:
    with own_server.client() as client:
        running = start(Market(client, own_server.url), Recorder())
        events.wait("series.attached")
        own_server.kill()
        events.wait("bus.lost")
        running.stop(5)
        assert not running.errors
        events.wait("group.left_dirty")


def test_acknowledgements_that_met_a_dead_server_are_sent_again(
    own_server: Server, start: Start, events: Events
) -> None:
    with own_server.client() as client:
        market = Market(client, own_server.url)
        market.publish(BTC, range(3))
        seen = Recorder()
        killed: list[bool] = []

        def handler(bar: object) -> None:
            if not killed:
                eventually(lambda: market.pending(BTC) == 3)
                client.wait(0, 0)
                own_server.kill()
                killed.append(True)
            seen(bar)  # type: ignore[arg-type]

        running = start(market, handler)
        seen.wait(lambda: len(seen.bars) == 3)
        events.wait("bus.lost")
        own_server.start()
        eventually(lambda: market.pending(BTC) == 0)
        running.stop()


def test_a_consumer_started_first_waits_for_the_server(
    own_server: Server, start: Start, events: Events
) -> None:
    own_server.kill()
    with own_server.client() as client:
        market = Market(client, own_server.url)
        seen = Recorder()
        start(market, seen)
        assert "no bus at unix://" in events.wait("bus.awaited")["error"]
        own_server.start()
        market.publish(BTC, [0])
        seen.wait(lambda: len(seen.bars) == 1)
        assert len(events.named("bus.awaited")) == 1
