"""TvDatafeed's history and search, their arguments and their frames; the publisher is played."""

from __future__ import annotations

import builtins
import inspect
import logging
import pickle
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
import structlog
from consumer_world import BTC, Events, Market

from bus.errors import BusUnreachable
from consumers import tvdatafeed
from consumers.errors import ArgumentInvalid, FrameUnavailable, RequestRefused, SymbolUnknown
from consumers.shell.requests import History, Requests
from consumers.tvdatafeed import Interval, TvDatafeed, TvDatafeedLive, main
from consumers.tvdatafeed.frames import BarFrame, frame_of
from publisher.wire.answers import HistoryBar, Listing, SymbolFound
from publisher.wire.commands import Command

OPENED_MS = 1_700_000_040_000
# 2023-11-14T22:14:00Z and the minute after.
BARS = [
    HistoryBar(OPENED_MS, 0.1, 1e16, 5e-324, 37898.88, 195.86836000000048, None),
    HistoryBar(OPENED_MS + 60_000, 1.0, 2.0, 0.5, 1.5, None, OPENED_MS + 120_000),
]


class Asked:
    """What was asked of the publisher, and what it answers."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.history = History(BARS, message="2 bars")
        self.listing = Listing(())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, market: Market) -> Asked:
    answers = Asked()

    def history(_: Requests, command: Command, timeout_s: float) -> History:
        answers.commands.append(command)
        assert timeout_s == float("inf")
        return answers.history

    def search(_: Requests, command: Command) -> Listing:
        answers.commands.append(command)
        return answers.listing

    monkeypatch.setattr(Requests, "history", history)
    monkeypatch.setattr(Requests, "search", search)
    return answers


@pytest.fixture
def tv(market: Market, asked: Asked) -> TvDatafeed:
    return TvDatafeed(redis_url=market.url)


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# Names and signatures.


def test_names_and_signatures_are_those_of_tvdatafeed() -> None:
    signature = "(self, symbol, exchange='NSE', interval=in_daily, n_bars=10, fut_contract=None, "
    assert _plain(TvDatafeed.get_hist) == signature + "extended_session=False, timeout=-1)"
    assert _plain(TvDatafeed.search_symbol) == "(self, text, exchange='')"
    live = {
        "new_seis": "(self, symbol, exchange, interval, timeout=-1)",
        "del_seis": "(self, seis, timeout=-1)",
        "new_consumer": "(self, seis, callback, timeout=-1)",
        "del_consumer": "(self, consumer, timeout=-1)",
        "del_tvdatafeed": "(self)",
    }
    assert {name: _plain(getattr(TvDatafeedLive, name)) for name in live} == live
    seis = {
        "new_consumer": "(self, callback, timeout=-1)",
        "del_consumer": "(self, consumer, timeout=-1)",
        "get_hist": "(self, n_bars=10, timeout=-1)",
        "get_consumers": "(self)",
        "del_seis": "(self, timeout=-1)",
    }
    assert {name: _plain(getattr(tvdatafeed.Seis, name)) for name in seis} == seis
    for kind in (TvDatafeed, TvDatafeedLive):
        assert _plain(kind.__init__).startswith("(self, username=None, password=None, *, ")
    assert {one.name: one.value for one in Interval} == {
        "in_1_minute": "1",
        "in_3_minute": "3",
        "in_5_minute": "5",
        "in_15_minute": "15",
        "in_30_minute": "30",
        "in_45_minute": "45",
        "in_1_hour": "1H",
        "in_2_hour": "2H",
        "in_3_hour": "3H",
        "in_4_hour": "4H",
        "in_daily": "1D",
        "in_weekly": "1W",
        "in_monthly": "1M",
    }


def _plain(function: Any) -> str:
    """A signature without annotations."""
    parts = []
    for name, one in inspect.signature(function).parameters.items():
        if one.kind is one.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = getattr(one.default, "name", None) or repr(one.default)
        parts.append(name if one.default is one.empty else f"{name}={default}")
    return f"({', '.join(parts)})"


# History.


@pytest.mark.parametrize(
    ("arguments", "series"),
    [
        (("BTCUSDT", "BINANCE", Interval.in_1_minute), "BTCUSDT-BINANCE-1m"),
        (("nifty",), "NIFTY-NSE-1D"),
        (("BINANCE:BTCUSDT", "NSE", Interval.in_45_minute), "BTCUSDT-BINANCE-45m"),
        (("NIFTY", "NSE", Interval.in_1_hour, 5, 1), "NIFTY1!-NSE-1H"),
        (("MCX:CRUDEOIL", "MCX", Interval.in_monthly, 5, 2), "CRUDEOIL2!-MCX-1M"),
        (("AAPL", "NASDAQ", Interval.in_4_hour, 5, None, True), "AAPL-NASDAQ-4H+extended"),
        (("BAJAJ-AUTO", "NSE", Interval.in_weekly), "BAJAJ-AUTO-NSE-1W"),
    ],
)
def test_the_arguments_name_a_series(
    tv: TvDatafeed, asked: Asked, arguments: tuple[Any, ...], series: str
) -> None:
    tv.get_hist(*arguments)
    [command] = asked.commands
    assert (command.action, command.series) == ("history", (series,))
    assert command.bars == (arguments[3] if len(arguments) > 3 else 10)


def test_the_number_of_bars_may_come_out_of_a_frame(tv: TvDatafeed, asked: Asked) -> None:
    tv.get_hist("NIFTY", n_bars=pd.Series([3, 4]).iloc[1])
    assert asked.commands[0].bars == 4
    assert type(asked.commands[0].bars) is int


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"n_bars": 0}, "n_bars must be a whole number from 1 on, was 0"),
        ({"n_bars": 1.5}, "was 1.5"),
        ({"n_bars": True}, "was True"),
        ({"n_bars": "10"}, "was '10'"),
        ({"interval": "1D"}, "interval must be a member of Interval, was '1D'"),
        ({"fut_contract": 0}, "fut_contract must be 1, 2, … or None, was 0"),
        ({"fut_contract": True}, "was True"),
        ({"symbol": ""}, "symbol must have 1 to 128 characters, was ''"),
        ({"timeout": -3}, "timeout must be seconds, or -1 for none, was -3"),
    ],
)
def test_what_cannot_be_asked_for_is_a_value_error(
    tv: TvDatafeed, asked: Asked, more: dict[str, Any], shown: str
) -> None:
    with pytest.raises(ArgumentInvalid) as invalid:
        tv.get_hist(**{"symbol": "BTCUSDT", "exchange": "BINANCE", **more})
    assert isinstance(invalid.value, ValueError)
    assert shown in str(invalid.value)
    assert asked.commands == []


@pytest.mark.usefixtures("in_new_york")
def test_times_are_naive_and_local_as_there(tv: TvDatafeed) -> None:
    data = tv.get_hist("BTCUSDT", "BINANCE", Interval.in_1_minute)
    assert list(data.columns) == ["symbol", "open", "high", "low", "close", "volume"]
    assert data.index.name == "datetime"
    assert data.index.tz is None
    assert [str(one) for one in data.index] == ["2023-11-14 17:14:00", "2023-11-14 17:15:00"]
    assert list(data["symbol"]) == ["BINANCE:BTCUSDT"] * 2
    assert [tuple(row) for row in data.iloc[:, 1:].to_numpy()] == [
        BARS[0][1:6],
        (*BARS[1][1:5], 0.0),
    ]


@pytest.mark.usefixtures("in_new_york")
def test_times_in_utc_are_an_option(market: Market, asked: Asked) -> None:
    data = TvDatafeed(redis_url=market.url, utc=True).get_hist("BTCUSDT", "BINANCE")
    assert str(data.index.tz) == "UTC"
    assert list(data.index) == [
        datetime(2023, 11, 14, 22, 14, tzinfo=UTC),
        datetime(2023, 11, 14, 22, 15, tzinfo=UTC),
    ]


def test_fewer_bars_than_wanted_are_told(tv: TvDatafeed, asked: Asked, events: Events) -> None:
    asked.history = History([], complete=False, message="0 of 10 bars: there are no others")
    data = tv.get_hist("BTCUSDT", "BINANCE", Interval.in_1_minute)
    assert (len(data), data.index.name, len(data.columns)) == (0, "datetime", 6)
    told = events.wait("history.shortened")
    assert (told["series"], told["reason"]) == (str(BTC), "0 of 10 bars: there are no others")


def test_an_answer_that_does_not_come_in_time_is_false(market: Market) -> None:
    lease = {"holder": "x", "token": 1, "expires_ms": 10**14}
    market.client.hset(market.keys.publisher, mapping=lease)
    tv = TvDatafeed(redis_url=market.url)
    assert tv.get_hist("BTCUSDT", "BINANCE", timeout=0.2) is False


def test_without_a_publisher_the_error_says_what_to_do(market: Market) -> None:
    with pytest.raises(RequestRefused, match="start one with `tvbus publish`"):
        TvDatafeed(redis_url=market.url).get_hist("BTCUSDT", "BINANCE")


def test_without_a_bus_the_error_says_what_to_do() -> None:
    with pytest.raises(BusUnreachable, match="tvbus publish"):
        TvDatafeed()


def test_an_unknown_symbol_is_a_value_error() -> None:
    assert issubclass(SymbolUnknown, ValueError)


# Search.


def test_a_search_returns_dicts(tv: TvDatafeed, asked: Asked) -> None:
    contract = SymbolFound("CRUDEOIL1!", "MCX", "Crude Oil Futures", "futures", "MCX", "INR", "IN")
    asked.listing = Listing(
        (SymbolFound("CRUDEOIL", "MCX", "Crude Oil", "futures", "MCX", "INR", "IN", (contract,)),)
    )
    [found] = tv.search_symbol("CRUDE", "MCX")
    assert found == {
        "symbol": "CRUDEOIL",
        "exchange": "MCX",
        "description": "Crude Oil",
        "type": "futures",
        "exchange_name": "MCX",
        "currency_code": "INR",
        "country": "IN",
        "contracts": [
            {
                "symbol": "CRUDEOIL1!",
                "exchange": "MCX",
                "description": "Crude Oil Futures",
                "type": "futures",
                "exchange_name": "MCX",
                "currency_code": "INR",
                "country": "IN",
            }
        ],
    }
    [command] = asked.commands
    assert (command.action, command.text, command.exchange) == ("search", "CRUDE", "MCX")


# Signing in is not this program's.


def test_user_name_and_password_are_ignored_with_one_warning(
    market: Market, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "_warned", type(main._warned)())
    for arguments in ((), ("somebody", "a secret word"), ("somebody", None)):
        tv = TvDatafeed(*arguments, redis_url=market.url)
        assert "somebody" not in str(vars(tv))
        assert "secret" not in str(vars(tv))
    [told] = events.named("credentials.ignored")
    assert told["level"] == "warning"
    assert "run `tvbus login`" in told["reason"]
    assert "secret word" not in str(told)


# Frames.


def rows(count: int) -> list[tuple[int, float, float, float, float, float | None]]:
    return [(OPENED_MS + n * 60_000, 1.0 + n, 3.0 + n, 0.5 + n, 2.0 + n, 7.0) for n in range(count)]


def test_a_column_gives_its_first_value_by_zero_as_programs_write_it() -> None:
    data = frame_of("X:A", rows(3), utc=False)
    assert (data.open[0], data.open[-1], data["volume"][1]) == (1.0, 3.0, 7.0)
    assert data.open[data.index[1]] == 2.0
    with pytest.raises(IndexError):
        data.open[3]


def test_a_column_with_numbers_as_labels_takes_them_as_labels() -> None:
    column = frame_of("X:A", rows(3), utc=False).reset_index()["open"][1:]
    assert column[1] == 2.0
    with pytest.raises(KeyError):
        column[0]


def test_a_frame_is_a_frame_in_all_else() -> None:
    data = frame_of("X:A", rows(3), utc=True)
    assert isinstance(data, pd.DataFrame)
    longer = pd.concat([data, frame_of("X:A", rows(5)[3:], utc=True)])
    assert isinstance(longer, BarFrame)
    assert longer.close.rolling(2).mean()[4] == 5.5
    assert longer.resample("5min").agg({"open": "first", "volume": "sum"}).volume.sum() == 35.0
    assert pickle.loads(pickle.dumps(data)).equals(data)
    assert data.to_csv().splitlines()[1].startswith("2023-11-14 22:14:00+00:00,X:A,1.0,")
    assert data.iloc[-1]["close"] == 4.0
    assert isinstance(data["close"].to_frame(), BarFrame)


def test_without_pandas_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.delitem(sys.modules, "consumers.tvdatafeed.frames")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FrameUnavailable, match=r"pip install 'tvbus\[pandas\]'"):
        from consumers.tvdatafeed.frames import frame_of  # noqa: F401, PLC0415


# Logs.


def test_what_is_told_goes_to_the_programs_own_logging(
    market: Market, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr(main, "_warned", type(main._warned)())
    handlers = list(logging.root.handlers)
    with caplog.at_level(logging.INFO):
        TvDatafeed("somebody", "a secret word", redis_url=market.url)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("consumers", "WARNING")
    assert record.getMessage().startswith("credentials.ignored")
    assert logging.root.handlers == handlers, "nothing of the program's is touched"
