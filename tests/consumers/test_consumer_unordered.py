"""Members that compete for entries: shared work without order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from consumer_world import BTC, ETH, LEASE_MS, MINUTE_MS, T0, Events, Market, Recorder, Running

from bus.connection import connect_reader
from consumers import Bar, Context
from consumers.core.ids import EntryId
from consumers.errors import GroupLost, StreamRefused
from consumers.shell.departure import Departure
from consumers.shell.group import Leaving, Serving
from consumers.shell.threads import Desk
from consumers.shell.unordered import CompetingGroup
from tests.waiting import eventually

Start = Callable[..., Running]
LONG_LEASE_MS = 60_000


def test_two_members_share_the_bars_of_one_series(
    market: Market, start: Start, events: Events
) -> None:
    first, second = Recorder(), Recorder()
    both_there = threading.Barrier(2)

    def handler(seen: Recorder) -> Callable[[Bar], None]:
        def handle(bar: Bar) -> None:
            if not seen.bars:
                both_there.wait(20)
            seen(bar)

        return handle

    start(market, handler(first), name="one", unordered=True)
    start(market, handler(second), name="two", unordered=True)
    events.wait("series.attached", 2)
    for number in range(60):
        market.publish(BTC, [number])
    eventually(lambda: len(first.bars) + len(second.bars) == 60)
    assert sorted(first.numbers() + second.numbers()) == list(range(60))
    assert first.bars
    assert second.bars
    eventually(lambda: market.pending(BTC) == 0)
    assert events.named("gap.seen") == []


def test_no_lease_is_taken(market: Market, start: Start) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    start(market, seen, unordered=True)
    seen.wait(lambda: len(seen.bars) == 3)
    assert market.client.keys("tv:group:*") == []


def test_a_clean_stop_gives_back_what_was_not_handled(market: Market, start: Start) -> None:
    market.publish(BTC, range(50))
    first, second = Recorder(), Recorder()
    attempts: set[int] = set()

    def handler(bar: Bar) -> None:
        first(bar)
        if len(first.bars) == 5:
            running.app.stop()

    def other(bar: Bar, context: Context) -> None:
        attempts.add(context.attempt)
        second(bar)

    options = {"unordered": True, "lease_ms": LONG_LEASE_MS}
    running = start(market, handler, name="one", **options)
    running.thread.join(20)
    assert market.pending(BTC) == 45
    start(market, other, name="two", **options)
    second.wait(lambda: len(second.bars) == 45, 5)
    assert sorted(second.numbers()) == list(range(5, 50))
    assert attempts == {1}
    names = [x["name"] for x in market.client.xinfo_consumers(market.keys.bars(BTC), "g")]
    assert b"one" not in names


def test_what_a_killed_member_held_is_claimed_after_the_lease_time(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = Departure.leave
    monkeypatch.setattr(
        Departure, "leave", lambda self: self.group.member == "mortal" or leave(self)
    )
    market.publish(BTC, range(20))
    first, second = Recorder(), Recorder()
    attempts: list[int] = []

    def handler(bar: Bar) -> None:
        running.app.stop()
        first(bar)

    def other(bar: Bar, context: Context) -> None:
        attempts.append(context.attempt)
        second(bar)

    running = start(market, handler, name="mortal", unordered=True)
    running.thread.join(20)
    claiming = start(market, other, name="two", unordered=True)
    second.wait(lambda: len(second.bars) >= 19)
    assert set(second.numbers()) >= set(range(1, 20))
    assert set(attempts) == {2}
    assert claiming.app.counts.claimed >= 19
    eventually(lambda: market.pending(BTC) == 0)


def test_a_slow_handler_keeps_its_bars_from_the_other_members(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(4))
    first, second = Recorder(), Recorder()

    def handler(bar: Bar) -> None:
        if bar.open_time_ms == T0:
            with second._changed:
                second._changed.wait_for(lambda: second.bars, LEASE_MS * 3 / 1000)
        first(bar)

    slow = start(market, handler, name="slow", unordered=True)
    eventually(lambda: market.pending(BTC) == 4)
    eager = start(market, second, name="eager", unordered=True)
    first.wait(lambda: len(first.bars) == 4)
    assert second.bars == []
    assert slow.app.counts.claimed == eager.app.counts.claimed == 0


def test_a_bar_that_fails_is_counted_by_the_server_and_becomes_a_dead_letter(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    seen.failing = lambda bar: bar.open_time_ms == T0
    start(market, seen, unordered=True, attempts=3)
    events.wait("entry.dead_lettered")
    seen.wait(lambda: seen.numbers() == [1, 2])
    [(letter, fields)] = market.client.xrange(market.keys.dead("g"))
    assert fields[b"attempts"] == b"3"
    seen.failing = lambda bar: False
    market.client.hset(market.keys.group("g", "replays"), letter, str(BTC))
    events.wait("dead_letter.replayed")
    assert seen.numbers() == [1, 2, 0]


def test_trimmed_entries_are_acknowledged_and_counted(market: Market, start: Start) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(6))
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "me", {key: ">"}, count=2)
    market.client.xreadgroup("g", "gone", {key: ">"}, count=2)
    for number in range(4):
        market.client.xdel(key, f"{T0 + number * MINUTE_MS}-0")
    seen = Recorder()
    running = start(market, seen, name="me", unordered=True)
    seen.wait(lambda: seen.numbers() == [4, 5])
    eventually(lambda: market.pending(BTC) == 0)
    assert running.app.counts.trimmed == 4


@pytest.mark.parametrize("lost", ["group", "stream"])
def test_a_group_that_vanishes_is_made_again(
    market: Market, start: Start, events: Events, lost: str
) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    start(market, seen, unordered=True)
    seen.wait(lambda: len(seen.bars) == 3)
    eventually(lambda: market.pending(BTC) == 0)
    if lost == "group":
        market.client.xgroup_destroy(market.keys.bars(BTC), "g")
    else:
        market.client.delete(market.keys.bars(BTC))
    market.publish(BTC, [3])
    events.wait("group.lost")
    seen.wait(lambda: seen.numbers() == [0, 1, 2, 3])


def test_a_series_that_is_removed_is_let_go(market: Market, start: Start, events: Events) -> None:
    market.list_series(BTC, ETH)
    seen = Recorder()
    start(market, seen, "*", unordered=True)
    events.wait("series.attached", 2)
    market.list_series(BTC, state="removed")
    assert events.wait("series.let_go")["series"] == str(BTC)
    market.publish(BTC, [0])
    market.publish(ETH, [0])
    seen.wait(lambda: len(seen.bars) == 1)
    assert seen.bars[0].series == ETH


def test_ordered_members_take_over_what_competing_ones_left(market: Market, start: Start) -> None:
    market.publish(BTC, range(10))
    first, second = Recorder(), Recorder()

    def handler(bar: Bar) -> None:
        running.app.stop()
        first(bar)

    running = start(market, handler, unordered=True)
    running.thread.join(20)
    start(market, second)
    second.wait(lambda: len(second.bars) == 9)
    assert second.numbers() == list(range(1, 10))


@pytest.fixture
def competing(market: Market) -> CompetingGroup:
    client = connect_reader(market.url)
    return CompetingGroup(Desk(), client, market.keys, group="g", member="me", lease_ms=100)


def test_what_is_wrong_with_one_stream_is_told_in_its_place(
    market: Market, competing: CompetingGroup
) -> None:
    key, none, other = market.keys.bars(BTC), "tv:none", "tv:other"
    market.publish(BTC, range(2))
    market.client.xgroup_create(key, "g", "0")
    market.client.set(other, "x")
    taken = competing.take_over({key: 1, none: 1, other: 1})
    assert isinstance(taken[none], GroupLost)
    assert isinstance(taken[other], StreamRefused)
    ack = [EntryId(T0)]
    requests = [Serving(x, 1, ack, count=5) for x in (key, none, other)]
    served = competing.serve(requests)
    assert [x.entries[0][0] for x in served[:1]] == ack  # type: ignore[union-attr]
    assert [type(x) for x in served[1:]] == [GroupLost, StreamRefused]
    assert isinstance(competing.serve([Serving(other, 1)])[0].entries, list)  # type: ignore[union-attr]
    for broken, error in ((none, GroupLost), (other, StreamRefused)):
        with pytest.raises(error):
            competing.raise_attempt(broken, 1, EntryId(T0))
    assert competing.raise_attempt(key, 1, EntryId(T0)) == 2
    assert competing.raise_attempt(key, 1, EntryId(T0 + 99 * MINUTE_MS)) == 0
    outcomes = competing.hand_over([Leaving(x, 1) for x in (key, none, other)])
    assert [type(x) for x in outcomes] == [type(None), GroupLost, StreamRefused]
    competing._client.close()
