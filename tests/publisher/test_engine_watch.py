"""Data that stays away: asked for again, in market time, level by level; and audits."""

from __future__ import annotations

import pytest
from publisher_world import BTC, ETH, MINUTE_MS, NOW_MS, World, values, web_token

from publisher import engine
from publisher.core.liveness import SILENCE_MS_MIN
from publisher.core.session import ANSWER_MS_MAX
from publisher.wire import Series

ALWAYS = {"session": "24x7", "timezone": "Etc/UTC"}
SECOND_MS = 1_000


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


class Market(World):
    """A world whose series trade round the clock unless told otherwise."""

    @classmethod
    def live(cls, *series: Series, **info: str) -> Market:
        world = cls(*series, token=web_token())
        world.connect()
        world.pass_ms(SECOND_MS)
        for one in series:
            world.begin(one, **info)
        return world

    def begin(self, series: Series, **info: str) -> None:
        """Answer a series with two closed bars and the one that forms."""
        minute = (self.clock.wall - NOW_MS) // MINUTE_MS
        self.resolve(series, **(info or ALWAYS))
        bars = [values(minute + step) for step in (-2, -1, 0)]
        self.update(series, *bars, end=minute + 1, kind="timescale_update")
        self.say(
            "series_completed", self.session_of(series), "sds_1", "streaming", "s1",
            {"data_completed": "end"}, stamped=True,
        )  # fmt: skip
        self.turn(2)

    def trade(self, series: Series, price: float = 100.5) -> None:
        """Send an update of the bar that forms."""
        minute = (self.clock.wall - NOW_MS) // MINUTE_MS
        self.update(series, values(minute, price), end=minute + 1)
        self.turn()

    def silent(self) -> list[str]:
        return [fact["series"] for fact in self.store.told("series.silent")]


def test_one_silent_series_is_asked_for_again_and_the_others_go_on() -> None:
    world = Market.live(BTC, ETH)
    for _ in range(8):
        world.pass_ms(3 * SECOND_MS)
        world.trade(ETH)
    assert world.silent() == [str(BTC)]
    assert world.asked() == [BTC, ETH, BTC]
    assert world.store.lines[ETH].state == "live"
    assert world.transport.opened == [1]
    world.begin(BTC)
    assert world.store.lines[BTC].state == "live"


def test_an_alarm_that_was_false_makes_the_next_one_later() -> None:
    world = Market.live(BTC, ETH)
    alarms = []
    for second in range(0, 420, 3):
        world.pass_ms(3 * SECOND_MS)
        world.trade(ETH)
        if len(world.silent()) > len(alarms):
            alarms.append(second)
            world.pass_ms(2 * SECOND_MS)
            world.begin(BTC)
    assert len(alarms) == 3
    assert alarms[1] - alarms[0] > 3 * SILENCE_MS_MIN / SECOND_MS
    assert alarms[2] - alarms[1] > 3 * (alarms[1] - alarms[0])


def test_a_closed_market_is_left_alone() -> None:
    hours = {"session": "0930-1600", "timezone": "America/New_York"}  # it is night there
    world = Market.live(BTC, ETH, **hours)
    world.pass_ms(60 * SECOND_MS * 10, step_ms=5_000)
    assert world.silent() == []
    assert world.asked() == [BTC, ETH]


def test_where_all_series_are_silent_together_the_connection_is_made_anew() -> None:
    world = Market.live(BTC, ETH)
    world.pass_ms(SILENCE_MS_MIN + 3 * SECOND_MS)
    [lost] = world.store.told("session.lost")
    assert "heartbeats come, but no data" in lost["reason"]
    assert world.asked() == [BTC, ETH]
    world.connect()
    world.pass_ms(SECOND_MS)
    assert sorted(world.asked()[2:]) == [BTC, ETH]


