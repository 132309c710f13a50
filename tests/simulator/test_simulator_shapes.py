"""Every kind of message has the key paths and types of the recorded one, and no others."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from simulator_world import TUESDAY_MS, Client, bars_of, capture, kinds, packets, recorded, shape

from publisher.simulator import SYMBOLS, Instrument, Limits, Simulator
from publisher.simulator.axis import Axis
from publisher.simulator.framing import FramingError, frame, unframe, utf16_units

AAPL = '={"symbol":"NASDAQ:AAPL","adjustment":"splits"}'

# A free account's data is delayed, never traded and so on; the recorded stock is none of these.
OPTIONAL = {
    ".p[].cusip", ".p[].isin", ".p[].isin-displayed", ".p[].figi", ".p[].night_symbol",
    ".p[].figi.country-composite", ".p[].figi.exchange-level", ".p[].resolutions",
    ".p[].exchange_traded_night", ".p[].exchange_traded_night_name", ".p[].formatter",
    ".p[].format", ".p[].exchange_listed_name", ".p[].country", ".p[].language",
    ".p[].measure", ".p[].aliases[]", ".p[].alternatives[]", ".p[].typespecs[]",
    ".p[].is-tickbars-available",
}  # fmt: skip


def shapes(message: Any) -> set[tuple[str, str]]:
    return set(shape(message))


def assert_same_shape(sent: Any, theirs: Any) -> None:
    ours, recorded_shape = shapes(sent), shapes(theirs)
    invented = {(path, kind) for path, kind in ours - recorded_shape if path not in OPTIONAL}
    missing = {(path, kind) for path, kind in recorded_shape - ours if path not in OPTIONAL}
    assert not invented
    assert not missing


def recorded_session(name: str) -> list[Any]:
    return [json.loads(payload) for message in recorded(name) for payload in packets(message)]


def test_hello_is_the_recorded_one_and_states_the_speed(client: Client) -> None:
    hello = dict(client.hello)
    assert hello.pop("simulator_speed") == 1.0
    assert_same_shape(hello, json.loads(packets(capture("011"))[0]))
    assert client.raw[0].count("~m~") == 2


def test_a_request_is_answered_in_the_recorded_order_and_shape(client: Client) -> None:
    client.ask(AAPL, "1D", 5)
    theirs = recorded_session("010")
    assert kinds(client.messages) == kinds(theirs)
    assert len(packets(client.raw[1])) == 4, "the answer comes in one message"
    for sent, real in zip(client.messages[1:], theirs[1:], strict=True):
        if sent["m"] != "symbol_resolved":
            assert_same_shape(sent, real)
        else:
            assert shapes(sent) - shapes(real) == set()
    (update,) = client.of("timescale_update")
    assert [bar["i"] for bar in bars_of(update)] == [0, 1, 2, 3, 4]
    assert update["p"][2]["last_session_switches"] == {"sds_1": {"market": 4}}
    assert [mark[0] for mark in update["p"][2]["marks"][1:]] == [40, 40, 50, 40]


def test_an_unknown_symbol_is_refused_in_the_recorded_order_and_shape(client: Client) -> None:
    client.ask("NASDAQ:NOSUCH", "1D", 5)
    theirs = recorded_session("016")
    assert kinds(client.messages) == kinds(theirs)
    for sent, real in zip(client.messages[1:], theirs[1:], strict=True):
        assert_same_shape(sent, real)
        assert sent["p"][3:4] == real["p"][3:4]
    assert client.of("symbol_error")[0]["p"][2] == "invalid symbol"


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("NASDAQ:AAPL", "013"),
        ("BYBIT:BTCUSDT.P", "022"),
        ("BITSTAMP:BTCUSD", "070"),
        ('={"symbol":"TVC:RUT","session":"extended"}', "037"),
        ("HOSE:VCB", "043"),
    ],
)
def test_a_symbol_of_each_kind_is_described_as_recorded(
    client: Client, symbol: str, file: str
) -> None:
    client.ask(symbol, "1D", 2)
    (sent,) = client.of("symbol_resolved")
    text = capture(file)
    real = json.loads(packets(text)[0] if text.startswith("~m~") else text)
    assert_same_shape(sent, real)
    same = {
        "name", "full_name", "pro_name", "base_name", "legs", "session", "session_display",
        "timezone", "type", "pricescale", "minmov", "visible_plots_set", "has_intraday",
        "currency_code", "delay", "pro_perm", "listed_exchange", "exchange", "has_adjustment",
        "currency_id", "base_currency", "base_currency_id", "volume_type", "alternatives",
        "has_extended_hours", "is_tradable", "allowed_adjustment", "source_id",
    }  # fmt: skip
    for key in same:
        assert sent["p"][2].get(key) == real["p"][2].get(key), key


@pytest.mark.parametrize(
    ("symbol", "resolution", "file"),
    [
        ("BYBIT:BTCUSDT.P", "15", "023"),
        ("TVC:RUT", "1", "031"),
        ("TVC:RUT", "1D", "076"),
        ("NASDAQ:AAPL", "1D", "033"),
        ("HOSE:VCB", "60", "046"),
    ],
)
def test_history_has_the_recorded_shape(
    client: Client, symbol: str, resolution: str, file: str
) -> None:
    client.ask(symbol, resolution, 300)
    update = client.of("timescale_update")[0]
    switches = update["p"][2].pop("last_session_switches")
    assert isinstance(switches["sds_1"]["market"], int), "since 2026; the file is older"
    real = recorded(file)
    if file == "076":
        real = json.loads(json.dumps(real), parse_int=int)
        real["p"][1]["sds_1"]["s"] = [
            {"i": bar["i"], "v": [float(value) for value in bar["v"]]}
            for bar in real["p"][1]["sds_1"]["s"]
        ]
        real["p"][2]["changes"] = [float(value) for value in real["p"][2]["changes"]]
    assert_same_shape(update, real)
    (theirs,) = real["p"][1].values()
    (ours,) = update["p"][1].values()
    assert {len(bar["v"]) for bar in ours["s"]} == {len(bar["v"]) for bar in theirs["s"]}


def test_marks_of_recorded_bars_get_the_recorded_weights() -> None:
    for file, name, interval, timezone in (
        ("023", "BYBIT:BTCUSDT.P", "15m", None),
        ("033", "NASDAQ:AAPL", "1D", None),
        ("046", "HOSE:VCB", "1H", None),
    ):
        axis = recorded(file)["p"][2]
        ours = Axis(Instrument(SYMBOLS[name]), interval, timezone).marks(
            [int(change) * 1000 for change in axis["changes"]], axis["index"]
        )
        for mine, theirs in list(zip(ours, axis["marks"], strict=True))[1:]:
            # A week that begins on a Tuesday has the mark of a day more often than not.
            late = mine[0] == 50 and datetime.fromtimestamp(theirs[1], UTC).weekday() > 0
            assert mine == theirs or (late and mine[1:] == theirs[1:]), file


def test_future_ticks_are_the_recorded_ones() -> None:
    theirs = recorded("047")["p"][2]
    last_end_ms = 1_750_838_400_000
    ours = Axis(Instrument(SYMBOLS["HOSE:VCB"]), "1H", None).future(last_end_ms, 300, 9)
    assert len(theirs["changes"]) == 9
    assert ours.keys() == theirs.keys()
    assert ours["index"] == theirs["index"]
    # The recorded server knows nothing of the lunch hour and lists 05:00Z.
    assert set(ours["changes"]) - set(theirs["changes"]) <= {
        1750993200.0 + 3600 * n for n in range(5)
    }


def test_live_messages_have_the_recorded_shape(client: Client, simulator: Simulator) -> None:
    client.ask("BINANCE:BTCUSDT", "1", 300)
    client.walk(simulator, 500, 20)
    assert_same_shape(client.of("du")[-1], recorded("095"))
    ticks, later = client.of("timescale_update")[1:3]
    for update in (ticks, later):
        assert update["p"][1] == {}
        assert_same_shape(update, recorded("047"))
    assert ticks["p"][2]["index"] == 300
    assert len(ticks["p"][2]["changes"]) == 10, "as recorded in 090"
    assert len(later["p"][2]["changes"]) == 23, "as recorded in 091"


def test_a_modified_series_is_answered_in_the_recorded_order(client: Client) -> None:
    client.ask("HOSE:VCB", "60", 300)
    client.send("modify_series", "cs_1", "sds_1", "s2", "sym_1", "15", "")
    before = client.messages.index(client.until_kind("series_loading"))
    if client.messages[-1]["m"] != "series_completed":
        client.until_kind("series_completed")
    theirs = [
        kind for _, kind in recorded("041") if "study" not in kind and kind not in {"qsd", "du"}
    ]
    ours = [message for message in client.messages[before:] if message["m"] != "du"]
    assert kinds(ours) == theirs
    assert_same_shape(ours[1], recorded("042"))
    assert ours[-1]["p"] == [
        "cs_1",
        "sds_1",
        "delayed_streaming_900",
        "s2",
        {"rt_update_period": 5},
    ]
    assert_same_shape(ours[-1], recorded("048"))


@pytest.mark.parametrize(
    ("message", "file"),
    [
        (("create_series", "cs_1", "sds_1", "s1", "sym_1", "s1", 1, ""), "073"),
        (("set_auth_token", "expired"), "074"),
    ],
)
def test_errors_are_word_for_word_the_recorded_ones(
    client: Client, message: tuple[Any, ...], file: str
) -> None:
    client.send("chart_create_session", "cs_1", "")
    client.send("resolve_symbol", "cs_1", "sym_1", "BINANCE:BTCUSDT")
    client.send(*message)
    (real,) = map(json.loads, packets(capture(file)))
    sent = client.until_kind(real["m"])
    if file == "073":
        real["p"][0] = "cs_1"
        real["p"][2] = real["p"][2].replace("sds_sym_1", "sym_1")
    assert sent == real
    if real["m"] == "protocol_error":
        client.until_closed()


def test_an_unknown_session_is_answered_with_the_recorded_erlang_term(client: Client) -> None:
    client.send("create_series", "cs_3DJU3tGU7ovO", "$prices", "s1", "ser_1", "15m", 100)
    assert client.until_kind("protocol_error") == {
        "m": "protocol_error",
        "p": [capture("111").rstrip("\n")],
    }
    client.until_closed()


def test_other_refusals_are_word_for_word_the_recorded_ones(client: Client) -> None:
    client.ask("ECONOMICS:USM2", "1D", 5, chart="cs_test")
    denied, refused = client.messages[-2:]
    assert denied["p"] == ["cs_test", "sym_1", *recorded("100")["p"][2:]]
    assert kinds(client.messages)[1:] == ["series_loading", "symbol_error", "series_error"]
    assert refused["p"][3] == "resolve error"
    for number, (resolution, file) in enumerate([("1S", "103"), ("20", "104")]):
        refused = client.ask("BINANCE:BTCUSDT", resolution, 5, chart=f"cs_{number}")
        assert refused["p"][1:2] + refused["p"][3:] == ["sds_1", *recorded(file)["p"][3:]]
    refused = client.ask("INDEX:NDFI", "5", 5, chart="cs_n")
    assert refused["p"][3] == recorded("105")["p"][3]
    client.send("switch_timezone", "cs_n", "Nowhere/Nowhere")
    texts = recorded("112")["critical_error"]
    assert client.until_kind("critical_error")["p"] == ["cs_n", *texts[0]]
    client.send("create_series", "cs_n", "$prices", "s1", "ser_1", "XX", 100)
    assert client.until_kind("critical_error")["p"] == ["cs_n", *texts[1]]


def test_a_second_series_on_a_chart_exceeds_the_limit(client: Client) -> None:
    client.ask("BINANCE:BTCUSDT", "1", 5)
    client.send("create_series", "cs_1", "sym0_15", "s1", "sym_1", "15", 5, "")
    reason, info = client.until_kind("critical_error")["p"][1:]
    assert reason in capture("113")
    assert info == 'method: create_series. args: "[sym0_15, s1, sym_1, 15, 5, ]"'
    client.send("create_series", "cs_1", "sds_1", "s1", "sym_1", "15", 5, "")
    assert client.until_kind("critical_error")["p"][1] == "duplicate id"
    client.send("remove_series", "cs_1", "sds_1")
    client.send("create_series", "cs_1", "sds_1", "s2", "sym_1", "15", 5, "")
    assert client.until_kind("series_completed")["p"][3] == "s2"


def test_quotes_have_the_recorded_shape(client: Client) -> None:
    client.send("quote_create_session", "qs_1")
    client.send("quote_add_symbols", "qs_1", "NASDAQ:AAPL", "FOREX:EURUSD")
    client.until(lambda _: len(client.of("quote_completed")) == 2)
    sent = client.of("quote_completed")[0]
    assert shapes(sent) == shapes(json.loads(packets(capture("040"))[0]))
    known, unknown = client.of("qsd")[:2]
    assert {path for path, _ in shapes(known)} <= {
        path
        for file in ("039", "109")
        for line in capture(file).splitlines()
        for path, _ in shapes(
            json.loads(packets(line)[0]) if file == "039" else ast.literal_eval(line)
        )
    }
    assert unknown["p"][1] == ast.literal_eval(capture("108"))["p"][1]
    client.send("quote_add_symbols", "qs_1", "NASDAQ:AAPL", {"flags": ["force_permission"]})
    assert client.until_kind("critical_error")["p"][1:] == recorded("110")["p"][1:]


def test_lengths_count_utf16_units_as_recorded() -> None:
    packet = capture("123").rstrip("\n")
    (payload,) = unframe(packet)
    assert frame(payload) == packet
    assert utf16_units("𝄞é") == 3
    assert unframe(frame("𝄞é") + frame("삼")) == ["𝄞é", "삼"]
    for broken in ("~m~5~m~abc", "x", "~m~1~m~𝄞", "~m~3~m~𝄞"):
        with pytest.raises(FramingError):
            unframe(broken)


def test_names_that_are_not_ascii_stand_raw_in_the_message(client: Client) -> None:
    client.ask("KRX:005930", "1D", 5)
    assert "삼성전자보통주" in client.raw[-1]
    (resolved,) = client.of("symbol_resolved")
    assert resolved["p"][2]["local_description"] == "삼성전자보통주"


@pytest.mark.parametrize("name", ["NSE:BAJAJ-AUTO", "NSE:M&M", "NYSE:BRK.B", "BYBIT:BTCUSDT.P"])
def test_awkward_names_come_back_unchanged(client: Client, name: str) -> None:
    client.ask(f'={{"symbol":"{name}"}}', "1D", 2)
    assert client.of("symbol_resolved")[0]["p"][2]["pro_name"] == name


@pytest.mark.parametrize(
    ("symbol", "resolution", "at", "closes", "like"),
    [
        ("NASDAQ:AAPL", "1D", "2026-08-21T00:00", "2026-08-20T19:59:59", "014"),
        ("HOSE:VCB", "60", "2025-06-25T16:00", "2025-06-25T08:14:59", "046"),
        ("HOSE:VCB", "60", "2025-06-25T03:20", "2025-06-25T04:15:00", "031"),
        ("BYBIT:BTCUSDT.P", "15", "2026-06-09T21:53", "2026-06-09T22:00:00", "023"),
        ("NASDAQ:AAPL", "1", "2026-08-25T14:40:30", "2026-08-25T14:41:00", "032"),
        ("NASDAQ:AAPL", "1", "2026-08-25T23:00", "2026-08-25T19:59:59", "030"),
        ("NASDAQ:AAPL", "60", "2026-08-25T23:00", "2026-08-25T19:59:59", "030"),
        ("BINANCE:BTCUSDT", "1D", "2026-08-25T23:00", "2026-08-26T00:00:00", "076"),
    ],
)
def test_bars_close_when_the_recorded_ones_do(
    symbol: str, resolution: str, at: str, closes: str, like: str
) -> None:
    def seconds(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())

    with Simulator(start_ms=seconds(at) * 1000) as simulator, Client(simulator.url) as client:
        client.ask(symbol, resolution, 3)
        (series,) = client.of("timescale_update")[0]["p"][1].values()
        assert series["lbs"] == {"bar_close_time": seconds(closes)}, like


def test_recorded_close_times_follow_from_the_recorded_bars() -> None:
    """The rule itself, against the files: a session's last bar ends a second early."""
    for file, interval_s, delay_s, early in (
        ("014", 23400, 0, 1),
        ("046", 3600, 900, 1),
        ("031", 60, 900, 0),
        ("032", 60, 0, 0),
        ("030", 60, 0, 1),
        ("023", 900, 0, 0),
    ):
        (series,) = recorded(file)["p"][1].values()
        last = series["s"][-1]["v"][0]
        assert series["lbs"]["bar_close_time"] == last + interval_s + delay_s - early, file


