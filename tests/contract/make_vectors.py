"""Write docs/wire-vectors.json from the inputs below; `--check` only compares.

python -m tests.contract.make_vectors [--check]
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from publisher.wire import (
    CONTRACT_VERSION,
    INTERVALS,
    Bar,
    Keys,
    Series,
    SeriesInvalid,
    Summary,
    encode_bar,
    entry_id,
)
from publisher.wire.answers import Answer, Chunk, HistoryBar, Listing, Progress, Reply, SymbolFound
from publisher.wire.commands import COMMAND_FIELD, Command

FILE = Path(__file__).resolve().parents[2] / "docs" / "wire-vectors.json"

# The canonical series first, then other ways to type it.
SERIES: list[tuple[Series, list[str]]] = [
    (Series("BTCUSDT", "BINANCE", "1m"), ["btcusdt-binance-1m", "BINANCE:BTCUSDT@1m"]),
    (Series("AAPL", "NASDAQ", "1D"), ["AAPL-NASDAQ-1d", " AAPL-NASDAQ-1D\n", "NASDAQ:AAPL@1d"]),
    (Series("AAPL", "NASDAQ", "1M"), ["aapl-nasdaq-1M"]),
    (Series("ES1!", "CME_MINI", "5m"), ["es1!-cme_mini-5m", "CME_MINI:ES1!@5m"]),
    (Series("BTCUSDT.P", "BYBIT", "4H"), ["BTCUSDT.P-BYBIT-4h"]),
    (Series("BRK-B", "NYSE", "1W"), ["BRK-B-NYSE-1w", "NYSE:BRK-B@1W"]),
    (Series("-", "A-B", "3m"), ["--A%2DB-3m", "A-B:-@3m"]),
    (Series("A@B", "X:Y", "15m"), ["A@B-X:Y-15m", "X%3AY:A@B@15m"]),
    (Series("A+B", "C+D", "30m"), []),
    (Series("50%", "{X}", "45m"), ["50%25-%7BX%7D-45m", "50%25-%7bx%7d-45m"]),
    (Series("A B", "X\tY", "1H"), ["a%20b-x%09y-1h"]),
    (Series("삼성", "KRX", "2H"), ["삼성-KRX-2H"]),
    (Series("É😀", "STRASSE", "3H"), ["é😀-straße-3H"]),
    (Series("\x00\x7f", "\N{NO-BREAK SPACE}", "1m"), []),
    (Series("AAPL", "NASDAQ", "5m", extended=True), ["AAPL-NASDAQ-5m+EXTENDED"]),
    (Series("AAPL", "NASDAQ", "5m", dividends=True), ["NASDAQ:AAPL@5m+dividends"]),
    (Series("AAPL", "NASDAQ", "5m", currency="EUR"), ["AAPL-NASDAQ-5m+eur"]),
    (
        Series("AAPL", "NASDAQ", "5m", extended=True, dividends=True, currency="XTVCUSDT"),
        ["AAPL-NASDAQ-5m+xtvcusdt+dividends+extended"],
    ),
]

REFUSED: list[str] = [
    "",
    "BTCUSDT",
    "BTCUSDT-BINANCE",
    "-BINANCE-1m",
    "BTCUSDT--1m",
    "BTCUSDT-BINANCE-",
    "BTCUSDT-BINANCE-7x",
    "BTCUSDT-BINANCE-1S",
    "BTCUSDT-BINANCE-60",
    "BTCUSDT-BINANCE-3M",
    "BTCUSDT@1m",
    ":BTCUSDT@1m",
    "BINANCE:@1m",
    "BINANCE:BTCUSDT",
    "50%-X-1m",
    "50%2-X-1m",
    "%FF-X-1m",
    "AAPL-NASDAQ-5m+",
    "AAPL-NASDAQ-5m+E",
    "AAPL-NASDAQ-5m+EUR+USD",
    "AAPL-NASDAQ-5m+extended+extended",
    "A" * 129 + "-X-1m",
]

_BTC, _AAPL, _NDX = SERIES[0][0], SERIES[1][0], Series("NDX", "NASDAQ", "1m")

BARS: list[Bar] = [
    Bar(
        series=_BTC,
        open_time_ms=1_700_000_040_000,
        open=37806.23,
        high=37913.11,
        low=37781.49,
        close=37898.88,
        volume=195.86836000000048,
        end_time_ms=1_700_000_100_000,
        previous_open_time_ms=1_699_999_980_000,
        received_ms=1_700_000_100_317,
        closed_by="next",
    ),
    Bar(
        series=_AAPL,
        open_time_ms=1_787_232_600_000,
        open=317.455,
        high=320.28,
        low=310.65,
        close=311.3,
        volume=40959184.0,
        end_time_ms=1_787_256_000_000,
        previous_open_time_ms=None,
        received_ms=1_787_292_487_679,
        closed_by="history",
    ),
    Bar(
        series=_NDX,
        open_time_ms=1_686_340_800_000,
        open=14529.877,
        high=14529.877,
        low=14528.3605,
        close=14528.3605,
        volume=None,
        end_time_ms=None,
        previous_open_time_ms=1_686_340_740_000,
        received_ms=1_686_341_762_000,
        closed_by="clock",
        gap=True,
    ),
    Bar(
        series=_BTC,
        open_time_ms=60_000,
        open=0.1,
        high=1e16,
        low=5e-324,
        close=1e-8,
        volume=0.0,
        end_time_ms=120_000,
        previous_open_time_ms=0,
        received_ms=4_102_444_800_000,
        closed_by="next",
        revision=3,
    ),
    Bar(
        series=_BTC,
        open_time_ms=1_700_000_100_000,
        open=100.0,
        high=100.0,
        low=100.0,
        close=100.0,
        volume=2109000000.0,
        end_time_ms=1_700_000_160_000,
        previous_open_time_ms=1_700_000_040_000,
        received_ms=1_700_000_130_000,
        closed_by="forming",
        gap=True,
        revision=200,
    ),
]

SUMMARIES = [
    Summary(_BTC, "live"),
    Summary(_AAPL, "refused", "TradingView does not know NASDAQ:AAPL", "command"),
]
COMMANDS = [
    Command("7f3a", "subscribe", ("BTCUSDT-BINANCE-1m", "NASDAQ:AAPL@1d")),
    Command("7f3b", "unsubscribe", ()),
    Command("7f3c", "history", ("BTCUSDT-BINANCE-1m",), bars=500),
    Command("7f3d", "history", ("BTCUSDT-BINANCE-1m",), from_ms=0, to_ms=1_700_000_040_000),
    Command("7f3e", "search", text="crude", exchange="MCX"),
    Command("7f3f", "search", text="bitcoin", kind="crypto", limit=5),
]
_OPENED_MS = 1_700_000_040_000
ANSWERS: list[Reply] = [
    Answer("BTCUSDT-BINANCE-1m", True, "published"),
    Answer("x", False, "'x' is not a series"),
    Answer("NOPE-X-1m", False, "TradingView does not know X:NOPE", "symbol_unknown"),
    Progress("BTCUSDT-BINANCE-1m", 0, 500),
    Progress("BTCUSDT-BINANCE-1m", 300, None),
    Chunk(
        "NDX-NASDAQ-1m",
        (
            HistoryBar(_OPENED_MS, 0.1, 1e16, 5e-324, 37898.88, 195.86836000000048, None),
            HistoryBar(_OPENED_MS + 60_000, 1.0, 2.0, 0.5, 1.5, None, _OPENED_MS + 120_000),
        ),
    ),
    Answer("NDX-NASDAQ-1m", True, "2 bars", complete=True, count=2),
    Listing(
        (
            SymbolFound("AAPL", "NASDAQ", "Apple Inc.", "stock", "NASDAQ", "USD", "US"),
            SymbolFound(
                *("ES", "CME_MINI", "S&P 500 E-mini Futures", "futures", "CME", "USD", "US"),
                (SymbolFound("ES1!", "CME_MINI", "S&P 500 E-mini Futures", "futures", "CME"),),
            ),
        ),
        more=48,
    ),
    Answer("", False, "say what to look for, a symbol or a part of a name", "invalid"),
]


def vectors() -> dict[str, Any]:
    """Everything that stands in the file."""
    keys = Keys()
    return {
        "contract_version": CONTRACT_VERSION,
        "intervals_ms": dict(INTERVALS),
        "keys": {
            "catalogue": keys.catalogue,
            "events": keys.events,
            "commands": keys.commands,
            "publisher": keys.publisher,
            "replies of 7f3a": keys.replies("7f3a"),
            "dead of G": keys.dead("G"),
        },
        "series": [_series(series, typed) for series, typed in SERIES],
        "refused": [{"typed": typed, "message": _refusal(typed)} for typed in REFUSED],
        "bars": [_bar(bar) for bar in BARS],
        "catalogue": [
            {"field": str(one.series), "value": one.encode().decode()} for one in SUMMARIES
        ],
        "commands": [
            {"field": COMMAND_FIELD.decode(), "value": one.encode().decode()} for one in COMMANDS
        ],
        "answers": [one.encode().decode() for one in ANSWERS],
    }


def _series(series: Series, typed: list[str]) -> dict[str, Any]:
    keys = Keys()
    return {
        "text": str(series),
        "parts": asdict(series),
        "also_typed": typed,
        "keys": {
            "bars": keys.bars(series),
            "forming": keys.forming(series),
            "corrections": keys.corrections(series),
            "series": keys.series(series),
        },
    }


def _refusal(typed: str) -> str:
    try:
        Series.parse(typed)
    except SeriesInvalid as error:
        return str(error)
    raise AssertionError(f"{typed!r} is not refused")


def _bar(bar: Bar) -> dict[str, Any]:
    packed_field, packed = encode_bar(bar, "msgpack")
    text_field, text = encode_bar(bar, "json")
    values = asdict(bar)
    return {
        **values,
        "series": str(bar.series),
        "entry_id": entry_id(bar.open_time_ms),
        "msgpack": {"field": packed_field.decode(), "hex": packed.hex()},
        "json": {"field": text_field.decode(), "text": text.decode()},
    }


def render() -> str:
    """The file's text: ASCII, so that no editor can change it unseen."""
    return json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the file, or tell whether it is what would be written."""
    if arguments == ["--check"]:
        return 0 if FILE.read_text(encoding="ascii") == render() else 1
    FILE.write_text(render(), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
