"""The contract with everyone who reads the bus: names, keys and entries, version 1.

Pure values; no clock, no network. Consumers import this module and nothing else
of the publisher. `docs/contract.md` says the same in prose and
`docs/wire-vectors.json` holds byte-exact examples for other languages.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import quote, unquote

import msgpack
import orjson

CONTRACT_VERSION: Final = 1

SYMBOL_LENGTH_MAX: Final = 128
"""Longest symbol or exchange, in characters before percent-encoding."""

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

INTERVALS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "1m": MINUTE_MS,
        "3m": 3 * MINUTE_MS,
        "5m": 5 * MINUTE_MS,
        "15m": 15 * MINUTE_MS,
        "30m": 30 * MINUTE_MS,
        "45m": 45 * MINUTE_MS,
        "1H": HOUR_MS,
        "2H": 2 * HOUR_MS,
        "3H": 3 * HOUR_MS,
        "4H": 4 * HOUR_MS,
        "1D": DAY_MS,
        "1W": 7 * DAY_MS,
        "1M": 31 * DAY_MS,
    }
)
"""Every interval and the longest that one of its bars can last, in ms.

Where clocks are put back, bars of a day and more last an hour longer.
"""

# Minute and month differ by case only, so those two letters have no alias.
_ALIASES: Final = {text[:-1] + text[-1].lower(): text for text in INTERVALS if text[-1] in "HDW"}

_UNSAFE: Final = re.compile(r"[^!-~]|[{}%]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# The words of the other qualifiers name no currency, else the text would not read back.
_CURRENCY: Final = re.compile(r"(?!EXTENDED$|DIVIDENDS$)[A-Z][A-Z0-9]{2,11}")


class SeriesInvalid(ValueError):
    """The text does not name a series; the message says what was expected."""


class EntryMalformed(ValueError):
    """An entry of the bus is not what the contract says."""


def parse_interval(text: str) -> str:
    """Return the canonical form of an interval (`4h` → `4H`).

    Raises SeriesInvalid for anything that is not in INTERVALS.
    """
    interval = _ALIASES.get(text, text)
    if interval not in INTERVALS:
        known = " ".join(INTERVALS)
        raise SeriesInvalid(f"interval must be one of {known}, was {text!r}")
    return interval


@dataclass(frozen=True, slots=True)
class Series:
    """A symbol on an exchange at an interval, with the options that change its data.

    `str()` is the text form, `BTCUSDT-BINANCE-1m`; `Series.parse` reads it back.
    """

    symbol: str
    exchange: str
    interval: str
    extended: bool = False
    """Bars of the extended session too (`+extended`)."""
    dividends: bool = False
    """Prices adjusted for dividends as well as splits (`+dividends`)."""
    currency: str | None = None
    """Prices converted to this currency (`+EUR`); None is the native one."""

    def __post_init__(self) -> None:
        for name, value in (("symbol", self.symbol), ("exchange", self.exchange)):
            _check_name(name, value)
        if self.interval not in INTERVALS:
            parse_interval(self.interval)
            raise SeriesInvalid(f"interval must be in canonical form, was {self.interval!r}")
        if self.currency is not None and not _CURRENCY.fullmatch(self.currency):
            raise SeriesInvalid(
                f"currency must be upper-case letters such as EUR, was {self.currency!r}"
            )

    @classmethod
    def parse(cls, text: str) -> Series:
        """Read a series from its text form or from TradingView's `BINANCE:BTCUSDT@1m`.

        Lower case is accepted. Raises SeriesInvalid, whose message shows the
        value and the expected form.
        """
        typed = text.strip()
        try:
            return cls._parse(typed)
        except SeriesInvalid as error:
            raise SeriesInvalid(
                f"{text!r} is not a series: {error}. "
                "Write SYMBOL-EXCHANGE-INTERVAL such as BTCUSDT-BINANCE-1m"
            ) from None

    @classmethod
    def _parse(cls, typed: str) -> Series:
        # An interval holds neither `-` nor `@`, so whichever comes last decides the spelling.
        if typed.rfind("@") > typed.rfind("-"):
            name, _, tail = typed.rpartition("@")
            exchange, colon, symbol = name.partition(":")
            if not colon:
                raise SeriesInvalid("there is no ':' before the '@'")
        else:
            parts = typed.rsplit("-", 2)
            if len(parts) < 3:
                raise SeriesInvalid("it has fewer than three parts")
            symbol, exchange, tail = parts
        interval, *qualifiers = tail.split("+")
        return cls(
            symbol=_decode(symbol),
            exchange=_decode(exchange),
            interval=parse_interval(interval),
            **_parse_qualifiers(qualifiers),
        )

    @property
    def interval_ms(self) -> int:
        """The longest that a bar of this series can last, in ms; a day may be an hour longer."""
        return INTERVALS[self.interval]

    def __lt__(self, other: Series) -> bool:
        return str(self) < str(other)

    def __str__(self) -> str:
        text = f"{_encode(self.symbol)}-{_encode(self.exchange, '-')}-{self.interval}"
        text += "+extended" if self.extended else ""
        text += "+dividends" if self.dividends else ""
        return text + (f"+{self.currency}" if self.currency else "")


def _check_name(what: str, value: str) -> None:
    if not value or len(value) > SYMBOL_LENGTH_MAX:
        raise SeriesInvalid(
            f"{what} must have 1 to {SYMBOL_LENGTH_MAX} characters, was {value[:40]!r}"
        )
    if value != value.upper():
        raise SeriesInvalid(f"{what} must be upper case, was {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SeriesInvalid(f"{what} must be valid Unicode, was {value!r}") from None


def _encode(name: str, also: str = "") -> str:
    def escape(match: re.Match[str]) -> str:
        return quote(match.group(), safe="")

    text = _UNSAFE.sub(escape, name)
    return text.replace("-", "%2D") if also == "-" else text


def _decode(text: str) -> str:
    if bad := _BAD_ESCAPE.search(text):
        raise SeriesInvalid(f"a lone % at character {bad.start() + 1} must be written %25")
    try:
        return unquote(text, errors="strict").upper()
    except UnicodeDecodeError:
        raise SeriesInvalid(f"{text!r} is not percent-encoded UTF-8") from None


def _parse_qualifiers(qualifiers: list[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for qualifier in qualifiers:
        word = qualifier.lower()
        name, value = (word, True) if word in {"extended", "dividends"} else ("currency", None)
        if name in parsed:
            raise SeriesInvalid(f"qualifier +{qualifier} is given twice")
        parsed[name] = value or qualifier.upper()
    return parsed


ClosedBy = Literal["next", "clock", "history", "forming"]
"""How a bar was known to be closed; `forming` only outside `bars` streams."""

_CLOSED_BY: Final = frozenset(get_args(ClosedBy))


@dataclass(frozen=True, slots=True)
class Bar:
    """One OHLCV bar of a series. Times are ms since the epoch, UTC."""

    series: Series
    open_time_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    """None where the symbol has no volume."""
    end_time_ms: int | None
    """When the bar ended as TradingView states it, None where it did not."""
    previous_open_time_ms: int | None
    """Open time of the entry before it in the same stream, None for the first."""
    received_ms: int
    """When the publisher received the data that closed the bar."""
    closed_by: ClosedBy
    gap: bool = False
    """True where bars before this one are known to be missing for good."""
    revision: int = 0
    """0 as first published; 1, 2, … for corrections of the same bar."""

    @property
    def open_time(self) -> datetime:
        """The open time, aware, UTC."""
        return datetime.fromtimestamp(self.open_time_ms / 1000, UTC)

    @property
    def end_time(self) -> datetime | None:
        """The end, aware, UTC; None where TradingView did not state it."""
        if self.end_time_ms is None:
            return None
        return datetime.fromtimestamp(self.end_time_ms / 1000, UTC)


Encoding = Literal["msgpack", "json"]
BAR_FIELD: Final = b"bar"
BAR_JSON_FIELD: Final = b"bar.json"


def entry_id(open_time_ms: int) -> str:
    """Return the ID of the entry that holds the bar opened at this time."""
    return f"{open_time_ms}-0"


def encode_bar(bar: Bar, encoding: Encoding = "msgpack") -> tuple[bytes, bytes]:
    """Return the field name and the payload of a bar's entry."""
    payload: dict[str, Any] = {
        "t": bar.open_time_ms,
        "o": float(bar.open),
        "h": float(bar.high),
        "l": float(bar.low),
        "c": float(bar.close),
        "v": None if bar.volume is None else float(bar.volume),
        "e": bar.end_time_ms,
        "p": bar.previous_open_time_ms,
        "r": bar.received_ms,
        "s": bar.closed_by,
    }
    if bar.gap:
        payload["gap"] = True
    if bar.revision:
        payload["n"] = bar.revision
    if encoding == "json":
        return BAR_JSON_FIELD, orjson.dumps(payload)
    return BAR_FIELD, cast(bytes, msgpack.packb(payload))


