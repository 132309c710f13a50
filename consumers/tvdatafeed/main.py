"""`TvDatafeed` and `Interval`: history and symbol search, asked of the running publisher."""

from __future__ import annotations

import enum
import operator
import threading
from typing import Any, Final, Literal, SupportsIndex, overload

import structlog

from bus import logs
from consumers.errors import ArgumentInvalid, RequestOverdue
from consumers.shell.bus import Bus
from consumers.shell.requests import Requests, new_command
from consumers.tvdatafeed.frames import BarFrame, frame_of
from publisher.wire import Series, SeriesInvalid
from publisher.wire.answers import SymbolFound

log = structlog.get_logger("consumers")

FOUND_MAX: Final = 50
"""How many symbols `search_symbol` returns."""

_warned = threading.Event()


class Interval(enum.Enum):
    """How long a bar lasts."""

    in_1_minute = "1"
    in_3_minute = "3"
    in_5_minute = "5"
    in_15_minute = "15"
    in_30_minute = "30"
    in_45_minute = "45"
    in_1_hour = "1H"
    in_2_hour = "2H"
    in_3_hour = "3H"
    in_4_hour = "4H"
    in_daily = "1D"
    in_weekly = "1W"
    in_monthly = "1M"

    @property
    def name_on_bus(self) -> str:
        """The interval as a series writes it, such as `1m`."""
        return f"{self.value}m" if self.value.isdecimal() else self.value


class TvDatafeed:
    """Bars of the past and symbols, as tvDatafeed gives them, through the running publisher.

        tv = TvDatafeed()
        data = tv.get_hist("BTCUSDT", "BINANCE", Interval.in_1_hour, n_bars=100)

    Nobody signs in here: the publisher does. `username` and `password` are accepted, not
    kept and not used; the first time a warning says so. With `utc=True` the frames' times
    are aware and in UTC, otherwise naive and in the machine's own time zone, as there.
    `redis_url` and `prefix` come from the settings when not given.

    Raises SettingsInvalid, and BusUnreachable where no
    bus is there. Threads may share an object.
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        utc: bool = False,
        redis_url: str | None = None,
        prefix: str | None = None,
    ) -> None:
        logs.into_logging()
        if username is not None or password is not None:
            _refuse_sign_in()
        self._utc = utc
        self._redis_url = redis_url
        self._prefix = prefix
        bus = Bus.find(redis_url, prefix)
        self._requests = Requests(bus.open(), bus.keys, bus.url())

    @overload
    def get_hist(
        self,
        symbol: str,
        exchange: str = "NSE",
        interval: Interval = Interval.in_daily,
        n_bars: int = 10,
        fut_contract: int | None = None,
        extended_session: bool = False,
    ) -> BarFrame: ...

    @overload
    def get_hist(
        self,
        symbol: str,
        exchange: str = "NSE",
        interval: Interval = Interval.in_daily,
        n_bars: int = 10,
        fut_contract: int | None = None,
        extended_session: bool = False,
        timeout: float = -1,
    ) -> BarFrame | Literal[False]: ...

    def get_hist(  # noqa: PLR0917 - the signature of tvDatafeed
        self,
        symbol: str,
        exchange: str = "NSE",
        interval: Interval = Interval.in_daily,
        n_bars: int = 10,
        fut_contract: int | None = None,
        extended_session: bool = False,
        timeout: float = -1,
    ) -> BarFrame | Literal[False]:
        """Return the newest `n_bars` closed bars, oldest first.

        `symbol` may be `EXCHANGE:SYMBOL`, and then counts for the exchange too.
        `fut_contract` 1 is the continuous contract in front, 2 the next one. Fewer bars
        than wanted are told by a warning that says why.

        Columns are symbol (`EXCHANGE:SYMBOL`), open, high, low, close and volume; the
        index is `datetime`, when a bar opened. False where `timeout` seconds passed
        before all were there; -1: no time-out.

        Raises ArgumentInvalid, SymbolUnknown (both are ValueErrors), RequestRefused where
        the publisher does not run or refuses, and BusUnreachable.
        """
        series = series_of(symbol, exchange, interval, fut_contract, extended=extended_session)
        command = new_command("history", series, bars=_count(n_bars))
        try:
            history = self._requests.history(command, timeout_s=seconds(timeout))
        except RequestOverdue:
            return False
        if not history.complete:
            log.warning("history.shortened", series=str(series), reason=history.message)
        return frame_of(full_name(series), (bar[:6] for bar in history.bars), utc=self._utc)

    def search_symbol(self, text: str, exchange: str = "") -> list[dict[str, Any]]:
        """Return the symbols that TradingView finds, the best first, 50 at most.

        Each is a dict with symbol, exchange, description, type, exchange_name,
        currency_code and country; a futures root has `contracts` besides, of the same
        shape, and only those have bars. Raises RequestRefused and BusUnreachable.
        """
        command = new_command("search", text=text, exchange=exchange, limit=FOUND_MAX)
        return [_symbol(one) for one in self._requests.search(command).found]


def series_of(
    symbol: str,
    exchange: str,
    interval: Interval,
    fut_contract: int | None = None,
    *,
    extended: bool = False,
) -> Series:
    """Return what is meant by tvDatafeed's arguments. Raises ArgumentInvalid."""
    if not isinstance(interval, Interval):
        raise ArgumentInvalid(f"interval must be a member of Interval, was {interval!r}")
    before, colon, after = symbol.partition(":")
    if colon:
        exchange, symbol = before, after
    if fut_contract is not None:
        if isinstance(fut_contract, bool) or not isinstance(fut_contract, int) or fut_contract < 1:
            raise ArgumentInvalid(f"fut_contract must be 1, 2, … or None, was {fut_contract!r}")
        symbol += f"{fut_contract}!"
    name = interval.name_on_bus
    try:
        return Series(symbol.strip().upper(), exchange.strip().upper(), name, extended=extended)
    except SeriesInvalid as error:
        raise ArgumentInvalid(str(error)) from None


def full_name(series: Series) -> str:
    """Return `EXCHANGE:SYMBOL`, as it stands in the frames."""
    return f"{series.exchange}:{series.symbol}"


def seconds(timeout: float) -> float:
    """Return a time-out of tvDatafeed's, where -1 is none. Raises ArgumentInvalid."""
    if timeout == -1:
        return float("inf")
    if not timeout >= 0:
        raise ArgumentInvalid(f"timeout must be seconds, or -1 for none, was {timeout!r}")
    return timeout


def _count(n_bars: SupportsIndex) -> int:
    try:
        count = 0 if isinstance(n_bars, bool) else operator.index(n_bars)
    except TypeError:
        count = 0
    if count < 1:
        raise ArgumentInvalid(f"n_bars must be a whole number from 1 on, was {n_bars!r}")
    return count


def _refuse_sign_in() -> None:
    if not _warned.is_set():
        _warned.set()
        log.warning(
            "credentials.ignored",
            reason="the publisher signs in, once for all programs: run `tvbus login` beside it "
            "and take user name and password out of this program",
        )


def _symbol(found: SymbolFound) -> dict[str, Any]:
    values = {
        "symbol": found.symbol,
        "exchange": found.exchange,
        "description": found.description,
        "type": found.kind,
        "exchange_name": found.exchange_name,
        "currency_code": found.currency,
        "country": found.country,
    }
    contracts = [_symbol(one) for one in found.contracts]
    return values | ({"contracts": contracts} if contracts else {})
