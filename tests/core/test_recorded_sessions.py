"""Recorded sessions, played to a session and a ledger, give the right closed bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import recordings
from ledger_world import at, of, published
from recordings import needs_recordings
from talk import Talk

from publisher.core.bars import Ledger
from publisher.core.decisions import AskMore, Decision, FillDone, Form, Moment, StreamEnd
from publisher.core.session import (
    BarsArrived,
    Ended,
    Event,
    HistoryAnswered,
    Noted,
    Opened,
    Refused,
    Resolved,
)
from publisher.errors import SeriesRefused, SymbolUnknown
from publisher.wire import Bar, Series

pytestmark = needs_recordings

AAPL = Series("AAPL", "NASDAQ", "1D")


@dataclass
class Listener:
    """Does with a session's events what its owner does."""

    ledger: Ledger
    moment: Moment

    def hear(self, events: list[Event]) -> list[Decision]:
        decisions: list[Decision] = []
        for event in events:
            if isinstance(event, Resolved):
                self.ledger.set_delay(event.info.delay_ms)
            elif isinstance(event, BarsArrived):
                decisions += self.ledger.receive(event.bars, self.moment)
            elif isinstance(event, HistoryAnswered):
                decisions += self.ledger.complete(event.exhausted is not None, self.moment)
        return decisions


def listen(series: Series, bars: int, server_ms: int) -> Listener:
    listener = Listener(Ledger(series, StreamEnd(), bars), at(server_ms))
    listener.ledger.begin(server_ms)
    return listener


def prices(bar: Bar) -> list[float | None]:
    """A bar as it stands in a message."""
    return [bar.open_time_ms / 1000, bar.open, bar.high, bar.low, bar.close, bar.volume]


def recorded_points(name: str, slot: str = "sds_1") -> list[list[Any]]:
    """The bars of a recording, six values each."""
    points = [point["v"] for point in recordings.one(name)["p"][1][slot]["s"]]
    return [[*point, None][:6] for point in points]


def check_chain(bars: list[Bar], closed_by: str, received_ms: int) -> None:
    """What holds for every bar of a first fill."""
    times = [bar.open_time_ms for bar in bars]
    assert times == sorted(set(times))
    assert [bar.previous_open_time_ms for bar in bars] == [None, *times[:-1]]
    assert {bar.closed_by for bar in bars} == {closed_by}
    assert {bar.received_ms for bar in bars} == {received_ms}
    assert {(bar.gap, bar.revision) for bar in bars} == {(False, 0)}


@pytest.mark.parametrize(
    "name",
    [
        "010-session-anon-1D-AAPL-wsmessages.json",
        "019-heartbeat-batched-with-data-wsmessages.json",
    ],
)
@pytest.mark.parametrize("history_bars", [1, 3, 5])
def test_a_whole_session_after_the_close_gives_the_newest_bars(
    name: str, history_bars: int
) -> None:
    talk = Talk(AAPL)
    events = talk.replay(name, AAPL)
    assert [type(event) for event in events] == [Opened, Resolved, BarsArrived, HistoryAnswered]
    assert talk.session.server_now_ms(talk.now_ms) == 1_787_292_487_429
    listener = listen(AAPL, history_bars, 1_787_292_487_429)
    decisions = listener.hear(events)
    bars = published(decisions)
    # The session ended at 20:00, nine hours before; so the last bar is closed too.
    expected = recorded_points("014-timescale_update-1D-AAPL.json")[-history_bars:]
    assert [prices(bar) for bar in bars] == expected
    check_chain(bars, "history", 1_787_292_487_679)
    assert [bar.end_time_ms for bar in bars] == [None] * (history_bars - 1) + [1_787_256_000_000]
    assert decisions[-1] == FillDone(history_bars)
    assert of(decisions, Form) == []
    assert listener.ledger.deadline_ms(0) is None


def test_a_first_fill_that_is_too_short_is_extended_until_there_is_no_more() -> None:
    talk = Talk(AAPL)
    events = talk.replay("010-session-anon-1D-AAPL-wsmessages.json", AAPL)
    listener = listen(AAPL, 10, 1_787_292_487_429)
    assert listener.hear(events) == [AskMore(5)]
    talk.session.request_more(AAPL, 5, talk.now_ms)
    # The account gives no more, says the recorded answer.
    (answered,) = talk.replay("072-series_completed-data_completed-limit.json", AAPL)
    assert isinstance(answered, HistoryAnswered)
    assert (answered.exhausted, answered.update_period_ms) == ("limit", 0)
    bars = published(listener.hear([answered]))
    assert [prices(bar) for bar in bars] == recorded_points("014-timescale_update-1D-AAPL.json")


