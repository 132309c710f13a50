"""Several connections: filled evenly, lost one by one, within limits and at a pace."""

from __future__ import annotations

import json
from typing import Any

import pytest
from publisher_world import MINUTE_MS, NOW_MS, World, series_number, values, web_token

from publisher import engine
from publisher.core.pacing import RATE_FIRST, RATE_MAX, READY_FIRST, REST_MS, THROTTLED_MAX
from publisher.errors import ConnectionLost, ConnectThrottled
from publisher.ports import Connected, Disconnected
from publisher.wire import Series


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


def many(count: int) -> list[Series]:
    return [series_number(number) for number in range(count)]


class Crowd(World):
    """A world whose TradingView accepts every connection and answers every request."""

    answered = 0

    def step(self, ms: int = 500) -> None:
        """Let time pass, and TradingView answer all that was asked."""
        self.pass_ms(ms, heartbeat=False, step_ms=ms)
        for link in self.engine._dialogue.links:
            if link.number and link.session is None and link.number in self.transport.opened:
                self.inbox.put(Connected(link.number))
                hello = {"session_id": "x", "timestampMs": self.clock.wall}
                self.hear(json.dumps(hello), connection=link.number)
            elif link.session is not None:
                self.hear("~h~1", connection=link.number)
        self.turn()
        for connection, messages in list(self.transport.sent_on.items()):
            self._answer(connection, [m["p"] for m in messages if m["m"] == "create_series"])
            self.transport.sent_on[connection] = []
        self.turn()

    def _answer(self, connection: int, requests: list[Any]) -> None:
        minute = (self.clock.wall - NOW_MS) // MINUTE_MS
        for session, *_ in requests:
            bars = [{"i": i, "v": values(minute - 1 + i)} for i in range(2)]
            lbs = {"bar_close_time": (NOW_MS + (minute + 1) * MINUTE_MS) / 1000}
            slot = {"sds_1": {"s": bars, "t": "s1", "lbs": lbs}}
            for kind, parameters in (
                ("timescale_update", [session, slot]),
                (
                    "series_completed",
                    [session, "sds_1", "streaming", "s1", {"data_completed": "end"}],
                ),
            ):
                message = {"m": kind, "p": parameters, "t_ms": self.clock.wall}
                self.hear(json.dumps(message), connection=connection)

    def until_live(self, count: int, steps: int = 400) -> None:
        for _ in range(steps):
            if self.live >= count:
                return
            self.step()
        raise AssertionError(f"only {self.live} of {count} are live")

    @property
    def live(self) -> int:
        return sum(line.state == "live" for line in self.store.lines.values())

    def sizes(self) -> list[int]:
        return [link.session.size for link in self.engine._dialogue.links.open if link.session]


def test_as_many_connections_are_made_as_the_series_need() -> None:
    world = Crowd(*many(25), series_per_connection_max=10)
    world.until_live(25)
    assert len(world.engine._dialogue.links.open) == 3
    assert max(world.sizes()) <= 10
    assert sum(world.sizes()) == 25


def test_one_series_has_one_connection() -> None:
    world = Crowd(*many(1), series_per_connection_max=10)
    world.until_live(1)
    assert world.transport.opened == [1]


def test_a_connection_that_is_lost_takes_only_its_own_series_along() -> None:
    world = Crowd(*many(20), series_per_connection_max=10)
    world.until_live(20)
    lost = world.engine._dialogue.links.open[0]
    world.inbox.put(Disconnected(lost.number, ConnectionLost("gone")))
    world.turn()
    assert world.live == 10
    assert len(world.engine._dialogue.links.open) == 1
    world.until_live(20)
    assert sorted(world.sizes()) == [10, 10]


