"""A consumer against a real server: what it promises about bars."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from consumer_world import (
    BTC,
    ETH,
    FAST,
    FAST_RETRY,
    LEASE_MS,
    MINUTE_MS,
    T0,
    Events,
    Market,
    Recorder,
    Running,
)

from consumers import Bar, Consumer, Series
from consumers.errors import StartRequired
from tests.waiting import eventually

Start = Callable[..., Running]


def test_every_bar_is_handled_once_in_order_and_acknowledged(market: Market, start: Start) -> None:
    market.publish(BTC, range(500))
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: len(seen.bars) == 500)
    market.publish(BTC, range(500, 510))
    seen.wait(lambda: len(seen.bars) == 510)
    assert seen.numbers() == list(range(510))
    assert seen.bars[3] == market.bar(BTC, 3)
    eventually(lambda: market.pending(BTC) == 0)


def test_nothing_is_acknowledged_before_its_handler_returned(market: Market, start: Start) -> None:
    market.publish(BTC, range(3))
    held: list[int] = []
    seen = Recorder()

    def handler(bar: Bar) -> None:
        held.append(market.pending(BTC))
        seen(bar)

    start(market, handler)
    seen.wait(lambda: len(seen.bars) == 3)
    assert held[0] == 3
    assert held[2] >= 1
    eventually(lambda: market.pending(BTC) == 0)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("oldest", range(20)),
        ("newest", range(10, 20)),
        ("last:4", range(6, 20)),
        ("last:10", range(20)),
        ("last:5000", range(20)),
        (f"time:{T0 + 3 * MINUTE_MS}", range(3, 20)),
        (f"time:{T0 + 3 * MINUTE_MS + 1}", range(4, 20)),
    ],
)
def test_a_group_begins_where_it_was_told(
    market: Market, start: Start, events: Events, position: str, expected: range
) -> None:
    market.publish(BTC, range(10))
    seen = Recorder()
    start(market, seen, start=position)
    events.wait("series.attached")
    market.publish(BTC, range(10, 20))
    seen.wait(lambda: 19 in seen.numbers())
    assert seen.numbers() == list(expected)


def test_later_the_position_of_the_group_counts(market: Market, start: Start) -> None:
    market.publish(BTC, range(5))
    first, second = Recorder(), Recorder()
    running = start(market, first)
    first.wait(lambda: len(first.bars) == 5)
    running.stop()
    market.publish(BTC, range(5, 8))
    start(market, second, start=None)
    second.wait(lambda: len(second.bars) == 3)
    assert second.numbers() == [5, 6, 7]


def test_without_a_start_position_a_new_series_is_an_error(market: Market, start: Start) -> None:
    running = start(market, Recorder(), start=None)
    running.thread.join(5)
    (error,) = running.errors
    assert isinstance(error, StartRequired)
    assert "oldest, newest, time:2026-11-01T00:00:00Z or last:N" in str(error)
    assert "\n" not in str(error)


def test_a_series_not_published_yet_loses_nothing(
    market: Market, start: Start, events: Events
) -> None:
    seen = Recorder()
    start(market, seen, start="newest")
    events.wait("series.attached")
    market.publish(BTC, range(3))
    seen.wait(lambda: len(seen.bars) == 3)


def test_a_pattern_picks_up_new_series_and_lets_removed_ones_go(
    market: Market, start: Start, events: Events
) -> None:
    market.list_series(BTC)
    market.publish(BTC, range(2))
    market.publish(ETH, range(2))
    seen = Recorder()
    start(market, seen, "*-BINANCE-1m")
    seen.wait(lambda: len(seen.numbers(BTC)) == 2)
    market.list_series(ETH, Series("AAPL", "NASDAQ", "1m"), Series("BTCUSDT", "BINANCE", "1M"))
    seen.wait(lambda: len(seen.numbers(ETH)) == 2)
    market.list_series(BTC, state="removed")
    events.wait("series.let_go")
    market.publish(BTC, [2])
    market.publish(ETH, [2])
    seen.wait(lambda: len(seen.numbers(ETH)) == 3)
    assert seen.numbers(BTC) == [0, 1]
    assert len(events.named("series.attached")) == 2
    market.list_series(BTC)
    seen.wait(lambda: seen.numbers(BTC) == [0, 1, 2])


def test_a_series_that_comes_back_goes_on_where_this_process_left_it(
    market: Market, start: Start, events: Events
) -> None:
    market.list_series(BTC)
    market.publish(BTC, range(10))
    seen = Recorder()
    start(market, seen, "*")
    seen.wait(lambda: len(seen.bars) == 10)
    eventually(lambda: market.pending(BTC) == 0)
    market.list_series(BTC, state="removed")
    events.wait("series.let_go")
    market.client.delete(market.keys.bars(BTC))
    market.publish(BTC, range(5, 13))
    market.list_series(BTC)
    seen.wait(lambda: 12 in seen.numbers())
    assert seen.numbers() == list(range(13))


def test_a_malformed_catalogue_line_hides_no_other(
    market: Market, start: Start, events: Events
) -> None:
    market.client.hset(market.keys.catalogue, "nonsense", b"{}")
    market.list_series(BTC)
    market.publish(BTC, range(2))
    seen = Recorder()
    start(market, seen, "*")
    seen.wait(lambda: len(seen.bars) == 2)
    market.list_series(ETH)
    events.wait("series.attached", 2)
    assert len(events.named("catalogue.refused")) == 1


def test_a_new_series_without_a_start_position_stops_no_other(
    market: Market, start: Start, events: Events
) -> None:
    market.list_series(BTC)
    market.client.xgroup_create(market.keys.bars(BTC), "g", "0", mkstream=True)
    seen = Recorder()
    start(market, seen, "*", start=None)
    events.wait("series.attached")
    market.list_series(ETH)
    assert events.wait("series.refused")["series"] == str(ETH)
    market.publish(BTC, range(2))
    seen.wait(lambda: len(seen.bars) == 2)


def test_each_handler_gets_what_it_wants_and_a_retry_repeats_only_the_failed_one(
    market: Market, start: Start
) -> None:
    every, failing, other = Recorder(), Recorder(), Recorder()
    failing.failing = lambda bar: len(failing.calls) < 3
    app = Consumer("g", "oldest", market.url, tuning=FAST, retry=FAST_RETRY)
    app.on(str(BTC))(every)
    app.on("*USDT-BINANCE-1m")(failing)
    app.on(str(ETH))(other)
    market.publish(BTC, [0])
    market.list_series(BTC)
    thread = threading.Thread(target=app.run)
    thread.start()
    failing.wait(lambda: len(failing.bars) == 1)
    Running(app, thread, []).stop()
    assert (len(every.calls), len(failing.calls), len(other.calls)) == (1, 3, 0)


def test_a_failing_handler_holds_up_its_own_series_only(
    market: Market, start: Start, events: Events
) -> None:
    seen = Recorder()
    healed: list[bool] = []
    seen.failing = lambda bar: bar.series == BTC and bar.open_time_ms == T0 and not healed
    market.publish(BTC, range(300))
    market.publish(ETH, range(300))
    start(market, seen, str(BTC), str(ETH))
    seen.wait(lambda: len(seen.numbers(ETH)) == 300)
    third = events.wait("handler.failed", 3)
    assert (third["series"], third["attempt"]) == (str(BTC), 3)
    assert "RuntimeError: no taste" in third["error"]
    assert seen.numbers(BTC) == []
    assert market.pending(BTC) > 0
    healed.append(True)
    seen.wait(lambda: len(seen.numbers(BTC)) == 300)
    assert seen.numbers(BTC) == list(range(300))
    eventually(lambda: market.pending(BTC) == 0)


def test_an_entry_that_cannot_be_decoded_becomes_a_dead_letter(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, [0])
    market.client.xadd(key, {"bar": b"\xc1", "note": "x"}, id=f"{T0 + MINUTE_MS}-0")
    market.publish(BTC, [2])
    seen = Recorder()
    running = start(market, seen)
    seen.wait(lambda: seen.numbers() == [0, 2])
    line = events.wait("entry.dead_lettered")
    assert line["id"] == f"{T0 + MINUTE_MS}-0"
    ((_, letter),) = market.client.xrange(market.keys.dead("g"))
    assert letter[b"key"] == key.encode()
    assert letter[b"id"] == f"{T0 + MINUTE_MS}-0".encode()
    assert letter[b"original.bar"] == b"\xc1"
    assert letter[b"original.note"] == b"x"
    assert b"cannot be decoded" in letter[b"reason"]
    eventually(lambda: market.pending(BTC) == 0)
    assert running.app.counts.dead_lettered == 1


def test_an_entry_whose_dead_letter_is_refused_stays_pending(
    market: Market, start: Start, events: Events
) -> None:
    market.client.set(market.keys.dead("g"), "not a stream")
    market.client.xadd(market.keys.bars(BTC), {"bar": b"\xc1"}, id=f"{T0}-0")
    market.publish(BTC, [1])
    seen = Recorder()
    start(market, seen)
    events.wait("entry.dead_letter_failed")
    seen.wait(lambda: seen.numbers() == [1])
    eventually(lambda: market.pending(BTC) == 1)
    market.client.delete(market.keys.dead("g"))
    events.wait("entry.dead_lettered")
    eventually(lambda: market.pending(BTC) == 0)


def test_pending_entries_that_were_trimmed_are_counted_and_acknowledged(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(6))
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "me", {key: ">"}, count=2)
    market.client.xreadgroup("g", "gone", {key: ">"}, count=2)
    for number in range(4):
        market.client.xdel(key, f"{T0 + number * MINUTE_MS}-0")
    seen = Recorder()
    running = start(market, seen, name="me")
    seen.wait(lambda: seen.numbers() == [4, 5])
    eventually(lambda: market.pending(BTC) == 0)
    assert sum(x["entries"] for x in events.named("entry.trimmed")) == 4
    assert running.app.counts.trimmed == 4


def test_a_missing_bar_is_told_and_stops_nothing(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, [0, 1])
    market.publish(BTC, [5, 6])
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: seen.numbers() == [0, 1, 5, 6])
    line = events.wait("gap.seen")
    assert (line["from_ms"], line["to_ms"]) == (T0 + MINUTE_MS, T0 + 4 * MINUTE_MS)
    assert len(events.named("gap.seen")) == 1


@pytest.mark.parametrize("listed", [False, True])
def test_a_flushed_bus_is_read_again_from_where_this_process_was(
    market: Market, start: Start, events: Events, listed: bool
) -> None:
    market.publish(BTC, range(10))
    market.list_series(BTC)
    seen = Recorder()
    start(market, seen, "BTC*" if listed else str(BTC))
    seen.wait(lambda: len(seen.bars) == 10)
    eventually(lambda: market.pending(BTC) == 0)
    market.client.flushall()
    events.wait("lease.lost" if listed else "group.lost")
    market.publish(BTC, range(5, 13))
    market.list_series(BTC)
    seen.wait(lambda: 12 in seen.numbers())
    assert seen.numbers() == list(range(13))
    assert len(events.named("group.lost")) <= 2


def test_a_group_removed_while_bars_are_in_hand_loses_none(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(50))
    seen = Recorder()
    removed: list[int] = []

    def handler(bar: Bar) -> None:
        if len(seen.bars) == 20 and not removed:
            removed.append(market.client.xgroup_destroy(market.keys.bars(BTC), "g"))
            market.publish(BTC, [50])
        seen(bar)

    start(market, handler)
    seen.wait(lambda: 50 in seen.numbers())
    events.wait("group.lost")
    assert sorted(set(seen.numbers())) == list(range(51))
    eventually(lambda: market.pending(BTC) == 0)


def test_a_start_at_the_oldest_does_not_repeat_all_when_the_group_vanishes(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(10))
    first, second = Recorder(), Recorder()
    running = start(market, first)
    first.wait(lambda: len(first.bars) == 10)
    running.stop()
    start(market, second)
    events.wait("series.attached", 2)
    market.client.xgroup_destroy(market.keys.bars(BTC), "g")
    events.wait("group.lost")
    market.publish(BTC, [10])
    second.wait(lambda: len(second.bars) > 0)
    assert second.numbers() == [10]


def test_a_key_of_another_type_is_refused_and_the_others_go_on(
    market: Market, start: Start, events: Events
) -> None:
    market.client.set(market.keys.bars(BTC), "not a stream")
    market.publish(ETH, range(3))
    seen = Recorder()
    start(market, seen, str(BTC), str(ETH))
    seen.wait(lambda: len(seen.numbers(ETH)) == 3)
    assert events.wait("series.refused")["series"] == str(BTC)
    market.client.delete(market.keys.bars(BTC))
    market.publish(BTC, range(2))
    seen.wait(lambda: len(seen.numbers(BTC)) == 2)
    market.client.delete(market.keys.bars(ETH))
    market.client.set(market.keys.bars(ETH), "not a stream")
    assert events.wait("series.refused", 2)["series"] == str(ETH)
    market.publish(BTC, [2])
    seen.wait(lambda: len(seen.numbers(BTC)) == 3)


def test_a_catalogue_of_another_type_is_told_once_and_named_series_go_on(
    market: Market, start: Start, events: Events
) -> None:
    market.client.set(market.keys.catalogue, "not a hash")
    market.publish(BTC, range(2))
    seen = Recorder()
    start(market, seen, str(BTC), "*-X-1m")
    seen.wait(lambda: len(seen.bars) == 2)
    assert len(events.named("catalogue.refused")) == 1


def test_what_a_vanished_member_held_comes_first_and_in_order(market: Market, start: Start) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(10))
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "gone", {key: ">"}, count=3)
    market.client.xreadgroup("g", "me", {key: ">"}, count=2)
    seen = Recorder()
    running = start(market, seen, name="me")
    seen.wait(lambda: len(seen.bars) == 10)
    assert seen.numbers() == list(range(10))
    assert running.app.counts.claimed == 5


def test_a_slow_handler_keeps_its_bars_from_the_other_members(market: Market, start: Start) -> None:
    market.publish(BTC, range(4))
    first, second = Recorder(), Recorder()
    slow = LEASE_MS * 3 / 1000

    def handler(bar: Bar) -> None:
        if bar.open_time_ms == T0:
            with second._changed:
                second._changed.wait_for(lambda: second.bars, slow)
        first(bar)

    start(market, handler, name="slow")
    eventually(lambda: market.pending(BTC) == 4)
    start(market, second, name="eager")
    first.wait(lambda: len(first.bars) == 4)
    assert second.bars == []


def test_a_clean_stop_gives_back_what_was_not_handled(market: Market, start: Start) -> None:
    market.publish(BTC, range(50))
    first, second = Recorder(), Recorder()

    def handler(bar: Bar) -> None:
        first(bar)
        if len(first.bars) == 5:
            running.app.stop()

    running = start(market, handler, name="one")
    running.thread.join(5)
    assert first.numbers() == [0, 1, 2, 3, 4]
    assert market.pending(BTC) == 45
    start(market, second, name="two")
    second.wait(lambda: len(second.bars) == 45, LEASE_MS / 1000 + 5)
    assert second.numbers() == list(range(5, 50))
    names = [x["name"] for x in market.client.xinfo_consumers(market.keys.bars(BTC), "g")]
    assert all(x.startswith(b"two#") for x in names)


def test_what_nobody_publishes_is_told_once(market: Market, start: Start, events: Events) -> None:
    market.list_series(ETH)
    market.publish(ETH, range(1))
    seen = Recorder()
    start(market, seen, str(BTC), str(ETH), "*-NOWHERE-1m")
    seen.wait(lambda: len(seen.bars) == 1)
    assert [x["series"] for x in events.named("series.unpublished")] == [str(BTC)]
    assert events.named("series.unmatched") == []


def test_a_pattern_that_matches_nothing_is_told(
    market: Market, start: Start, events: Events
) -> None:
    market.list_series(ETH)
    start(market, Recorder(), "*-NOWHERE-1m")
    assert events.wait("series.unmatched")["published"] == 1
    assert events.named("series.unpublished") == []
