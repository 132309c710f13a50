"""What becomes of a live connection when its token ends, and when it is renewed in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

from simulator_world import TUESDAY_MS, Client, bars_of, kinds
from web_world import Browser

from publisher.simulator import Account, Simulator
from publisher.wire import MINUTE_MS, Series

LIFE_S = 60
SHORT = Account("plain", "right", token_life_s=LIFE_S)
BTC = Series.parse("BTCUSDT-BINANCE-1m")


@contextmanager
def live(
    expired: Literal["mute", "refuse"] = "mute",
) -> Iterator[tuple[Simulator, Browser, Client]]:
    """A signed-in browser and a client with a live series; time moves when told."""
    with (
        Simulator(
            seed=7,
            speed=0,
            start_ms=TUESDAY_MS,
            accounts=[SHORT],
            expired_token=expired,
            heartbeat_s=0.05,
        ) as simulator,
        Browser(simulator) as browser,
        Client(simulator.url) as client,
    ):
        browser.sign_in("plain", "right")
        client.send("set_auth_token", browser.token())
        client.send("chart_create_session", "cs_1", "")
        client.send("resolve_symbol", "cs_1", "sym_1", "BINANCE:BTCUSDT")
        client.send("create_series", "cs_1", "sds_1", "s1", "sym_1", "1", 3, "")
        client.until_kind("series_completed")
        yield simulator, browser, client


def beats(simulator: Simulator, client: Client, number: int) -> None:
    """Read until so many more heartbeats were echoed."""
    until = simulator.received["~h~"] + number
    while simulator.received["~h~"] < until:
        client.receive()


def test_an_expired_token_leaves_heartbeats_alone_until_a_good_one_comes() -> None:
    with live() as (simulator, browser, client):
        client.walk(simulator, 7)
        simulator.advance(LIFE_S * 1000)
        before = len(client.messages)
        client.send("get_first_bar_time", "cs_1", "sym_1", "1D")
        simulator.advance(10 * MINUTE_MS)
        beats(simulator, client, 8)
        assert kinds(client.messages[before:]) == []
        client.send("set_auth_token", browser.token())
        client.walk(simulator, LIFE_S - 5)
        bars = {int(bar["v"][0]) * 1000 for m in client.messages[before:] for bar in bars_of(m)}
        assert bars, "the same connection, chart and series go on"
        assert min(bars) > TUESDAY_MS + 9 * MINUTE_MS, "what fell due meanwhile is lost"
        assert simulator.connections == [1]


def test_an_expired_token_can_end_the_connection_instead() -> None:
    with live("refuse") as (simulator, _, client):
        client.walk(simulator, LIFE_S - 5)
        assert not client.of("protocol_error")
        simulator.advance(6_000)
        assert client.until_kind("protocol_error")["p"] == ["bad auth token"]
        client.until_closed()


def test_a_token_can_be_ended_at_once() -> None:
    with live("refuse") as (simulator, _, client):
        simulator.expire_token("nobody")
        client.walk(simulator, 7)
        simulator.expire_token("plain")
        client.until_kind("protocol_error")


def test_an_expired_connection_that_offers_another_bad_token_is_ended() -> None:
    with live() as (simulator, _, client):
        simulator.expire_token("plain")
        client.send("set_auth_token", "worse")
        assert client.until_kind("protocol_error")["p"] == ["bad auth token"]
        client.until_closed()


def test_a_token_renewed_in_time_interrupts_nothing() -> None:
    with live() as (simulator, browser, client):
        for _ in range(10):
            client.walk(simulator, LIFE_S - 10)
            client.send("set_auth_token", browser.token())
        received = {int(values[0]) * 1000: values for values in client.bars()}
        received.pop(max(received))
        truth = simulator.truth(BTC, min(received), max(received) + 1)
        assert [bar.values for bar in truth] == [received[at] for at in sorted(received)]
        assert len(truth) >= 9
        assert all(new - old == MINUTE_MS for old, new in pairwise(sorted(received)))
        assert simulator.connections == [1]


def test_given_and_anonymous_tokens_never_end() -> None:
    with Simulator(speed=0, start_ms=TUESDAY_MS, tokens=["jwt"]) as simulator:
        for token in ("jwt", "unauthorized_user_token"):
            with Client(simulator.url) as client:
                client.ask("BINANCE:BTCUSDT", "1", 3)
                client.send("set_auth_token", token)
                simulator.advance(400 * 24 * 60 * MINUTE_MS)
                client.send("get_first_bar_time", "cs_1", "sym_1", "1D")
                assert client.until_kind("first_bar_time")
