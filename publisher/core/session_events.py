"""What a session makes of TradingView's messages, and how a slot moves from state to state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from publisher.core import messages as said
from publisher.errors import PublisherError, SeriesError
from publisher.wire import Series


@dataclass(frozen=True, slots=True)
class Opened:
    """TradingView said hello."""

    server_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """TradingView knows the series' symbol."""

    series: Series
    info: said.SymbolInfo
    request: str = ""
    """Whose slot it is: a request for history, or empty for the live one; so below."""


@dataclass(frozen=True, slots=True)
class BarsArrived:
    """Bars of a series, unchecked, in the order received."""

    series: Series
    bars: said.SlotBars
    server_time_ms: int | None
    request: str = ""


@dataclass(frozen=True, slots=True)
class HistoryAnswered:
    """The request for history is answered in full."""

    series: Series
    update_mode: str
    update_period_ms: int
    exhausted: str | None
    request: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """TradingView does not give this series; it stays refused until unsubscribed."""

    series: Series
    error: SeriesError
    request: str = ""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The series must be asked for again; its chart session is closed."""

    series: Series
    reason: str
    unanswered: bool = False
    """True where it was a request for older bars that found no answer."""
    request: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something came that nobody waits for; to be counted."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is of no more use."""

    error: PublisherError


SeriesEvent = Resolved | BarsArrived | HistoryAnswered | Refused | Interrupted
Event = Opened | SeriesEvent | Noted | Ended


class State(Enum):
    """Where a slot stands."""

    REQUESTED = auto()
    RESOLVED = auto()
    LIVE = auto()
    EXTENDING = auto()
    REFUSED = auto()


class Signal(Enum):
    """What can happen to a slot."""

    LOADING = auto()
    RESOLVED = auto()
    BARS = auto()
    COMPLETED = auto()
    ASK = auto()
    REFUSED = auto()


TRANSITIONS: Final[Mapping[tuple[State, Signal], State]] = {
    (State.REQUESTED, Signal.LOADING): State.REQUESTED,
    (State.REQUESTED, Signal.RESOLVED): State.RESOLVED,
    (State.REQUESTED, Signal.BARS): State.REQUESTED,
    (State.REQUESTED, Signal.COMPLETED): State.LIVE,
    (State.REQUESTED, Signal.REFUSED): State.REFUSED,
    (State.RESOLVED, Signal.LOADING): State.RESOLVED,
    (State.RESOLVED, Signal.BARS): State.RESOLVED,
    (State.RESOLVED, Signal.COMPLETED): State.LIVE,
    (State.RESOLVED, Signal.REFUSED): State.REFUSED,
    (State.LIVE, Signal.RESOLVED): State.LIVE,
    (State.LIVE, Signal.BARS): State.LIVE,
    (State.LIVE, Signal.ASK): State.EXTENDING,
    (State.LIVE, Signal.REFUSED): State.REFUSED,
    (State.EXTENDING, Signal.LOADING): State.EXTENDING,
    (State.EXTENDING, Signal.RESOLVED): State.EXTENDING,
    (State.EXTENDING, Signal.BARS): State.EXTENDING,
    (State.EXTENDING, Signal.COMPLETED): State.LIVE,
    (State.EXTENDING, Signal.REFUSED): State.REFUSED,
}
"""Every move there is; what is not here is noted and changes nothing."""
