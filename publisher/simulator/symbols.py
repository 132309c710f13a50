"""The symbols that the simulated TradingView knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Final, Literal

from publisher.simulator.calendar import Venue

Kind = Literal["crypto", "swap", "stock", "index", "futures", "forex", "commodity"]

_CRYPTO: Final = Venue("Etc/UTC", 0, 1440)
_US: Final = Venue("America/New_York", 570, 960, "us", half_day_close=780, extended=(240, 1200))
_TVC: Final = Venue("America/New_York", 570, 975, "us", half_day_close=795, extended=(540, 975))
_HOSE: Final = Venue("Asia/Ho_Chi_Minh", 540, 900, "hose", lunch=(690, 780))
_KRX: Final = Venue("Asia/Seoul", 540, 930, "krx")
_NSE: Final = Venue("Asia/Kolkata", 555, 930, "nse")
_MCX: Final = Venue("Asia/Kolkata", 540, 1410, "nse")
_CME: Final = Venue("America/Chicago", -420, 960, "cme")
_FX: Final = Venue("America/New_York", -420, 1020, "fx")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A simulated symbol and how it trades."""

    exchange: str
    name: str
    description: str
    kind: Kind
    venue: Venue
    price: float
    """Where its price begins and returns to."""
    pricescale: int
    """Prices are multiples of minmov / pricescale."""
    minmov: int = 1
    currency: str = "USD"
    base: str = ""
    """Base currency of a pair."""
    lot: int = 1
    """Volumes are multiples of 1 / lot."""
    day_volume: float = 0.0
    """Typical volume of a day; 0 where the symbol has no volume."""
    day_move: float = 0.015
    """Typical move of a day as a fraction of the price."""
    activity: float = 1.0
    """Chance that a minute sees a trade."""
    listed: date = date(2005, 1, 3)
    feed: str = ""
    """Exchange that answers instead (`BATS` for NASDAQ), empty where none does."""
    delay_s: int = 0
    """How late its data comes, seconds."""
    local_description: str = ""
    group: str = ""
    """Permission that no account has; the symbol is then refused."""
    intraday: bool = True
    trades: bool = True
    """False for a listing that never traded."""
    corrected_after_ms: int = 0
    """Some closed bars change this long after their end; 0 for never."""

    @property
    def full_name(self) -> str:
        """The name under which it is asked for, `EXCHANGE:NAME`."""
        return f"{self.exchange}:{self.name}"

    @property
    def has_volume(self) -> bool:
        """True where its bars carry volume."""
        return self.day_volume > 0


def _crypto(exchange: str, base: str, price: float, scale: int, **changes: object) -> Symbol:
    quoted = "USD" if exchange in {"BITSTAMP", "COINBASE", "BITFINEX"} else "USDT"
    symbol = Symbol(
        exchange,
        base + quoted,
        f"{base} / {'U.S. dollar' if quoted == 'USD' else 'TetherUS'}",
        "crypto",
        _CRYPTO,
        price,
        scale,
        currency=quoted,
        base=base,
        lot=100_000,
        day_volume=1.8e9 / price,
        day_move=0.03,
        listed=date(2018, 1, 1),
    )
    return replace(symbol, **changes)  # type: ignore[arg-type]


def _stock(exchange: str, name: str, description: str, price: float, volume: float) -> Symbol:
    return Symbol(
        exchange, name, description, "stock", _US, price, 100, day_volume=volume, feed="BATS"
    )