def test_what_an_old_connection_still_says_concerns_nobody() -> None:
    world = Crowd(*many(20), series_per_connection_max=10)
    world.until_live(20)
    number = world.engine._dialogue.links.open[0].number
    for _ in range(2):
        world.inbox.put(Disconnected(number, ConnectionLost("gone")))
    world.turn()
    assert len(world.store.told("session.lost")) == 1


@pytest.mark.parametrize(("claimed", "expected"), [(2, 2), (50, 3)])
def test_no_more_connections_are_made_than_the_plan_has(claimed: int, expected: int) -> None:
    token = web_token(max_charts=100, max_connections=claimed)
    world = Crowd(*many(25), series_per_connection_max=10, token=token)
    for _ in range(60):
        world.step()
    assert len(world.engine._dialogue.links.open) == expected
    assert world.live == min(25, 10 * expected)


def test_no_more_connections_are_made_than_the_settings_allow() -> None:
    world = Crowd(*many(25), series_per_connection_max=10, connections_max=1)
    for _ in range(60):
        world.step()
    assert world.transport.opened == [1]
    assert world.live == 10


def test_a_connection_that_takes_no_more_is_filled_no_further() -> None:
    world = Crowd(*many(20), series_per_connection_max=10)
    for _ in range(3):
        world.step(100)
    link = world.engine._dialogue.links.open[0]
    assert link.session is not None
    session, size = next(iter(link.session._slots)), link.session.size
    refusal = {"m": "critical_error", "p": [session, "Max state sessions reached", ""]}
    world.hear(json.dumps(refusal), connection=link.number)
    world.turn()
    assert link.room_max == size - 1
    assert not world.store.told("series.refused")


def test_the_pace_begins_slowly_and_rises() -> None:
    world = Crowd(*many(150))
    asked = []
    for _ in range(12):
        before = len(world.requests())
        world.step(1_000)
        asked.append(len(world.requests()) - before)
    assert asked[1] <= RATE_FIRST + READY_FIRST
    assert max(asked) <= RATE_MAX
    assert len(world.requests()) > 5 * RATE_FIRST


def test_max_sessions_rate_halves_the_pace_and_refuses_nobody() -> None:
    world = Crowd(*many(4))
    world.step(100)
    world.step(100)
    link = world.engine._dialogue.links.open[0]
    rate = world.engine._dialogue._pace.rate
    assert link.session is not None
    session = world.session_of(series_number(0))
    refusal = {"m": "critical_error", "p": [session, "max sessions rate reached", ""]}
    world.hear(json.dumps(refusal), connection=link.number)
    world.turn()
    assert world.engine._dialogue._pace.rate == rate / 2
    [told] = world.store.told("pace.slowed")
    assert "max sessions rate reached" in told["reason"]
    world.until_live(4)
    assert not world.store.told("series.refused")


def test_a_burst_of_429_stops_all_asking_for_a_while() -> None:
    world = World(*many(1))
    for _ in range(200):
        world.turn()
        if len(world.store.told("pace.slowed")) == THROTTLED_MAX:
            break
        if world.transport.opened:
            world.inbox.put(Disconnected(world.transport.opened[-1], ConnectThrottled("429")))
        world.pass_ms(500, heartbeat=False, step_ms=500)
    assert world.store.told("pace.slowed")[-1]["rest_ms"] == REST_MS
    opened = len(world.transport.opened)
    world.pass_ms(REST_MS - 2_000, heartbeat=False, step_ms=1_000)
    assert len(world.transport.opened) == opened
    world.pass_ms(20_000, heartbeat=False, step_ms=1_000)
    assert len(world.transport.opened) == opened + 1


def test_a_token_is_renewed_on_every_connection() -> None:
    world = Crowd(*many(20), series_per_connection_max=10, token=web_token())
    world.until_live(20)
    world.grant(web_token(name="two"))
    world.turn(2)
    for link in world.engine._dialogue.links.open:
        renewed = [m for m in world.transport.sent_on[link.number] if m["m"] == "set_auth_token"]
        assert len(renewed) == 1
