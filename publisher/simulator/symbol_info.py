"""The body of `symbol_resolved`, in the shape that each kind of market was recorded."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from publisher.simulator.calendar import session_text
from publisher.simulator.holidays import closed_days, half_days
from publisher.simulator.periods import Instrument
from publisher.simulator.symbols import Symbol

SOURCES: Final = MappingProxyType(
    {
        "BATS": ("US", "Cboe One", "https://markets.cboe.com/us/equities/overview/"),
        "BINANCE": ("MT", "Binance", "https://www.binance.com/"),
        "BITFINEX": ("VG", "Bitfinex", "https://www.bitfinex.com/"),
        "BITSTAMP": ("LU", "Bitstamp", "https://www.bitstamp.net/"),
        "BYBIT": ("SG", "Bybit", "https://www.bybit.com/"),
        "COINBASE": ("US", "Coinbase", "https://www.coinbase.com/"),
        "HOSE": ("VN", "Ho Chi Minh Stock Exchange", "https://www.hsx.vn"),
        "KRX": ("KR", "Korea Exchange", "https://global.krx.co.kr/"),
        "NSE": ("IN", "National Stock Exchange of India", "https://www.nseindia.com/"),
        "MCX": ("IN", "Multi Commodity Exchange of India", "https://www.mcxindia.com/"),
        "CME_MINI": ("US", "Chicago Mercantile Exchange", "https://www.cmegroup.com/"),
        "FX": ("", "Forex", ""),
        "OANDA": ("", "OANDA", "https://www.oanda.com/"),
    }
)
"""Where data comes from: country, name and address."""

TYPES: Final = MappingProxyType(
    {
        "crypto": ("spot", ["crypto"]),
        "swap": ("swap", ["crypto", "perpetual"]),
        "stock": ("stock", ["common"]),
        "index": ("index", ["cfd"]),
        "futures": ("futures", ["continuous", "synthetic"]),
        "forex": ("forex", []),
        "commodity": ("commodity", ["cfd"]),
    }
)
"""TradingView's type of each kind of symbol, and what it adds to it."""

_PERMISSIONS: Final = MappingProxyType(
    {"NASDAQ": "nasdaq", "NYSE": "nyse", "HOSE": "hose_stocks", "KRX": "krx", "NSE": "nse",
     "CME_MINI": "cme_mini"}
)  # fmt: skip

_FIRST_YEAR: Final = 2008
_LAST_YEAR: Final = 2028


def symbol_info(instrument: Instrument) -> dict[str, Any]:
    """Return what TradingView says about a symbol when it resolves it."""
    symbol = instrument.symbol
    feed = symbol.feed or symbol.exchange
    source_id = "BATS" if feed == "BATS" else symbol.exchange
    country, source, url = SOURCES.get(source_id, ("", source_id, ""))
    answered = f"{feed}:{symbol.name}"
    info: dict[str, Any] = {
        "currency_code": symbol.currency,
        "currency_id": _currency_id(symbol.currency),
        "subsession_id": "extended" if instrument.extended else "regular",
        "provider_id": source_id.lower(),
        "pro_perm": _PERMISSIONS.get(symbol.exchange, ""),
        "allowed_adjustment": "any" if symbol.kind == "stock" else "none",
        "short_description": symbol.description,
        "variable_tick_size": "",
        "name": symbol.name,
        "full_name": answered,
        "pro_name": symbol.full_name,
        "base_name": [symbol.full_name],
        "description": symbol.description,
        "exchange": source if feed == "BATS" or symbol.base else symbol.exchange,
        "pricescale": symbol.pricescale,
        "pointvalue": 1.0,
        "minmov": symbol.minmov,
    }
    info |= _market(instrument)
    info |= _sessions(symbol)
    if instrument.extended and symbol.venue.extended is not None:
        hours = session_text(*symbol.venue.extended)
        info |= {"session": hours, "session_display": hours}
    if symbol.exchange not in {"TVC", "INDEX"}:
        info |= {"source_id": source_id, "source2": _source(source_id, country, source, url)}
        info["measure"] = "price"
    return info | _extras(symbol, country)


