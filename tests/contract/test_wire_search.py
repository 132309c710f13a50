"""A request for a symbol search, and what answers it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.wire import EntryMalformed
from publisher.wire.answers import Answer, Listing, SymbolFound, decode_reply
from publisher.wire.commands import SEARCH_RESULTS_MAX, Command

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SYMBOLS = st.builds(SymbolFound, *[TEXT] * 7)
WITH_CONTRACTS = st.builds(
    SymbolFound, *[TEXT] * 7, contracts=st.lists(SYMBOLS, max_size=3).map(tuple)
)


@given(TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | st.integers(1, SEARCH_RESULTS_MAX))
def test_a_search_comes_back(
    text: str, exchange: str | None, kind: str | None, limit: int | None
) -> None:
    command = Command("r", "search", text=text, exchange=exchange, kind=kind, limit=limit)
    assert Command.decode(command.encode()) == command


def test_a_search_needs_no_series_and_ignores_what_stands_there() -> None:
    sought = Command("1", "search", text="gold", kind="futures")
    plain = b'{"id":"1","action":"search","text":"gold","type":"futures"}'
    assert Command.decode(plain) == sought
    assert Command.decode(plain[:-1] + b',"series":7,"colour":"blue","bars":0}') == sought


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ("", "text must be text, was None"),
        (',"text":5', "text must be text, was 5"),
        (',"text":"x","exchange":[]', "exchange must be text, was []"),
        (',"text":"x","type":7', "type must be text, was 7"),
        (',"text":"x","limit":0', f"limit must be a whole number from 1 to {SEARCH_RESULTS_MAX}"),
        (f',"text":"x","limit":{SEARCH_RESULTS_MAX + 1}', f"was {SEARCH_RESULTS_MAX + 1}"),
    ],
)
def test_a_malformed_search_is_named_and_shown(more: str, shown: str) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        Command.decode(f'{{"id":"1","action":"search"{more}}}'.encode())
    assert shown in str(malformed.value)


@given(st.lists(WITH_CONTRACTS, max_size=3).map(tuple), st.integers(0, 10**6))
def test_a_listing_comes_back(found: tuple[SymbolFound, ...], more: int) -> None:
    listing = Listing(found, more)
    assert decode_reply(listing.encode()) == listing


def test_a_reader_of_answers_can_read_a_listing_too() -> None:
    text = Listing((SymbolFound("AAPL", "NASDAQ"),), 3).encode()
    assert Answer.decode(text) == Answer("", True, "1 symbols", count=1)
    assert json.loads(text)["results"][0]["symbol"] == "AAPL"


@pytest.mark.parametrize(
    "text",
    [
        '{"results":[]}',
        '{"results":5,"more":0}',
        '{"results":[{}],"more":0}',
        '{"results":["AAPL"],"more":0}',
        '{"results":[],"more":"some"}',
    ],
)
def test_a_malformed_listing_is_named_and_shown(text: str) -> None:
    with pytest.raises(EntryMalformed) as malformed:
        decode_reply(text.encode())
    assert text in str(malformed.value)


def test_what_a_found_symbol_says_must_be_text() -> None:
    text = Listing((SymbolFound("AAPL", "NASDAQ"),)).encode().replace(b'"NASDAQ"', b"7", 1)
    with pytest.raises(EntryMalformed, match="every value must be text"):
        decode_reply(text)
