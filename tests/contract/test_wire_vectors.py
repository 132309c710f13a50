"""The vector file for other languages says what the contract says, in Python and elsewhere."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import make_vectors
import pytest

from publisher.wire import BAR_FIELD, BAR_JSON_FIELD, Bar, Series, SeriesInvalid, decode_bar

VECTORS: dict[str, Any] = json.loads(make_vectors.FILE.read_text(encoding="ascii"))
KEY_OF = {
    "t": "open_time_ms",
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "volume",
    "e": "end_time_ms",
    "p": "previous_open_time_ms",
    "r": "received_ms",
    "s": "closed_by",
}
APPLE = {"symbol": "AAPL", "exchange": "NASDAQ", "currency": "USD", "country": "US"}
ES = {"symbol": "ES", "exchange": "CME_MINI"}
ES1 = {"symbol": "ES1!", "exchange": "CME_MINI", "currency": "", "country": ""}
EMINI = {"description": "S&P 500 E-mini Futures", "type": "futures", "exchange_name": "CME"}


def unpack(packed: bytes) -> tuple[Any, bytes]:
    """The first MessagePack value and the rest; only what a bar needs, by the specification."""
    head, rest = packed[0], packed[1:]
    sizes = {0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
    if head <= 0x7F:
        return head, rest
    if head >> 4 == 0x8:
        result = {}
        for _ in range(head & 0xF):
            key, rest = unpack(rest)
            result[key], rest = unpack(rest)
        return result, rest
    if head >> 5 == 0b101:
        length = head & 0x1F
        return rest[:length].decode("ascii"), rest[length:]
    if head in sizes:
        size = struct.calcsize(sizes[head])
        return struct.unpack(sizes[head], rest[:size])[0], rest[size:]
    return {0xC0: None, 0xC3: True}[head], rest


def expected_map(vector: dict[str, Any]) -> dict[str, Any]:
    """The map of a bar by the contract's table."""
    result = {key: vector[name] for key, name in KEY_OF.items()}
    if vector["gap"]:
        result["gap"] = True
    if vector["revision"]:
        result["n"] = vector["revision"]
    return result


def same_types(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Equal, floats as floats and integers as integers."""
    return left == right and {k: type(v) for k, v in left.items()} == {
        k: type(v) for k, v in right.items()
    }


def expected_text(parts: dict[str, Any]) -> str:
    """The text form by the contract's words, byte by byte."""

    def escaped(name: str, also: str = "") -> str:
        plain = {chr(code) for code in range(0x21, 0x7F)} - set("{}%" + also)
        return "".join(
            one if one in plain else "".join(f"%{byte:02X}" for byte in one.encode())
            for one in name
        )

    text = f"{escaped(parts['symbol'])}-{escaped(parts['exchange'], '-')}-{parts['interval']}"
    for option in ("extended", "dividends"):
        text += f"+{option}" if parts[option] else ""
    return text + (f"+{parts['currency']}" if parts["currency"] else "")


def test_the_file_is_what_its_generator_writes() -> None:
    assert make_vectors.main(["--check"]) == 0, "run: python -m tests.contract.make_vectors"


def test_the_generator_tells_and_mends_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_vectors, "FILE", tmp_path / "vectors.json")
    make_vectors.FILE.write_text("{}", encoding="ascii")
    assert make_vectors.main(["--check"]) == 1
    assert make_vectors.main([]) == 0
    assert make_vectors.main(["--check"]) == 0


@pytest.mark.parametrize("vector", VECTORS["bars"], ids=lambda vector: vector["entry_id"])
def test_a_bars_bytes_hold_its_values_in_both_encodings(vector: dict[str, Any]) -> None:
    value, rest = unpack(bytes.fromhex(vector["msgpack"]["hex"]))
    assert rest == b""
    assert same_types(value, expected_map(vector))
    assert list(value) == list(expected_map(vector)), "the order of keys is the table's"
    assert same_types(json.loads(vector["json"]["text"]), expected_map(vector))
    assert (vector["msgpack"]["field"], vector["json"]["field"]) == ("bar", "bar.json")
    assert vector["entry_id"] == f"{vector['open_time_ms']}-0"


@pytest.mark.parametrize("vector", VECTORS["bars"], ids=lambda vector: vector["entry_id"])
def test_a_reader_gets_the_bar_from_the_bytes(vector: dict[str, Any]) -> None:
    series = Series.parse(vector["series"])
    values = {name: vector[name] for name in [*KEY_OF.values(), "gap", "revision"]}
    packed = {BAR_FIELD: bytes.fromhex(vector["msgpack"]["hex"])}
    text = {BAR_JSON_FIELD: vector["json"]["text"].encode()}
    assert decode_bar(series, packed) == decode_bar(series, text) == Bar(series=series, **values)


