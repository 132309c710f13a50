"""Each fault does over a real connection what its name says."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest
import websocket
from simulator_world import BrokenPacket, Client, bars_of, kinds

from publisher.simulator import SOCKET_KINDS, Faults, Kind, Simulator, damage, schedule

BTC = "BINANCE:BTCUSDT"


@pytest.fixture
def live(fast: Simulator) -> Iterator[Client]:
    """A client with a live series on the fast simulator."""
    with Client(fast.url) as client:
        client.ask(BTC, "1", 3)
        client.until_kind("du")
        yield client


def count(simulator: Simulator, kind: Kind) -> int:
    return simulator.faults.counts[kind]


def test_close_is_a_clean_1000(fast: Simulator, live: Client) -> None:
    fast.faults.inject(Kind.CLOSE)
    while True:
        opcode, data = live.socket.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
    assert int.from_bytes(data[:2], "big") == 1000
    assert count(fast, Kind.CLOSE) == 1


def test_reset_ends_the_connection_without_a_closing_frame(fast: Simulator, live: Client) -> None:
    fast.faults.inject(Kind.RESET)
    closing = websocket.ABNF.OPCODE_CLOSE
    with pytest.raises((websocket.WebSocketConnectionClosedException, OSError)):
        all(live.socket.recv_data(control_frame=True)[0] != closing for _ in range(1000))
    assert fast.faults.log[-1][0] == 1


def test_a_mute_socket_beats_but_has_no_data() -> None:
    with Simulator(speed=60, heartbeat_s=0.05) as simulator, Client(simulator.url) as client:
        client.ask(BTC, "1", 3)
        simulator.faults.inject(Kind.MUTE, duration_s=1.0)
        while simulator.faults.counts[Kind.MUTE] == 0:
            client.receive()
        before, beats = len(client.messages), simulator.received["~h~"]
        while simulator.received["~h~"] < beats + 6:
            client.receive()
        # What was on its way when the fault struck still arrives.
        assert len(client.messages) - before <= 2
        client.until_kind("du")


def test_silence_is_total(fast: Simulator, live: Client) -> None:
    fast.faults.inject(Kind.SILENCE, duration_s=30)
    live.socket.settimeout(0.6)
    with pytest.raises(websocket.WebSocketTimeoutException):
        live.until(lambda _: False)


@pytest.mark.parametrize(("kind", "status"), [(Kind.THROTTLE, 429), (Kind.FORBID, 403)])
def test_handshakes_are_refused_as_often_as_told(
    simulator: Simulator, kind: Kind, status: int
) -> None:
    simulator.faults.inject(kind, count=2)
    for _ in range(2):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            Client(simulator.url)
        assert refused.value.status_code == status
    with Client(simulator.url) as client:
        assert client.hello["protocol"] == "json"
    assert count(simulator, kind) == 2


def test_too_many_sessions_are_refused(client: Client, simulator: Simulator) -> None:
    simulator.faults.inject(Kind.SESSION_RATE)
    client.send("chart_create_session", "cs_1", "")
    assert client.until_kind("critical_error")["p"][:2] == ["cs_1", "max sessions rate reached"]
    client.ask(BTC, "1", 3)


def test_a_good_token_is_refused_on_command(simulator: Simulator) -> None:
    simulator.faults.inject(Kind.BAD_TOKEN)
    with Client(simulator.url) as client:
        client.send("set_auth_token", "unauthorized_user_token")
        assert client.until_kind("protocol_error")["p"] == ["bad auth token"]
        client.until_closed()
    assert count(simulator, Kind.BAD_TOKEN) == 1


@pytest.mark.parametrize("kind", [Kind.CORRUPT, Kind.TRUNCATE])
def test_damaged_packets_cannot_be_split(fast: Simulator, live: Client, kind: Kind) -> None:
    fast.faults.inject(kind)
    with pytest.raises(BrokenPacket):
        live.until(lambda _: False)
    live.until_kind("du")
    assert count(fast, kind) == 1


def test_invalid_utf8_is_in_a_text_message(fast: Simulator, live: Client) -> None:
    fast.faults.inject(Kind.INVALID_UTF8)
    with pytest.raises((websocket.WebSocketPayloadException, UnicodeDecodeError)):
        live.until(lambda _: False)


def test_late_data_comes_in_order_and_whole(fast: Simulator, live: Client) -> None:
    fast.faults.inject(Kind.LATE, duration_s=1.2)
    arrivals = [time.monotonic()]
    # Without the fault an update comes every quarter of a second.
    while arrivals[-1] - arrivals[-2 if len(arrivals) > 1 else -1] < 0.8:
        live.until_kind("du")
        arrivals.append(time.monotonic())
    assert count(fast, Kind.LATE) == 1
    indexes = [bar["i"] for message in live.messages for bar in bars_of(message)]
    assert indexes == sorted(indexes)


def test_repeated_data_is_the_same_again(fast: Simulator, live: Client) -> None:
    before = len(live.of("du"))
    fast.faults.inject(Kind.REPEAT)
    live.until(lambda _: len(live.of("du")) >= before + 4)
    texts = [json.dumps(message) for message in live.of("du")[before:]]
    assert len(set(texts)) < len(texts)
    assert count(fast, Kind.REPEAT) == 1


def test_a_huge_message_has_the_size_told(fast: Simulator, live: Client) -> None:
    fast.faults.inject(Kind.HUGE, size_bytes=3_000_000)
    live.until(lambda message: len(json.dumps(message)) > 3_000_000)


@pytest.mark.parametrize("kind", [Kind.NAN, Kind.PLACEHOLDER, Kind.REVERSED])
def test_a_bad_bar_comes_before_the_right_one(fast: Simulator, live: Client, kind: Kind) -> None:
    fast.faults.inject(kind)

    def bad(values: list[float]) -> bool:
        _, opens, high, low, *_ = values
        return opens != opens or opens > 1e99 or high < low

    message = live.until(lambda message: any(bad(bar["v"]) for bar in bars_of(message)))
    at = live.messages.index(message) + 1
    while len(live.messages) <= at:
        live.receive()
    (wrong,), (right,) = bars_of(message), bars_of(live.messages[at])
    assert wrong["i"] == right["i"]
    assert not bad(right["v"])
    assert ("NaN" in "".join(live.raw)) == (kind is Kind.NAN)


def test_a_skewed_clock_misstates_the_time_until_it_is_set_right(simulator: Simulator) -> None:
    simulator.faults.inject(Kind.SKEW, skew_ms=-3_600_000)
    with Client(simulator.url) as client:
        assert client.hello["timestampMs"] < simulator.now_ms() - 3_500_000
        completed = client.ask(BTC, "1", 3)
        assert completed["t_ms"] < simulator.now_ms() - 3_500_000
    simulator.faults.clear()
    with Client(simulator.url) as client:
        assert client.hello["timestampMs"] > simulator.now_ms() - 5000


def test_a_fault_befalls_only_the_connection_it_names(simulator: Simulator) -> None:
    with Client(simulator.url) as first, Client(simulator.url) as second:
        assert simulator.connections == [1, 2]
        simulator.faults.inject(Kind.RESET, connection=2)
        second.until_closed()
        assert first.ask(BTC, "1", 3)["m"] == "series_completed"
    assert [number for number, _ in simulator.faults.log] == [2]


def test_a_fault_without_a_victim_waits_for_the_next_connection(simulator: Simulator) -> None:
    simulator.faults.inject(Kind.RESET)
    # The connection may end before the hello or after it.
    with (
        contextlib.suppress(websocket.WebSocketException, OSError),
        Client(simulator.url) as client,
    ):
        client.until_closed()
    with Client(simulator.url) as client:
        assert kinds(client.messages) == ["hello"]
    assert count(simulator, Kind.RESET) == 1


def test_a_schedule_is_drawn_from_its_seed_and_played(simulator: Simulator) -> None:
    assert schedule(1, 100, 5) == schedule(1, 100, 5)
    assert schedule(1, 100, 5) != schedule(2, 100, 5)
    times = [after for after, _ in schedule(1, 1000, 5)]
    assert times == sorted(times)
    assert 120 < len(times) < 300
    assert {fault.kind for _, fault in schedule(1, 1000, 5)} == set(SOCKET_KINDS)
    with Client(simulator.url) as client:
        simulator.faults.play(schedule(3, 2, 0.1, [Kind.RESET]))
        client.until_closed()


def test_what_is_kept_of_faults_is_bounded() -> None:
    faults = Faults()
    for _ in range(5000):
        faults.inject(Kind.CLOSE)
        faults.inject(Kind.SKEW, skew_ms=1)
        faults.inject(Kind.THROTTLE, count=3)
    faults.opened(1)
    assert len(faults.take(1)) == 1000
    assert len(faults.log) == 1000


def test_a_truncated_message_ends_in_the_middle_of_a_packet() -> None:
    packet = b'~m~11~m~{"m":"du_"}'
    for count in range(1, 13):
        cut = damage._damaged(Kind.TRUNCATE, packet * count)
        assert packet * count != cut
        assert len(cut) % len(packet), f"{count} packets are cut between two"
