"""Bars in progress: what is read of them, and to whom they may go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from consumer_world import BTC, ETH, Events, Market

from consumers import Bar
from consumers.core.handlers import Handler
from consumers.core.ids import EntryId
from consumers.core.lane import Lane
from consumers.core.lanes import NEVER_MS
from consumers.core.patterns import Pattern
from consumers.core.wants import Subscription, Subscriptions, Wanted
from consumers.shell.calling import Caller
from consumers.shell.forming import FormingCalls, FormingReader
from consumers.shell.loop import Loop
from consumers.shell.rehearsal import Clock
from consumers.shell.threads import Bell, Desk
from consumers.shell.watch import Watch
from publisher.wire import Series
from tests.waiting import eventually


def wanting(call: Any, *patterns: str) -> Subscriptions:
    every = Subscriptions()
    parsed = tuple(Pattern.parse(x) for x in patterns or ("*-1m",))
    every.add(Subscription(Wanted.FORMING, Handler(call), parsed))
    return every


def holding(*series: Series) -> Desk:
    desk = Desk(clock=Clock())
    desk.lanes.valid_until_ms = NEVER_MS
    for one in series:
        desk.lanes.by_name[str(one)] = Lane(str(one), one, {}, token=1)
    return desk


@dataclass
class Told:
    """A watch that says that all of its streams changed, and remembers what it was asked."""

    asked: list[dict[str, EntryId]] = field(default_factory=list)

    def wait(self, after: Mapping[str, EntryId], _block_ms: int, _wake: int | None) -> set[str]:
        self.asked.append(dict(after))
        return set(after)


def read(reader: FormingReader, desk: Desk) -> dict[Series, float]:
    desk.forming.clear()
    reader.read(cast(Watch, Told()))
    return {x: bar.close for x, bar in desk.forming.items()}


def test_a_state_of_before_is_let_be_and_only_the_newest_comes(market: Market) -> None:
    desk = holding(BTC, ETH)
    reader = FormingReader(desk, market.client, market.keys, wanting(print, str(BTC)))
    market.form(BTC, 0, 1.0)
    reader._newest([BTC])
    assert desk.forming == {}
    for close in (2.0, 3.0):
        market.form(BTC, 0, close)
        market.form(ETH, 0, close)
    assert read(reader, desk) == {BTC: 3.0}
    key = market.keys.forming(BTC)
    watch = Told()
    reader.read(cast(Watch, watch))
    newest = market.client.xrevrange(key, count=1)[0][0]
    assert watch.asked == [{key: EntryId.parse(newest)}]


def test_a_series_that_went_away_and_came_back_begins_anew(market: Market) -> None:
    desk = holding(BTC)
    reader = FormingReader(desk, market.client, market.keys, wanting(print))
    read(reader, desk)
    market.form(BTC, 0, 1.0)
    assert read(reader, desk) == {BTC: 1.0}
    lane = desk.lanes.by_name[str(BTC)]
    for name, value in (("leaving", True), ("token", 0)):
        before = getattr(lane, name)
        setattr(lane, name, value)
        reader._bell.ring()  # else it rests a while
        market.form(BTC, 0, 2.0)
        assert read(reader, desk) == {}
        setattr(lane, name, before)
        reader._newest(reader._held())
        assert desk.forming == {}
        market.form(BTC, 0, 3.0)
        assert read(reader, desk) == {BTC: 3.0}


def test_what_cannot_be_read_is_told(market: Market, events: Events) -> None:
    desk = holding(BTC)
    reader = FormingReader(desk, market.client, market.keys, wanting(print))
    read(reader, desk)
    market.client.xadd(market.keys.forming(BTC), {"bar": b"\xc1"})
    assert read(reader, desk) == {}
    assert events.wait("entry.refused")["key"] == market.keys.forming(BTC)


def test_what_ends_the_reading_ends_the_consumer(market: Market) -> None:
    desk = holding(BTC)
    reader = FormingReader(desk, market.client, market.keys, cast(Any, None))
    reader.run()
    assert isinstance(desk.failure, AttributeError)
    assert desk.stopping


@dataclass
class Calls:
    """The calls' side alone."""

    desk: Desk
    seen: list[float] = field(default_factory=list)

    def of(self, call: Any) -> FormingCalls:
        subscriptions = wanting(call)
        caller = Caller("g", self.desk.clock, cast(Any, None))
        return FormingCalls(self.desk, subscriptions, caller, Loop())


def state(market: Market, close: float, series: Series = BTC) -> Bar:
    return market.bar(series, 0, close=close, closed_by="forming")


@pytest.mark.parametrize("lost", ["lease", "time", "series"])
def test_nothing_goes_to_a_handler_of_what_this_member_may_not_hold(lost: str) -> None:
    market, calls = Market(cast(Any, None), ""), Calls(holding(BTC))
    forming = calls.of(lambda bar: calls.seen.append(bar.close))
    desk = calls.desk
    desk.forming[BTC] = state(market, 1.0)
    assert forming.step()
    if lost == "lease":
        desk.lanes.by_name[str(BTC)].token = 0
    elif lost == "time":
        desk.lanes.valid_until_ms = 0
    else:
        desk.lanes.by_name.clear()
    desk.forming[BTC] = state(market, 2.0)
    assert not forming.step()
    assert calls.seen == [1.0]


def test_a_busy_handler_gets_what_is_newest_when_it_is_free() -> None:
    market, calls = Market(cast(Any, None), ""), Calls(holding(BTC, ETH))
    free = asyncio.Event()

    async def handle(bar: Bar) -> None:
        calls.seen.append(bar.close)
        await free.wait()

    forming, desk = calls.of(handle), calls.desk
    desk.worker_bell = Bell()
    desk.forming[BTC] = state(market, 1.0)
    assert forming.step()
    for close in (2.0, 3.0):
        desk.forming[BTC] = state(market, close)
        assert not forming.step(), "its handler is at work"
    desk.forming[ETH] = state(market, 7.0, ETH)
    assert forming.step(), "another series does not wait"
    assert forming.awaited == 2
    loop = forming.loop._loop
    assert loop is not None
    loop.call_soon_threadsafe(free.set)
    eventually(lambda: forming.awaited == 0)
    assert forming.step()
    eventually(lambda: forming.awaited == 0)
    assert sorted(calls.seen) == [1.0, 3.0, 7.0]
    forming.loop.close()


def test_what_is_no_longer_held_does_not_keep_others_from_their_turn() -> None:
    market, calls = Market(cast(Any, None), ""), Calls(holding(ETH))
    forming, desk = calls.of(lambda bar: calls.seen.append(bar.close)), calls.desk
    desk.forming[BTC] = state(market, 1.0)
    desk.forming[ETH] = state(market, 7.0, ETH)
    assert forming.step()
    assert calls.seen == [7.0]
    assert desk.forming == {}