def decode_bar(series: Series, fields: Mapping[bytes, bytes]) -> Bar:
    """Read a bar from an entry's fields, in either encoding.

    Unknown fields and unknown map keys are ignored. Raises EntryMalformed.
    """
    try:
        if (packed := fields.get(BAR_FIELD)) is not None:
            payload = msgpack.unpackb(packed)
        elif (text := fields.get(BAR_JSON_FIELD)) is not None:
            payload = orjson.loads(text)
        else:
            names = ", ".join(repr(name) for name in fields)
            raise EntryMalformed(f"entry has neither a 'bar' nor a 'bar.json' field but {names}")
    except (ValueError, msgpack.UnpackException) as error:
        if isinstance(error, EntryMalformed):
            raise
        raise EntryMalformed(f"entry cannot be decoded: {error}") from error
    return _bar_from_payload(series, payload)


def _bar_from_payload(series: Series, payload: Any) -> Bar:
    if not isinstance(payload, dict):
        raise EntryMalformed(f"a bar must be a map, was {type(payload).__name__}")
    closed_by = payload.get("s")
    if not isinstance(closed_by, str) or closed_by not in _CLOSED_BY:
        raise EntryMalformed(f"s must be one of {sorted(_CLOSED_BY)}, was {closed_by!r}")
    return Bar(
        series=series,
        open_time_ms=_integer(payload, "t"),
        open=_number(payload, "o"),
        high=_number(payload, "h"),
        low=_number(payload, "l"),
        close=_number(payload, "c"),
        volume=None if payload.get("v") is None else _number(payload, "v"),
        end_time_ms=None if payload.get("e") is None else _integer(payload, "e"),
        previous_open_time_ms=None if payload.get("p") is None else _integer(payload, "p"),
        received_ms=_integer(payload, "r"),
        closed_by=cast(ClosedBy, closed_by),
        gap=payload.get("gap") is True,
        revision=_integer(payload, "n") if "n" in payload else 0,
    )


