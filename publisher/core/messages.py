"""What TradingView says, as typed values; its own words end at `parsing`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ANONYMOUS_TOKEN: Final = "unauthorized_user_token"  # noqa: S105, a word of the protocol

RESOLUTIONS: Final[Mapping[str, str]] = {
    "1m": "1",
    "3m": "3",
    "5m": "5",
    "15m": "15",
    "30m": "30",
    "45m": "45",
    "1H": "60",
    "2H": "120",
    "3H": "180",
    "4H": "240",
    "1D": "1D",
    "1W": "1W",
    "1M": "1M",
}


@dataclass(frozen=True, slots=True)
class Hello:
    """The first payload of a connection."""

    session_id: str
    server_time_ms: int | None
    simulator_speed: float
    """How fast the server's clock runs; only the simulator states it, 1 otherwise."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """To be sent back unchanged."""

    payload: str


@dataclass(frozen=True, slots=True)
class SeriesLoading:
    """TradingView began to load a series."""

    session: str
    slot: str
    turnaround: str
    server_time_ms: int | None


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What TradingView says of a symbol."""

    name: str
    """As asked for, such as NASDAQ:AAPL (`pro_name`)."""
    source: str
    """Where the data really comes from, such as BATS:AAPL (`full_name`)."""
    description: str = ""
    kind: str = ""
    currency: str = ""
    timezone: str = ""
    session: str = ""
    holidays: str = ""
    corrections: str = ""
    """Days with other hours, as TradingView writes them: `0930-1300:20261127,…`."""
    price_scale: float = 1
    minimum_move: float = 1
    delay_ms: int = 0
    has_volume: bool = True


@dataclass(frozen=True, slots=True)
class SymbolResolved:
    """TradingView knows the symbol."""

    session: str
    symbol_id: str
    info: SymbolInfo
    server_time_ms: int | None


@dataclass(frozen=True, slots=True)
class SymbolRefused:
    """TradingView does not know the symbol, or does not give it to this account."""

    session: str
    symbol_id: str
    reason: str
    details: tuple[str, ...]
    server_time_ms: int | None


@dataclass(frozen=True, slots=True)
class SlotBars:
    """What one message says of the bars of one slot."""

    values: tuple[tuple[Any, ...], ...]
    """`(time in s, open, high, low, close[, volume[, …]])` as received, unchecked."""
    turnaround: str | None
    close_time_ms: int | None
    """When the last of these bars ends, delay included (`lbs.bar_close_time`)."""


@dataclass(frozen=True, slots=True)
class BarsReceived:
    """Bars of a chart session, from `timescale_update` and `du` alike."""

    session: str
    slots: Mapping[str, SlotBars]
    server_time_ms: int | None


@dataclass(frozen=True, slots=True)
class SeriesCompleted:
    """The answer to a request for history is complete."""

    session: str
    slot: str
    update_mode: str
    turnaround: str
    update_period_ms: int
    exhausted: str | None
    """`limit`: the plan gives no more bars; `end`: there are none; None: unknown."""
    server_time_ms: int | None


@dataclass(frozen=True, slots=True)
class SlotRefused:
    """TradingView does not give this series."""

    session: str
    slot: str
    turnaround: str
    reason: str
    server_time_ms: int | None


@dataclass(frozen=True, slots=True)
class ChartRefused:
    """`critical_error`: the chart session cannot go on."""

    session: str
    reason: str
    details: str


@dataclass(frozen=True, slots=True)
class DataCleared:
    """`clear_data`: all bars of the session are void, new ones follow."""

    session: str


@dataclass(frozen=True, slots=True)
class ConnectionRefused:
    """`protocol_error`: TradingView ends the connection."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A known kind that no series needs."""

    kind: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind that is not in any record."""

    kind: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A known kind whose parameters are not those of the records."""

    kind: str
    session: str | None
    reason: str


Message = (
    Hello
    | Heartbeat
    | SeriesLoading
    | SymbolResolved
    | SymbolRefused
    | BarsReceived
    | SeriesCompleted
    | SlotRefused
    | ChartRefused
    | DataCleared
    | ConnectionRefused
    | Ignored
    | Unknown
    | Malformed
)
