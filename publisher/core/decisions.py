"""What a ledger knows of a stream, and the decisions it can come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from publisher.core.points import Point
from publisher.wire import Bar


@dataclass(frozen=True, slots=True)
class Recent:
    """A closed bar that stands in the stream, with its newest revision."""

    point: Point
    revision: int = 0


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a series' stream as the bus holds it."""

    watermark_ms: int | None = None
    """Open time of the newest entry, None where there is none."""
    recent: Mapping[int, Recent] | None = None
    """The newest entries by open time."""
    correction_ms: int = 0
    """First part of the newest correction entry's ID, 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Publish:
    """A closed bar, to be appended after those before it."""

    bar: Bar


@dataclass(frozen=True, slots=True)
class Form:
    """The newest state of the bar in progress."""

    bar: Bar


@dataclass(frozen=True, slots=True)
class Correct:
    """A closed bar that changed; `late` where it was never published."""

    bar: Bar
    late: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """Values that were not taken."""

    reason: str
    open_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Abandon:
    """Bars between these two times are missing and cannot be fetched."""

    after_ms: int
    before_ms: int


@dataclass(frozen=True, slots=True)
class AskMore:
    """The fill needs so many older bars."""

    bars: int


@dataclass(frozen=True, slots=True)
class FillDone:
    """The fill is complete; the series is live."""

    published: int


@dataclass(frozen=True, slots=True)
class Reload:
    """What is known of a bar cannot be trusted: subscribe again.

    Until `begin` nothing more is published.
    """

    reason: str


Decision = Publish | Form | Correct | Refuse | Abandon | AskMore | FillDone | Reload


@dataclass(frozen=True, slots=True)
class Moment:
    """The clocks at which something came; all ms since the epoch."""

    received_ms: int
    """The machine's clock."""
    server_ms: int
    """TradingView's clock as far as known."""
    settle_ms: int
    """How long after its end a bar may still change, by TradingView's clock."""
    stated_ms: int | None = None
    """TradingView's time as the message itself states it, None where it states none."""