def test_a_series_whose_market_is_closed_does_not_speak_for_the_connection() -> None:
    world = World(BTC, ETH, token=web_token())
    market = Market.live(BTC, ETH)
    assert world is not market
    market.resolve(ETH, session="0930-1600", timezone="America/New_York")
    market.pass_ms(SILENCE_MS_MIN + 3 * SECOND_MS)
    assert market.silent() == [str(BTC)]
    assert market.store.told("session.lost") == []


def test_requests_that_are_never_answered_end_the_connection() -> None:
    world = World(BTC, ETH, Series("SOLUSDT", "BINANCE", "1m"), token=web_token())
    world.connect()
    world.pass_ms(ANSWER_MS_MAX + 2 * SECOND_MS)
    [lost] = world.store.told("session.lost")
    assert "were not answered" in lost["reason"]


def test_connections_that_stay_mute_make_the_token_suspicious() -> None:
    world = Market.live(BTC, ETH)
    for _ in range(3):
        assert world.tokens.asked == []
        world.pass_ms(40 * SECOND_MS)
        if world.engine._dialogue.keeper.token is None:
            break
        world.connect()
        world.pass_ms(SECOND_MS)
        for one in (BTC, ETH):
            # Known, live, and never a bar: only what TradingView resolves.
            world.resolve(one, **ALWAYS)
        world.pass_ms(ANSWER_MS_MAX + SECOND_MS)
    world.pass_ms(5 * SECOND_MS)
    assert len(world.tokens.asked) >= 1
    assert world.tokens.asked[0] is not None


def test_data_that_comes_again_after_a_silence_is_compared_with_history_first() -> None:
    world = Market.live(BTC, ETH)
    for _ in range(7):
        world.pass_ms(SECOND_MS)
        world.trade(ETH)
    world.clock.wall += 16 * SECOND_MS
    world.clock.monotonic += 16 * SECOND_MS
    world.trade(BTC, 111.0)
    [told] = [fact for fact in world.store.told("series.checked") if fact["series"] == str(BTC)]
    assert "after a silence" in told["reason"]
    assert world.asked().count(BTC) == 2


def audited(minutes: int) -> Market:
    world = Market(BTC, token=web_token(), audit_minutes=minutes)
    world.connect()
    world.begin(BTC, session="", timezone="")
    return world


def test_each_series_is_compared_with_history_now_and_then() -> None:
    world = audited(30)
    world.pass_ms(29 * MINUTE_MS, step_ms=10_000)
    assert world.asked() == [BTC]
    world.pass_ms(MINUTE_MS + 20 * SECOND_MS, step_ms=10_000)
    assert world.asked() == [BTC, BTC]
    [told] = world.store.told("series.checked")
    assert "compared with history" in told["reason"]
    assert world.store.lines[BTC].state == "filling"


def test_an_audit_corrects_what_was_lost_within_a_bar() -> None:
    world = audited(30)
    for minute in range(1, 31):
        world.pass_ms(MINUTE_MS, step_ms=10_000)
        world.update(BTC, values(minute), end=minute + 1)
        world.turn()
    world.pass_ms(5 * SECOND_MS)
    bars = [values(minute, 100.0 if minute != 20 else 107.0) for minute in range(-2, 31)]
    world.resolve(BTC)
    world.update(BTC, *bars, end=31, kind="timescale_update")
    world.say(
        "series_completed", world.session_of(BTC), "sds_1", "streaming", "s1",
        {"data_completed": "end"}, stamped=True,
    )  # fmt: skip
    world.turn(3)
    [correction] = [bar for _, bar in world.store.corrections]
    assert correction.open_time_ms == NOW_MS + 20 * MINUTE_MS
    assert (correction.open, correction.revision) == (107.0, 1)
    assert world.store.lines[BTC].state == "live"


def test_audits_can_be_switched_off() -> None:
    world = audited(0)
    world.pass_ms(200 * MINUTE_MS, step_ms=20_000)
    assert world.asked() == [BTC]
