"""Several members of a group: shared evenly, in order, handed over and taken over."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from consumer_world import BTC, ETH, LEASE_MS, Events, Market, Recorder, Running

from consumers import Bar, Context, Series
from consumers.errors import NameTaken
from consumers.shell.departure import Departure
from consumers.shell.group import Group
from consumers.shell.membership import Membership, look_at_sharing
from tests.waiting import eventually

Start = Callable[..., Running]
LONG_LEASE_MS = 60_000
SERIES = [Series(f"S{number}USDT", "BINANCE", "1m") for number in range(6)]


def shares(market: Market) -> dict[str, int]:
    """How many leases each member holds."""
    sharing = look_at_sharing(market.client, market.keys, "g")
    counts = dict.fromkeys(sharing.members, 0)
    for holding in sharing.leases.values():
        counts[holding.member] = counts.get(holding.member, 0) + 1
    return counts


def holder(market: Market, series: Series) -> str | None:
    lease = look_at_sharing(market.client, market.keys, "g").leases.get(str(series))
    return None if lease is None else lease.member


def once(numbers: list[int]) -> list[int]:
    """The numbers without their repetitions."""
    return list(dict.fromkeys(numbers))


class Gate:
    """Holds a member's thread inside a call until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, member: str, owner: Any, name: str) -> None:
        self.reached = threading.Event()
        self._shut, self._open = threading.Event(), threading.Event()
        call = getattr(owner, name)

        def gated(this: Any, *arguments: Any, **options: Any) -> Any:
            if self._shut.is_set() and member in {
                getattr(this, "member", None),
                getattr(this, "_member", None),
            }:
                self.reached.set()
                self._open.wait(20)
            return call(this, *arguments, **options)

        monkeypatch.setattr(owner, name, gated)

    def shut(self) -> None:
        self._shut.set()

    def open(self) -> None:
        self._shut.clear()
        self._open.set()


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name whose bearer ends as by `kill -9`: it says nothing more to the server."""
    leave = Departure.leave

    def leaving(self: Departure) -> None:
        if self.group.member != "mortal":
            leave(self)

    monkeypatch.setattr(Departure, "leave", leaving)
    return "mortal"


def test_members_share_evenly_and_every_bar_comes_once_and_in_order(
    market: Market, start: Start
) -> None:
    seen = Recorder()
    names = [str(x) for x in SERIES]
    published = itertools.count()

    def publish(bars: int) -> None:
        for number in itertools.islice(published, bars):
            for series in SERIES:
                market.publish(series, [number])

    members: list[Running] = []
    for wanted in ([6], [3, 3], [2, 2, 2]):
        members.append(start(market, seen, *names, name=f"m{len(members)}"))
        eventually(lambda wanted=wanted: sorted(shares(market).values()) == wanted)
        publish(20)
    members.pop().stop()
    eventually(lambda: sorted(shares(market).values()) == [3, 3])
    publish(20)
    seen.wait(lambda: len(seen.bars) >= 80 * len(SERIES))
    for series in SERIES:
        assert seen.numbers(series) == list(range(80))
        eventually(lambda series=series: market.pending(series) == 0)


def test_who_joins_takes_only_what_falls_to_it(
    market: Market, start: Start, events: Events
) -> None:
    names = [str(x) for x in SERIES]
    start(market, Recorder(), *names, name="one")
    events.wait("series.attached", len(SERIES))
    start(market, Recorder(), *names, name="two")
    events.wait("series.attached", len(SERIES) + 3)
    eventually(lambda: shares(market) == {"one": 3, "two": 3})
    assert len(events.named("series.let_go")) == 3
    assert events.named("lease.lost") == []


def test_a_clean_stop_hands_over_at_once(market: Market, start: Start) -> None:
    market.publish(BTC, range(50))
    seen = Recorder()

    def handler(bar: Bar) -> None:
        seen(bar)
        if len(seen.bars) == 5:
            running.app.stop()

    running = start(market, handler, name="one", lease_ms=LONG_LEASE_MS)
    start(market, seen, name="two", lease_ms=LONG_LEASE_MS)
    seen.wait(lambda: len(seen.bars) == 50)
    assert seen.numbers() == list(range(50))
    eventually(lambda: market.pending(BTC) == 0)


def test_a_bar_at_a_handler_is_finished_before_its_series_is_handed_over(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(3))
    market.publish(ETH, range(3))
    seen, go_on = Recorder(), threading.Event()
    inside: list[Series] = []

    async def slow(bar: Bar) -> None:
        inside.append(bar.series)
        await asyncio.to_thread(go_on.wait, 20)
        seen(bar)

    both = (str(BTC), str(ETH))
    one = start(market, slow, *both, name="one", lease_ms=LONG_LEASE_MS)
    eventually(lambda: set(inside) == {BTC, ETH})
    start(market, seen, *both, name="two", lease_ms=LONG_LEASE_MS)
    lanes = one.app._desk.lanes
    eventually(lambda: any(x.leaving for x in lanes.held()))
    beaten_ms = lanes.valid_until_ms
    eventually(lambda: lanes.valid_until_ms > beaten_ms + 300)
    assert events.named("series.let_go") == []
    go_on.set()
    seen.wait(lambda: len(seen.bars) == 6)
    for series in (BTC, ETH):
        assert seen.numbers(series) == [0, 1, 2]
    assert shares(market) == {"one": 1, "two": 1}


def test_a_killed_members_series_is_taken_over_within_the_lease_time(
    market: Market, start: Start, mortal: str
) -> None:
    market.publish(BTC, range(10))
    first, second = Recorder(), Recorder()
    one = start(market, first, name=mortal)
    first.wait(lambda: len(first.bars) == 10)
    eventually(lambda: market.pending(BTC) == 0)
    start(market, second, name="two")
    one.stop()
    market.publish(BTC, range(10, 20))
    second.wait(lambda: len(second.bars) == 10, LEASE_MS / 1000 + 5)
    assert second.numbers() == list(range(10, 20))
    assert holder(market, BTC) == "two"


def test_what_a_killed_member_had_in_hand_comes_first_and_in_order(
    market: Market, start: Start, mortal: str
) -> None:
    market.publish(BTC, range(30))
    first, second = Recorder(), Recorder()

    def handler(bar: Bar) -> None:
        first(bar)
        if len(first.bars) == 7:
            one.app.stop()

    one = start(market, handler, name=mortal)
    one.thread.join(20)
    attempts: list[int] = []

    def with_context(bar: Bar, context: Context) -> None:
        attempts.append(context.attempt)
        second(bar)

    start(market, with_context, name="two")
    market.publish(BTC, range(30, 40))
    second.wait(lambda: 39 in second.numbers())
    assert second.numbers() == list(range(second.numbers()[0], 40))
    assert second.numbers()[0] <= 7
    assert attempts == [2] + [1] * (len(attempts) - 1)
    eventually(lambda: market.pending(BTC) == 0)


@pytest.mark.parametrize(
    ("owner", "call"),
    [(Membership, "beat"), (Group, "serve"), (Group, "wait"), (Group, "hand_over")],
)
def test_a_stalled_member_that_wakes_neither_acknowledges_nor_goes_on(
    market: Market,
    start: Start,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    call: str,
) -> None:
    gate = Gate(monkeypatch, "one", owner, call)
    first, second = Recorder(), Recorder()
    both = (str(BTC), str(ETH))
    start(market, first, *both, name="one")
    eventually(lambda: shares(market) == {"one": 2})
    market.publish(BTC, range(3))
    first.wait(lambda: len(first.bars) == 3)
    gate.shut()
    market.publish(BTC, range(3, 5))
    start(market, second, *both, name="two")
    assert gate.reached.wait(20)
    had = len(first.bars)
    eventually(lambda: holder(market, BTC) == holder(market, ETH) == "two")
    market.publish(BTC, range(5, 200))
    second.wait(lambda: 199 in second.numbers())
    eventually(lambda: market.pending(BTC) == 0)
    gate.open()
    events.wait("lease.lost")
    eventually(lambda: shares(market) == {"one": 1, "two": 1})
    market.publish(BTC, range(200, 210))
    market.publish(ETH, range(10))
    eventually(lambda: len(once(first.numbers() + second.numbers())) >= 200)
    for series, count in ((BTC, 210), (ETH, 10)):
        both_saw = [first.numbers(series), second.numbers(series)]
        eventually(lambda s=series, n=count: seen_by_either(first, second, s) == set(range(n)))
        assert all(x == sorted(set(x)) for x in both_saw)
        eventually(lambda s=series: market.pending(s) == 0)
    assert all(n < 5 or n >= 200 for n in first.numbers())
    assert len(first.bars) >= had


def seen_by_either(first: Recorder, second: Recorder, series: Series) -> set[int]:
    return {*first.numbers(series), *second.numbers(series)}


def test_an_acknowledgement_of_a_stalled_member_does_not_count(
    market: Market, start: Start, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second member fails at the bar; the first one's success must not hide that."""
    gate = Gate(monkeypatch, "one", Group, "serve")
    market.publish(BTC, [0])
    first, second = Recorder(), Recorder()
    inside = threading.Event()

    def handler(bar: Bar) -> None:
        gate.shut()
        inside.set()
        first(bar)

    second.failing = lambda bar: True
    start(market, handler, name="one")
    assert inside.wait(20)
    start(market, second, name="two", failure="retry-forever")
    second.wait(lambda: len(second.calls) >= 2)
    gate.open()
    events.wait("lease.lost")
    assert market.pending(BTC) == 1
    second.failing = lambda bar: False
    second.wait(lambda: second.numbers() == [0])
    eventually(lambda: market.pending(BTC) == 0)
    assert first.numbers() == [0]