def _integer(payload: dict[str, Any], key: str) -> int:
    value = payload.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise EntryMalformed(f"{key} must be an integer, was {value!r}")
    return value


def _number(payload: dict[str, Any], key: str) -> float:
    value = payload.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EntryMalformed(f"{key} must be a number, was {value!r}")
    if not math.isfinite(value):
        raise EntryMalformed(f"{key} must be finite, was {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True)
class Keys:
    """The Redis keys of one bus. The braces are Redis Cluster hash tags."""

    prefix: str = "tv"

    def __post_init__(self) -> None:
        if not self.prefix or _UNSAFE.search(self.prefix):
            raise ValueError(
                "prefix must be printable ASCII without braces, % or white space, "
                f"was {self.prefix!r}"
            )

    def bars(self, series: Series) -> str:
        """Stream of closed bars."""
        return f"{self.prefix}:bars:{{{series}}}"

    def forming(self, series: Series) -> str:
        """Stream of updates of the bar in progress."""
        return f"{self.prefix}:forming:{{{series}}}"

    def corrections(self, series: Series) -> str:
        """Stream of closed bars that changed later."""
        return f"{self.prefix}:corrections:{{{series}}}"

    def series(self, series: Series) -> str:
        """Hash of what is known of the series."""
        return f"{self.prefix}:series:{{{series}}}"

    @property
    def catalogue(self) -> str:
        """Hash: series text → JSON summary."""
        return f"{self.prefix}:catalogue"

    @property
    def events(self) -> str:
        """Stream of facts; field `event` holds JSON."""
        return f"{self.prefix}:events"

    @property
    def commands(self) -> str:
        """Stream of requests to the publisher; field `command` holds JSON."""
        return f"{self.prefix}:commands"

    def replies(self, request: str) -> str:
        """List of JSON answers to one request; expires."""
        return f"{self.prefix}:replies:{request}"

    @property
    def publisher(self) -> str:
        """Hash: the publisher's lease."""
        return f"{self.prefix}:publisher"

    @property
    def signin(self) -> str:
        """String: sign-ins made, so that all publishers of a bus share one budget."""
        return f"{self.prefix}:signin"

    def group(self, group: str, what: str) -> str:
        """Key of a consumer group's coordination."""
        return f"{self.prefix}:group:{{{group}}}:{what}"

    def dead(self, group: str) -> str:
        """Stream of a consumer group's dead letters."""
        return f"{self.prefix}:dead:{{{group}}}"


SeriesState = Literal["starting", "filling", "live", "refused", "removed"]
"""What the publisher does with a series; `refused` carries a reason."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A series' line in the catalogue."""

    series: Series
    state: SeriesState
    reason: str = ""
    wanted_by: Literal["settings", "command"] = "settings"

    def encode(self) -> bytes:
        """Return the JSON that stands in the catalogue."""
        return orjson.dumps(
            {"state": self.state, "reason": self.reason, "wanted_by": self.wanted_by}
        )

    @classmethod
    def decode(cls, series: bytes, text: bytes) -> Summary:
        """Read a catalogue line. Raises EntryMalformed."""
        try:
            values = orjson.loads(text)
            state, reason = values["state"], values.get("reason", "")
            wanted_by = values.get("wanted_by", "settings")
            if not all(isinstance(value, str) for value in (state, reason, wanted_by)):
                raise TypeError(f"every value must be text, was {text!r}")
            return cls(Series.parse(series.decode()), state, reason, wanted_by)
        except (ValueError, KeyError, TypeError) as error:
            raise EntryMalformed(f"catalogue line {series!r} is malformed: {error}") from error
