"""A series' text, its parts and its keys say the same, for every symbol there can be."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from publisher.wire import (
    INTERVALS,
    SYMBOL_LENGTH_MAX,
    Keys,
    Series,
    SeriesInvalid,
    entry_id,
    parse_interval,
)

TRICKY = st.text(
    st.sampled_from("-+@:%{} \t\n\x00\x7f\x1c\u00a0\u2028aA1/.!_~é한😀ßŉİ"), min_size=1
)
WHATEVER = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NAMES = (
    st.one_of(TRICKY, WHATEVER).map(str.upper).filter(lambda name: len(name) <= SYMBOL_LENGTH_MAX)
)
CURRENCIES = st.one_of(st.none(), st.from_regex(r"[A-Z][A-Z0-9]{2,11}", fullmatch=True)).filter(
    lambda currency: currency not in {"EXTENDED", "DIVIDENDS"}
)
ALL = st.builds(
    Series, NAMES, NAMES, st.sampled_from(list(INTERVALS)), st.booleans(), st.booleans(), CURRENCIES
)


@given(ALL)
@example(Series("-", "-", "1m"))
@example(Series("-A-", "-B-", "1M", True, True, "EUR"))
@example(Series("A-B-1M", "C", "1m"))
@example(Series("X:Y@1M", "A:B@C", "1m"))
@example(Series("%2D", "%25", "1D"))
def test_every_series_is_read_back_from_its_text(series: Series) -> None:
    assert Series.parse(str(series)) == series


@given(ALL)
def test_a_text_is_safe_in_a_key_of_a_cluster(series: Series) -> None:
    text = str(series)
    assert re.fullmatch(r"[!-~]+", text)
    assert not set(text) & set("{}")
    key = Keys().bars(series)
    assert re.findall(r"\{(.*?)\}", key) == [text], "the braces enclose the series and nothing else"


@given(ALL, ALL)
def test_two_series_have_one_text_only_if_they_are_one(left: Series, right: Series) -> None:
    assert (str(left) == str(right)) == (left == right)


@given(ALL)
def test_case_is_of_no_matter_to_a_person_but_for_minutes_and_months(series: Series) -> None:
    *names, tail = str(series).rsplit("-", 2)
    interval, *options = tail.split("+")
    if interval[-1] in "HDW":
        interval = interval.lower()
    # Escapes stay as they are: what they stand for has no other case here.
    typed = "-".join([*names, "+".join([interval, *(option.swapcase() for option in options)])])
    assert Series.parse(f"\n {typed} ") == series


@given(st.lists(ALL, max_size=8))
def test_series_can_be_sorted_whatever_their_options(many: list[Series]) -> None:
    assert [str(one) for one in sorted(many)] == sorted(str(one) for one in many)


@given(st.text())
@example("\ud800-A-1m")
@example("A-B-1m+\ud800")
@example("%ED%A0%80-B-1m")
def test_any_text_names_a_series_or_is_refused_by_name(text: str) -> None:
    refusal = ""
    try:
        series = Series.parse(text)
    except SeriesInvalid as error:
        refusal = str(error)
    if refusal:
        assert repr(text) in refusal
    else:
        assert Series.parse(str(series)) == series


def test_symbols_are_read_from_the_right() -> None:
    assert Series.parse("BRK-B-NYSE-1D") == Series("BRK-B", "NYSE", "1D")
    assert str(Series("A", "B-C", "1D")) == "A-B%2DC-1D"


def test_tradingviews_own_spelling_is_understood() -> None:
    assert Series.parse("BINANCE:BTCUSDT@1m") == Series("BTCUSDT", "BINANCE", "1m")
    assert Series.parse("nyse:brk-b@4h+eur") == Series("BRK-B", "NYSE", "4H", currency="EUR")
    assert Series.parse("X:A:B@C@1m") == Series("A:B@C", "X", "1m")


@pytest.mark.parametrize(
    ("typed", "interval"),
    [("4h", "4H"), ("1d", "1D"), ("1w", "1W"), ("1h", "1H"), ("2h", "2H"), ("3h", "3H")],
)
def test_hours_days_and_weeks_may_be_lower_case(typed: str, interval: str) -> None:
    assert parse_interval(typed) == interval


def test_minute_and_month_differ_by_case_and_by_much() -> None:
    assert parse_interval("1m") == "1m"
    assert parse_interval("1M") == "1M"
    assert Series("A", "B", "1m").interval_ms == 60_000
    assert Series("A", "B", "1M").interval_ms == 31 * 24 * 3_600_000


def test_the_intervals_are_these() -> None:
    lengths = {"m": 60_000, "H": 3_600_000, "D": 86_400_000, "W": 7 * 86_400_000}
    months = {"1M": 31 * 86_400_000}
    names = "1m 3m 5m 15m 30m 45m 1H 2H 3H 4H 1D 1W".split()  # noqa: SIM905
    assert dict(INTERVALS) == {n: int(n[:-1]) * lengths[n[-1]] for n in names} | months


@pytest.mark.parametrize("text", ["7x", "", "60", "3M", "15M", "1S", "1 m", "m", "1h ", "\u0661m"])
def test_an_unknown_interval_is_refused_and_the_known_ones_are_shown(text: str) -> None:
    with pytest.raises(SeriesInvalid) as refused:
        parse_interval(text)
    known = "1m 3m 5m 15m 30m 45m 1H 2H 3H 4H 1D 1W 1M"
    assert str(refused.value) == f"interval must be one of {known}, was {text!r}"


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"symbol": ""}, "symbol must have 1 to 128 characters, was ''"),
        ({"symbol": "A" * 129}, "symbol must have 1 to 128 characters"),
        ({"exchange": ""}, "exchange must have 1 to 128 characters"),
        ({"symbol": "aapl"}, "symbol must be upper case, was 'aapl'"),
        ({"exchange": "ß"}, "exchange must be upper case, was 'ß'"),
        ({"symbol": "\ud800"}, "symbol must be valid Unicode"),
        ({"interval": "1h"}, "interval must be in canonical form, was '1h'"),
        ({"interval": "7x"}, "interval must be one of"),
        ({"currency": ""}, "currency must be upper-case letters such as EUR, was ''"),
        ({"currency": "eur"}, "was 'eur'"),
        ({"currency": "EXTENDED"}, "was 'EXTENDED'"),
        ({"currency": "DIVIDENDS"}, "was 'DIVIDENDS'"),
        ({"currency": "E+R"}, "was 'E+R'"),
        ({"currency": "EUR\n"}, "currency must be"),
    ],
)
def test_parts_that_name_nothing_are_refused_and_shown(parts: dict[str, Any], shown: str) -> None:
    with pytest.raises(SeriesInvalid) as refused:
        replace(Series("AAPL", "NASDAQ", "1D"), **parts)
    assert shown in str(refused.value)


def test_a_currency_that_begins_like_an_option_is_a_currency() -> None:
    series = Series("A", "B", "1m", currency="EXTENDEDX")
    assert Series.parse(str(series)) == series


def test_a_character_takes_its_upper_case_once_and_for_all() -> None:
    rng = random.Random(11)
    codes = [*range(0x3000), *(rng.randrange(0x3000, 0x110000) for _ in range(2_000))]
    for code in codes:
        if not 0xD800 <= code < 0xE000:
            series = Series(chr(code).upper(), "X", "1m")
            assert Series.parse(str(series)) == series


# Keys.


def test_the_keys_are_exactly_those_of_the_contract() -> None:
    series = Series("BTCUSDT", "BINANCE", "1m")
    keys = Keys()
    assert keys.bars(series) == "tv:bars:{BTCUSDT-BINANCE-1m}"
    assert keys.forming(series) == "tv:forming:{BTCUSDT-BINANCE-1m}"
    assert keys.corrections(series) == "tv:corrections:{BTCUSDT-BINANCE-1m}"
    assert keys.series(series) == "tv:series:{BTCUSDT-BINANCE-1m}"
    assert keys.catalogue == "tv:catalogue"
    assert keys.events == "tv:events"
    assert keys.commands == "tv:commands"
    assert keys.publisher == "tv:publisher"
    assert keys.replies("7") == "tv:replies:7"
    assert keys.group("g", "members") == "tv:group:{g}:members"
    assert keys.dead("g") == "tv:dead:{g}"
    assert Keys("my").bars(series) == "my:bars:{BTCUSDT-BINANCE-1m}"
    assert entry_id(1_700_000_040_000) == "1700000040000-0"


@pytest.mark.parametrize("prefix", ["", "a b", "{tv}", "a%", "tv\n", "é"])
def test_a_prefix_that_would_break_the_keys_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix must be printable ASCII") as refused:
        Keys(prefix)
    assert repr(prefix) in str(refused.value)
