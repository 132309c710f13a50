"""A request for history and all that answers it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.codes import code_of
from publisher.core.bars import FILL_BARS_MAX, REQUEST_BARS_MAX
from publisher.errors import ConnectionLost, SeriesRefused, StoreRefused, SymbolUnknown
from publisher.wire import EntryMalformed
from publisher.wire.answers import (
    CHUNK_BARS_MAX,
    REPLIES_EXPIRE_MS,
    Answer,
    Chunk,
    HistoryBar,
    Progress,
    Reply,
    decode_reply,
)
from publisher.wire.commands import HISTORY_BARS_MAX, Command

BTC = "BTCUSDT-BINANCE-1m"
TIMES = st.integers(0, 253_402_300_799_999)


def request(**values: Any) -> bytes:
    body = {"id": "1", "action": "history", "series": [BTC], **values}
    return json.dumps({name: value for name, value in body.items() if value != ()}).encode()


@given(st.integers(1, HISTORY_BARS_MAX))
def test_a_request_for_the_newest_bars_comes_back(bars: int) -> None:
    command = Command("r", "history", (BTC,), bars=bars)
    assert Command.decode(command.encode()) == command


@given(TIMES, st.none() | TIMES)
def test_a_request_for_a_span_comes_back_where_it_has_a_length(
    from_ms: int, to_ms: int | None
) -> None:
    command = Command("r", "history", (BTC,), from_ms=from_ms, to_ms=to_ms)
    if to_ms is None or to_ms > from_ms:
        assert Command.decode(command.encode()) == command
    else:
        with pytest.raises(EntryMalformed, match="to_ms must be later than from_ms"):
            Command.decode(command.encode())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (request(), "by bars or by from_ms, one of them"),
        (request(bars=5, from_ms=5), "by bars or by from_ms, one of them"),
        (request(bars=5, to_ms=5), "to_ms goes with from_ms"),
        (request(bars=0), f"bars must be a whole number from 1 to {HISTORY_BARS_MAX}, was 0"),
        (request(bars=HISTORY_BARS_MAX + 1), f"was {HISTORY_BARS_MAX + 1}"),
        (request(bars="5"), "bars must be a whole number"),
        (request(bars=5.0), "was 5.0"),
        (request(bars=True), "was True"),
        (request(from_ms=-1), "from_ms must be a whole number from 0 to"),
        (request(from_ms=10**15), "was 1000000000000000"),
        (request(from_ms=5, to_ms=5), "to_ms must be later than from_ms (5), was 5"),
        (request(from_ms=5, to_ms="6"), "to_ms must be a whole number"),
        (request(bars=5, series=[]), "history is of one series, was []"),
        (request(bars=5, series=[BTC, BTC]), "history is of one series"),
    ],
)
def test_a_malformed_request_for_history_is_named_and_shown(text: bytes, shown: str) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        Command.decode(text)
    assert shown in str(malformed.value)


def test_what_only_history_takes_is_ignored_elsewhere() -> None:
    text = request(action="subscribe", series=[], bars="many")
    assert Command.decode(text) == Command("1", "subscribe", ())


def test_keys_that_nobody_knows_are_ignored() -> None:
    text = request(bars=5, colour="blue")
    assert Command.decode(text) == Command("1", "history", (BTC,), bars=5)


# Replies.

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
BARS = st.builds(
    HistoryBar,
    *(TIMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    *(st.none() | NUMBERS, st.none() | TIMES),
)


@given(
    st.one_of(
        st.builds(Progress, st.just(BTC), st.integers(0, 10**5), st.none() | st.integers(1, 10**5)),
        st.builds(Chunk, st.just(BTC), st.lists(BARS, max_size=5).map(tuple)),
        st.builds(
            Answer,
            *(st.just(BTC), st.booleans(), st.text(st.characters(exclude_categories=["Cs"]))),
            code=st.sampled_from(["", "busy", "of_a_newer_one"]),
            complete=st.none() | st.booleans(),
            count=st.none() | st.integers(0, 10**5),
        ),
    )
)
def test_a_reply_comes_back(reply: Reply) -> None:
    assert decode_reply(reply.encode()) == reply


def test_numbers_are_floats_however_they_were_written() -> None:
    chunk = decode_reply(b'{"series":"A-B-1m","bars":[[60000,1,2,1,2,3,null,"later"]]}')
    assert chunk == Chunk("A-B-1m", (HistoryBar(60_000, 1.0, 2.0, 1.0, 2.0, 3.0, None),))
    [bar] = chunk.bars  # type: ignore[union-attr]
    assert [type(value) for value in bar] == [int, *[float] * 5, type(None)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"progress":1}',
        '{"series":"x","progress":"many"}',
        '{"series":"x","progress":1,"wanted":[]}',
        '{"series":"x","bars":5}',
        '{"series":"x","bars":[5]}',
        '{"series":"x","bars":[[60000,1,2,1]]}',
        '{"series":"x","bars":[[60000,1,2,1,"dear",3,null]]}',
        '{"series":"x","accepted":true,"message":"","code":5}',
        '{"series":"x","accepted":true,"message":"","complete":"yes"}',
        '{"series":"x","accepted":true,"message":"","count":-1}',
    ],
)
def test_a_malformed_reply_is_named_and_shown(text: str) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        decode_reply(text.encode())
    assert text in str(malformed.value)


def test_an_answer_without_the_new_keys_is_as_it_was() -> None:
    answer = Answer("x", accepted=True, message="live")
    assert json.loads(answer.encode()) == {"series": "x", "accepted": True, "message": "live"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SymbolUnknown("x"), "symbol_unknown"),
        (SeriesRefused("x"), "series_refused"),
        (StoreRefused("x"), "store_refused"),
        (ConnectionLost("x"), "unanswered"),
    ],
)
def test_a_refusal_has_a_name_for_programs(error: Any, code: str) -> None:
    assert code_of(error) == code


def test_the_limits_fit_into_each_other() -> None:
    # The forming bar and one page more than was needed may come on top.
    assert HISTORY_BARS_MAX + 1 + REQUEST_BARS_MAX <= FILL_BARS_MAX
    assert CHUNK_BARS_MAX < HISTORY_BARS_MAX
    assert REPLIES_EXPIRE_MS >= 60_000
