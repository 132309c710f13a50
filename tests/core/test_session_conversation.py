"""One connection's conversation: requests, answers, refusals, deadlines."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import recordings
from recordings import needs_recordings
from talk import BTC, ETH, HELLO, START_MS, Talk, frame_contents

from publisher.core import requests
from publisher.core.session import (
    ANSWER_MS_MAX,
    HELLO_MS_MAX,
    SILENCE_MS_MAX,
    TRANSITIONS,
    BarsArrived,
    Ended,
    Event,
    HistoryAnswered,
    Interrupted,
    Noted,
    Opened,
    Refused,
    Resolved,
    Session,
    Signal,
    State,
)
from publisher.errors import (
    AccountStopped,
    ConnectionLost,
    LocalProtocolError,
    PeerSilent,
    RemoteProtocolError,
    SeriesRefused,
    SessionExpired,
    SymbolUnknown,
)
from publisher.wire import Series

BARS = {"sds_1": {"s": [{"i": 0, "v": [1700000040, 1, 2, 1, 2, 3]}], "t": "s1"}}


# What is said.


@needs_recordings
def test_a_series_is_asked_for_as_the_browser_asks() -> None:
    series = Series("BTCUSDT.P", "BYBIT", "15m", currency="XTVCUSDT")
    session = Session("REDACTED", START_MS, random.Random(1))
    session.subscribe(series, 300, START_MS)
    session.receive(HELLO, START_MS)
    frames = session.outgoing()
    own = frame_contents(frames)[2][1][0]
    recorded = recordings.messages("020-client-frames-chart-session-15m.framed.txt")
    expected = [line.replace("cs_1Gnv1tJjLsRx", own) for line in recorded]
    assert len(own) == len("cs_1Gnv1tJjLsRx")
    # The recorder replaced the token, so its frame alone declares another length.
    assert frames[0].split("~m~", 2)[2] == expected[0].split("~m~", 2)[2]
    assert frames[1].endswith('{"m":"set_locale","p":["en","US"]}')
    assert frames[2:] == expected[1:5]


@needs_recordings
def test_more_is_asked_for_as_the_browser_asks() -> None:
    lines = recordings.messages("075-client-frames-misc.framed.txt")
    own = [recordings.unframe(line)[0] for line in lines]
    chart = "cs_casjcotuguzl"
    assert requests.chart_create_session(chart) == own[0]
    assert requests.request_more_data(chart, "sds_1", 27000) == own[3]
    create = requests.create_series(
        chart, "sds_1", turnaround="s1", symbol_id="sds_sym_1", interval="1m", bars=2
    )
    assert create == own[2].replace('"1S"', '"1"')


@pytest.mark.parametrize(
    ("interval", "code"),
    [
        *[("1m", "1"), ("3m", "3"), ("5m", "5"), ("15m", "15"), ("30m", "30"), ("45m", "45")],
        *[("1H", "60"), ("2H", "120"), ("3H", "180"), ("4H", "240")],
        *[("1D", "1D"), ("1W", "1W"), ("1M", "1M")],
    ],
)
def test_every_interval_has_its_resolution_code(interval: str, code: str) -> None:
    talk = Talk(Series("A", "B", interval))
    assert ("create_series", [talk.sent[2][1][0], "sds_1", "s1", "sds_sym_1", code, 300, ""]) in (
        talk.sent
    )


@pytest.mark.parametrize(
    ("series", "symbol"),
    [
        (Series("AAPL", "NASDAQ", "5m"), {"symbol": "NASDAQ:AAPL", "adjustment": "splits"}),
        (
            Series("AAPL", "NASDAQ", "5m", extended=True, dividends=True, currency="EUR"),
            {
                "symbol": "NASDAQ:AAPL",
                "adjustment": "dividends",
                "session": "extended",
                "currency-id": "EUR",
            },
        ),
    ],
)
def test_options_that_change_the_data_are_asked_for(series: Series, symbol: dict[str, str]) -> None:
    (asked,) = [p for m, p in Talk(series).sent if m == "resolve_symbol"]
    assert asked[1] == "sds_sym_1"
    assert asked[2][0] == "="
    assert json.loads(asked[2][1:]) == symbol


def test_what_is_sent_is_ascii_so_that_every_reader_counts_alike() -> None:
    session = Session("t", START_MS, random.Random(1))
    session.subscribe(Series("삼성😀", "KRX", "1D"), 10, START_MS)
    session.receive(HELLO, START_MS)
    frames = session.outgoing()
    assert all(frame.isascii() for frame in frames)
    (asked,) = [p[2] for m, p in frame_contents(frames) if m == "resolve_symbol"]
    assert json.loads(asked[1:])["symbol"] == "KRX:삼성😀"


def test_nothing_is_said_before_the_hello_and_everything_once() -> None:
    talk = Talk(BTC, hello=None)
    assert talk.session.outgoing() == []
    assert talk.hear("~h~1") == []
    assert talk.sent == []
    assert talk.hear(HELLO) == [Opened(1_700_000_000_000)]
    names = [name for name, _ in talk.sent]
    assert names == [
        "set_auth_token",
        "set_locale",
        "chart_create_session",
        "switch_timezone",
        "resolve_symbol",
        "create_series",
    ]
    assert talk.sent[0][1] == ["secret-token"]
    assert talk.session.outgoing() == []


def test_every_series_has_a_chart_session_of_its_own() -> None:
    talk = Talk(BTC, ETH)
    assert talk.chart(BTC) != talk.chart(ETH)


def test_a_series_is_asked_for_once_at_a_time() -> None:
    talk = Talk(BTC)
    with pytest.raises(LocalProtocolError, match="BTCUSDT-BINANCE-1m is subscribed already"):
        talk.session.subscribe(BTC, 10, START_MS)


def test_letting_go_closes_the_chart_session_and_can_be_repeated() -> None:
    talk = Talk(BTC)
    talk.session.unsubscribe(BTC)
    talk.session.unsubscribe(BTC)
    assert frame_contents(talk.session.outgoing()) == [("chart_delete_session", [talk.chart(BTC)])]


def test_the_token_is_in_no_text_about_the_session() -> None:
    talk = Talk(BTC, hello=None)
    assert "secret-token" not in repr(talk.session)


# Where a slot stands: every pair of state and signal, walked.

MOVES = {
    ("REQUESTED", "LOADING"): "REQUESTED",
    ("REQUESTED", "RESOLVED"): "RESOLVED",
    ("REQUESTED", "BARS"): "REQUESTED",
    ("REQUESTED", "COMPLETED"): "LIVE",
    ("REQUESTED", "REFUSED"): "REFUSED",
    ("RESOLVED", "LOADING"): "RESOLVED",
    ("RESOLVED", "BARS"): "RESOLVED",
    ("RESOLVED", "COMPLETED"): "LIVE",
    ("RESOLVED", "REFUSED"): "REFUSED",
    ("LIVE", "RESOLVED"): "LIVE",
    ("LIVE", "BARS"): "LIVE",
    ("LIVE", "ASK"): "EXTENDING",
    ("LIVE", "REFUSED"): "REFUSED",
    ("EXTENDING", "LOADING"): "EXTENDING",
    ("EXTENDING", "RESOLVED"): "EXTENDING",
    ("EXTENDING", "BARS"): "EXTENDING",
    ("EXTENDING", "COMPLETED"): "LIVE",
    ("EXTENDING", "REFUSED"): "REFUSED",
}

SAY: dict[str, Callable[[Talk], list[Event]]] = {
    "LOADING": lambda talk: talk.say("series_loading", BTC, "sds_1", "s1"),
    "RESOLVED": lambda talk: talk.say("symbol_resolved", BTC, "sds_sym_1", {"delay": 900}),
    "BARS": lambda talk: talk.say("du", BTC, BARS),
    "COMPLETED": lambda talk: talk.say("series_completed", BTC, "sds_1", "streaming", "s1", {}),
    "REFUSED": lambda talk: talk.say("series_error", BTC, "sds_1", "s1", "custom_resolution"),
}
WAY_TO = {
    "REQUESTED": [],
    "RESOLVED": ["RESOLVED"],
    "LIVE": ["COMPLETED"],
    "EXTENDING": ["COMPLETED", "ASK"],
    "REFUSED": ["REFUSED"],
}
MEANT = {"RESOLVED": Resolved, "BARS": BarsArrived, "COMPLETED": HistoryAnswered}


def send(talk: Talk, signal: str) -> list[Event]:
    if signal != "ASK":
        return SAY[signal](talk)
    talk.session.request_more(BTC, 50, talk.now_ms)
    return []


def state_of(talk: Talk) -> str:
    (slot,) = talk.session._slots.values()
    return slot.state.name


def test_the_table_of_moves_is_this_one() -> None:
    table = {(state.name, signal.name): to.name for (state, signal), to in TRANSITIONS.items()}
    assert table == MOVES


@pytest.mark.parametrize(
    ("state", "signal"),
    [(state.name, signal.name) for state in State for signal in Signal],
)
def test_every_signal_in_every_state_moves_by_the_table_or_not_at_all(
    state: str, signal: str
) -> None:
    talk = Talk(BTC)
    for step in WAY_TO[state]:
        send(talk, step)
    assert state_of(talk) == state
    talk.hear("~h~1")
    sent = len(talk.sent)
    if (state, signal) in MOVES:
        events = send(talk, signal)
        assert state_of(talk) == MOVES[state, signal]
        kinds = [Refused] if signal == "REFUSED" else [MEANT[signal]] if signal in MEANT else []
        assert [type(event) for event in events] == kinds
    elif signal == "ASK":
        with pytest.raises(LocalProtocolError, match="BTCUSDT-BINANCE-1m is not live"):
            send(talk, signal)
        assert state_of(talk) == state
    else:
        events = send(talk, signal)
        assert state_of(talk) == state
        # The second error for one cause is silent, all else is noted.
        assert [type(event) for event in events] == ([] if signal == "REFUSED" else [Noted])
    assert len(talk.sent) == sent


def test_more_cannot_be_asked_for_a_series_that_is_not_there() -> None:
    with pytest.raises(LocalProtocolError, match="not live"):
        Talk().session.request_more(BTC, 5, START_MS)


def test_asking_for_more_says_so() -> None:
    talk = Talk(BTC)
    send(talk, "COMPLETED")
    send(talk, "ASK")
    asked = frame_contents(talk.session.outgoing())
    assert asked == [("request_more_data", [talk.chart(BTC), "sds_1", 50])]


def test_the_delay_is_learned_even_where_the_history_came_first() -> None:
    talk = Talk(BTC)
    send(talk, "COMPLETED")
    (resolved,) = send(talk, "RESOLVED")
    assert isinstance(resolved, Resolved)
    assert resolved.info.delay_ms == 900_000


# Bars.


def test_bars_come_from_both_kinds_of_message() -> None:
    for kind in ("du", "timescale_update"):
        (event,) = Talk(BTC).say(kind, BTC, BARS, t_ms=1_700_000_050_000)
        assert isinstance(event, BarsArrived)
        assert event.series == BTC
        assert event.bars.values == ((1700000040, 1, 2, 1, 2, 3),)
        assert event.server_time_ms == 1_700_000_050_000


def test_bars_of_an_older_request_are_noted_and_not_taken() -> None:
    old = {"sds_1": {**BARS["sds_1"], "t": "s2"}}
    assert Talk(BTC).say("du", BTC, old) == [Noted("stray", "turnaround s2")]
    untold = {"sds_1": {"s": BARS["sds_1"]["s"]}}
    assert isinstance(Talk(BTC).say("du", BTC, untold)[0], BarsArrived)


@pytest.mark.parametrize("part", [{}, {"sds_1": {"s": []}}, {"sds_2": BARS["sds_1"]}])
def test_messages_without_bars_of_the_series_say_nothing(part: dict[str, Any]) -> None:
    assert Talk(BTC).say("timescale_update", BTC, part) == []


def test_what_is_said_of_a_chart_session_that_was_closed_finds_nobody() -> None:
    talk = Talk(BTC, ETH)
    gone = talk.chart(BTC)
    talk.session.unsubscribe(BTC)
    for kind, rest in [
        ("du", [BARS]),
        ("series_error", ["sds_1", "s1", "resolve error"]),
        ("critical_error", ["invalid parameters"]),
        ("clear_data", []),
    ]:
        (noted,) = talk.hear(json.dumps({"m": kind, "p": [gone, *rest]}))
        assert isinstance(noted, Noted)
        assert noted.kind == "stray"
    assert isinstance(talk.say("du", ETH, BARS)[0], BarsArrived)


def test_a_series_that_is_asked_for_again_does_not_hear_the_old_answers() -> None:
    talk = Talk(BTC)
    old = talk.chart(BTC)
    talk.session.unsubscribe(BTC)
    talk.session.subscribe(BTC, 10, talk.now_ms)
    talk.hear("~h~1")
    assert talk.chart(BTC) != old
    assert talk.hear(json.dumps({"m": "du", "p": [old, BARS]})) == [Noted("stray", "BarsReceived")]


# Refusals and other trouble.


def test_two_errors_for_one_cause_are_one_refusal() -> None:
    talk = Talk(BTC)
    (refused,) = talk.say("symbol_error", BTC, "sds_sym_1", "invalid symbol")
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, SymbolUnknown)
    assert str(refused.error) == (
        "TradingView does not know BINANCE:BTCUSDT: try `tvbus search BTCUSDT`"
    )
    assert talk.say("series_error", BTC, "sds_1", "s1", "resolve error", "node") == []


def test_the_advice_for_an_unknown_symbol_can_be_pasted_into_a_shell() -> None:
    series = Series("M&M", "NSE", "1m")
    (refused,) = Talk(series).say("symbol_error", series, "sds_sym_1", "invalid symbol")
    assert isinstance(refused, Refused)
    assert str(refused.error).endswith("try `tvbus search 'M&M'`")


def test_a_refusal_says_what_was_refused_and_why() -> None:
    (refused,) = Talk(BTC).say("symbol_error", BTC, "s", "permission denied", "group", "x_paid")
    assert isinstance(refused, Refused)
    assert type(refused.error) is SeriesRefused
    assert "BINANCE:BTCUSDT: permission denied group x_paid" in str(refused.error)
    (refused,) = Talk(BTC).say("series_error", BTC, "sds_1", "s1", "seconds_not_entitled")
    assert isinstance(refused, Refused)
    assert str(refused.error) == ("TradingView refused BTCUSDT-BINANCE-1m: seconds_not_entitled")


def test_a_critical_error_refuses_the_series_of_its_chart_session_and_no_other() -> None:
    talk = Talk(BTC, ETH)
    (refused,) = talk.say("critical_error", ETH, "exceed limit of series in the session", "args")
    assert isinstance(refused, Refused)
    assert refused.series == ETH
    assert "exceed limit of series in the session args" in str(refused.error)
    assert isinstance(talk.say("du", BTC, BARS)[0], BarsArrived)


def test_a_protocol_error_ends_the_connection() -> None:
    for reason, kind in (
        ("bad auth token", SessionExpired),
        ("banned", AccountStopped),
        ("wrong data", ConnectionLost),
    ):
        (ended,) = Talk(BTC).hear(json.dumps({"m": "protocol_error", "p": [reason]}))
        assert isinstance(ended, Ended)
        assert type(ended.error) is kind
        assert reason in str(ended.error)
    term = '{unknown_session_id,<<"create_series">>}'
    (ended,) = Talk(BTC).hear(json.dumps({"m": "protocol_error", "p": [term]}))
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, RemoteProtocolError)


def test_cleared_data_and_malformed_answers_mean_asking_again() -> None:
    talk = Talk(BTC, ETH)
    old = talk.chart(BTC)
    assert talk.say("clear_data", BTC) == [Interrupted(BTC, "TradingView cleared its data")]
    assert talk.sent[-1] == ("chart_delete_session", [old])
    noted, interrupted = talk.say("du", ETH, 5)
    assert isinstance(noted, Noted)
    assert noted.kind == "malformed"
    assert interrupted == Interrupted(ETH, "malformed du")
    talk.session.subscribe(ETH, 10, talk.now_ms)


def test_what_nobody_needs_is_not_noted_and_what_nobody_knows_is() -> None:
    talk = Talk(BTC)
    assert talk.hear('{"m":"qsd","p":["qs",{}]}') == []
    assert talk.hear('{"m":"new_kind","p":[]}') == [Noted("unknown", "new_kind")]
    assert talk.hear('{"m":"du"}') == [Noted("stray", "Malformed")]


def test_garbage_is_raised_to_the_caller() -> None:
    with pytest.raises(RemoteProtocolError):
        Talk(BTC).hear("garbage")


# Time.


def test_the_hello_has_its_time_and_heartbeats_do_not_prolong_it() -> None:
    talk = Talk(BTC, hello=None)
    assert talk.session.next_deadline_ms() == START_MS + HELLO_MS_MAX
    talk.now_ms += HELLO_MS_MAX - 1
    talk.hear("~h~1")
    assert talk.session.expire(talk.now_ms) == []
    (ended,) = talk.session.expire(START_MS + HELLO_MS_MAX)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, PeerSilent)
    assert f"no hello within {HELLO_MS_MAX} ms" in str(ended.error)


def test_silence_ends_the_connection_and_a_heartbeat_breaks_it() -> None:
    talk = Talk()
    talk.now_ms += SILENCE_MS_MAX - 1
    talk.hear("~h~1")
    assert talk.session.received_ms == talk.now_ms
    due_ms = talk.now_ms + SILENCE_MS_MAX
    assert talk.session.next_deadline_ms() == due_ms
    assert talk.session.expire(due_ms - 1) == []
    (ended,) = talk.session.expire(due_ms)
    assert isinstance(ended, Ended)
    assert f"nothing received for {SILENCE_MS_MAX} ms" in str(ended.error)


def test_a_series_that_does_not_answer_is_asked_for_again_and_the_others_live() -> None:
    talk = Talk(BTC, ETH)
    talk.say("series_completed", ETH, "sds_1", "streaming", "s1", {})
    due_ms = START_MS + ANSWER_MS_MAX
    talk.now_ms = due_ms - 1
    talk.hear("~h~1")
    assert talk.session.next_deadline_ms() == due_ms
    assert talk.session.expire(due_ms - 1) == []
    assert talk.session.expire(due_ms) == [Interrupted(BTC, f"no answer within {ANSWER_MS_MAX} ms")]
    assert talk.session.expire(due_ms) == []
    assert isinstance(talk.say("du", ETH, BARS)[0], BarsArrived)


@pytest.mark.parametrize("signal", ["LOADING", "RESOLVED"])
def test_an_answer_on_its_way_prolongs_the_wait(signal: str) -> None:
    talk = Talk(BTC)
    talk.now_ms += ANSWER_MS_MAX - 1
    send(talk, signal)
    assert talk.session.expire(START_MS + ANSWER_MS_MAX) == []
    assert talk.session.next_deadline_ms() == talk.now_ms + ANSWER_MS_MAX


def test_live_updates_do_not_keep_an_unanswered_request_waiting() -> None:
    talk = Talk(BTC)
    send(talk, "COMPLETED")
    send(talk, "ASK")
    for _ in range(ANSWER_MS_MAX // 1_000):
        talk.now_ms += 1_000
        talk.say("du", BTC, BARS)
    assert talk.session.expire(talk.now_ms) == [
        Interrupted(BTC, f"no answer within {ANSWER_MS_MAX} ms", unanswered=True)
    ]


def test_history_in_several_messages_prolongs_the_wait() -> None:
    talk = Talk(BTC)
    talk.now_ms += ANSWER_MS_MAX - 1
    talk.say("timescale_update", BTC, BARS, t_ms=1_700_000_000_000)
    assert talk.session.next_deadline_ms() == talk.now_ms + ANSWER_MS_MAX


def test_the_time_is_tradingviews_as_of_its_newest_stamp() -> None:
    talk = Talk(BTC, hello=None)
    assert talk.session.server_now_ms(START_MS) is None
    talk.hear(HELLO)
    assert talk.session.server_now_ms(START_MS + 500) == 1_700_000_000_500
    talk.now_ms += 1_000
    talk.say("series_loading", BTC, "sds_1", "s1", t_ms=1_700_000_000_400)
    assert talk.session.server_now_ms(talk.now_ms) == 1_700_000_001_000, "an aged stamp is old"
    talk.say("series_loading", BTC, "sds_1", "s1", t_ms=1_700_000_003_000)
    assert talk.session.server_now_ms(talk.now_ms + 1) == 1_700_000_003_001


def test_the_clock_of_a_simulator_runs_as_fast_as_it_says() -> None:
    talk = Talk(hello='{"session_id":"x","timestampMs":1700000000000,"simulator_speed":60}')
    assert talk.session.speed == 60
    assert talk.session.server_now_ms(START_MS + 1_000) == 1_700_000_060_000