def test_limits_decide_how_far_history_reaches() -> None:
    limits = Limits(window_bars=500, answer_bars=200)
    with Simulator(start_ms=TUESDAY_MS, limits=limits) as simulator:
        with Client(simulator.url) as client:
            assert "data_completed" not in client.ask("BINANCE:BTCUSDT", "5", 400)["p"][4]
            assert len(client.bars()) == 200
            client.send("request_more_data", "cs_1", "sds_1", 100)
            assert "data_completed" not in client.until_kind("series_completed")["p"][4]
            client.send("request_more_data", "cs_1", "sds_1", 1000)
            last = client.until_kind("series_completed")
            assert last["p"][4] == {"rt_update_period": 5, "data_completed": "limit"}
            times = {bar[0] for bar in client.bars()}
            assert len(times) in {500, 501}
            client.send("request_more_data", "cs_1", "sds_1", 10)
            assert client.until_kind("series_completed")["p"][4]["data_completed"] == "limit"
        with Client(simulator.url) as client:
            client.ask("BINANCE:BTCUSDT", "1M", 60)
            client.send("request_more_data", "cs_1", "sds_1", 1000)
            assert client.until_kind("series_completed")["p"][4]["data_completed"] == "end"


def test_more_bars_leave_one_row_of_indexes() -> None:
    limits = Limits(answer_bars=10)
    with (
        Simulator(start_ms=TUESDAY_MS, limits=limits) as simulator,
        Client(simulator.url) as client,
    ):
        client.ask("BINANCE:BTCUSDT", "1", 10)
        client.walk(simulator, 7)
        client.send("request_more_data", "cs_1", "sds_1", 7)
        client.until_kind("series_completed")
        older = next(m for m in client.messages[::-1] if len(bars_of(m)) == 7)
        assert [bar["i"] for bar in bars_of(older)] == list(range(7))
        first_s = bars_of(older)[0]["v"][0]
        begun = len(client.messages)
        client.walk(simulator, 130)
        live = [bar for message in client.messages[begun:] for bar in bars_of(message)]
        assert live
        for bar in live:
            assert bar["i"] == (bar["v"][0] - first_s) // 60