@pytest.mark.parametrize("vector", VECTORS["series"], ids=lambda vector: ascii(vector["text"]))
def test_a_series_text_and_keys_follow_the_contract(vector: dict[str, Any]) -> None:
    series = Series(**vector["parts"])
    assert vector["text"] == expected_text(vector["parts"])
    assert vector["text"].isascii()
    for typed in [vector["text"], *vector["also_typed"]]:
        assert Series.parse(typed) == series
    for kind, key in vector["keys"].items():
        assert key == f"tv:{kind}:{{{vector['text']}}}"


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["typed"][:30])
def test_what_names_no_series_is_refused_and_shown(vector: dict[str, Any]) -> None:
    with pytest.raises(SeriesInvalid) as refused:
        Series.parse(vector["typed"])
    assert str(refused.value) == vector["message"]
    assert vector["message"].startswith(f"{vector['typed']!r} is not a series: ")
    assert vector["message"].endswith("Write SYMBOL-EXCHANGE-INTERVAL such as BTCUSDT-BINANCE-1m")


def test_the_other_keys_and_values_are_these() -> None:
    assert VECTORS["contract_version"] == 1
    assert VECTORS["keys"] == {
        "catalogue": "tv:catalogue",
        "events": "tv:events",
        "commands": "tv:commands",
        "publisher": "tv:publisher",
        "replies of 7f3a": "tv:replies:7f3a",
        "dead of G": "tv:dead:{G}",
    }
    assert [json.loads(one["value"]) for one in VECTORS["catalogue"]] == [
        {"state": "live", "reason": "", "wanted_by": "settings"},
        {
            "state": "refused",
            "reason": "TradingView does not know NASDAQ:AAPL",
            "wanted_by": "command",
        },
    ]
    assert [(one["field"], json.loads(one["value"])) for one in VECTORS["commands"]] == [
        (
            "command",
            {
                "id": "7f3a",
                "action": "subscribe",
                "series": ["BTCUSDT-BINANCE-1m", "NASDAQ:AAPL@1d"],
            },
        ),
        ("command", {"id": "7f3b", "action": "unsubscribe", "series": []}),
        (
            "command",
            {"id": "7f3c", "action": "history", "series": ["BTCUSDT-BINANCE-1m"], "bars": 500},
        ),
        (
            "command",
            {
                "id": "7f3d",
                "action": "history",
                "series": ["BTCUSDT-BINANCE-1m"],
                "from_ms": 0,
                "to_ms": 1_700_000_040_000,
            },
        ),
        (
            "command",
            {"id": "7f3e", "action": "search", "series": [], "text": "crude", "exchange": "MCX"},
        ),
        (
            "command",
            {
                "id": "7f3f",
                "action": "search",
                "series": [],
                "text": "bitcoin",
                "type": "crypto",
                "limit": 5,
            },
        ),
    ]
    assert [json.loads(one) for one in VECTORS["answers"]] == [
        {"series": "BTCUSDT-BINANCE-1m", "accepted": True, "message": "published"},
        {"series": "x", "accepted": False, "message": "'x' is not a series"},
        {
            "series": "NOPE-X-1m",
            "accepted": False,
            "message": "TradingView does not know X:NOPE",
            "code": "symbol_unknown",
        },
        {"series": "BTCUSDT-BINANCE-1m", "progress": 0, "wanted": 500},
        {"series": "BTCUSDT-BINANCE-1m", "progress": 300, "wanted": None},
        {
            "series": "NDX-NASDAQ-1m",
            "bars": [
                [1_700_000_040_000, 0.1, 1e16, 5e-324, 37898.88, 195.86836000000048, None],
                [1_700_000_100_000, 1.0, 2.0, 0.5, 1.5, None, 1_700_000_160_000],
            ],
        },
        {
            "series": "NDX-NASDAQ-1m",
            "accepted": True,
            "message": "2 bars",
            "complete": True,
            "count": 2,
        },
        {
            "series": "",
            "accepted": True,
            "message": "2 symbols",
            "count": 2,
            "more": 48,
            "results": [
                {**APPLE, "description": "Apple Inc.", "type": "stock", "exchange_name": "NASDAQ"},
                {**ES, **EMINI, "currency": "USD", "country": "US", "contracts": [ES1 | EMINI]},
            ],
        },
        {
            "series": "",
            "accepted": False,
            "message": "say what to look for, a symbol or a part of a name",
            "code": "invalid",
        },
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="missing tool: node")
def test_javascript_reads_the_same() -> None:
    script = Path(__file__).with_name("check_vectors.mjs")
    done = subprocess.run(
        ["node", script, make_vectors.FILE], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{len(VECTORS['bars'])} bars, {len(VECTORS['series'])} series"