def test_an_unknown_symbol_is_refused_once_and_gives_no_bars() -> None:
    series = Series("NOSUCH", "NASDAQ", "1D")
    talk = Talk(series)
    opened, refused = talk.replay("016-invalid-symbol-wsmessages.json", series)
    assert isinstance(opened, Opened)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, SymbolUnknown)
    assert "NASDAQ:NOSUCH" in str(refused.error)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("018-series_error-resolve-error.json", "resolve error"),
        ("073-critical_error-create_series-invalid-parameters.framed.txt", "invalid parameters"),
        ("100-symbol_error-permission-denied-group.json", "permission denied group economics_paid"),
        ("103-series_error-seconds_not_entitled.json", "seconds_not_entitled"),
        ("104-series_error-custom_resolution.json", "custom_resolution"),
        ("105-series_error-unsupported-resolution.json", "unsupported resolution: INDEX:NDFI, 5"),
        ("107-series_error-resolve-error.py-repr.txt", "resolve error"),
    ],
)
def test_every_recorded_refusal_names_the_series_and_the_reason(name: str, reason: str) -> None:
    talk = Talk(AAPL)
    (refused,) = talk.replay(name, AAPL)
    assert isinstance(refused, Refused)
    assert type(refused.error) is SeriesRefused
    assert "AAPL" in str(refused.error)
    assert reason in str(refused.error)


def fill(series: Series, name: str, slot: str, server_ms: int, delay_ms: int = 0) -> Listener:
    """Play a recorded first answer and complete it."""
    talk = Talk(series, hello='{"session_id":"x"}')
    events = talk.replay(name, series, slot)
    assert [type(event) for event in events] == [BarsArrived]
    assert talk.session.server_now_ms(talk.now_ms) == server_ms
    listener = listen(series, 5_000 - 1, server_ms)
    listener.ledger.set_delay(delay_ms)
    assert listener.hear(events) == []
    return listener


@pytest.mark.parametrize(
    ("interval", "name", "slot", "server_ms", "delay_ms", "end_s"),
    [
        # Each ended long before; where with its session, a second is missing in the record.
        ("1m", "030-timescale_update-1m-DJI-volume.json", "sds_5", 1686475613189, 0, 1686341100),
        (
            "1m",
            "031-timescale_update-1m-NDX-no-volume-delayed.json",
            "sds_2",
            1686475613184,
            900_000,
            1686340860,
        ),
        ("1m", "032-timescale_update-1m-24h-no-volume.json", "sds_4", 1686475613167, 0, 1686344400),
        ("1D", "033-timescale_update-1D-SPX-368bars.json", "sds_7", 1686475613164, 0, 1686341400),
        (
            "1H",
            "046-timescale_update-60m-VCB-delayed.json",
            "sds_1",
            1750870230451,
            900_000,
            1750838400,
        ),
        (
            "1D",
            "076-timescale_update-1D-no-volume-reconstructed.json",
            "sds_1",
            1762256490841,
            0,
            1755216000,
        ),
    ],
)
def test_all_bars_of_a_recorded_history_whose_last_bar_ended_are_closed(
    interval: str, name: str, slot: str, server_ms: int, delay_ms: int, end_s: int
) -> None:
    listener = fill(Series("X", "Y", interval), name, slot, server_ms, delay_ms)
    decisions = listener.ledger.complete(True, listener.moment)
    bars = published(decisions)
    assert [prices(bar) for bar in bars] == recorded_points(name, slot)
    check_chain(bars, "history", server_ms + 250)
    assert [bar.end_time_ms for bar in bars] == [None] * (len(bars) - 1) + [end_s * 1000]
    assert len(decisions) == len(bars) + 1


def test_the_last_bar_of_a_recorded_live_history_is_forming_and_closes_by_the_clock() -> None:
    name = "023-timescale_update-15m-300bars-volume.json"
    series = Series("BTCUSDT.P", "BYBIT", "15m", currency="XTVCUSDT")
    listener = fill(series, name, "sds_1", 1_781_042_003_796)
    decisions = listener.ledger.complete(True, listener.moment)
    points = recorded_points(name)
    assert len(points) == 300
    assert [prices(bar) for bar in published(decisions)] == points[:-1]
    (forming,) = of(decisions, Form)
    assert prices(forming.bar) == points[-1]
    assert forming.bar.closed_by == "forming"
    end_ms = round(points[-1][0]) * 1000 + 15 * 60_000
    assert forming.bar.end_time_ms == end_ms
    assert listener.ledger.deadline_ms(2_000) == end_ms + 2_000
    assert listener.ledger.expire(at(end_ms + 1_999)) == []
    (bar,) = published(listener.ledger.expire(at(end_ms + 2_000)))
    assert prices(bar) == points[-1]
    assert (bar.closed_by, bar.end_time_ms) == ("clock", end_ms)


