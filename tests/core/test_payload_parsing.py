"""Any payload is read, or refused by the one named error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from publisher.core import messages as said
from publisher.core.parsing import parse
from publisher.errors import RemoteProtocolError

# Every kind of the protocol document's catalogue, and two that are in none.
NEEDED = [
    "series_loading",
    "symbol_resolved",
    "symbol_error",
    "timescale_update",
    "du",
    "series_completed",
    "series_error",
    "critical_error",
    "protocol_error",
    "clear_data",
]
NOT_NEEDED = [
    "series_timeframe",
    "series_deleted",
    "study_loading",
    "study_completed",
    "study_deleted",
    "study_error",
    "tickmark_update",
    "index_update",
    "studies_metadata",
    "first_bar_time",
    "qsd",
    "quote_completed",
    "quote_list_fields",
    "protocol_switched",
]
KINDS = [*NEEDED, *NOT_NEEDED, "replay_ok", "not_a_kind"]

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just("sds_1")
)
NAMES = st.one_of(
    st.text(max_size=4),
    st.sampled_from(
        [
            "sds_1",
            "s",
            "st",
            "t",
            "lbs",
            "bar_close_time",
            "v",
            "i",
            "error",
            "subsessions",
            "id",
            "delay",
            "data_completed",
            "rt_update_period",
            "pricescale",
            "subsession_id",
        ]
    ),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)
READ = (
    said.Hello,
    said.Heartbeat,
    said.SeriesLoading,
    said.SymbolResolved,
    said.SymbolRefused,
    said.BarsReceived,
    said.SeriesCompleted,
    said.SlotRefused,
    said.ChartRefused,
    said.DataCleared,
    said.ConnectionRefused,
    said.Ignored,
    said.Unknown,
    said.Malformed,
)

NESTED = "[" * 1000 + "]" * 1000


def say(kind: str, *parameters: Any, **beside: Any) -> said.Message:
    return parse(json.dumps({"m": kind, "p": list(parameters), **beside}))


@given(st.text())
@example("~h~1")
@example("[" * 100_000)
@example('{"m":"series_loading","p":[' + NESTED + "]}")
@example('{"m":"symbol_error","p":["a","b","c",' + NESTED + "]}")
@example('{"session_id":' + NESTED + "}")
@example('{"m":"series_error","p":["a","b","c","\\ud800"]}')
@example('{"session_id":' + "1" * 5000 + "}")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        message = parse(text)
    except RemoteProtocolError:
        return
    assert isinstance(message, READ)
    json.dumps(repr(message), ensure_ascii=False).encode()


@settings(max_examples=300)
@given(st.sampled_from(KINDS), ANYTHING, ANYTHING)
def test_any_parameters_of_any_kind_are_read_or_refused(
    kind: str, parameters: Any, time: Any
) -> None:
    text = json.dumps({"m": kind, "p": parameters, "t_ms": time})
    try:
        message = parse(text)
    except RemoteProtocolError:
        assert "\\ud" in text, "only half characters may cost the connection"
        return
    assert isinstance(message, READ)
    if isinstance(message, said.Malformed):
        assert message.kind == kind
        assert message.reason


@given(st.sampled_from(NEEDED), st.lists(ANYTHING, max_size=6))
def test_a_message_of_a_wrong_shape_keeps_the_name_of_its_chart_session(
    kind: str, rest: list[Any]
) -> None:
    message = say(kind, "cs_1", *rest)
    if isinstance(message, said.Malformed):
        assert message.session == "cs_1"


@pytest.mark.parametrize("text", ["", "null", "1", '"x"', "[]", "[1]", "true"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r"a payload must be (a )?JSON"):
        parse(text)


@pytest.mark.parametrize("text", ["{}", '{"m":1}', '{"m":null,"p":[]}', '{"p":[]}', '{"m":["du"]}'])
def test_an_object_without_a_kind_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="must have 'm'"):
        parse(text)


def test_half_a_character_is_refused_for_nothing_could_write_it() -> None:
    with pytest.raises(RemoteProtocolError, match="must be JSON"):
        parse('{"m":"symbol_error","p":["cs_1","sds_sym_1","\\ud83d"]}')
    assert parse('{"m":"\\ud83d\\ude00","p":[]}') == said.Unknown("😀")


def test_kinds_that_no_series_needs_are_told_from_kinds_that_nobody_knows() -> None:
    for kind in NOT_NEEDED:
        assert say(kind) == said.Ignored(kind)
    assert say("x" * 100) == said.Unknown("x" * 60)


@pytest.mark.parametrize("kind", sorted(set(NEEDED) - {"protocol_error"}))
@pytest.mark.parametrize("parameters", ["{}", "null", "[]", "[1]", '"cs_1"'])
def test_a_known_kind_of_another_shape_is_malformed(kind: str, parameters: str) -> None:
    message = parse(f'{{"m":"{kind}","p":{parameters}}}')
    assert isinstance(message, said.Malformed)
    assert (message.kind, message.session) == (kind, None)


@pytest.mark.parametrize(
    "body", ["{}", '{"p":null}', '{"p":[]}', '{"p":["banned",1]}', '{"p":"x"}']
)
def test_a_protocol_error_ends_the_connection_whatever_its_shape(body: str) -> None:
    message = parse(json.dumps(json.loads(body) | {"m": "protocol_error"}))
    assert isinstance(message, said.ConnectionRefused)


def test_a_series_error_may_be_an_object() -> None:
    reason = {"error": "resolution_not_entitled", "ctx": {"a": 1}}
    assert say("series_error", "cs", "sds_1", "s1", reason) == said.SlotRefused(
        "cs", "sds_1", "s1", "resolution_not_entitled", None
    )
    other = say("series_error", "cs", "sds_1", "s1", {"ctx": 1})
    assert isinstance(other, said.SlotRefused)
    assert other.reason == "{'ctx': 1}"


def test_details_that_are_no_text_become_text() -> None:
    message = say("symbol_error", "cs", "sym", "permission denied", "group", 7)
    assert isinstance(message, said.SymbolRefused)
    assert message.details == ("group", "7")


def test_cleared_data_names_its_chart_session() -> None:
    assert say("clear_data", "cs_1", {"turnaround": "s1"}) == said.DataCleared("cs_1")


@pytest.mark.parametrize(
    ("stated", "understood"),
    [
        (1787292487429, 1787292487429),
        (1787292487429.7, 1787292487429),
        (0, None),
        (-1, None),
        (True, None),
        ("1787292487429", None),
        (1e15, None),
        (10**400, None),
        (None, None),
    ],
)
def test_a_time_that_can_be_none_is_none(stated: Any, understood: int | None) -> None:
    message = say("series_loading", "cs", "sds_1", "s1", t_ms=stated)
    assert isinstance(message, said.SeriesLoading)
    assert message.server_time_ms == understood


@pytest.mark.parametrize(
    ("speed", "understood"),
    [(60, 60.0), (0.5, 0.5), (None, 1.0), (0, 1.0), (-2, 1.0), (1e299, 1.0), ("60", 1.0)],
)
def test_a_clock_runs_only_as_fast_as_a_simulator_may(speed: Any, understood: float) -> None:
    message = parse(json.dumps({"session_id": "x", "simulator_speed": speed}))
    assert message == said.Hello("x", None, understood)


def test_a_hello_needs_nothing_but_its_name() -> None:
    assert parse('{"session_id":7}') == said.Hello("", None, 1.0)


@pytest.mark.parametrize(
    ("delay", "delay_ms"),
    [(900, 900_000), (0, 0), (-900, 0), (None, 0), ("900", 0), (1e300, 7 * 86_400_000)],
)
def test_a_delay_is_believed_within_bounds(delay: Any, delay_ms: int) -> None:
    message = say("symbol_resolved", "cs", "sym", {"delay": delay})
    assert isinstance(message, said.SymbolResolved)
    assert message.info.delay_ms == delay_ms


@pytest.mark.parametrize("parts", [None, 5, True, {"id": "regular"}, [5, None], [{"id": "other"}]])
def test_subsessions_of_another_shape_cost_only_the_special_days(parts: Any) -> None:
    told = {"subsessions": parts, "subsession_id": "regular", "pro_name": "A:B"}
    message = say("symbol_resolved", "cs", "sym", told)
    assert isinstance(message, said.SymbolResolved)
    assert (message.info.name, message.info.corrections) == ("A:B", "")


@pytest.mark.parametrize("correction", ["0930-1300:20261127", 7])
def test_special_days_are_those_of_the_subsession_in_use(correction: Any) -> None:
    used = {"id": "regular", "session-correction": correction}
    told = {"subsessions": [{"id": "extended"}, used], "subsession_id": "regular"}
    message = say("symbol_resolved", "cs", "sym", told)
    assert isinstance(message, said.SymbolResolved)
    assert message.info.corrections == (correction if isinstance(correction, str) else "")


def test_names_fall_back_on_what_there_is() -> None:
    message = say(
        "symbol_resolved", "cs", "sym", {"full_name": "BATS:AAPL", "currency_code": "USD"}
    )
    assert isinstance(message, said.SymbolResolved)
    assert (message.info.name, message.info.currency) == ("BATS:AAPL", "USD")
    assert message.info.has_volume


def test_bars_of_a_wrong_shape_are_malformed_and_studies_beside_them_are_not_read() -> None:
    for bars in (5, "x", {"0": 1}, [5], ["x"], [{}], [{"v": None}]):
        message = say("du", "cs_1", {"sds_1": {"s": bars}})
        assert isinstance(message, said.Malformed), bars
        assert message.session == "cs_1"
    beside = {"sds_1": {"s": [{"i": 0, "v": [1, 2]}]}, "st_1": {"st": [5]}, "x": 5}
    message = say("du", "cs_1", beside)
    assert isinstance(message, said.BarsReceived)
    assert message.slots == {"sds_1": said.SlotBars(((1, 2),), None, None)}


def test_an_answer_without_flags_or_with_strange_ones_is_complete_all_the_same() -> None:
    for flags in ([], [None], [[]], [{}], [{"rt_update_period": "5", "data_completed": 1}]):
        message = say("series_completed", "cs", "sds_1", "streaming", "s1", *flags)
        assert message == said.SeriesCompleted("cs", "sds_1", "streaming", "s1", 0, None, None)
