"""Every series of an interval has published: one event, after the bars."""

from __future__ import annotations

from typing import Any

import pytest
from publisher_world import BTC, ETH, MINUTE_MS, NOW_MS, World, values

from publisher import engine
from publisher.core.barriers import TIMEOUT_MS

ALWAYS = {"session": "24x7", "timezone": "Etc/UTC"}


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


def live() -> World:
    world = World(BTC, ETH)
    world.go_live(BTC, ETH)
    for series in (BTC, ETH):
        world.resolve(series, **ALWAYS)
    world.turn(2)
    return world


def trade_for_a_minute(world: World) -> None:
    for number in range(12):
        world.pass_ms(5_025)
        for series in (BTC, ETH):
            world.update(series, values(0, 100.0 + number / 10), end=1)
        world.turn()


def completed(world: World) -> list[dict[str, Any]]:
    return world.store.told("interval.completed")


def test_the_event_comes_once_when_the_last_series_has_published() -> None:
    world = live()
    trade_for_a_minute(world)
    world.update(BTC, values(1), end=2)
    world.turn(2)
    assert completed(world) == []
    world.update(ETH, values(1), end=2)
    world.turn(3)
    [event] = completed(world)
    assert (event["interval"], event["end_time_ms"]) == ("1m", NOW_MS + MINUTE_MS)
    assert (event["published"], event["missing"], event["missing_count"]) == (2, [], 0)
    for series in (BTC, ETH):
        assert NOW_MS in world.store.bars[series]


def test_who_has_no_bar_is_named_after_the_time_out() -> None:
    world = live()
    trade_for_a_minute(world)
    world.update(BTC, values(1), end=2)
    world.turn(2)
    ledger = world.engine._roster.publications[ETH].ledger
    assert ledger is not None
    ledger._forming = None  # nobody traded ETH in this minute
    world.pass_ms(TIMEOUT_MS + 3_000)
    [event] = completed(world)
    assert (event["published"], event["missing"], event["missing_count"]) == (1, [str(ETH)], 1)


def test_who_is_being_compared_with_history_is_waited_for() -> None:
    world = live()
    trade_for_a_minute(world)
    eth = world.engine._roster.publications[ETH]
    world.engine._hearing.check(eth, "its newest bars are compared with history")
    assert eth.state != "live"
    world.update(BTC, values(1), end=2)
    world.turn(3)
    assert completed(world) == []
    world.fill(ETH, values(0), values(1), end=2, turn=False)
    world.resolve(ETH, **ALWAYS)
    world.turn(3)
    [event] = completed(world)
    assert (event["published"], event["missing"], event["missing_count"]) == (2, [], 0)
    assert NOW_MS in world.store.bars[ETH]


def test_history_completes_no_interval() -> None:
    world = live()
    world.pass_ms(1_000)
    assert completed(world) == []