def test_beyond_its_lease_a_member_hands_out_nothing(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader hangs, its handlers' thread does not: it must stop by itself."""
    gate = Gate(monkeypatch, "one", Membership, "beat")
    market.publish(BTC, range(90))
    seen = Recorder()
    turn = threading.Semaphore(0)

    def handler(bar: Bar) -> None:
        turn.acquire(timeout=20)
        seen(bar)

    running = start(market, handler, name="one")
    turn.release(3)
    seen.wait(lambda: len(seen.bars) == 3)
    gate.shut()
    assert gate.reached.wait(20)
    lanes = running.app._desk.lanes
    clock = running.app._desk.clock
    eventually(lambda: clock.monotonic_ms() > lanes.valid_until_ms)
    turn.release(87)
    seen.wait(lambda: len(seen.bars) == 4)  # it was at its handler
    eventually(lambda: not running.app._desk.lanes.by_name[str(BTC)].out)
    assert lanes.take(clock.monotonic_ms()) is None
    gate.open()
    seen.wait(lambda: len(seen.bars) == 90)
    assert seen.numbers() == list(range(90))


def test_a_lone_member_that_slept_keeps_what_it_had(
    market: Market, start: Start, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "one", Membership, "beat")
    seen = Recorder()
    start(market, seen, name="one")
    events.wait("series.attached")
    gate.shut()
    assert gate.reached.wait(20)
    eventually(lambda: not look_at_sharing(market.client, market.keys, "g").members)
    market.publish(BTC, range(3))
    gate.open()
    seen.wait(lambda: seen.numbers() == [0, 1, 2])
    assert events.named("lease.lost") == []


def test_a_second_process_with_the_same_name_ends_the_first(market: Market, start: Start) -> None:
    market.publish(BTC, range(3))
    first, second = Recorder(), Recorder()
    running = start(market, first, name="one")
    first.wait(lambda: len(first.bars) == 3)
    start(market, second, name="one")
    running.thread.join(20)
    [error] = running.errors
    assert isinstance(error, NameTaken)
    market.publish(BTC, range(3, 6))
    second.wait(lambda: 5 in second.numbers())


def test_a_member_goes_on_where_the_groups_keys_were_lost(
    market: Market, start: Start, events: Events
) -> None:
    """As after a failover to a replica that had not heard of the leases."""
    seen = Recorder()
    for _ in range(3):  # let the tokens rise
        running = start(market, seen, name="one")
        eventually(lambda: holder(market, BTC) == "one")
        eventually(lambda r=running: r.app._desk.lanes.by_name[str(BTC)].sources)
        running.stop()
    start(market, seen, name="two")
    market.publish(BTC, range(3))
    seen.wait(lambda: len(seen.bars) == 3)
    eventually(lambda: market.pending(BTC) == 0)
    market.client.delete(*(market.keys.group("g", x) for x in ("members", "leases", "token")))
    events.wait("lease.lost")
    market.publish(BTC, range(3, 6))
    seen.wait(lambda: len(seen.bars) == 6)
    assert seen.numbers() == list(range(6))


def test_a_token_lower_than_the_streams_is_drawn_again(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(3))
    market.client.xgroup_create(key, "g", "0")
    market.client.xgroup_createconsumer(key, "g", "gone#70")
    seen = Recorder()
    start(market, seen, name="one")
    seen.wait(lambda: seen.numbers() == [0, 1, 2])
    assert events.wait("lease.lost")["series"] == str(BTC)
    assert events.wait("series.attached")["token"] > 70
    assert len(events.named("lease.lost")) == 1


@pytest.mark.parametrize("shared_server", ["valkey"], indirect=True)
def test_a_handler_of_a_minute_keeps_its_series_under_a_lease_of_five_seconds(
    market: Market, start: Start
) -> None:
    market.publish(BTC, range(2))
    slow, other, begun = Recorder(), Recorder(), threading.Event()

    def think(bar: Bar) -> None:
        if not begun.is_set():
            begun.set()
            time.sleep(60)
        slow(bar)

    start(market, think, name="slow", lease_ms=5_000)
    assert begun.wait(20)
    start(market, other, name="other", lease_ms=5_000)
    market.publish(BTC, [2])
    eventually(lambda: slow.numbers() == [0, 1, 2], "the slow one has them all", deadline_s=90)
    assert other.numbers() == []
    assert holder(market, BTC) == "slow"
    eventually(lambda: market.pending(BTC) == 0)
