"""The token: asked for, renewed on the live connection, repaired, and what ends the publisher."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from publisher_world import BTC, ETH, NOW_MS, World, values, web_token

from publisher import engine, token_keeper
from publisher.core.tokens import ANONYMOUS, Token
from publisher.errors import (
    AccountStopped,
    ChallengeRequired,
    ConnectFailed,
    CredentialsRejected,
    SessionExpired,
    SignInThrottled,
)
from publisher.wire import Series

HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


def live(token: Token | None = None, *series: Series) -> World:
    world = World(*(series or (BTC,)), token=token or web_token())
    world.go_live(*(series or (BTC,)))
    return world


def tokens_sent(world: World) -> list[Any]:
    return [m["p"][0] for m in world.transport.sent if m["m"] == "set_auth_token"]


def text(token: Token) -> str:
    return token.text.get_secret_value()


def bad_token(world: World) -> None:
    world.say("protocol_error", "bad auth token")
    world.turn()


# Getting in.


def test_nothing_is_connected_before_a_token_is_there() -> None:
    world = World(BTC, token=None)
    world.turn(3)
    assert world.tokens.asked == [None]
    assert world.transport.opened == []
    token = web_token()
    world.grant(token)
    world.connect()
    assert tokens_sent(world) == [text(token)]


def test_getting_in_is_told_with_the_way_the_plan_and_what_failed_before() -> None:
    token = web_token("password")
    failed = Token(token.text, token.way, token.claims, drift_ms=-7_000, failures=("it is old",))
    world = World(BTC, token=failed)
    world.connect()
    [told] = world.store.told("signin.succeeded")
    assert (told["way"], told["plan"]) == ("password", "pro_premium")
    [told] = world.store.told("signin.failed")
    assert (told["level"], told["reason"]) == ("warning", "it is old")
    [told] = world.store.told("clock.drifted")
    assert told["ahead_ms"] == -7_000
    assert "eyJ" not in str(world.store.events)


def test_the_plan_and_its_limits_stand_beside_the_lease() -> None:
    world = live(web_token(max_charts=8, max_connections=50))
    assert world.store.session == {
        "fencing_token": 7,
        "connected": True,
        "trouble": "",
        "way": "cookies",
        "plan": "pro_premium",
        "expires_ms": NOW_MS + 14_400_000,
        "bars_max": 20_000,
        "series_max": 400,
        "connections_max": 50,
    }
    world.disconnect(ConnectFailed("gone"))
    assert world.store.session["connected"] is False
    assert world.store.session["trouble"] == "gone"


def test_why_nobody_is_signed_in_stands_beside_the_lease() -> None:
    world = World(BTC, token=None)
    world.turn(2)
    assert (world.store.session["way"], world.store.session["trouble"]) == (None, "")
    world.deny(ConnectFailed("no network"))
    world.turn(2)
    assert world.store.session["trouble"] == "no network"


@pytest.mark.parametrize(
    "error", [SignInThrottled("the budget is spent", NOW_MS + HOUR_MS), ConnectFailed("no network")]
)
def test_a_person_who_signs_in_is_noticed_within_seconds(error: Any) -> None:
    world = World(BTC, token=None)
    world.turn()
    world.deny(error)
    world.turn()
    world.pass_ms(1_000, heartbeat=False)
    assert len(world.tokens.asked) == 1
    world.tokens.person = True
    world.pass_ms(token_keeper.LOOK_MS + 1_000, heartbeat=False)
    assert len(world.tokens.asked) == 2


def test_a_stored_session_that_is_no_use_is_tried_ever_more_seldom() -> None:
    world = World(BTC, token=None)
    world.turn()
    for _ in range(600):
        world.tokens.person = True
        if len(world.tokens.asked) > len(world.store.told("signin.failed")):
            world.deny(SignInThrottled("the budget is spent", NOW_MS + 10 * HOUR_MS))
        world.pass_ms(1_000, heartbeat=False)
    assert 4 <= len(world.tokens.asked) <= 12


def test_a_person_who_signs_in_ends_anonymous_reading() -> None:
    world = live(ANONYMOUS)
    world.pass_ms(10_000)
    assert world.tokens.asked == []
    world.tokens.person = True
    world.pass_ms(token_keeper.LOOK_MS + 1_000)
    assert world.tokens.asked == [None]


def test_a_publisher_that_is_signed_in_looks_for_nobody() -> None:
    world = live()
    world.tokens.person = True
    world.pass_ms(10_000)
    assert world.tokens.asked == []


def test_going_on_anonymously_is_said() -> None:
    world = live(ANONYMOUS)
    [told] = world.store.told("signin.skipped")
    assert (told["level"], "tvbus login" in told["reason"]) == ("warning", True)
    assert world.store.told("signin.succeeded") == []
    assert world.store.told("session.opened")[0]["anonymous"] is True
    assert world.store.session["plan"] == "anonymous"
    assert live().store.told("session.opened")[0]["anonymous"] is False


@pytest.mark.parametrize(
    "error", [CredentialsRejected("wrong"), ChallengeRequired("captcha"), AccountStopped("banned")]
)
def test_where_only_a_person_helps_the_publisher_ends_and_gives_the_lease_back(
    error: Exception,
) -> None:
    world = World(BTC, token=None)
    world.deny(error)  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        world.engine.run(threading.Event())
    assert world.lease.released == 1
    [told] = world.store.told("signin.failed")
    assert (told["level"], told["reason"]) == ("error", str(error))
    assert world.store.told("publisher.stopped")


def test_what_may_pass_is_tried_again_ever_more_seldom() -> None:
    world = World(BTC, token=None)
    world.turn()
    waits = []
    for _ in range(6):
        world.deny(ConnectFailed("no network"))
        world.turn()
        waits.append(world.store.told("signin.failed")[-1]["retry_in_ms"])
        asked = len(world.tokens.asked)
        world.pass_ms(waits[-1] - 1, heartbeat=False, step_ms=10_000)
        assert len(world.tokens.asked) == asked
        world.pass_ms(2, heartbeat=False)
        assert len(world.tokens.asked) == asked + 1
    assert waits == sorted(waits)
    assert waits[-1] > 8 * waits[0]
    assert world.engine.status.signin_trouble == "no network"


def test_too_many_sign_ins_are_waited_for() -> None:
    world = World(BTC, token=None)
    world.turn()
    world.deny(SignInThrottled("twice in an hour", NOW_MS + HOUR_MS))
    world.turn()
    assert world.store.told("signin.failed")[0]["retry_in_ms"] >= HOUR_MS
    world.pass_ms(HOUR_MS - 5_000, heartbeat=False, step_ms=30_000)
    assert len(world.tokens.asked) == 1
    world.pass_ms(10_000, heartbeat=False)
    assert len(world.tokens.asked) == 2


# Renewing.


def age(world: World, ms: int) -> None:
    """Let time pass with heartbeats and now and then a bar."""
    while ms > 0:
        step = min(ms, 600_000)
        world.pass_ms(step, step_ms=20_000)
        ms -= step


def test_a_token_is_renewed_on_the_live_connection_before_its_end() -> None:
    world = live()
    age(world, int(2.7 * HOUR_MS))
    assert world.tokens.asked == []
    age(world, int(0.6 * HOUR_MS))
    assert world.tokens.asked == [None]
    end = NOW_MS // 1000 + 14_400
    token = web_token(name="two", iat=end - 3_600, exp=end + 10_800)
    world.grant(token)
    world.turn(2)
    assert tokens_sent(world)[1:] == [text(token)]
    assert world.transport.opened == [1]
    assert world.store.lines[BTC].state == "live"


def test_a_renewal_that_fails_is_tried_again_and_nothing_stops_meanwhile() -> None:
    world = live()
    age(world, int(3.3 * HOUR_MS))
    world.deny(ConnectFailed("no network"))
    world.turn()
    world.pass_ms(5_000)
    assert world.tokens.asked == [None, None]
    assert world.transport.opened == [1]
    assert world.engine.status.connected


def test_a_token_that_came_after_the_end_of_the_last_brings_a_new_connection() -> None:
    world = live()
    age(world, int(3.3 * HOUR_MS))
    for _ in range(9):
        world.deny(ConnectFailed("no network"))
        age(world, 600_000)
    end = NOW_MS // 1000 + 5 * 3_600
    world.grant(web_token(name="two", iat=end, exp=end + 14_400))
    world.turn()
    assert "had ended" in world.store.told("session.lost")[-1]["reason"]
    world.pass_ms(1_000)
    world.connect()
    assert world.transport.opened == [1, 3]
    assert tokens_sent(world)[-1].endswith(".two")


def test_a_connection_is_not_made_with_a_token_that_has_ended() -> None:
    world = World(BTC, token=web_token(exp=NOW_MS // 1000 - 1))
    world.turn(3)
    assert world.transport.opened == []
    world.pass_ms(3_000, heartbeat=False)
    assert world.tokens.asked == [None]


def test_tokens_that_are_over_as_they_come_are_asked_for_ever_more_seldom() -> None:
    world = World(BTC, token=None)
    for _ in range(200):
        if len(world.tokens.asked) > world.engine.notes.counts["signin.succeeded"]:
            world.grant(web_token(exp=NOW_MS // 1000 - 1))
        world.pass_ms(1_000, heartbeat=False)
    assert 3 <= len(world.tokens.asked) <= 8


def test_tradingviews_clock_decides_when_a_token_ends() -> None:
    world = live()
    world.clock.wall += 10 * HOUR_MS  # the machine's clock jumps
    world.turn(2)
    assert world.tokens.asked == []


def test_what_the_connection_says_of_the_time_counts_more_than_what_the_pages_said() -> None:
    world = live()
    world.pass_ms(3_000)
    world.clock.wall += int(3.5 * HOUR_MS)  # TradingView says so too
    world.resolve(BTC)
    world.clock.wall -= int(3.5 * HOUR_MS)
    world.turn(2)
    assert world.tokens.asked == [None]


def test_a_person_is_awaited_while_the_token_lasts_and_then_the_publisher_ends() -> None:
    world = live()
    age(world, int(3.3 * HOUR_MS))
    for _ in range(8):
        world.deny(SessionExpired("run `tvbus login`"))
        world.turn()
        world.pass_ms(token_keeper.PERSON_MS + 1_000, step_ms=60_000)
        world.update(BTC, values(0, 100.5), end=1)
        world.turn()
    assert len(world.tokens.asked) >= 8
    with pytest.raises(SessionExpired, match="tvbus login"):
        age(world, HOUR_MS)


def test_bars_that_still_come_after_the_end_keep_the_publisher_going() -> None:
    world = live()
    age(world, int(3.9 * HOUR_MS))
    world.deny(SessionExpired("run `tvbus login`"))
    world.turn()
    for number in range(100):
        world.pass_ms(20_000)
        world.update(BTC, values(0, 100 + number / 100), end=1)
        world.turn()
    assert world.engine.status.connected


def test_a_given_token_is_not_asked_for_again_as_if_it_could_be_renewed() -> None:
    token = web_token("token")
    world = live(token)
    age(world, int(3.3 * HOUR_MS))
    assert world.tokens.asked == [token]


def test_who_went_on_anonymously_tries_to_sign_in_every_hour() -> None:
    fallback = Token(ANONYMOUS.text, "anonymous", ANONYMOUS.claims, failures=("wrong password",))
    world = live(fallback)
    age(world, HOUR_MS - 60_000)
    assert world.tokens.asked == []
    age(world, 120_000)
    assert world.tokens.asked == [None]
    world.grant(web_token())
    world.turn()
    assert world.store.told("session.lost")
    other = live(ANONYMOUS)
    age(other, 3 * HOUR_MS)
    assert other.tokens.asked == []


# Refused on the connection.


def test_a_refused_token_is_replaced_before_the_next_connection() -> None:
    token = web_token()
    world = live(token)
    bad_token(world)
    world.pass_ms(3_000)
    assert world.tokens.asked == [token]
    assert world.transport.opened == [1]
    other = web_token(name="two")
    world.grant(other)
    world.pass_ms(1_000)
    world.connect()
    assert tokens_sent(world)[-1] == text(other)


def test_a_given_token_is_tried_twice_before_it_is_given_up() -> None:
    token = web_token("token")
    world = live(token)
    bad_token(world)
    world.pass_ms(1_000)
    assert world.tokens.asked == []
    world.connect()
    bad_token(world)
    world.pass_ms(1_000)
    assert world.tokens.asked == [token]
    world.deny(SessionExpired("give another"))
    with pytest.raises(SessionExpired):
        world.turn()


def test_a_given_token_that_brought_bars_in_between_is_tried_again() -> None:
    world = live(web_token("token"))
    for _ in range(3):
        bad_token(world)
        world.pass_ms(2_000)
        world.connect()
        world.fill(BTC, values(-1), values(0), end=1)
        world.pass_ms(1_000)
    assert world.tokens.asked == []


def test_nobodys_token_is_tried_for_ever() -> None:
    world = live(ANONYMOUS)
    for _ in range(3):
        bad_token(world)
        world.pass_ms(5_000)
        world.connect()
    assert world.tokens.asked == []
    assert len(world.transport.opened) == 4


def test_a_token_that_goes_while_a_connection_is_made_ends_that_connection() -> None:
    world = World(BTC, token=web_token())
    world.turn(2)
    world.engine._dialogue.keeper.token = None
    world.connect()
    assert "rejected meanwhile" in world.store.told("session.lost")[0]["reason"]


def test_a_ban_ends_the_publisher_and_says_what_to_do() -> None:
    world = live()
    world.say("protocol_error", "banned")
    with pytest.raises(AccountStopped, match="nothing is tried again"):
        world.engine.run(threading.Event())
    assert world.lease.released == 1


# What the plan allows.


@pytest.mark.parametrize(("plan", "asks_more"), [("", False), ("pro", True)])
def test_a_new_stream_begins_with_no_more_bars_than_the_plan_has(
    plan: str, asks_more: bool
) -> None:
    world = World(BTC, history_bars=9_000, token=web_token(plan=plan))
    world.connect()
    bars = [values(minute) for minute in range(-5_000, 1)]
    world.fill(BTC, *bars, end=1, exhausted=None)
    assert ("request_more_data" in {m["m"] for m in world.transport.sent}) == asks_more


def test_the_plans_window_does_not_bind_daily_bars() -> None:
    daily = Series("BTCUSDT", "BINANCE", "1D")
    world = World(daily, history_bars=9_000, token=web_token(plan=""))
    world.turn()
    assert world.engine._roster._first_fill_bars(daily) == 9_000


def test_series_beyond_the_plan_are_refused_and_the_others_live() -> None:
    world = World(BTC, ETH, token=web_token(max_charts=1, max_connections=1))
    world.go_live(BTC)
    assert world.store.lines[BTC].state == "live"
    assert world.store.lines[ETH].state == "refused"
    assert "allows about 1 series" in world.store.lines[ETH].reason
    world.command("subscribe", "SOLUSDT-BINANCE-1m")
    [answer] = world.replies()
    assert not answer.accepted
    assert "unsubscribe some first" in answer.message
