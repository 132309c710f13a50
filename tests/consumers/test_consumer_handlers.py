"""Handlers of every kind, served by a real server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from consumer_world import (
    BTC,
    ETH,
    LEASE_MS,
    MINUTE_MS,
    T0,
    Events,
    Market,
    Recorder,
    Running,
    consumer,
)

from consumers import Bar, Context, Gap, Series
from consumers.core.policy import ATTEMPTS_DEFAULT
from consumers.errors import EntryInvalid, HandlerFailed, SinkUnavailable
from consumers.shell.lookup import BusLookup
from tests.waiting import eventually

Run = Callable[..., Running]


class Seen(list[Any]):
    """What handlers got, to be waited for."""

    def until(self, count: int) -> None:
        eventually(lambda: len(self) >= count, lambda: f"{count} things in {list(self)}", 20)


def test_corrections_come_to_who_wants_them_and_are_acknowledged(
    market: Market, run_app: Run
) -> None:
    market.publish(BTC, range(3))
    market.correct(BTC, 1, 1, close=7.0)
    seen, app = Seen(), consumer(market)
    app.on_correction("*-BINANCE-1m")(seen.append)
    market.list_series(BTC, ETH)
    run_app(app)
    seen.until(1)
    market.correct(BTC, 1, 2, close=8.0)
    market.correct(ETH, 5, 1)
    seen.until(3)
    assert sorted((x.series, x.close, x.revision) for x in seen) == [
        (BTC, 7.0, 1),
        (BTC, 8.0, 2),
        (ETH, 105.5, 1),
    ]
    key = market.keys.corrections(BTC)
    eventually(lambda: market.client.xpending(key, "g")["pending"] == 0)


def test_only_the_holder_of_a_series_gets_its_forming_bars(market: Market, run_app: Run) -> None:
    market.form(BTC, 0, 1.0)  # of before; it may be old
    market.list_series(BTC, ETH)
    seen: dict[str, Seen] = {"a": Seen(), "b": Seen()}
    for name, bars in seen.items():
        app = consumer(market, name=name)
        app.on_forming("*-BINANCE-1m")(bars.append)
        run_app(app)
    held: dict[str, str] = {}

    def shared() -> bool:
        leases = market.client.hgetall(market.keys.group("g", "leases"))
        held.update({x.decode(): y.decode().split()[0] for x, y in leases.items()})
        return set(held.values()) == {"a", "b"}

    eventually(shared)
    closes = iter(range(2, 10_000))

    def heard() -> bool:
        for series in (BTC, ETH):
            market.form(series, 1, float(next(closes)))
        return all(seen.values())

    eventually(heard)
    after = {x: len(y) for x, y in seen.items()}

    def heard_more() -> bool:
        for series in (BTC, ETH):
            market.form(series, 1, float(next(closes)))
        return all(len(y) >= after[x] + 3 for x, y in seen.items())

    eventually(heard_more)
    for name, bars in seen.items():
        assert {held[str(x.series)] for x in bars[after[name] :]} == {name}
        assert {x.closed_by for x in bars} == {"forming"}
        assert 1.0 not in {x.close for x in bars}
        numbers = [x.close for x in bars]
        assert numbers == sorted(numbers)


def test_forming_bars_that_cannot_be_read_are_told(
    market: Market, run_app: Run, events: Events
) -> None:
    seen, app = Seen(), consumer(market)
    app.on_forming(str(BTC))(seen.append)
    run_app(app)

    def refused() -> bool:
        market.client.xadd(market.keys.forming(BTC), {"bar": b"\xc1"})
        return bool(events.named("entry.refused"))

    eventually(refused)
    market.form(BTC, 1, 5.0)
    seen.until(1)


def test_reading_forming_bars_outlives_the_server(own_server: Any, run_app: Run) -> None:
    with own_server.client() as client:
        market = Market(client, own_server.url)
        seen, app = Seen(), consumer(market)
        app.on_forming(str(BTC))(seen.append)
        run_app(app)

        def heard(close: float) -> Callable[[], bool]:
            def form() -> bool:
                market.form(BTC, 1, close)
                return bool(seen) and seen[-1].close == close

            return form

        eventually(heard(1.0))
        own_server.kill()
        own_server.start()
        eventually(heard(2.0))


def test_events_come_to_one_member_in_order(market: Market, run_app: Run) -> None:
    market.tell("series.silent", x=0)  # of before the group began
    seen = Seen()
    for name in "ab":
        app = consumer(market, name=name)
        app.on_event("series.*", "gap.abandoned")(seen.append)
        run_app(app)
    leases = market.keys.group("g", "leases")
    eventually(lambda: market.client.hexists(leases, "@events"))
    key = market.keys.events
    eventually(lambda: market.client.xinfo_groups(key))
    for number in range(1, 6):
        market.tell("series.silent", x=number)
        market.tell("session.lost")
    market.tell("gap.abandoned", x=6)
    seen.until(6)
    assert [x["x"] for x in seen] == [1, 2, 3, 4, 5, 6]
    eventually(lambda: market.client.xpending(key, "g")["pending"] == 0)


def test_an_interval_brings_its_bars_from_the_streams(market: Market, run_app: Run) -> None:
    five = Series("BTCUSDT", "BINANCE", "5m")
    market.list_series(BTC, ETH, five, Series("QUIET", "BINANCE", "1m"))
    market.publish(BTC, range(5))
    market.publish(ETH, range(4))
    market.publish(ETH, [4], end_time_ms=None)
    seen, app = Seen(), consumer(market)
    app.on_interval("1m")(seen.append)
    app.on_interval("1m", "*", frame=True)(seen.append)
    market.tell("publisher.started")
    run_app(app)
    eventually(lambda: market.client.xinfo_groups(market.keys.events))
    for number in (3, 4, 77):
        end_ms = T0 + (number + 1) * MINUTE_MS
        market.tell("interval.completed", interval="1m", end_time_ms=end_ms)
    seen.until(6)
    bars, frame = seen[0], seen[1]
    assert {x: (y.open_time_ms - T0) // MINUTE_MS for x, y in bars.items()} == {BTC: 3, ETH: 3}
    assert list(frame.index) == [str(BTC), str(ETH)]
    assert {x.open_time_ms for x in seen[2].values()} == {T0 + 4 * MINUTE_MS}
    assert seen[4] == {}
    assert seen[5].empty
    assert list(seen[5].columns) == list(frame.columns)


def test_a_bar_of_an_interval_that_cannot_be_read_is_told(market: Market) -> None:
    market.list_series(BTC)
    market.client.xadd(market.keys.bars(BTC), {"bar": b"\xc1"}, id=f"{T0}-0")
    lookup = BusLookup(market.client, market.keys)
    with pytest.raises(EntryInvalid, match=str(T0)):
        lookup.bars_that_ended("1m", T0 + MINUTE_MS, lambda series: True)


def test_a_gap_is_told_before_the_bar_behind_it(market: Market, run_app: Run) -> None:
    seen, app = Seen(), consumer(market)
    app.on_gap(str(BTC))(seen.append)
    app.on(str(BTC))(seen.append)
    market.publish(BTC, range(2))
    running = run_app(app)
    seen.until(2)
    running.stop()
    market.publish(BTC, range(2, 6))
    market.client.xtrim(market.keys.bars(BTC), minid=f"{T0 + 5 * MINUTE_MS}-0", approximate=False)
    again = consumer(market)
    again.on_gap(str(BTC))(seen.append)
    again.on(str(BTC))(seen.append)
    run_app(again)
    seen.until(4)
    assert [type(x) for x in seen] == [Bar, Bar, Gap, Bar]
    assert seen[2] == Gap(BTC, T0 + MINUTE_MS, T0 + 4 * MINUTE_MS, "trimmed")


def test_batches_are_acknowledged_as_one(market: Market, run_app: Run) -> None:
    market.list_series(BTC, ETH)
    market.publish(BTC, range(300))
    market.publish(ETH, range(20))
    batches, app = Seen(), consumer(market)
    app.on("*-BINANCE-1m", batch=250)(batches.append)
    run_app(app)
    eventually(lambda: sum(map(len, batches)) == 320, lambda: str([len(x) for x in batches]))
    assert max(map(len, batches)) > 100, "no larger than what was read at once before"
    numbers = [(x.open_time_ms - T0) // MINUTE_MS for y in batches for x in y if x.series == BTC]
    assert numbers == list(range(300))
    eventually(lambda: market.pending(BTC) == market.pending(ETH) == 0)


def test_async_handlers_are_served_and_finished_at_a_stop(market: Market, run_app: Run) -> None:
    market.list_series(BTC, ETH)
    market.publish(BTC, range(2))
    market.publish(ETH, range(2))
    begun, app, done = threading.Semaphore(0), consumer(market), Seen()
    going = threading.Event()

    @app.on("*-BINANCE-1m")
    async def trade(bar: Bar) -> None:
        begun.release()
        await asyncio.to_thread(going.wait, 20)
        done.append(bar)

    running = run_app(app)
    assert begun.acquire(timeout=20)
    assert begun.acquire(timeout=20), "the second series waits for the first"
    app.stop()
    going.set()
    running.thread.join(10)
    assert not running.thread.is_alive()
    assert {x.series for x in done} == {BTC, ETH}
    assert len(done) == 2
    # The second bars were read and stay pending; the first ones are acknowledged.
    assert market.pending(BTC) == market.pending(ETH) == 1


def test_a_slow_async_handler_keeps_its_series(market: Market, run_app: Run) -> None:
    market.publish(BTC, range(2))
    seen = Seen()
    for name in "ab":
        app = consumer(market, name=name)

        def register(name: str, app: Any) -> None:
            @app.on(str(BTC))
            async def trade(bar: Bar, context: Context) -> None:
                await asyncio.sleep(LEASE_MS * 2 / 1000)
                seen.append((name, bar.open_time_ms, context.attempt))

        register(name, app)
        run_app(app)
    seen.until(2)
    assert len({x[0] for x in seen}) == 1
    assert [x[1:] for x in seen] == [(T0, 1), (T0 + MINUTE_MS, 1)]


def test_a_bar_that_fails_too_often_is_a_dead_letter_on_the_bus(
    market: Market, run_app: Run
) -> None:
    market.publish(BTC, range(3))
    seen, attempts = Recorder(), Seen()
    seen.failing = lambda bar: bar.open_time_ms == T0 + MINUTE_MS
    app = consumer(market, attempts=3)

    @app.on(str(BTC))
    def trade(bar: Bar, context: Context) -> None:
        attempts.append(context.attempt)
        seen(bar)

    run_app(app)
    seen.wait(lambda: seen.numbers() == [0, 2])
    assert attempts == [1, 1, 2, 3, 1]
    eventually(lambda: market.pending(BTC) == 0)
    ((_, letter),) = market.client.xrange(market.keys.dead("g"))
    assert (
        letter[b"reason"].decode().endswith(f"trade: RuntimeError: no taste for {T0 + MINUTE_MS}")
    )
    assert b"raise RuntimeError" in letter[b"traceback"]
    assert letter[b"id"] == f"{T0 + MINUTE_MS}-0".encode()
    assert letter[b"key"] == market.keys.bars(BTC).encode()


def test_a_bar_that_ended_every_process_is_not_handed_over_again(
    market: Market, run_app: Run, events: Events
) -> None:
    market.publish(BTC, range(2))
    key = market.keys.bars(BTC)
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "gone", {key: ">"}, count=1)
    for _ in range(2):  # so it was at two more processes
        market.client.execute_command("XCLAIM", key, "g", "gone", 0, f"{T0}-0")
    seen, app = Recorder(), consumer(market, attempts=3)
    app.on(str(BTC))(seen)
    run_app(app)
    seen.wait(lambda: seen.numbers() == [1])
    reason = events.wait("handler.gave_up")["reason"]
    assert "process ended before the handler returned" in reason
    eventually(lambda: market.client.xlen(market.keys.dead("g")) == 1)
    eventually(lambda: market.pending(BTC) == 0)


def test_a_consumer_that_is_to_stop_at_a_failure_keeps_the_bar(
    market: Market, run_app: Run
) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    seen.failing = lambda bar: bar.open_time_ms == T0 + MINUTE_MS
    app = consumer(market, failure="stop", attempts=2)
    app.on(str(BTC))(seen)
    running = run_app(app)
    running.thread.join(20)
    (error,) = running.errors
    assert isinstance(error, HandlerFailed)
    assert "no taste" in str(error)
    assert seen.numbers() == [0]
    assert len(seen.calls) == 3
    again, other = Recorder(), consumer(market)
    other.on(str(BTC))(again)
    run_app(other)
    again.wait(lambda: again.numbers() == [1, 2])


def test_a_replay_fails_at_once_where_its_sink_is_away(
    market: Market, run_app: Run, events: Events
) -> None:
    market.publish(BTC, range(3))
    replays, app = Seen(), consumer(market, attempts=1)

    @app.on(str(BTC), batch=10)
    def trade(bars: list[Bar], context: Context) -> None:
        if context.replay_of is not None:
            replays.append((len(bars), context.replay_of))
            raise SinkUnavailable("away")
        if any(x.open_time_ms == T0 + MINUTE_MS for x in bars):
            raise ValueError("no")

    run_app(app)
    events.wait("entry.dead_lettered")
    eventually(lambda: market.pending(BTC) == 0)
    dead = market.keys.dead("g")
    ((letter, _),) = market.client.xrange(dead)
    market.client.hset(market.keys.group("g", "replays"), letter, str(BTC))
    assert "away" in events.wait("dead_letter.replay_failed")["error"]
    assert replays == [(1, letter.decode())]
    assert market.client.xlen(dead) == 1
    market.publish(BTC, [3])
    eventually(lambda: app.counts.handled == 3)


def test_what_is_skipped_is_acknowledged_and_counted(market: Market, run_app: Run) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    seen.failing = lambda bar: bar.open_time_ms == T0 + MINUTE_MS
    app = consumer(market, failure="skip", attempts=1)
    app.on(str(BTC))(seen)
    run_app(app)
    seen.wait(lambda: seen.numbers() == [0, 2])
    eventually(lambda: market.pending(BTC) == 0)
    assert app.counts.skipped == 1
    assert market.client.xlen(market.keys.dead("g")) == 0


def test_the_context_tells_what_the_bus_knows(market: Market, run_app: Run) -> None:
    received_ms = int(time.time() * 1000) - 5_000
    market.publish(BTC, [0], received_ms=received_ms)
    market.client.hset(market.keys.series(BTC), mapping={"timezone": "Etc/UTC"})
    seen, app = Seen(), consumer(market)

    @app.on(str(BTC))
    def trade(_bar: Bar, context: Context) -> None:
        seen.append((context.info, context.lag_ms, context.group))

    run_app(app)
    seen.until(1)
    info, lag_ms, group = seen[0]
    assert info == {"timezone": "Etc/UTC"}
    assert 5_000 <= lag_ms < 25_000
    assert group == "g"


def test_what_was_on_the_way_in_the_loop_is_cancelled_where_a_handler_ends_the_process(
    market: Market,
) -> None:
    market.list_series(BTC, ETH)
    market.publish(BTC, [0])
    app, cancelled = consumer(market), Seen()
    begun = threading.Event()

    @app.on("*-BINANCE-1m")
    async def trade(bar: Bar) -> None:
        if bar.series == ETH:
            raise SystemExit(7)
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(bar)
            raise

    def publish() -> None:
        assert begun.wait(20)
        market.publish(ETH, [0])

    thread = threading.Thread(target=publish)
    thread.start()
    with pytest.raises(SystemExit) as caught:
        app.run()
    thread.join()
    assert caught.value.code == 7
    assert len(cancelled) == 1


def test_a_day_that_lasts_an_hour_longer_is_found_by_its_end(market: Market) -> None:
    daily = Series("AAPL", "NASDAQ", "1D")
    market.list_series(daily)
    day_ms = 24 * 60 * MINUTE_MS
    market.publish(daily, [0], end_time_ms=T0 + day_ms + 60 * MINUTE_MS)
    lookup = BusLookup(market.client, market.keys)

    def ended(end_ms: int) -> set[Series]:
        return set(lookup.bars_that_ended("1D", end_ms, lambda series: True))

    assert ended(T0 + day_ms + 60 * MINUTE_MS) == {daily}
    assert ended(T0 + day_ms) == set()


def test_restarts_while_the_outside_world_is_away_cost_no_attempt(
    market: Market, start: Callable[..., Running]
) -> None:
    market.publish(BTC, range(2))
    attempts: list[int] = []

    def away(bar: Bar, context: Context) -> None:
        attempts.append(context.attempt)
        raise SinkUnavailable("the broker is away")

    for _ in range(ATTEMPTS_DEFAULT + 2):
        before = len(attempts)
        running = start(market, away)
        eventually(lambda n=before: len(attempts) > n, "the bar is handed over again")
        running.stop()
    assert set(attempts) == {1}
    assert market.client.xlen("tv:dead:{g}") == 0
