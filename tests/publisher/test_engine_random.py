"""The engine under random faults, by seed, against a market whose truth is known."""

from __future__ import annotations

import random
from typing import Any

import pytest
from publisher_world import BTC, ETH, MINUTE_MS, NOW_MS, World, values

from publisher import engine
from publisher.errors import ConnectionLost, StoreUnavailable
from publisher.wire import Bar, Series

BEGIN = -40
"""The market's first minute."""
STEPS = 260


def point(series: Series, minute: int, share: float = 1.0) -> list[float]:
    """A bar of the market; `share` of its minute has passed."""
    base = 100.0 + minute % 17 + (50 if series == ETH else 0)
    return [*values(minute, base)[:4], base - 1 + round(share, 3), round(10 * share, 3)]


class Market:
    """Plays TradingView's part, and what goes wrong, from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(BTC, ETH, history_bars=10)
        self.answered = 0
        self.mute_until_ms = 0
        self.told: dict[Series, float] = {}
        self.faults = {"reset": 0, "mute": 0, "down": 0, "lost": 0, "rollback": 0, "stall": 0}

    @property
    def now(self) -> float:
        """Minutes since the world began."""
        return (self.world.clock.wall - NOW_MS) / MINUTE_MS

    def step(self, *, faults: bool) -> None:
        world = self.world
        if faults:
            self._fault()
        ms = self.rng.choice((500, 3_000, 9_000, 20_000))
        world.clock.wall += ms
        world.clock.monotonic += ms
        if not world.engine._dialogue.links.open and len(world.transport.opened):
            self._connect()
        elif world.engine._dialogue.links.open:
            self._talk()
        world.turn(self.rng.randrange(1, 4))

    def _fault(self) -> None:
        world, store = self.world, self.world.store
        if self.rng.random() < 0.03:
            self.faults["reset"] += 1
            world.disconnect(ConnectionLost("gone"))
        if self.rng.random() < 0.03:
            self.faults["mute"] += 1
            self.mute_until_ms = world.clock.wall + self.rng.randrange(10_000, 300_000)
        if self.rng.random() < 0.05:
            self.faults["lost"] += 1
            store.replies_lost = self.rng.randrange(1, 3)
        if store.down is None and self.rng.random() < 0.05:
            self.faults["down"] += 1
            store.down = world.lease.error = StoreUnavailable("away")
        elif store.down is not None and self.rng.random() < 0.2:
            self._find_bus()
            if self.rng.random() < 0.3:
                self.faults["rollback"] += 1
                for stream in store.bars.values():
                    for time_ms in sorted(stream)[-self.rng.randrange(1, 4) :]:
                        del stream[time_ms]
        if self.rng.random() < 0.05:
            self.faults["stall"] += 1
            world.transport.stalled_ms = world.clock.monotonic
        elif self.rng.random() < 0.5:
            world.transport.stalled_ms = None

    def _find_bus(self) -> None:
        self.world.store.down = self.world.lease.error = None

    def _connect(self) -> None:
        if self.rng.random() < 0.7 and self.world.engine._dialogue.links.of(self._newest()):
            self.told.clear()
            self.world.connect()

    def _newest(self) -> int:
        return self.world.transport.opened[-1]

    def _talk(self) -> None:
        world = self.world
        world.hear("~h~1")
        if world.clock.wall < self.mute_until_ms:
            return
        for series, session, bars in world.requests()[self.answered :]:
            self.answered += 1
            if session == world.session_of(series):
                self._answer(series, bars)
        for series, told in list(self.told.items()):
            self._update(series, told)

    def _answer(self, series: Series, bars: int) -> None:
        newest = int(self.now // 1)
        first = max(BEGIN, newest - bars + 1)
        history = [point(series, minute) for minute in range(first, newest)]
        exhausted = "end" if first == BEGIN else None
        self.told[series] = self.now
        self.world.fill(
            series,
            *history,
            point(series, newest, self.now % 1),
            end=newest + 1,
            turn=False,
            exhausted=exhausted,
        )

    def _update(self, series: Series, told: float) -> None:
        # As recorded: the bar that ended comes with its last values, then its successor.
        minute = int(self.now // 1)
        last = int(told // 1)
        muted = (self.world.clock.wall - self.mute_until_ms) / MINUTE_MS < minute - last
        first = minute if muted and minute - last > 1 else last
        for each in range(first, minute):
            self.world.update(series, point(series, each), end=each + 1)
        self.world.update(series, point(series, minute, self.now % 1), end=minute + 1)
        self.told[series] = self.now


def numbers(bar: Bar) -> list[Any]:
    time_s = bar.open_time_ms / 1000
    return [time_s, bar.open, bar.high, bar.low, bar.close, bar.volume]


FIRED: dict[str, int] = {}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_the_stream_becomes_the_truth(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 0.01)
    market = Market(seed)
    world = market.world
    world.turn()
    for _ in range(STEPS):
        market.step(faults=True)
        for series in (BTC, ETH):
            minutes = world.store.times(series)
            assert minutes == list(range(minutes[0], minutes[-1] + 1)) if minutes else True
    market._find_bus()
    market.mute_until_ms = 0
    world.store.replies_lost = 0
    world.transport.stalled_ms = None
    for _ in range(80):
        market.step(faults=False)
    for series in (BTC, ETH):
        minutes = world.store.times(series)
        assert minutes == list(range(minutes[0], minutes[-1] + 1))
        assert minutes[-1] >= int(market.now) - 2
        stream = dict(world.store.bars[series])
        for _, bar in world.store.corrections:
            if bar.series == series:
                stream[bar.open_time_ms] = bar
        wrong = {m: numbers(stream[NOW_MS + m * MINUTE_MS]) for m in minutes}
        assert {m: v for m, v in wrong.items() if v != point(series, m)} == {}
    assert not world.store.told("gap.abandoned")
    for kind, count in market.faults.items():
        FIRED[kind] = FIRED.get(kind, 0) + count


def test_every_kind_of_fault_happened() -> None:
    if len(FIRED) == 0:
        pytest.skip("the seeds were not run")
    assert all(FIRED.values())
