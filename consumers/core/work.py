"""What a consumer has in hand: one entry of a stream, and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from consumers.core.ids import EntryId
from publisher.wire import Bar, Series

if TYPE_CHECKING:
    from consumers.core.lane import Lane


class Kind(Enum):
    """What a lane's stream holds."""

    BARS = "bars"
    CORRECTIONS = "corrections"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Gap:
    """Bars after one open time and up to another, ms, never reached this group."""

    series: Series
    from_ms: int
    to_ms: int
    reason: Literal["missing", "trimmed", "abandoned"] = "missing"
    """`trimmed` where they were in the stream and left it unread; `abandoned`
    where the publisher could not fetch them any more; else `missing`."""


@dataclass(slots=True, eq=False)
class Work:
    """An entry in hand: a bar, a correction, an event, or a gap alone where the bar is gone."""

    lane: Lane
    entry: EntryId
    kind: Kind = Kind.BARS
    bar: Bar | None = None
    """The bar or the corrected bar; None for an event and for a gap alone."""
    event: Mapping[str, Any] | None = None
    gap: Gap | None = None
    """To be told before the bar is handed over."""
    fields: Mapping[bytes, bytes] = field(default_factory=dict)
    """What stands in the entry; a dead letter keeps it."""
    attempt: int = 1
    """Counted by the server, so over restarts and take-overs too."""
    handlers_done: int = 0
    """Handlers that have already taken the entry; a retry begins after them."""
    failures: int = 0
    """How often a handler failed at it in this process."""
    alone: bool = False
    """A batch with it failed: hand it over by itself, to find out which one it was."""
    replay_of: EntryId | None = None
    """The dead letter that this is handed over again from."""
    also: tuple[EntryId, ...] = ()
    """Trimmed entries that belong to the gap and are acknowledged with it."""
    touched: bool = False
    """A handler has had it since the server last counted an attempt."""
    dropped: bool = False
    """The series went to another member, or will be delivered anew: hand it to nobody."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an entry was given up on: one line, and the handler's traceback where there is one."""

    reason: str
    traceback: str = ""
