"""Guards that only one exact moment shows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from consumer_world import BTC, FAST, MINUTE_MS, T0, Events, Market, Recorder, Running

from bus.connection import connect_reader
from consumers import Bar, Consumer, Tuning
from consumers.core.ids import ZERO, EntryId
from consumers.core.lane import Lane
from consumers.errors import GroupLost, GroupUnavailable
from consumers.shell.competing import Competing
from tests.waiting import eventually

Start = Callable[..., Running]


def test_a_reply_that_was_lost_is_asked_for_again(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Competing.read
    lost: list[int] = []

    def lossy(self: Competing, cursors: Mapping[str, Any], *rest: Any) -> Any:
        reply = read(self, cursors, *rest)
        entries = sum(len(x) for x in reply.values())
        if entries and None in cursors.values() and len(lost) < 3:
            lost.append(entries)
            raise GroupUnavailable("the reply was lost")
        return reply

    monkeypatch.setattr(Competing, "read", lossy)
    market.publish(BTC, range(250))
    seen = Recorder()
    running = start(market, seen, tuning=Tuning(block_ms=100))
    seen.wait(lambda: len(seen.bars) == 250)
    assert seen.numbers() == list(range(250))
    assert len(lost) == running.app.counts.bus_lost == 3
    assert running.app.counts.claimed == 0


def test_trimmed_entries_of_ones_own_are_acknowledged_at_once(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(3))
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "me", {key: ">"}, count=2)
    market.client.xdel(key, f"{T0}-0", f"{T0 + MINUTE_MS}-0")
    seen = Recorder()
    start(market, seen, name="me", tuning=Tuning(block_ms=100))
    assert events.wait("entry.trimmed")["entries"] == 2
    seen.wait(lambda: seen.numbers() == [2])
    eventually(lambda: market.pending(BTC) == 0)


def test_bars_that_go_to_another_member_are_no_gap_to_warn_of(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, [0])
    seen = Recorder()
    members = [start(market, seen, name=name) for name in ("one", "two")]

    def lane(running: Running) -> Lane | None:
        return running.app._desk.lanes.by_series.get(BTC)

    eventually(lambda: all((x := lane(m)) is not None and x.shared for m in members))
    told = len(events.named("gap.seen"))
    for number in range(1, 60):
        market.publish(BTC, [number])
    seen.wait(lambda: len(seen.bars) == 60)
    assert {x["level"] for x in events.named("gap.seen")[told:]} <= {"debug"}
    assert len(events.named("gap.seen")) > told


def group(market: Market, member: str = "me") -> Competing:
    return Competing(connect_reader(market.url), "g", member, market.keys.dead("g"))


def test_a_member_with_pending_entries_is_not_removed(market: Market) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(2))
    member = group(market)
    assert member.create({key: ZERO}) == {key: True}
    assert member.create({key: ZERO}) == {key: False}
    assert len(member.read({key: None}, 1, None, {})[key]) == 1
    member.leave([key])
    assert market.pending(BTC) == 1
    member.acknowledge({key: [EntryId(T0)]})
    member.leave([key])
    assert market.client.xinfo_consumers(key, "g") == []
    member._client.close()


def test_reading_a_group_that_is_gone_is_told_by_name(market: Market) -> None:
    member = group(market)
    with pytest.raises(GroupLost):
        member.read({market.keys.bars(BTC): None}, 1, None, {})
    member._client.close()


@pytest.mark.parametrize("destroy", ["group", "stream"])
def test_a_group_that_vanishes_during_a_blocking_read_is_noticed_at_once(
    market: Market, start: Start, events: Events, destroy: str
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, [0])
    seen = Recorder()
    start(market, seen, tuning=Tuning(block_ms=4_000, catalogue_ms=4_000, repair_ms=20))
    seen.wait(lambda: len(seen.bars) == 1)
    eventually(lambda: market.pending(BTC) == 0)
    if destroy == "group":
        market.client.xgroup_destroy(key, "g")
    else:
        market.client.delete(key)
    events.wait("group.lost")
    market.publish(BTC, [1])
    seen.wait(lambda: 1 in seen.numbers())
    assert seen.numbers() == [0, 1]


def test_a_first_signal_stops_and_gives_the_signals_back(market: Market) -> None:
    before = signal.getsignal(signal.SIGTERM)
    market.publish(BTC, range(100))
    seen = Recorder()
    app = Consumer("g", "oldest", market.url, tuning=FAST)

    @app.on(str(BTC))
    def handle(bar: Bar) -> None:
        if len(seen.bars) == 3:
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) == before
        seen(bar)

    app.run()
    assert seen.numbers() == [0, 1, 2, 3]
    assert signal.getsignal(signal.SIGTERM) == before
    assert market.pending(BTC) == 96
