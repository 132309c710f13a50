"""The server over a real connection: time, heartbeats, live bars, lifecycle."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest
import websocket
from simulator_world import TUESDAY_MS, Client, bars_of

from publisher.simulator import Simulator, serve_forever
from publisher.simulator.clock import SimulatedClock
from publisher.wire import DAY_MS, MINUTE_MS, Series


def final_values(client: Client) -> dict[int, list[float]]:
    """Return the last values received of every bar but the newest, by open time in ms."""
    last = {int(values[0] * 1000): values for values in client.bars()}
    last.pop(max(last))
    return last


@pytest.mark.parametrize(
    "name", ["BTCUSDT-BINANCE-1m", "ZENUSDT-BINANCE-1m", "ES1!-CME_MINI-1m", "RUT-TVC-1m"]
)
def test_the_last_values_of_every_live_bar_are_the_truth(
    client: Client, simulator: Simulator, name: str
) -> None:
    series = Series.parse(name)
    client.ask(f"{series.exchange}:{series.symbol}", "1", 5)
    client.walk(simulator, 400)
    received = final_values(client)
    truth = simulator.truth(series, min(received), max(received) + 1)
    assert [bar.values for bar in truth] == [received[time_ms] for time_ms in sorted(received)]
    assert len(truth) >= 10


def test_a_bar_rolls_over_as_recorded(client: Client, simulator: Simulator) -> None:
    client.ask("BINANCE:BTCUSDT", "1", 300)
    client.walk(simulator, 200)
    du = [bars_of(message)[0] for message in client.of("du")]
    opened = [(old, new) for old, new in pairwise(du) if old["i"] != new["i"]]
    assert [new["i"] for _, new in opened] == [300, 301, 302]
    for old, new in opened:
        assert new["v"][0] == old["v"][0] + 60
        assert new["v"][1] == new["v"][2] == new["v"][3] == new["v"][4]
        assert new["v"][5] == 0.0


def test_a_forming_bar_is_sent_no_more_than_four_times_a_second(fast: Simulator) -> None:
    with Client(fast.url) as client:
        client.ask("BINANCE:BTCUSDT", "1D", 2)
        began = time.monotonic()
        updates = 0
        while updates < 8:
            updates += sum(message["m"] == "du" for message in client.receive())
        assert time.monotonic() - began > 1.4


def test_an_update_is_repeated_byte_for_byte_now_and_then(
    client: Client, simulator: Simulator
) -> None:
    client.ask("BINANCE:BTCUSDT", "1D", 2)
    client.walk(simulator, 150)
    assert any(a == b for a, b in pairwise(client.of("du")))


def test_a_corrected_bar_is_sent_again_under_its_old_index(
    client: Client, simulator: Simulator
) -> None:
    series = Series.parse("BTCUSD-BITFINEX-1m")
    client.ask("BITFINEX:BTCUSD", "1", 5)
    client.walk(simulator, 900)
    bars = [bar for message in client.of("du") for bar in bars_of(message)]
    corrections = [new for old, new in pairwise(bars) if new["i"] < old["i"]]
    assert corrections
    for bar in corrections:
        time_ms = int(bar["v"][0] * 1000)
        (truth,) = simulator.truth(series, time_ms, time_ms + 1)
        earlier = [values for values in client.bars() if values[0] == bar["v"][0]]
        assert bar["v"] == truth.values == earlier[-1] != earlier[-2]


def test_a_delayed_symbol_lags_by_its_delay(client: Client, simulator: Simulator) -> None:
    # 13:40:05 is after the close, so ask on the next morning.
    simulator.advance(11 * 3600_000 + 40 * MINUTE_MS)
    client.ask("HOSE:VCB", "1", 2)
    (update,) = client.of("timescale_update")[:1]
    newest = bars_of(update)[-1]["v"][0]
    assert 900 - 60 <= update["t"] - newest <= 900 + 300
    assert client.of("series_completed")[0]["p"][2] == "delayed_streaming_900"


def test_time_that_jumps_closes_every_bar_in_between(client: Client, simulator: Simulator) -> None:
    client.ask("BINANCE:BTCUSDT", "1", 2)
    begun = max(bar[0] for bar in client.bars())
    simulator.advance(30 * MINUTE_MS)
    client.until(lambda m: any(bar["v"][0] >= begun + 1800 for bar in bars_of(m)))
    received = final_values(client)
    series = Series.parse("BTCUSDT-BINANCE-1m")
    truth = simulator.truth(series, min(received), max(received) + 1)
    assert [bar.values for bar in truth] == [received[time_ms] for time_ms in sorted(received)]
    assert len(truth) >= 31


def test_truth_holds_only_bars_that_have_ended(simulator: Simulator) -> None:
    series = Series.parse("BTCUSDT-BINANCE-1m")
    bars = simulator.truth(series, TUESDAY_MS - 10 * MINUTE_MS)
    assert bars[-1].end_ms <= simulator.now_ms() < bars[-1].end_ms + MINUTE_MS
    assert simulator.truth(Series.parse("VCB-HOSE-1m+EUR"), TUESDAY_MS - 4 * DAY_MS)
    with pytest.raises(KeyError):
        simulator.truth(Series.parse("NOSUCH-BINANCE-1m"), 0)


def test_stamps_are_on_the_kinds_that_carry_them_and_on_no_other(fast: Simulator) -> None:
    stamped = {"series_loading", "symbol_resolved", "timescale_update", "series_completed"}
    with Client(fast.url) as client:
        client.ask("BINANCE:BTCUSDT", "1", 2)
        client.until_kind("du")
        for message in client.messages[1:]:
            assert ("t" in message) == ("t_ms" in message) == (message["m"] in stamped)
            if "t" in message:
                assert message["t"] == message["t_ms"] // 1000


def test_heartbeats_rise_and_an_echo_keeps_the_connection() -> None:
    with Simulator(heartbeat_s=0.05, echo_s=0.3) as simulator, Client(simulator.url) as client:
        while simulator.received["~h~"] < 12:
            client.receive()
        beats = client.raw[1:]
        assert beats[:2] == ["~m~4~m~~h~1", "~m~4~m~~h~2"]
        assert beats[9] == "~m~5~m~~h~10"


def test_a_client_that_does_not_echo_is_dropped() -> None:
    with (
        Simulator(heartbeat_s=0.05, echo_s=0.3) as simulator,
        Client(simulator.url, echoes=False) as client,
    ):
        began = time.monotonic()
        client.until_closed()
        assert 0.2 < time.monotonic() - began < 5


def test_a_wrong_echo_counts_for_nothing() -> None:
    with (
        Simulator(heartbeat_s=0.05, echo_s=0.3) as simulator,
        Client(simulator.url, echoes=False) as client,
    ):
        client.socket.send("~m~6~m~~h~999")
        client.until_closed()


def test_heartbeats_come_batched_with_data_too() -> None:
    with (
        Simulator(speed=60, start_ms=TUESDAY_MS, heartbeat_s=1) as simulator,
        Client(simulator.url) as client,
    ):
        client.ask("BINANCE:BTCUSDT", "1", 2)
        client.until(lambda _: any("~h~" in raw and '"du"' in raw for raw in client.raw))


@pytest.mark.parametrize("origin", [None, "https://example.com"])
def test_a_foreign_origin_is_refused_with_403(simulator: Simulator, origin: str | None) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        Client(simulator.url, origin=origin)
    assert refused.value.status_code == 403


def test_an_expected_token_is_accepted_and_pays_for_fast_updates() -> None:
    with Simulator(tokens=["jwt"]) as simulator, Client(simulator.url) as client:
        client.send("set_auth_token", "jwt")
        client.send("chart_create_session", "cs_1", "")
        client.send("resolve_symbol", "cs_1", "y", "BINANCE:BTCUSDT")
        client.send("create_series", "cs_1", "sds_1", "s1", "y", "1", 5)
        assert client.until_kind("series_completed")["p"][4] == {"rt_update_period": 0}


@pytest.mark.parametrize("garbage", ["hello", "~m~9~m~{}", "~m~2~m~{}", '~m~14~m~{"m":1,"p":[]}'])
def test_nonsense_ends_the_connection(client: Client, garbage: str) -> None:
    client.socket.send(garbage)
    client.until_closed()


@pytest.mark.parametrize(
    "parameters",
    [[], ["cs_1"], ["cs_1", 5, 5, 5, 5, 5], ["cs_1", "a", "s1", "y", "1", "many"],
     ["cs_1", "a", "s1", "y", "1", -5], ["cs_1", "a", "s1", "nope", "1", 5]],
)  # fmt: skip
def test_malformed_requests_are_refused_and_nothing_breaks(
    client: Client, parameters: list[object]
) -> None:
    client.send("chart_create_session", "cs_1", "")
    client.send("resolve_symbol", "cs_1", "y", "BINANCE:BTCUSDT")
    client.send("create_series", *parameters)
    assert client.until_kind("critical_error")["p"][-2:-1] == ["invalid parameters"]
    client.send("create_series", "cs_1", "sds_1", "s1", "y", "1", 5, "")
    client.until_kind("series_completed")


def test_a_deleted_chart_sends_nothing_more_and_is_unknown(fast: Simulator) -> None:
    with Client(fast.url) as client:
        client.ask("BINANCE:BTCUSDT", "1", 2)
        client.send("chart_delete_session", "cs_1")
        client.send("remove_series", "cs_1", "sds_1")
        assert "unknown_session_id" in client.until_kind("protocol_error")["p"][0]


def test_a_client_that_does_not_read_is_dropped() -> None:
    with Simulator(start_ms=TUESDAY_MS, send_s=0.2) as simulator:
        client = Client(simulator.url)
        simulator.faults.inject("huge", size_bytes=40_000_000)
        deadline = time.monotonic() + 10
        while simulator.connections and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert simulator.connections == []
        client.close()


def test_the_simulator_stops_with_clients_connected_and_frees_its_port() -> None:
    simulator = Simulator().start()
    client = Client(simulator.url)
    port = int(simulator.url.split(":")[2].split("/")[0])
    simulator.stop()
    client.until_closed()
    with Simulator(port=port) as again, Client(again.url):
        assert again.connections == [1]


def test_a_taken_port_is_an_error(simulator: Simulator) -> None:
    port = int(simulator.url.split(":")[2].split("/")[0])
    with pytest.raises(OSError, match="address already in use"):
        Simulator(port=port).start()


def test_serve_forever_tells_when_it_listens_and_ends_when_told() -> None:
    stop = threading.Event()
    urls: list[str] = []

    def ready(simulator: Simulator) -> None:
        urls.append(simulator.url)
        with Client(simulator.url) as client:
            assert client.hello["simulator_speed"] == 3.0
        stop.set()

    serve_forever(ready, stop, speed=3)
    assert urls[0].endswith("/socket.io/websocket")


def test_an_accelerated_simulation_starts_a_month_ago() -> None:
    now_ms = time.time() * 1000
    assert abs(Simulator().now_ms() - now_ms) < 5000
    assert abs(Simulator(speed=60).now_ms() - now_ms + 30 * DAY_MS) < 60_000


def test_the_clock_runs_at_its_speed_and_only_forward() -> None:
    real = 10.0
    clock = SimulatedClock(1000, 60.0, lambda: real)
    real = 11.0
    assert clock.now_ms() == 61_000
    clock.advance(500)
    assert clock.now_ms() == 61_500
    assert clock.real_seconds(60_000) == 1.0
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="negative"):
        SimulatedClock(0, -1)