def _market(instrument: Instrument) -> dict[str, Any]:
    symbol = instrument.symbol
    feed = symbol.feed or symbol.exchange
    type_, typespecs = TYPES[symbol.kind]
    return {
        "type": type_,
        "typespecs": list(typespecs),
        "has_intraday": symbol.intraday,
        "fractional": False,
        "listed_exchange": symbol.exchange,
        "legs": [f"{feed}:{symbol.name}"],
        "is_tradable": instrument.rate == 1.0,
        "minmove2": 0,
        "timezone": symbol.venue.timezone,
        "aliases": [],
        "alternatives": [f"BATS_DLY:{symbol.name}"] if feed == "BATS" else [],
        "is_replayable": True,
        "has_adjustment": symbol.kind == "stock",
        "has_extended_hours": symbol.venue.extended is not None,
        "bar_source": "trade",
        "bar_transform": "none",
        "bar_fillgaps": False,
        "visible_plots_set": "ohlcv" if symbol.has_volume else "ohlc",
        "is-tickbars-available": True,
    }


def _source(source_id: str, country: str, name: str, url: str) -> dict[str, str]:
    return {
        "country": country,
        "description": name,
        "exchange-type": "exchange",
        "id": source_id,
        "name": name,
        "url": url,
    }


def _extras(symbol: Symbol, country: str) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if symbol.base:
        extras |= {"base_currency": symbol.base, "base_currency_id": _currency_id(symbol.base)}
    if symbol.kind in {"crypto", "swap"}:
        extras |= {"volume_type": "base", "exchange_listed_name": symbol.exchange.title()}
    elif symbol.kind == "stock":
        extras |= {"country": country, "language": "en"}
        extras["local_description"] = symbol.local_description or symbol.description
        extras["exchange_listed_name"] = symbol.exchange
    if symbol.delay_s:
        extras["delay"] = symbol.delay_s
    return extras


def _sessions(symbol: Symbol) -> dict[str, Any]:
    venue = symbol.venue
    text = venue.session_text
    regular: dict[str, Any] = {
        "description": "Regular Trading Hours",
        "id": "regular",
        "private": False,
        "session": text,
        "session-display": text,
    }
    parts: dict[str, Any] = {"session": text, "session_display": text, "subsessions": [regular]}
    years = range(_FIRST_YEAR, _LAST_YEAR)
    closed = sorted(day for year in years for day in closed_days(venue.holidays, year))
    if closed:
        parts["session_holidays"] = ",".join(f"{day:%Y%m%d}" for day in closed)
    if (correction := _correction(symbol)) is not None:
        regular["session-correction"] = correction
    if venue.extended is not None:
        begin, end = venue.extended
        _subsession(parts, "premarket", "Premarket", begin, venue.open, private=True)
        if end > venue.close:
            _subsession(parts, "postmarket", "Postmarket", venue.close, end, private=True)
        _subsession(parts, "extended", "Extended Trading Hours", begin, end, private=False)
    return parts


def _correction(symbol: Symbol) -> str | None:
    venue = symbol.venue
    if venue.holidays == "hose":
        return "0900-1500:20250426"
    years = range(_FIRST_YEAR, _LAST_YEAR)
    early = sorted(day for year in years for day in half_days(venue.holidays, year))
    # The recorded indexes do not say when they close early.
    if symbol.kind != "stock" or not early:
        return None
    hours = session_text(venue.open, venue.half_day_close)
    return f"{hours}:" + ",".join(f"{day:%Y%m%d}" for day in early)


def _subsession(
    parts: dict[str, Any], name: str, description: str, begin: int, end: int, *, private: bool
) -> None:
    text = session_text(begin, end)
    parts["subsessions"].append(
        {
            "description": description,
            "id": name,
            "private": private,
            "session": text,
            "session-display": text,
        }
    )


def _currency_id(currency: str) -> str:
    fiat = {"USD", "EUR", "JPY", "VND", "KRW", "INR", "XAU"}
    return currency if currency in fiat else f"XTVC{currency}"