_BINANCE: Final = (
    ("BTC", 64000, 100), ("ETH", 3200, 100), ("SOL", 150, 100), ("BNB", 580, 100),
    ("XRP", 0.62, 10000), ("DOGE", 0.12, 100000), ("ADA", 0.45, 10000), ("TRX", 0.13, 10000),
    ("AVAX", 27, 100), ("LINK", 13, 100), ("DOT", 6.1, 1000), ("LTC", 71, 100),
    ("BCH", 390, 100), ("ATOM", 6.5, 1000), ("UNI", 7.4, 1000), ("ETC", 21, 100),
    ("XLM", 0.11, 10000), ("NEAR", 4.9, 1000), ("APT", 7.9, 1000), ("FIL", 4.2, 1000),
    ("ARB", 0.75, 10000), ("OP", 1.7, 1000), ("INJ", 22, 100), ("SUI", 1.1, 10000),
    ("AAVE", 110, 100), ("ALGO", 0.16, 10000), ("VET", 0.028, 100000), ("HBAR", 0.07, 100000),
    ("ICP", 9.1, 1000), ("RUNE", 4.6, 1000),
)  # fmt: skip

_STOCKS: Final = (
    ("NASDAQ", "AAPL", "Apple Inc.", 210.0, 4.2e7),
    ("NASDAQ", "MSFT", "Microsoft Corp.", 420.0, 2.1e7),
    ("NASDAQ", "NVDA", "NVIDIA Corporation", 125.0, 2.4e8),
    ("NASDAQ", "AMZN", "Amazon.com, Inc.", 185.0, 3.6e7),
    ("NASDAQ", "GOOGL", "Alphabet Inc.", 165.0, 2.3e7),
    ("NASDAQ", "META", "Meta Platforms, Inc.", 510.0, 1.2e7),
    ("NASDAQ", "TSLA", "Tesla, Inc.", 240.0, 8.0e7),
    ("NYSE", "IBM", "International Business Machines Corporation", 190.0, 4.0e6),
    ("NYSE", "KO", "Coca-Cola Company (The)", 66.0, 1.2e7),
    ("NYSE", "BRK.B", "Berkshire Hathaway Inc.", 430.0, 3.5e6),
)

