"""Guards that only one exact moment shows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from consumer_world import BTC, FAST, MINUTE_MS, T0, Events, Market, Recorder, Running

from consumers import Bar, Consumer, Tuning
from consumers.errors import GroupUnavailable
from consumers.shell.group import Group, Served, Serving
from tests.waiting import eventually

Start = Callable[..., Running]


def test_a_reply_that_was_lost_is_asked_for_again(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Group.serve
    lost: list[int] = []

    def lossy(self: Group, requests: Sequence[Serving]) -> Any:
        outcomes = serve(self, requests)
        entries = sum(len(x.entries) for x in outcomes if isinstance(x, Served))
        if entries and None in [x.cursor for x in requests] and len(lost) < 3:
            lost.append(entries)
            raise GroupUnavailable("the reply was lost")
        return outcomes

    monkeypatch.setattr(Group, "serve", lossy)
    market.publish(BTC, range(250))
    seen = Recorder()
    running = start(market, seen)
    seen.wait(lambda: len(seen.bars) == 250)
    assert seen.numbers() == list(range(250))
    assert len(lost) == running.app.counts.bus_lost == 3
    assert running.app.counts.claimed == 0
    eventually(lambda: market.pending(BTC) == 0)


def test_trimmed_entries_of_ones_own_are_acknowledged_at_once(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(3))
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "me", {key: ">"}, count=2)
    market.client.xdel(key, f"{T0}-0", f"{T0 + MINUTE_MS}-0")
    seen = Recorder()
    start(market, seen, name="me")
    assert events.wait("entry.trimmed")["entries"] == 2
    seen.wait(lambda: seen.numbers() == [2])
    eventually(lambda: market.pending(BTC) == 0)


@pytest.mark.parametrize("destroy", ["group", "stream"])
def test_a_group_that_vanishes_during_a_blocking_read_is_made_again_with_the_next_bar(
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
    market.publish(BTC, [1])
    events.wait("group.lost")
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
