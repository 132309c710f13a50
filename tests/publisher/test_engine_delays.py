"""Honesty about data: where it comes from and how late it is."""

from __future__ import annotations

import pytest
from publisher_world import BTC, ETH, World, values

from publisher import engine


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


def live(**options: object) -> World:
    world = World(BTC, **options)  # type: ignore[arg-type]
    world.go_live(BTC)
    return world


def open_bars(world: World, first: int, late_ms: int, count: int = 3) -> None:
    """Let bars open one after the other, each so late."""
    for minute in range(first, first + count):
        due_ms = world.clock.wall // 60_000 * 60_000
        world.pass_ms(60_000 + late_ms - (world.clock.wall - due_ms), step_ms=20_000)
        world.update(BTC, values(minute), end=minute + 1)
        world.turn(2)


def test_a_delay_in_the_update_mode_alone_is_told_and_stands_in_the_hash() -> None:
    world = World(BTC)
    world.connect()
    world.fill(BTC, values(-1), values(0), end=1, mode="delayed_streaming_900")
    assert world.store.hashes[BTC]["update_mode"] == "delayed_streaming_900"
    assert world.store.hashes[BTC]["stated_delay_ms"] == "900000"
    [told] = world.store.told("series.delayed")
    assert (told["series"], told["delay_ms"]) == (str(BTC), 900_000)
    assert world.store.lines[BTC].state == "live"


def test_the_measured_delay_stands_in_the_hash_after_three_openings() -> None:
    world = live()
    open_bars(world, 1, late_ms=400, count=2)
    assert "measured_delay_ms" not in world.store.hashes[BTC]
    open_bars(world, 3, late_ms=400)
    assert 0 <= int(world.store.hashes[BTC]["measured_delay_ms"]) - 400 < 1_000
    assert world.store.told("series.delayed") == []


def test_a_measured_delay_that_changed_is_put_anew() -> None:
    world = live()
    open_bars(world, 1, late_ms=9_000)
    assert int(world.store.hashes[BTC]["measured_delay_ms"]) >= 9_000
    open_bars(world, 4, late_ms=2_000, count=1)
    assert int(world.store.hashes[BTC]["measured_delay_ms"]) < 4_000


def test_data_that_is_later_than_stated_is_told_once() -> None:
    world = live()
    open_bars(world, 1, late_ms=50_000)
    assert world.store.told("series.delayed") == []
    late = live()
    late.pass_ms(70_000, step_ms=10_000)
    open_bars(late, 1, late_ms=15_000, count=5)
    [told] = late.store.told("series.delayed")
    assert told["delay_ms"] == 0
    assert 60_000 < told["measured_delay_ms"] < 80_000


def test_only_real_time_lets_no_late_series_in_and_publishes_nothing_of_it() -> None:
    world = World(BTC, ETH, require_realtime=True)
    world.connect()
    world.resolve(BTC, delay=900)
    world.turn()
    world.fill(ETH, values(-1), values(0), end=1, mode="delayed_streaming_1200")
    for series, seconds in ((BTC, 900), (ETH, 1200)):
        line = world.store.lines[series]
        assert line.state == "refused"
        assert f"is {seconds} s late, and TVBUS_REQUIRE_REALTIME is set" in line.reason
        assert not world.store.bars.get(series)


def test_who_subscribes_hears_that_data_is_late_or_from_elsewhere() -> None:
    world = live()
    world.command("subscribe", str(ETH))
    world.turn(2)
    world.resolve(ETH, full_name="HOSE_DLY:ETH", delay=900)
    world.update(ETH, values(-1), values(0), end=1, kind="timescale_update")
    world.say(
        "series_completed", world.session_of(ETH), "sds_1", "delayed_streaming_900", "s1",
        {"data_completed": "end"}, stamped=True,
    )  # fmt: skip
    world.turn(3)
    [answer] = world.replies()
    assert answer.accepted
    assert answer.message.endswith("bars of history, from HOSE_DLY:ETH, is 900 s late")


def test_only_real_time_lets_real_time_in() -> None:
    world = live(require_realtime=True)
    assert world.store.times(BTC) == [-2, -1]
    assert world.store.lines[BTC].state == "live"
