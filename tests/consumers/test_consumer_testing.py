"""The bus in memory for users' tests, and through it the worker's ways with works."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from consumer_world import BTC, ETH, MINUTE_MS, Events

from bus.errors import BusUnreachable
from consumers import (
    Backoff,
    Bar,
    Consumer,
    Context,
    Gap,
    Series,
    follow,
    read_bars,
    read_frame,
)
from consumers.core.work import Kind
from consumers.errors import (
    FrameUnavailable,
    HandlerFailed,
    HandlerInvalid,
    SinkRejected,
    SinkUnavailable,
    UsageError,
)
from consumers.shell import rehearsal
from consumers.shell.threads import Bell
from consumers.testing import TestBus
from publisher.wire import SeriesInvalid, encode_bar
from tests.waiting import eventually

B, E = str(BTC), str(ETH)


@pytest.fixture
def app() -> Consumer:
    return Consumer("g", "newest", retry=Backoff(first_ms=100, wait_ms_max=1_000))


def closes(bars: list[Bar]) -> list[float]:
    return [x.close for x in bars]


def test_bars_reach_the_handlers_of_their_series_in_order(app: Consumer) -> None:
    seen: list[Bar] = []
    app.on("*-BINANCE-1m")(seen.append)
    app.on(B)(lambda bar: seen.append(replace(bar, close=-bar.close)))
    with TestBus(app) as bus:
        made = bus.publish(B, 1, 2)
        bus.publish(E, 3)
        bus.publish("AAPL-NASDAQ-1D", 4)
        assert bus.counts.handled == 3
    assert closes(seen) == [1, -1, 2, -2, 3]
    assert seen[0] is not made[0]
    assert seen[0] == made[0]


def test_bars_that_are_made_follow_each_other(app: Consumer) -> None:
    with TestBus(app) as bus:
        first, second = bus.publish(BTC, 1, 2, volume=None)
        (third,) = bus.bars(BTC, 3, high=9.5)
    assert first.open_time.isoformat() == "2026-01-01T00:00:00+00:00"
    assert (first.previous_open_time_ms, first.volume) == (None, None)
    assert second.open_time_ms == first.open_time_ms + MINUTE_MS
    assert third.previous_open_time_ms == second.open_time_ms
    assert third.end_time_ms == third.open_time_ms + MINUTE_MS == third.received_ms
    assert (third.open, third.high, third.low, third.close) == (3, 9.5, 3, 3)
    with pytest.raises(SeriesInvalid):
        bus.bars("BTC", 1)


def test_what_a_handler_raises_reaches_the_test(app: Consumer) -> None:
    seen: list[Bar] = []

    @app.on(B)
    def trade(bar: Bar) -> None:
        assert bar.close < 2, "too dear"
        seen.append(bar)

    with TestBus(app) as bus:
        with pytest.raises(AssertionError, match="too dear"):
            bus.publish(B, 1, 2, 1.5)
        bus.publish(B, 0.5)
    assert closes(seen) == [1, 1.5, 0.5]


def test_reading_finds_the_bus_of_the_test(app: Consumer) -> None:
    found: list[list[float]] = []

    @app.on(B)
    def trade(bar: Bar) -> None:
        found.append(closes(read_bars(bar.series, end=bar.open_time, last=2)))

    with TestBus(app) as bus:
        bus.prefill(B, 1, 2, 3)
        (fourth,) = bus.publish(B, 4)
        bus.publish(B, 5)
        corrected = bus.correct(fourth, close=40)
        assert corrected.revision == 1
        assert closes(read_bars(B)) == [1, 2, 3, 40, 5]
        assert list(read_frame(B, start=fourth.open_time)["close"]) == [40, 5]
        assert closes(read_bars(B, start=fourth.open_time_ms, last=1)) == [5]
        with pytest.raises(UsageError, match="before anything of it is published"):
            bus.prefill(B, 6)
    assert found == [[2, 3], [3, 4]]


def test_beyond_the_test_the_bus_of_the_settings_is_found_again(app: Consumer) -> None:
    with TestBus(app) as bus:
        bus.publish(B, 1)
        with pytest.raises(UsageError, match="what follows streams needs a real bus"):
            next(follow(B))
        with pytest.raises(UsageError, match="TestBus does not know 'xadd'"):
            app.bus.find(None, None).open().xadd("x", {})
    with pytest.raises(BusUnreachable):
        read_bars(B)


def test_corrections_forming_bars_and_events_reach_who_wants_them(app: Consumer) -> None:
    seen: list[Any] = []
    app.on_correction(B)(lambda bar: seen.append(("corrected", bar.close, bar.revision)))
    app.on_forming("*-1m")(lambda bar: seen.append((bar.closed_by, bar.close)))
    app.on_event("gap.*")(lambda event: seen.append((event["event"], event["level"], event["x"])))
    with TestBus(app) as bus:
        (bar,) = bus.publish(B, 1)
        bus.form(B, 1.5)
        bus.correct(bus.correct(bar, close=7), close=8)
        bus.event("gap.abandoned", x=1, level="warning")
        bus.event("series.silent", x=2)
        bus.form("AAPL-NASDAQ-1D", 5)
    assert seen == [
        ("forming", 1.5),
        ("corrected", 7, 1),
        ("corrected", 8, 2),
        ("gap.abandoned", "warning", 1),
    ]


@pytest.mark.parametrize("reason", ["missing", "trimmed", "abandoned"])
def test_a_gap_is_told_before_the_bar_behind_it(app: Consumer, reason: Any) -> None:
    seen: list[Any] = []
    app.on_gap(B)(seen.append)
    app.on(B)(seen.append)
    with TestBus(app) as bus:
        (before,) = bus.publish(B, 1)
        bus.gap(B, 3, reason)
        (behind,) = bus.publish(B, 2)
        bus.publish(B, 3)
        with pytest.raises(UsageError, match="a gap is between two bars"):
            bus.gap(E)
    gap = seen[1]
    assert isinstance(gap, Gap)
    assert [type(x).__name__ for x in seen] == ["Bar", "Gap", "Bar", "Bar"]
    assert behind.open_time_ms == before.open_time_ms + 4 * MINUTE_MS
    last_lost_ms = before.open_time_ms + 3 * MINUTE_MS
    assert (gap.series, gap.from_ms, gap.reason) == (BTC, before.open_time_ms, reason)
    assert gap.to_ms == (behind.open_time_ms - 1 if reason == "abandoned" else last_lost_ms)


def test_the_bars_of_an_interval_come_together(app: Consumer) -> None:
    seen: list[Any] = []
    app.on_interval("1m")(seen.append)
    app.on_interval("1m", "BTC*")(lambda bars: seen.append(sorted(map(str, bars))))
    app.on_interval("1m", frame=True)(seen.append)
    app.on_interval("5m")(seen.append)
    with TestBus(app) as bus:
        bus.publish(E, 1, 2)
        bus.publish(B, 10, 20)
        bus.publish("BTCUSDT-BINANCE-5m", 7)
        bus.complete("1m")
        bars, names, frame = seen
        assert bars == {BTC: read_bars(B)[1], ETH: read_bars(E)[1]}
        assert list(bars) == [BTC, ETH]
        assert names == [B]
        bus.publish(B, 30)
        bus.complete("1m")
        assert {str(x): y.close for x, y in seen[3].items()} == {B: 30}
        bus.complete("1m", bars[BTC].end_time_ms)
        assert seen[6] == bars
        with pytest.raises(UsageError, match="'1D' first"):
            bus.complete("1D")
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.index) == [B, E]
    assert list(frame.columns) == ["open_time", "open", "high", "low", "close", "volume"]
    assert list(frame["close"]) == [20, 2]
    assert frame["open_time"].iloc[0] == pd.Timestamp("2026-01-01T00:01Z")


def test_an_interval_without_an_end_is_a_dead_letter(app: Consumer) -> None:
    app.on_interval("1m")(lambda bars: None)
    with TestBus(app, raise_errors=False) as bus:
        bus.event("interval.completed", interval="1m", end_time_ms="soon")
        (letter,) = bus.dead_letters
    assert letter.series == "@events"
    assert "end_time_ms must be an integer, was 'soon'" in letter.reason


def test_a_handler_with_two_parameters_is_told_the_context(app: Consumer) -> None:
    seen: list[Context] = []

    @app.on(B)
    def trade(_bar: Bar, context: Context) -> None:
        seen.append(context)

    app.on_event("*")(lambda event, context: seen.append(context))
    app.on_gap(B)(lambda gap, context: seen.append(context))
    app.on_forming(B)(lambda bar, context: seen.append(context))
    app.on(E, batch=5)(lambda bars, context: seen.append(context))
    with TestBus(app) as bus:
        bus.describe(B, timezone="Etc/UTC")
        (bar,) = bus.publish(B, 1, received_ms=0)
        bus.event("a.b", at_ms=None)
        bus.gap(B)
        bus.publish(B, 2)
        bus.form(B, 3)
        bus.publish(E, 1, 2)
        bar_context, event, gap, _, forming, batch = seen
        assert bar_context.info == {"timezone": "Etc/UTC"}
        bus.describe(B, timezone="Other/Zone")
        assert bar_context.info == {"timezone": "Etc/UTC"}, "remembered"
        assert event.info == batch.info == {}
    assert bar_context.group == "g"
    assert bar_context.entry_id == f"{bar.open_time_ms}-0"
    assert (bar_context.series, bar_context.attempt) == (BTC, 1)
    assert bar_context.lag_ms == rehearsal.FIRST_MS
    assert (event.series, event.lag_ms) == (None, None)
    assert gap.series == forming.series == BTC
    assert forming.entry_id == ""
    assert batch.series == ETH
    assert batch.entry_id == f"{rehearsal.FIRST_MS + MINUTE_MS}-0"
    assert bar_context.replay_of is None


def test_a_batch_is_what_is_there(app: Consumer) -> None:
    batches: list[list[Bar]] = []
    app.on("*-1m", batch=3)(batches.append)
    with TestBus(app) as bus:
        bus.publish(B, 1, 2, 3, 4)
        bus.publish_bars(*bus.bars(B, 5), *bus.bars(E, 10))
        assert bus.counts.handled == 6
    assert [closes(x) for x in batches] == [[1, 2, 3], [4], [5, 10]]


def test_batches_go_before_single_bars_and_gaps_before_both(app: Consumer) -> None:
    seen: list[Any] = []
    app.on(B)(lambda bar: seen.append(bar.close))
    app.on(B, batch=10)(lambda bars: seen.append(closes(bars)))
    app.on(B, batch=2)(lambda bars: seen.append(closes(bars)))
    app.on_gap(B)(lambda gap: seen.append("gap"))
    with TestBus(app) as bus:
        bus.publish(B, 1)
        seen.clear()
        bus.gap(B)
        bus.publish(B, 2, 3, 4)
        assert bus.counts.handled == 4
    assert seen == ["gap", [2, 3, 4], [2, 3], 2, 3, [4], 4]


def test_in_a_batch_that_fails_only_the_culprit_is_given_up(app: Consumer, events: Events) -> None:
    good: list[float] = []
    calls: list[list[float]] = []

    @app.on("*-1m", batch=10)
    def keep(bars: list[Bar]) -> None:
        calls.append(closes(bars))
        if 2 in closes(bars):
            raise ValueError("two")
        good.extend(closes(bars))

    with TestBus(app, raise_errors=False) as bus:
        bus.publish_bars(*bus.bars(B, 1, 2, 3), *bus.bars(E, 4))
        (letter,) = bus.dead_letters
        bus.publish(B, 5, 6)
    assert good == [1, 4, 3, 5, 6]
    assert calls[0] == [1, 2, 3, 4]
    assert calls[1:4] == [[1], [4], [2]]
    assert calls.count([2]) == 5
    assert calls[-1] == [5, 6]
    assert letter.attempts == 5
    assert letter.reason.endswith("keep: ValueError: two")
    assert 'raise ValueError("two")' in letter.traceback
    assert events.named("handler.failed")[0]["bars"] == 4


def test_a_batch_whose_sink_is_away_waits_and_comes_again_whole(app: Consumer) -> None:
    calls: list[list[float]] = []

    @app.on("*-1m", batch=10)
    def keep(bars: list[Bar]) -> None:
        calls.append(closes(bars))
        if len(calls) < 12:
            raise SinkUnavailable("away")

    with TestBus(app, raise_errors=False) as bus:
        bus.publish_bars(*bus.bars(B, 1, 2), *bus.bars(E, 4))
        assert bus.dead_letters == []
        assert bus.counts.handled == 3
    assert len(calls) == 12
    assert all(sorted(x) == [1, 2, 4] for x in calls)


def failing(app: Consumer, error: Exception, times: int) -> list[int]:
    attempts: list[int] = []

    @app.on(B)
    def trade(bar: Bar, context: Context) -> None:
        if bar.close == 1:
            attempts.append(context.attempt)
            if len(attempts) <= times:
                raise error

    return attempts


def test_a_bar_that_fails_is_tried_again_and_its_series_waits(
    app: Consumer, events: Events
) -> None:
    seen: list[float] = []
    attempts = failing(app, ValueError("no"), 3)
    app.on("*-1m")(lambda bar: seen.append(bar.close))
    with TestBus(app, raise_errors=False) as bus:
        bus.publish_bars(*bus.bars(B, 1, 2), *bus.bars(E, 5))
        assert bus.counts.failed == 3
        assert bus.counts.handled == 3
    assert attempts == [1, 2, 3, 4]
    assert seen == [5, 1, 2]
    told = events.named("handler.failed")
    assert [x["attempt"] for x in told] == [1, 2, 3]
    assert [bool(x["exc_info"]) for x in told] == [True, False, False]
    assert told[0]["series"] == B
    assert told[0]["error"] == "ValueError: no"


def test_what_is_waited_out_is_told_in_one_line(app: Consumer, events: Events) -> None:
    failing(app, SinkUnavailable("the broker is away"), 2)
    with TestBus(app, raise_errors=False) as bus:
        bus.publish_bars(*bus.bars(B, 1))
    told = events.named("handler.failed")
    assert [bool(x["exc_info"]) for x in told] == [False, False]


def test_the_attempt_that_follows_begins_with_the_handler_that_failed(app: Consumer) -> None:
    seen: list[float] = []
    app.on(B)(lambda bar: seen.append(bar.close))
    attempts = failing(app, ValueError(), 2)
    app.on(B)(lambda bar: seen.append(-bar.close))
    with TestBus(app, raise_errors=False) as bus:
        bus.publish(B, 1)
    assert seen == [1, -1]
    assert len(attempts) == 3


def test_a_bar_that_fails_too_often_becomes_a_dead_letter(app: Consumer, events: Events) -> None:
    attempts = failing(app, ValueError("no"), 99)
    with TestBus(app, raise_errors=False) as bus:
        (bar, _) = bus.publish(B, 1, 2)
        (letter,) = bus.dead_letters
        assert bus.counts.handled == 1
        assert bus.counts.dead_lettered == 1
    assert attempts == [1, 2, 3, 4, 5]
    assert (letter.series, letter.entry_id) == (B, f"{bar.open_time_ms}-0")
    assert letter.attempts == 5
    assert letter.reason == "failing.<locals>.trade: ValueError: no".replace(
        "failing.<locals>.", ""
    )
    told = events.wait("handler.gave_up")
    assert (told["then"], told["level"]) == ("dead-letter", "error")


def test_what_never_works_is_not_tried_twice(app: Consumer) -> None:
    attempts = failing(app, SinkRejected("never"), 99)
    with TestBus(app, raise_errors=False) as bus:
        bus.publish(B, 1)
        assert len(bus.dead_letters) == 1
    assert attempts == [1]


def test_a_bar_can_be_skipped_instead() -> None:
    app = Consumer("g", failure="skip", attempts=2, retry=Backoff(first_ms=1, wait_ms_max=1))
    attempts = failing(app, ValueError("no"), 99)
    with TestBus(app, raise_errors=False) as bus:
        bus.publish(B, 1, 2)
        assert (bus.counts.skipped, bus.counts.handled) == (1, 1)
        assert bus.dead_letters == []
    assert attempts == [1, 2]


def test_a_consumer_can_stop_instead_and_keeps_the_bar() -> None:
    app = Consumer("g", failure="stop", attempts=1)
    failing(app, ValueError("no"), 99)
    with TestBus(app, raise_errors=False) as bus:
        with pytest.raises(HandlerFailed, match=r"trade: ValueError: no; BTC.* stays pending") as e:
            bus.publish(B, 1, 2)
        assert isinstance(e.value.__cause__, ValueError)
        assert bus.counts.handled == 0


def test_a_bar_can_be_tried_for_ever() -> None:
    app = Consumer("g", failure="retry-forever", retry=Backoff(first_ms=1, wait_ms_max=60_000))
    attempts = failing(app, ValueError("no"), 20)
    with TestBus(app, raise_errors=False) as bus:
        bus.publish(B, 1)
        assert bus.counts.handled == 1
    assert attempts[-1] == 21


def test_a_test_does_not_wait_longer_than_an_hour(app: Consumer) -> None:
    attempts = failing(app, SinkUnavailable("away"), 10**9)
    with TestBus(app, raise_errors=False) as bus:
        bus.publish(B, 1)
        assert bus.counts.handled == 0
    assert 3_600 < len(attempts) < 3_600 * 20


def test_async_handlers_of_different_series_run_at_the_same_time(app: Consumer) -> None:
    both = asyncio.Barrier(2)
    seen: list[float] = []

    @app.on("*-1m")
    async def trade(bar: Bar) -> None:
        if bar.close < 10:
            await asyncio.wait_for(both.wait(), 20)
        seen.append(bar.close)

    with TestBus(app) as bus:
        bus.publish_bars(*bus.bars(B, 1, 10, 11), *bus.bars(E, 2, 20))
        assert bus.counts.handled == 5
    assert sorted(seen[:2]) == [1, 2]
    assert [x for x in seen if x in {1, 10, 11}] == [1, 10, 11]
    assert [x for x in seen if x in {2, 20}] == [2, 20]


def test_plain_handlers_run_in_the_thread_that_runs_and_async_ones_beside_it(
    app: Consumer,
) -> None:
    threads: list[threading.Thread] = []

    @app.on(B)
    async def later(_bar: Bar) -> None:
        threads.append(threading.current_thread())

    app.on(B)(lambda bar: threads.append(threading.current_thread()))
    with TestBus(app) as bus:
        bus.publish(B, 1)
    assert threads[0].name == "tvbus-async-handlers"
    assert threads[1] is threading.current_thread()
    threads[0].join(20)
    assert not threads[0].is_alive()


def test_async_handlers_are_bounded(app: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.shell.worker.AWAITED_MAX", 2)
    running = most = 0
    pair = asyncio.Barrier(2)

    @app.on("*-1m")
    async def trade(_bar: Bar) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.wait_for(pair.wait(), 20)
        running -= 1

    with TestBus(app) as bus:
        series = [Series(f"S{n}", "X", "1m") for n in range(6)]
        bus.publish_bars(*(bar for x in series for bar in bus.bars(x, 1)))
        assert bus.counts.handled == 6
    assert most == 2


def test_an_async_handler_that_fails_is_tried_again(app: Consumer) -> None:
    calls: list[int] = []

    @app.on(B)
    async def trade(_bar: Bar, context: Context) -> None:
        calls.append(context.attempt)
        await asyncio.sleep(0)
        if len(calls) < 3:
            raise ValueError("no")

    with TestBus(app, raise_errors=False) as bus:
        bus.publish(B, 1)
        assert bus.counts.handled == 1
    assert calls == [1, 2, 3]


@pytest.mark.parametrize("kind", ["on", "on_forming"])
def test_what_an_async_handler_raises_reaches_the_test(app: Consumer, kind: str) -> None:
    async def trade(_bar: Bar) -> None:
        raise ValueError("no")

    getattr(app, kind)(B)(trade)
    with TestBus(app) as bus, pytest.raises(ValueError, match="no"):
        bus.form(B, 1) if kind == "on_forming" else bus.publish(B, 1)


@pytest.mark.parametrize("kind", ["on", "on_forming"])
def test_a_handler_may_end_the_process_from_the_loop(app: Consumer, kind: str) -> None:
    async def leave(_bar: Bar) -> None:
        raise SystemExit(7)

    getattr(app, kind)(B)(leave)
    with TestBus(app, raise_errors=False) as bus, pytest.raises(SystemExit):
        bus.form(B, 1) if kind == "on_forming" else bus.publish(B, 1)


def test_forming_bars_are_conflated_while_their_handler_is_busy(app: Consumer) -> None:
    seen: list[float] = []

    @app.on_forming(B)
    async def watch(bar: Bar) -> None:
        seen.append(bar.close)
        for newer in later.pop(bar.close, []):
            with desk.lock:
                desk.forming[BTC] = replace(newer, close=1.5)
                desk.forming[BTC] = newer
        await asyncio.sleep(0.01)

    with TestBus(app) as bus:
        desk = bus._rehearsal.desk
        later = {x: bus.bars(B, x + 1, closed_by="forming") for x in (1.0, 2.0)}
        bus.form(B, 1)
    assert seen == [1, 2, 3]


def test_a_forming_bar_that_fails_is_told_and_not_tried_again(
    app: Consumer, events: Events
) -> None:
    calls: list[Bar] = []

    @app.on_forming(B)
    def watch(bar: Bar) -> None:
        calls.append(bar)
        raise ValueError("no")

    @app.on_forming(B)
    async def later(bar: Bar) -> None:
        calls.append(bar)
        raise ValueError("no")

    with TestBus(app, raise_errors=False) as bus:
        bus.form(B, 1)
    assert len(calls) == 2
    assert [x["handler"][-5:] for x in events.named("handler.failed")] == ["watch", "later"]


def test_a_stop_lets_the_bar_in_hand_end(app: Consumer) -> None:
    seen: list[float] = []

    @app.on(B)
    async def trade(bar: Bar) -> None:
        app.stop()
        await asyncio.sleep(0)
        seen.append(bar.close)

    app.on(B)(lambda bar: seen.append(-bar.close))
    with TestBus(app) as bus:
        bus.publish(B, 1, 2)
        assert bus.counts.handled == 1
    assert seen == [1, -1]


def test_a_handler_that_hangs_fails_the_test(
    app: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "AWAITED_MS_MAX", 30)
    monkeypatch.setattr("consumers.shell.loop.CLOSE_MS_MAX", 50)

    @app.on(B)
    async def hang(_bar: Bar) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)

    with TestBus(app) as bus, pytest.raises(UsageError, match="did not end within 30 ms"):
        bus.publish(B, 1)


def test_a_handler_that_ends_together_with_the_stop_is_not_waited_for(app: Consumer) -> None:
    @app.on(B)
    async def trade(_bar: Bar) -> None:
        app.stop()

    class OneRing(Bell):
        waited = False

        def ring(self) -> None: ...

        def wait(self, _wait_ms: int) -> bool:
            assert not self.waited, "a second ring is waited for, and there was one"
            self.waited = True
            eventually(lambda: not worker._ended.empty())
            return True

    with TestBus(app) as bus:
        stage, worker = bus._rehearsal, bus._rehearsal._worker
        stage.desk.worker_bell = OneRing()
        (bar,) = bus.bars(B, 1)
        stage.put(
            Kind.BARS, bus._bus.keys.bars(BTC), BTC, dict([encode_bar(bar)]), bar.open_time_ms
        )
        worker.run()
        assert bus.counts.handled == 1


def test_no_bar_is_taken_after_a_stop(app: Consumer) -> None:
    seen: list[Bar] = []
    app.on(B)(seen.append)
    with TestBus(app) as bus:
        stage = bus._rehearsal
        (bar,) = bus.bars(B, 1)
        key, fields = bus._bus.keys.bars(BTC), dict([encode_bar(bar)])
        stage.put(Kind.BARS, key, BTC, fields, bar.open_time_ms)
        stage.desk.stop()
        assert stage._worker.step() > 0
        stage._worker.run()
    assert seen == []


def test_a_gap_of_which_the_bar_is_gone_too_is_told_alone(app: Consumer, events: Events) -> None:
    gaps: list[Gap] = []

    @app.on_gap(B)
    def missing(gap: Gap) -> None:
        gaps.append(gap)
        if len(gaps) == 1:
            raise ValueError("no")

    with TestBus(app, raise_errors=False) as bus:
        (bar,) = bus.publish(B, 1)
        key = bus._bus.keys.bars(BTC)
        lost_ms = bar.open_time_ms + MINUTE_MS
        bus._rehearsal.put(Kind.BARS, key, BTC, {}, lost_ms)
        bus._rehearsal.settle()
    assert gaps == [Gap(BTC, bar.open_time_ms, lost_ms, "trimmed")] * 2
    assert events.wait("handler.failed")["open_time"] == f"{lost_ms}-0"


@pytest.mark.parametrize(
    ("register", "says"),
    [
        (lambda app: app.on(), 'name a series: @app.on("BTCUSDT-BINANCE-1m")'),
        (lambda app: app.on(print), "name a series"),
        (lambda app: app.on_gap(), 'name a series: @app.on_gap("BTCUSDT-BINANCE-1m")'),
        (lambda app: app.on_event(), 'name events: @app.on_event("series.*")'),
        (lambda app: app.on_event(print), "name events"),
        (lambda app: app.on_interval("7m"), "was '7m'; write @app.on_interval(\"1m\")"),
        (lambda app: app.on(B, batch=0), "batch must be 1 to 5000 bars, was 0"),
        (lambda app: app.on(B, batch=5001), "was 5001"),
        (lambda app: app.on(B, batch=True), "was True"),
        (lambda app: app.on(B)(lambda: None), "takes no parameter: write def handler(bar):"),
        (lambda app: app.on(B, batch=5)(1), "def handler(bars): or def handler(bars, context):"),
        (lambda app: app.on_gap(B)(1), "def handler(gap):"),
        (lambda app: app.on_event("*")(1), "def handler(event):"),
        (lambda app: app.on_interval("1m")(1), "def handler(bars):"),
        (lambda app: app.on_interval("1m", frame=True)(1), "def handler(frame):"),
    ],
)
def test_a_wrong_registration_is_told_how_to_be_right(
    app: Consumer, register: Any, says: str
) -> None:
    with pytest.raises(HandlerInvalid) as caught:
        register(app)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frame_without_pandas_is_refused_at_once(
    app: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FrameUnavailable, match=r"on_interval\(frame=True\) needs pandas"):
        app.on_interval("1m", frame=True)
