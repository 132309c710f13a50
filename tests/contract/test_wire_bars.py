"""Bars, summaries, requests and answers on the wire: there and back, or malformed by name."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from publisher.wire import (
    BAR_FIELD,
    BAR_JSON_FIELD,
    Bar,
    EntryMalformed,
    Series,
    Summary,
    decode_bar,
    encode_bar,
)
from publisher.wire.answers import Answer
from publisher.wire.commands import Command

SERIES = Series("BTCUSDT", "BINANCE", "1m")
TIMES = st.integers(1, 2**53)
PRICES = st.floats(allow_nan=False, allow_infinity=False)
BARS = st.builds(
    Bar,
    series=st.just(SERIES),
    open_time_ms=TIMES,
    open=PRICES,
    high=PRICES,
    low=PRICES,
    close=PRICES,
    volume=st.one_of(st.none(), PRICES),
    end_time_ms=st.one_of(st.none(), TIMES),
    previous_open_time_ms=st.one_of(st.none(), TIMES),
    received_ms=TIMES,
    closed_by=st.sampled_from(["next", "clock", "history", "forming"]),
    gap=st.booleans(),
    revision=st.integers(0, 1_000),
)
GOOD: dict[str, Any] = {
    "t": 1_700_000_040_000,
    "o": 1.5,
    "h": 2.0,
    "l": 1.0,
    "c": 1.25,
    "v": None,
    "e": None,
    "p": None,
    "r": 1_700_000_100_000,
    "s": "next",
}


def read(payload: Any, *, packed: bool = True) -> Bar:
    if packed:
        return decode_bar(SERIES, {BAR_FIELD: msgpack.packb(payload)})
    return decode_bar(SERIES, {BAR_JSON_FIELD: json.dumps(payload).encode()})


@given(BARS, st.sampled_from(["msgpack", "json"]))
def test_a_bar_comes_back_as_it_was_in_both_encodings(bar: Bar, encoding: Any) -> None:
    field, payload = encode_bar(bar, encoding)
    assert field == (b"bar" if encoding == "msgpack" else b"bar.json")
    back = decode_bar(SERIES, {field: payload})
    assert back == bar
    assert math.copysign(1, back.open) == math.copysign(1, bar.open)


@given(BARS)
def test_both_encodings_hold_the_same_map(bar: Bar) -> None:
    _, packed = encode_bar(bar, "msgpack")
    _, text = encode_bar(bar, "json")
    assert msgpack.unpackb(packed) == json.loads(text)


def test_whole_numbers_are_written_as_floats() -> None:
    bar = Bar(SERIES, 1, 5, 5, 5, 5, 5, None, None, 1, "next")
    stored = msgpack.unpackb(encode_bar(bar)[1])
    assert {key: type(stored[key]) for key in "ohlcv"} == dict.fromkeys("ohlcv", float)


def test_keys_that_say_nothing_are_left_out() -> None:
    bar = read(GOOD)
    assert set(msgpack.unpackb(encode_bar(bar)[1])) == set(GOOD)
    assert (bar.gap, bar.revision) == (False, 0)


def test_times_are_aware_and_utc() -> None:
    bar = read({**GOOD, "e": 1_700_000_100_500})
    assert bar.open_time == datetime(2023, 11, 14, 22, 14, tzinfo=UTC)
    assert bar.end_time == datetime(2023, 11, 14, 22, 15, 0, 500_000, tzinfo=UTC)
    assert read(GOOD).end_time is None


@pytest.mark.parametrize("packed", [True, False])
def test_unknown_keys_and_fields_are_ignored(packed: bool) -> None:
    later = {**GOOD, "x": [1, {"y": 2}], "oi": 7, "gap": True, "n": 2}
    bar = read(later, packed=packed)
    assert (bar.gap, bar.revision) == (True, 2)
    fields = {b"bar": msgpack.packb(GOOD), b"bar.v2": b"?", b"x": b""}
    assert decode_bar(SERIES, fields) == read(GOOD)


def test_keys_that_may_be_nil_may_be_absent() -> None:
    short = {key: value for key, value in GOOD.items() if value is not None}
    assert read(short) == read(GOOD)


def test_whole_numbers_are_read_as_prices() -> None:
    assert read({**GOOD, "o": 1, "h": 2}).high == 2.0


MALFORMED: list[tuple[str, Any]] = [
    *[("t", value) for value in ("1", 1.5, None, True, [])],
    *[("r", value) for value in ("1", 1.5, None)],
    *[("e", value) for value in ("1", 1.5, False)],
    *[("p", value) for value in ("1", 1.5, False)],
    *[("n", value) for value in ("1", 1.5, None)],
    *[(key, value) for key in "ohlc" for value in ("1", None, True, [])],
    ("v", "1"),
    *[("s", value) for value in ("", "guess", None, 1, [], {})],
]


@pytest.mark.parametrize(("key", "value"), MALFORMED)
@pytest.mark.parametrize("packed", [True, False])
def test_a_malformed_value_is_named_and_shown(key: str, value: Any, packed: bool) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        read({**GOOD, key: value}, packed=packed)
    assert str(malformed.value).startswith(f"{key} must be ")
    assert str(malformed.value).endswith(f"was {value!r}")


@pytest.mark.parametrize("key", ["t", "o", "h", "l", "c", "r", "s"])
def test_a_missing_value_is_named(key: str) -> None:
    short = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(EntryMalformed, match=f"^{key} must be"):
        read(short)


@pytest.mark.parametrize("key", ["o", "h", "l", "c", "v"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_price(key: str, value: float) -> None:
    with pytest.raises(EntryMalformed, match=f"^{key} must be finite"):
        read({**GOOD, key: value})


@pytest.mark.parametrize("payload", [[], 1, "x", None, True])
def test_what_is_no_map_is_no_bar(payload: Any) -> None:
    for packed in (True, False):
        with pytest.raises(EntryMalformed, match="a bar must be a map, was"):
            read(payload, packed=packed)


@given(st.binary(max_size=60), st.sampled_from([BAR_FIELD, BAR_JSON_FIELD]))
@example(b"\x91" * 5_000, BAR_FIELD)
@example(b"[" * 5_000, BAR_JSON_FIELD)
@example(b"\x81\x90\x00", BAR_FIELD)
@example(b"\xd7\xff" + b"\xff" * 8, BAR_FIELD)
def test_any_bytes_are_a_bar_or_malformed(payload: bytes, field: bytes) -> None:
    with pytest.raises(EntryMalformed):
        decode_bar(SERIES, {field: payload})


def test_an_entry_without_a_bar_says_what_it_has() -> None:
    with pytest.raises(EntryMalformed, match=r"neither a 'bar' nor a 'bar\.json' field but b'x'"):
        decode_bar(SERIES, {b"x": b"1"})


# Summaries, requests, answers.


@pytest.mark.parametrize("state", ["starting", "filling", "live", "refused", "removed"])
def test_a_line_of_the_catalogue_comes_back(state: Any) -> None:
    summary = Summary(SERIES, state, "why é", "command")
    assert Summary.decode(str(SERIES).encode(), summary.encode()) == summary
    assert json.loads(summary.encode()) == {
        "state": state,
        "reason": "why é",
        "wanted_by": "command",
    }


def test_a_line_of_the_catalogue_needs_only_its_state() -> None:
    line = Summary.decode(b"BTCUSDT-BINANCE-1m", b'{"state":"live","more":1}')
    assert line == Summary(SERIES, "live", "", "settings")


@pytest.mark.parametrize(
    ("series", "text"),
    [
        (b"BTCUSDT-BINANCE-1m", b""),
        (b"BTCUSDT-BINANCE-1m", b"[]"),
        (b"BTCUSDT-BINANCE-1m", b'"live"'),
        (b"BTCUSDT-BINANCE-1m", b"{}"),
        (b"BTCUSDT-BINANCE-1m", b'{"state":5}'),
        (b"BTCUSDT-BINANCE-1m", b'{"state":"live","reason":null}'),
        (b"BTCUSDT-BINANCE-1m", b'{"state":"live","wanted_by":[]}'),
        (b"BTCUSDT", b'{"state":"live"}'),
        (b"\xff", b'{"state":"live"}'),
    ],
)
def test_a_malformed_line_of_the_catalogue_is_named(series: bytes, text: bytes) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        Summary.decode(series, text)
    assert repr(series) in str(malformed.value)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.lists(st.just("A-B-1m")))
def test_a_request_comes_back(request_id: str, series: list[str]) -> None:
    command = Command(request_id, "subscribe", tuple(series))
    assert Command.decode(command.encode()) == command


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"action":"subscribe","series":[]}', "KeyError('id')"),
        ('{"id":"1","series":[]}', "KeyError('action')"),
        ('{"id":"1","action":"subscribe"}', "KeyError('series')"),
        ('{"id":"","action":"subscribe","series":[]}', "id must be text, was ''"),
        ('{"id":1,"action":"subscribe","series":[]}', "id must be text, was 1"),
        ('{"id":"1","action":"buy","series":[]}', "unsubscribe, history or search, was 'buy'"),
        ('{"id":"1","action":[],"series":[]}', "history or search, was []"),
        ('{"id":"1","action":{},"series":[]}', "was {}"),
        ('{"id":"1","action":"subscribe","series":"A-B-1m"}', "series must be a list of texts"),
        ('{"id":"1","action":"subscribe","series":[1]}', "was [1]"),
        ('{"id":"1","action":"subscribe","series":{"a":1}}', "series must be a list of texts"),
        ("[]", "command is malformed"),
        ("", "command is malformed"),
        ("7", "command is malformed"),
    ],
)
def test_a_malformed_request_is_named_and_shown(text: str, shown: str) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        Command.decode(text.encode())
    assert shown in str(malformed.value)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_an_answer_comes_back(message: str, accepted: bool) -> None:
    answer = Answer("A-B-1m", accepted, message)
    assert Answer.decode(answer.encode()) == answer


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "answer is malformed"),
        ("[]", "answer is malformed"),
        ('{"series":"x","accepted":true}', "KeyError('message')"),
        ('{"series":"x","accepted":"no","message":""}', "accepted must be true or false, was 'no'"),
        ('{"series":1,"accepted":true,"message":""}', "series and message must be texts"),
        ('{"series":"x","accepted":true,"message":null}', "series and message must be texts"),
    ],
)
def test_a_malformed_answer_is_named_and_shown(text: str, shown: str) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        Answer.decode(text.encode())
    assert shown in str(malformed.value)