def test_a_recorded_update_replaces_the_forming_bar_which_closes_with_its_values() -> None:
    series = Series("BTCUSDT", "BINANCE", "1H")
    name = "080-timescale_update-1h-BTC-2022.py-repr.txt"
    talk = Talk(series)
    listener = listen(series, 10, 1_643_483_868_109)
    for recorded in (name, "081-du-forming-bar-BTC-2022.py-repr.txt"):
        decisions = listener.hear(talk.replay(recorded, series, "btc_1"))
        if recorded == name:
            decisions = listener.ledger.complete(True, listener.moment)
            assert [prices(bar) for bar in published(decisions)] == (
                recorded_points(name, "btc_1")[:4]
            )
    (form,) = decisions
    assert isinstance(form, Form)
    newest = [1643482800.0, 37806.24, 37913.11, 37781.49, 37898.88, 195.86836000000048]
    assert prices(form.bar) == newest
    assert listener.ledger.expire(at(1_643_486_401_999)) == []
    (bar,) = published(listener.ledger.expire(at(1_643_486_402_000)))
    assert prices(bar) == newest
    assert (bar.closed_by, bar.end_time_ms) == ("clock", 1_643_486_400_000)


def test_a_recorded_rollover_closes_the_bar_by_its_successor_with_its_last_values() -> None:
    series = Series("BTCUSDT", "BINANCE", "5m")
    talk = Talk(series)
    listener = listen(series, 10, 1_789_990_200_000)
    decisions = listener.hear(talk.replay("090-live-5m-bar-rollover-BTCUSDT.jsonl", series))
    (bar,) = published(decisions)
    assert prices(bar) == [1789989900, 84627.21, 84709.65, 84625.65, 84674.01, 76.36592]
    assert (bar.closed_by, bar.previous_open_time_ms) == ("next", None)
    # Byte-identical repeats change nothing: 4 states of the one bar, 3 of the other.
    forms = [prices(form.bar) for form in of(decisions, Form)]
    assert [form[0] for form in forms] == [1789989900] * 4 + [1789990200] * 3
    assert forms[4] == [1789990200, 84674, 84674, 84674, 84674, 0]
    assert forms[-1] == [1789990200, 84674, 84674, 84656.66, 84656.67, 1.80086]


@pytest.mark.parametrize(
    "name",
    [
        "042-timescale_update-empty-series.json",
        "047-timescale_update-future-tickmarks-VCB.json",
        "091-live-timescale_update-future-tickmarks-during-stream.jsonl",
        "026-du-study-rsi-1e100.json",
        "049-du-study-empty.json",
    ],
)
def test_messages_without_bars_give_none(name: str) -> None:
    assert Talk(AAPL).replay(name, AAPL) == []


def test_bars_of_another_request_are_noted() -> None:
    (noted,) = Talk(AAPL).replay("095-du-turnaround-s3.json", AAPL)
    assert noted == Noted("stray", "turnaround s3")


def test_a_delayed_series_says_so_when_its_history_is_complete() -> None:
    (answered,) = Talk(AAPL).replay("048-series_completed-delayed_streaming_900.json", AAPL)
    assert answered == HistoryAnswered(AAPL, "delayed_streaming_900", 5_000, None)


@pytest.mark.parametrize(
    "name",
    [
        "092-du-nochange-with-framing.framed.txt",
        "093-du-nochange-i9.py-repr.txt",
        "094-du-nochange-tvkit.py-repr.txt",
    ],
)
def test_a_recorded_update_states_when_its_bar_ends(name: str) -> None:
    series = Series("X", "Y", "1m")
    slot = "s1" if name.startswith("092") else "sds_1"
    (arrived,) = Talk(series).replay(name, series, slot)
    assert isinstance(arrived, BarsArrived)
    (values,) = arrived.bars.values
    assert arrived.bars.close_time_ms == values[0] * 1000 + 60_000


def test_the_recorded_end_of_a_connection_ends_it() -> None:
    (ended,) = Talk(AAPL).replay("074-protocol_error-bad-auth-token.framed.txt", AAPL)
    assert isinstance(ended, Ended)
    assert "bad auth token" in str(ended.error)