_OTHERS: Final = (
    Symbol(
        "BYBIT", "BTCUSDT.P", "BTCUSDT Perpetual Contract", "swap", _CRYPTO, 64000, 10,
        currency="USDT", base="BTC", lot=1000, day_volume=9e4, day_move=0.03,
        listed=date(2020, 3, 25),
    ),
    _crypto("BITSTAMP", "BTC", 64000, 1, description="Bitcoin / U.S. dollar", day_volume=2500),
    _crypto("COINBASE", "BTC", 64000, 100, description="Bitcoin / U.S. dollar", day_volume=9000),
    # Quiet: the clock opens bars in which nothing is traded.
    _crypto("BINANCE", "ZEN", 9.2, 1000, activity=0.35, day_volume=90000),
    # Some of its closed bars are corrected 20 s after their end.
    _crypto("BITFINEX", "BTC", 64000, 1, description="Bitcoin / U.S. dollar", day_volume=1800,
            corrected_after_ms=20_000),
    Symbol("TVC", "RUT", "RUSSELL 2000", "index", _TVC, 2200, 10000),
    Symbol(
        "NYSE", "BHV", "BlackRock Virginia Municipal Bond Trust", "stock", _US, 11.2, 100,
        day_volume=2400, day_move=0.006, activity=0.04, feed="BATS",
    ),
    Symbol(
        "HOSE", "VCB", "JOINT STOCK COMMERCIAL BANK FOR FOREIGN TRADE OF VIET NAM", "stock",
        _HOSE, 57000, 1, minmov=100, currency="VND", day_volume=3.2e6, lot=1, activity=0.9,
        listed=date(2018, 1, 2), feed="HOSE_DLY", delay_s=900,
        local_description="NGÂN HÀNG TMCP NGOẠI THƯƠNG VIỆT NAM",
    ),
    Symbol(
        "KRX", "005930", "Samsung Electronics Co., Ltd.", "stock", _KRX, 72000, 1, minmov=100,
        currency="KRW", day_volume=1.6e7, listed=date(2010, 1, 4), feed="KRX_DLY", delay_s=1200,
        local_description="삼성전자보통주",
    ),
    Symbol(
        "NSE", "BAJAJ-AUTO", "BAJAJ AUTO LIMITED", "stock", _NSE, 9200, 100, minmov=5,
        currency="INR", day_volume=4.5e5, listed=date(2010, 1, 4),
    ),
    Symbol(
        "NSE", "M&M", "MAHINDRA & MAHINDRA LIMITED", "stock", _NSE, 2800, 100, minmov=5,
        currency="INR", day_volume=2.8e6, listed=date(2010, 1, 4),
    ),
    Symbol(
        "NSE", "EICHERMOT", "EICHER MOTORS LTD", "stock", _NSE, 4800, 100, minmov=5,
        currency="INR", day_volume=6e5, listed=date(2010, 1, 4),
    ),
    Symbol("NSE", "NIFTY", "NIFTY 50 INDEX", "index", _NSE, 24500, 100, minmov=5, currency="INR"),
    Symbol(
        "NSE", "NIFTY1!", "NIFTY INDEX FUTURES", "futures", _NSE, 24550, 100, minmov=5,
        currency="INR", day_volume=2.5e5, day_move=0.009, listed=date(2010, 1, 4),
    ),
    Symbol(
        "MCX", "CRUDEOIL1!", "CRUDE OIL FUTURES", "futures", _MCX, 6400, 1,
        currency="INR", day_volume=2e4, day_move=0.02, listed=date(2010, 1, 4),
    ),
    Symbol(
        "CME_MINI", "ES1!", "S&P 500 E-mini Futures", "futures", _CME, 5400, 100, minmov=25,
        day_volume=1.4e6, day_move=0.011, listed=date(2010, 1, 4),
    ),
    Symbol(
        "CME_MINI", "NQ1!", "NASDAQ 100 E-mini Futures", "futures", _CME, 19000, 100, minmov=25,
        day_volume=5.5e5, day_move=0.014, listed=date(2010, 1, 4),
    ),
    Symbol(
        "FX", "EURUSD", "Euro / U.S. Dollar", "forex", _FX, 1.09, 100000, base="EUR",
        day_volume=2.2e5, day_move=0.005, listed=date(2010, 1, 4),
    ),
    Symbol(
        "FX", "USDJPY", "U.S. Dollar / Japanese Yen", "forex", _FX, 148.0, 1000, currency="JPY",
        base="USD", day_volume=2.6e5, day_move=0.006, listed=date(2010, 1, 4),
    ),
    Symbol(
        "OANDA", "XAUUSD", "Gold", "commodity", _FX, 2400, 1000, minmov=5, base="XAU",
        day_volume=1.7e5, day_move=0.009, listed=date(2010, 1, 4),
    ),
    Symbol(
        "ECONOMICS", "USM2", "United States Money Supply M2", "index", _US, 21000, 100,
        group="economics_paid",
    ),
    Symbol("INDEX", "NDFI", "Nasdaq Percent of Stocks Above 50-Day Average", "index", _US, 55, 100,
           day_move=0.05, intraday=False),
    Symbol("NYSE", "NEWCO", "Newly Listed Company", "stock", _US, 20, 100, day_volume=1000,
           feed="BATS", trades=False),
)  # fmt: skip

_ALL: Final = (
    *(_crypto("BINANCE", *row) for row in _BINANCE),
    *(_stock(*row) for row in _STOCKS),
    *_OTHERS,
)

SYMBOLS: Final = MappingProxyType({symbol.full_name: symbol for symbol in _ALL})
"""Every known symbol by its full name."""

_FEEDS: Final = MappingProxyType(
    {f"{symbol.feed}:{symbol.name}": symbol for symbol in _ALL if symbol.feed}
)


def find(name: str) -> Symbol | None:
    """Return the symbol of a full name in any case, also under its feed's name."""
    name = name.upper()
    return SYMBOLS.get(name) or _FEEDS.get(name)
