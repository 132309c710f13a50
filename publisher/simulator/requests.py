"""What clients ask for, read from the parameters of their messages."""

from __future__ import annotations

import json
import re
from types import MappingProxyType
from typing import Any, Final

from publisher.simulator.periods import Instrument
from publisher.simulator.symbols import find

RESOLUTIONS: Final = MappingProxyType(
    {
        "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "45": "45m",
        "60": "1H", "120": "2H", "180": "3H", "240": "4H",
        "1H": "1H", "2H": "2H", "3H": "3H", "4H": "4H",
        "1D": "1D", "1W": "1W", "1M": "1M", "D": "1D", "W": "1W", "M": "1M",
    }
)  # fmt: skip
"""TradingView's resolution codes and the intervals they stand for."""

RATES: Final = MappingProxyType(
    {"USD": 1.0, "USDT": 0.9995, "EUR": 1.08, "GBP": 1.27, "JPY": 0.0067, "VND": 0.0000394,
     "KRW": 0.00072, "INR": 0.0119, "BTC": 64000.0}
)  # fmt: skip
"""The fixed worth of each currency in US dollars."""

_REFUSED: Final = (
    (re.compile(r"\d*S"), "seconds_not_entitled"),
    (re.compile(r"\d*T"), "ticks_not_entitled"),
    (re.compile(r"\d{1,4}|\d{1,3}[HDWM]|\d+R"), "custom_resolution"),
)
_RANGE: Final = re.compile(r"r,(\d{1,12}):(\d{1,12})")


def refusal(resolution: str) -> str | None:
    """Return why a resolution needs a better plan, None where it is not one at all."""
    for pattern, reason in _REFUSED:
        if pattern.fullmatch(resolution):
            return reason
    return None


def span_ms(timeframe: str) -> tuple[int, int] | None:
    """Read `r,FROM:TO` (seconds) as times in ms; other timeframes select nothing."""
    match = _RANGE.fullmatch(timeframe)
    return None if match is None else (int(match[1]) * 1000, int(match[2]) * 1000)


def instrument_of(text: str) -> Instrument | None:
    """Read a symbol, plain or as `={…}`; None where there is no such symbol."""
    options: dict[str, Any] = {"symbol": text}
    if text.startswith("="):
        try:
            options = json.loads(text[1:])
        except ValueError:
            return None
    name = options.get("symbol") if isinstance(options, dict) else None
    symbol = find(name) if isinstance(name, str) else None
    if symbol is None:
        return None
    rate = _rate(symbol.currency, options.get("currency-id"))
    if rate is None:
        return None
    return Instrument(
        symbol,
        extended=options.get("session") == "extended" and symbol.venue.extended is not None,
        dividends=options.get("adjustment") == "dividends",
        rate=rate,
    )


def conversion(native: str, wanted: str) -> float | None:
    """Return the factor from one currency to another, None where one is unknown."""
    if native == wanted:
        return 1.0
    if native not in RATES or wanted not in RATES:
        return None
    return RATES[native] / RATES[wanted]


def _rate(native: str, wanted: object) -> float | None:
    if not isinstance(wanted, str):
        return 1.0
    return conversion(native, wanted.removeprefix("XTVC"))


def arguments(values: list[Any]) -> str:
    """Write parameters as TradingView does in its error texts."""
    return "[" + ", ".join(_argument(value) for value in values) + "]"


def erlang(values: list[Any]) -> str:
    """Write parameters as the Erlang term of a `protocol_error`."""
    return "[" + ",".join(_term(value) for value in values) + "]"


def _argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _term(value: Any) -> str:
    return f"<<{json.dumps(value)}>>" if isinstance(value, str) else json.dumps(value)


class Refused(Exception):
    """The request is answered with a `critical_error`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