def test_a_range_selects_bars_within_the_window(client: Client) -> None:
    to_s = TUESDAY_MS // 1000 // 3600 * 3600
    client.ask("BINANCE:BTCUSDT", "60", 300, f"r,{to_s - 7200}:{to_s - 3600}")
    assert [bar[0] for bar in client.bars()] == [to_s - 7200.0, to_s - 3600.0]


def test_a_listing_that_never_traded_ends_without_bars(client: Client) -> None:
    completed = client.ask("NYSE:NEWCO", "1D", 5)
    assert completed["p"][4]["data_completed"] == "end"
    assert client.bars() == []


def test_the_first_bar_time_is_the_listing(client: Client) -> None:
    client.ask("BINANCE:BTCUSDT", "1D", 5)
    client.send("get_first_bar_time", "cs_1", "sym_1", "1D")
    assert client.until_kind("first_bar_time")["p"] == ["cs_1", "sym_1", 1514764800]


def test_a_currency_multiplies_prices_and_the_symbol_cannot_be_traded(client: Client) -> None:
    client.ask('={"symbol":"NASDAQ:AAPL"}', "1D", 1)
    client.ask('={"symbol":"NASDAQ:AAPL","currency-id":"EUR"}', "1D", 1, chart="cs_2")
    plain, euros = client.bars()[:2]
    assert euros[4] == plain[4] * (1 / 1.08)
    assert client.of("symbol_resolved")[1]["p"][2]["is_tradable"] is False
