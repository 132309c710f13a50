"""A request for history beside the live bars of the same series."""

from __future__ import annotations

import json
from typing import Any

import pytest
from talk import BTC, START_MS, Talk, frame_contents

from publisher.core.session import (
    ANSWER_MS_MAX,
    BarsArrived,
    Event,
    HistoryAnswered,
    Interrupted,
    Refused,
    Resolved,
)
from publisher.errors import LocalProtocolError

BARS = {"sds_1": {"s": [{"i": 0, "v": [1700000040, 1, 2, 1, 2, 3]}], "t": "s1"}}
COMPLETED = ("series_completed", "sds_1", "streaming", "s1", {})


class Pair(Talk):
    """The live series and a request for its history, each with its chart session."""

    def __init__(self) -> None:
        super().__init__(BTC)
        self.live = self.chart(BTC)
        self.session.subscribe(BTC, 500, self.now_ms, "h1")
        self.hear("~h~1")
        self.asked = self.chart(BTC)

    def say_of(self, chart: str, kind: str, *rest: Any) -> list[Event]:
        return self.hear(json.dumps({"m": kind, "p": [chart, *rest]}))


def test_a_request_has_a_chart_session_and_a_number_of_bars_of_its_own() -> None:
    pair = Pair()
    assert pair.live != pair.asked
    bars = {p[0]: p[5] for m, p in pair.sent if m == "create_series"}
    assert bars == {pair.live: 300, pair.asked: 500}


def test_every_event_says_whose_it_is() -> None:
    pair = Pair()
    for chart, request in ((pair.live, ""), (pair.asked, "h1")):
        told = pair.say_of(chart, "symbol_resolved", "sds_sym_1", {})
        told += pair.say_of(chart, "du", BARS)
        told += pair.say_of(chart, *COMPLETED)
        told += pair.say_of(chart, "series_error", "sds_1", "s1", "custom_resolution")
        assert [type(event) for event in told] == [Resolved, BarsArrived, HistoryAnswered, Refused]
        assert {event.request for event in told} == {request}  # type: ignore[union-attr]


def test_a_request_is_asked_for_once_at_a_time() -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError, match="subscribed already"):
        pair.session.subscribe(BTC, 10, START_MS, "h1")
    pair.session.subscribe(BTC, 10, START_MS, "h2")


def test_more_is_asked_for_in_the_requests_own_chart_session() -> None:
    pair = Pair()
    pair.say_of(pair.asked, *COMPLETED)
    pair.session.request_more(BTC, 50, START_MS, "h1")
    asked = [("request_more_data", [pair.asked, "sds_1", 50])]
    assert frame_contents(pair.session.outgoing()) == asked
    with pytest.raises(LocalProtocolError, match="is not live"):
        pair.session.request_more(BTC, 50, START_MS)


@pytest.mark.parametrize(("request_name", "other"), [("", "h1"), ("h1", "")])
def test_to_let_go_of_one_leaves_the_other(request_name: str, other: str) -> None:
    pair = Pair()
    charts = {"": pair.live, "h1": pair.asked}
    pair.session.unsubscribe(BTC, request_name)
    closed = [("chart_delete_session", [charts[request_name]])]
    assert frame_contents(pair.session.outgoing()) == closed
    (event,) = pair.say_of(charts[other], "du", BARS)
    assert isinstance(event, BarsArrived)
    assert event.request == other


def test_what_ends_a_request_leaves_the_live_series() -> None:
    pair = Pair()
    told = pair.say_of(pair.asked, "clear_data")
    assert told == [Interrupted(BTC, "TradingView cleared its data", request="h1")]
    assert isinstance(pair.say_of(pair.live, "du", BARS)[0], BarsArrived)


def test_a_request_that_is_not_answered_ends_alone() -> None:
    pair = Pair()
    pair.say_of(pair.live, *COMPLETED)
    pair.now_ms += ANSWER_MS_MAX
    pair.hear("~h~2")
    reason = f"no answer within {ANSWER_MS_MAX} ms"
    assert pair.session.expire(pair.now_ms) == [Interrupted(BTC, reason, request="h1")]
    assert isinstance(pair.say_of(pair.live, "du", BARS)[0], BarsArrived)
